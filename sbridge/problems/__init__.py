"""Problem families: each is a frozen dataclass whose fields are its options, with `name` and `build() -> Problem`."""

from __future__ import annotations

from typing import ClassVar, Protocol

from sbridge.problem import Problem
from sbridge.problems.datasets import Digits, Photos
from sbridge.problems.gaussian import Gaussian, ShiftedGaussian
from sbridge.problems.mixture import Mixture
from sbridge.problems.planar import (
    MoonsToEightGaussians,
    Noising,
    NormalToEightGaussians,
    NormalToMoons,
    NormalToSCurve,
)
from sbridge.problems.shapes import Shapes
from sbridge.problems.sourced import KnownPotential

__all__ = ["PROBLEMS", "Family"]


class Family(Protocol):
    """Anything that builds a problem; equal options give equal problems."""

    name: ClassVar[str]

    def build(self) -> Problem:
        """The problem."""


_FAMILIES: list[type[Family]] = [Gaussian, ShiftedGaussian, Mixture, Shapes, KnownPotential]
_FAMILIES += [NormalToEightGaussians, MoonsToEightGaussians, NormalToMoons, NormalToSCurve, Noising]
_FAMILIES += [Photos, Digits]

PROBLEMS: dict[str, type[Family]] = {family.name: family for family in _FAMILIES}
"""Every family by its name."""
