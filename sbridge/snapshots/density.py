"""Densities across several legs of a chain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sbridge.bridge import Bridge
from sbridge.densities import Density
from sbridge.likelihood import DensityMethod, End

__all__ = ["CarriedDensity"]


@dataclass(frozen=True)
class CarriedDensity:
    """The density that a leg carries to its end from a density at its other end."""

    leg: Bridge
    at: End
    base: Density
    method: DensityMethod
    generator: torch.Generator

    @property
    def name(self) -> str:
        return self.base.name

    def log_prob(self, x: Tensor) -> Tensor:
        return self.method.log_density(self.leg, x, self.at, self.base, self.generator).value
