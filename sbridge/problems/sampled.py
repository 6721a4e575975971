"""Problem families whose points are drawn from two laws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sbridge.bridge import ExactBridge
from sbridge.checks import Checked, Count, Positive, Seed, check_memory
from sbridge.problem import Problem

__all__ = ["Law", "Sampled"]

Law = Callable[[int, torch.Generator], Tensor]
"""Draws n points, (n, d)."""

_BYTES = 4  # of a coordinate


@dataclass(frozen=True)
class Sampled(Checked):
    """The options that these families share."""

    name: ClassVar[str]

    epsilon: Positive = 0.5
    """ε of dX = u dt + √(2ε) dW, in squared units of the data: half the ε of papers that write √ε dW, and half the σ²
    of those that write σ dW."""
    samples: Count = 50_000
    """Training points per side."""
    test_samples: Count = 10_000
    """Held-out points per side, drawn afresh."""
    seed: Seed = 0
    """Seed of everything that is drawn."""

    def validate(self) -> None:
        points = 2 * (self.samples + self.test_samples)
        check_memory("so many samples", _BYTES * points * getattr(self, "dim", 2))

    def drawn(self, law0: Law, law1: Law, name: str, truth: ExactBridge | None = None) -> Problem:
        """The problem of independent points of both laws."""
        generator = torch.Generator().manual_seed(self.seed)
        (x0, x1), (test0, test1) = (
            [law(n, generator) for law in (law0, law1)] for n in (self.samples, self.test_samples)
        )
        return Problem(x0, x1, self.epsilon, test0, test1, name, truth)
