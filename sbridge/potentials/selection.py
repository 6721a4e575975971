"""Choose among fits by held-out points."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Scored", "Split", "Weighted", "first_peak", "simplest"]

_ROWS = 4096  # points at once
_PATIENCE = 2  # fits in a row that are not better, after which the search ends

Fit = TypeVar("Fit")


@dataclass(frozen=True)
class Weighted:
    """Points (n, d) and their weights (n,), whose mean is one."""

    x: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def cut(self, start: int, stop: int | None = None) -> Weighted:
        """Some of the points."""
        weights = self.weights[start:stop]
        return Weighted(self.x[start:stop], weights / weights.mean())


@dataclass(frozen=True)
class Split:
    """Held-out points, points to fit to, and a part of the latter, in random order and single precision."""

    held_out: Weighted
    all: Weighted
    part: Weighted

    @staticmethod
    def of(x: Tensor, weights: Tensor | None, order: Tensor, cut: int, part: int, shift: Tensor, scale: float) -> Split:
        """Of the points (x − shift)/scale in the given order, the first `cut` are held out."""
        moved = torch.empty_like(x, dtype=torch.float32)
        for place, rows in zip(moved.split(_ROWS), order.split(_ROWS), strict=True):
            place.copy_((x[rows] - shift) / scale)
        points = Weighted(moved, torch.ones_like(moved[:, 0]) if weights is None else weights[order].to(moved))
        return Split(points.cut(0, cut), points.cut(cut), points.cut(cut, cut + part))


@dataclass(frozen=True)
class Scored(Generic[Fit]):
    """A fit and its merits at held-out points, (h,) for each dataset; its score is the sum of their means.

    The weights (h,) of the points have the mean one.
    """

    fit: Fit
    merits: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]

    def beats(self, other: Scored[Fit], margin: float) -> bool:
        """Whether the score is higher by more than `margin` standard errors of the difference, point by point."""
        changes = [(mine - theirs).double() for mine, theirs in zip(self.merits, other.merits, strict=True)]
        gains = [(weights * change).mean() for weights, change in zip(self.weights, changes, strict=True)]
        variances = [
            (weights * (change - gain)).square().mean() / len(change)
            for weights, change, gain in zip(self.weights, changes, gains, strict=True)
        ]
        return bool(torch.stack(gains).sum() > margin * torch.stack(variances).sum().sqrt())


def simplest(fits: Iterable[Scored[Fit]]) -> Scored[Fit]:
    """The best of fits from simple to complex; a more complex one has to beat the best so far by a standard error."""
    return reduce(lambda best, fit: fit if fit.beats(best, margin=1.0) else best, fits)


def first_peak(fits: Iterable[Scored[Fit]]) -> Scored[Fit]:
    """The best fit so far, once two fits in a row are not better, or after all."""
    remaining = iter(fits)
    best, worse = next(remaining), 0
    for fit in remaining:
        best, worse = (fit, 0) if fit.beats(best, margin=0.0) else (best, worse + 1)
        if worse == _PATIENCE:
            break
    return best
