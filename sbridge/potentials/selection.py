"""Choose among fits by held-out points."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Scored", "Split", "first_peak"]

_ROWS = 4096  # points at once
_PATIENCE = 2  # fits in a row that are not better, after which the search ends

Fit = TypeVar("Fit")


@dataclass(frozen=True)
class Split:
    """Held-out points, points to fit to, and a part of the latter, in random order and single precision."""

    held_out: Tensor
    all: Tensor
    part: Tensor

    @staticmethod
    def of(x: Tensor, order: Tensor, cut: int, part: int, shift: Tensor, scale: float) -> Split:
        """Of the points (x − shift)/scale in the given order, the first `cut` are held out."""
        moved = torch.cat([((x[rows] - shift) / scale).float() for rows in order.split(_ROWS)])
        return Split(moved[:cut], moved[cut:], moved[cut : cut + part])


@dataclass(frozen=True)
class Scored(Generic[Fit]):
    """A fit and its merits at held-out points, (h,) for each dataset; its score is the sum of their means."""

    fit: Fit
    merits: tuple[Tensor, ...]

    def beats(self, other: Scored[Fit], margin: float) -> bool:
        """Whether the score is higher by more than `margin` standard errors of the difference, point by point."""
        changes = [(mine - theirs).double() for mine, theirs in zip(self.merits, other.merits, strict=True)]
        gain = torch.stack([change.mean() for change in changes]).sum()
        error = torch.stack([change.var(correction=0) / len(change) for change in changes]).sum().sqrt()
        return bool(gain > margin * error)


def first_peak(fits: Iterable[Scored[Fit]], margin: float) -> Scored[Fit]:
    """The best fit so far, once two fits in a row do not beat it by the margin, or after all."""
    remaining = iter(fits)
    best, worse = next(remaining), 0
    for fit in remaining:
        best, worse = (fit, 0) if fit.beats(best, margin) else (best, worse + 1)
        if worse == _PATIENCE:
            break
    return best
