"""Weights of points: a sample with weights stands for the law Σ w_i δ(x_i)/Σ w_i.

Closed forms and plans use weights as they are.  A network sees points as often as their weights say: `repeated` gives
each a number of copies in proportion to its weight, rounded at random without bias (systematic resampling; Douc, Cappé,
Moulines, ISPA 2005).  A test of two samples sees `thinned` ones, which know no more than the weighted ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from sbridge.arrays import as_tensor
from sbridge.errors import InputError

__all__ = ["SampleWeights", "check_weights", "drawn_rows", "effective_size", "effective_sizes", "repeated"]
__all__ += ["shares_of", "thinned", "weighted", "weights_of_each"]

_TINY = 1e-30

SampleWeights = NDArray[Any] | Tensor | None
"""Weights of a sample's points, (n,); None means equal ones."""


def check_weights(label: str, weights: Tensor, x: Tensor) -> None:
    """Raise an InputError unless there is a positive finite weight for each point x (n, d)."""
    if weights.shape != x.shape[:1]:
        raise InputError(f"{label} must have shape ({len(x)},), one weight for each point, not {tuple(weights.shape)}")
    if not (weights.isfinite() & (weights > 0)).all():
        raise InputError(f"{label} must be positive and finite; leave out the points of weight zero")


def weighted(x: Tensor, weights: Any, label: str = "the weights") -> tuple[Tensor, Tensor | None]:
    """The points x (n, d) whose weight is not zero, and the weights of these, in float64; x itself for None.

    Args:
        weights: numbers of any kind, one for each point, or None.
        label: what messages call them.

    Raises:
        InputError: there is not a weight for each point, or one is negative or not finite.
    """
    if weights is None:
        return x, None
    values = as_tensor(weights).to(x.device, torch.float64)
    kept = values != 0 if values.shape == x.shape[:1] else slice(None)  # another shape is refused below
    check_weights(label, values[kept], x[kept])
    return x[kept], values[kept]


def weights_of_each(samples: Sequence[Any], weights: Sequence[SampleWeights] | None) -> list[SampleWeights]:
    """The weights of each sample, or None.

    Raises:
        InputError: there are not as many as samples.
    """
    found: list[SampleWeights] = [None] * len(samples) if weights is None else list(weights)
    if len(found) != len(samples):
        raise InputError(f"there must be weights, or None, for each of {len(samples)} snapshots")
    return found


def shares_of(x: Tensor, weights: Tensor | None) -> Tensor:
    """Weights of the points x (n, d) that sum to one, (n,) in float64; equal ones for None."""
    if weights is None:
        return torch.full((len(x),), 1 / len(x), dtype=torch.float64, device=x.device)
    return weights.double() / weights.double().sum()


def effective_size(weights: Tensor) -> float:
    """(Σw)²/Σw², the number of equally weighted points whose mean has the same variance (Kish, 1965)."""
    return float(effective_sizes(weights[None]))


def effective_sizes(weights: Tensor) -> Tensor:
    """The same for each row of weights (K, n), (K,) in float64; one where all are zero."""
    w = weights.double()
    return (w.sum(1).square() / w.square().sum(1).clamp(min=_TINY)).clamp(min=1)


def drawn_rows(x: Tensor, weights: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
    """n rows of x (m, d), drawn with replacement in proportion to the weights, (n,)."""
    if weights is None:
        return torch.randint(len(x), (n,), generator=generator, device=generator.device)
    return torch.multinomial(shares_of(x, weights), n, replacement=True, generator=generator)


def repeated(x: Tensor, weights: Tensor | None, copies: int, generator: torch.Generator) -> Tensor:
    """Points of equal weight with the law of weighted points x (n, d), in their order; x itself for None.

    There are `copies` of a point on average.  With four of them, their rounding adds little to the sampling error.
    """
    if weights is None:
        return x
    return _resampled(x, weights, copies * len(x), generator)


def thinned(x: Tensor, weights: Tensor | None, generator: torch.Generator) -> Tensor:
    """As many points of equal weight as weighted points x (n, d) are worth, by their effective size; x itself for None.

    What is computed of them has the standard errors of the weighted sample, which more copies would hide.

    Raises:
        InputError: there is not a positive weight for each point.
    """
    if weights is None:
        return x
    check_weights("the weights", weights, x)
    return _resampled(x, weights, round(effective_size(weights)), generator)


def _resampled(x: Tensor, weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` points of x (n, d), in their order, each in proportion to its weight."""
    levels = shares_of(x, weights).cumsum(0)
    uniform = torch.rand((), dtype=torch.float64, device=x.device, generator=generator)
    ticks = (torch.arange(count, device=x.device) + uniform) / count
    return x[torch.searchsorted(levels, ticks).clamp(max=len(x) - 1)]
