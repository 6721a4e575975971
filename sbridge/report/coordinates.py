"""The coordinates in which points are drawn: the user's own columns, and principal components where there are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sbridge.problem import Problem

__all__ = ["Coordinate", "columns_of", "coordinates", "principal"]

_LARGE = 0.4  # weight of a column that is named with a principal component of unit length
_NAMED = 3  # columns at most


@dataclass(frozen=True)
class Coordinate:
    """A number that every point has.

    Args:
        name: in words, for an axis.
        direction: (d,); the coordinate of x is ⟨direction, x⟩.
        column: whether it is a column of the data.
    """

    name: str
    direction: Tensor
    column: bool = True

    def of(self, points: Tensor) -> Tensor:
        """Points (..., d) → (...)."""
        return points.double() @ self.direction


def coordinates(dim: int, columns: Sequence[str] | None) -> list[Coordinate]:
    """The columns of the data by their names; c0, c1, … where they have none."""
    names = columns or [f"c{k}" for k in range(dim)]
    return [Coordinate(name, row) for name, row in zip(names, torch.eye(dim).double(), strict=True)]


def columns_of(problem: Problem) -> list[Coordinate]:
    """The columns of a problem."""
    return coordinates(problem.dim, problem.columns)


def principal(samples: Sequence[Tensor], columns: Sequence[Coordinate], scaled: bool = False) -> list[Coordinate]:
    """The first two principal components of the pooled samples, named by the columns that weigh most.

    Args:
        samples: points (n, d) of at least two columns.
        columns: all columns of the data, in their order.
        scaled: divide every column by its spread first.
    """
    pooled = torch.cat(list(samples)).double()
    scale = pooled.std(0) if scaled else torch.ones(len(columns)).double()
    scale = torch.where(scale > 0, scale, 1.0)
    _, size, axes = torch.linalg.svd((pooled - pooled.mean(0)) / scale, full_matrices=False)
    axes = axes[:2] * torch.where(axes[:2].sum(1, keepdim=True) < 0, -1, 1)  # their sign is arbitrary; fix it
    shares = 100 * size**2 / (size**2).sum()
    names = [column.name for column in columns]
    return [
        Coordinate(
            f"component {k + 1} ({shares[k]:.0f} % of variance{_mainly(axes[k], names)})", axes[k] / scale, False
        )
        for k in range(2)
    ]


def _mainly(axis: Tensor, names: list[str]) -> str:
    """The columns that weigh most in a principal component, with a minus where they fall along it."""
    large = [k for k in axis.abs().argsort(descending=True).tolist()[:_NAMED] if abs(axis[k]) > _LARGE]
    words = [f"{'−' * bool(axis[k] < 0)}{names[k]}" for k in large]
    return f"; mainly {', '.join(words)}" if words else ""
