"""Monte Carlo figures with their standard errors."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from torch import Tensor

__all__ = ["Estimate"]


@dataclass(frozen=True)
class Estimate:
    """A Monte Carlo figure and its standard error."""

    value: float
    standard_error: float

    @staticmethod
    def of(draws: Tensor) -> Estimate:
        """The mean of independent draws (n,)."""
        return Estimate(float(draws.mean()), float(draws.std()) / sqrt(len(draws)))
