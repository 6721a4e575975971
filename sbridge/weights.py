"""Weights of points: a sample with weights stands for the law Σ w_i δ(x_i)/Σ w_i.

Closed forms and plans use weights as they are.  A network sees points as often as their weights say: `repeated` gives
each a number of copies in proportion to its weight, rounded at random without bias (systematic resampling; Douc, Cappé,
Moulines, ISPA 2005).  A test of two samples sees `thinned` ones, which know no more than the weighted ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.errors import InputError

__all__ = ["check_weights", "drawn_rows", "effective_size", "repeated", "shares_of", "thinned"]


def check_weights(label: str, weights: Tensor, x: Tensor) -> None:
    """Raise an InputError unless there is a positive finite weight for each point x (n, d)."""
    if weights.shape != x.shape[:1]:
        raise InputError(f"{label} must have shape ({len(x)},), one weight for each point, not {tuple(weights.shape)}")
    if not (weights.isfinite() & (weights > 0)).all():
        raise InputError(f"{label} must be positive and finite; leave out the points of weight zero")


def shares_of(x: Tensor, weights: Tensor | None) -> Tensor:
    """Weights of the points x (n, d) that sum to one, (n,) in float64; equal ones for None."""
    if weights is None:
        return torch.full((len(x),), 1 / len(x), dtype=torch.float64, device=x.device)
    return weights.double() / weights.double().sum()


def effective_size(weights: Tensor) -> float:
    """(Σw)²/Σw², the number of equally weighted points whose mean has the same variance (Kish, 1965)."""
    return float(weights.double().sum() ** 2 / weights.double().square().sum())


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
