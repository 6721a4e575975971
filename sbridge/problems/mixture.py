"""The entropic transport benchmark: Gaussian noise to clusters, with a bridge that is known exactly.

Gushchin et al., arXiv 2306.10161; `sbridge.potentials.field` has the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sbridge.checks import Count
from sbridge.potentials.exact import MixtureBridge
from sbridge.potentials.field import MixtureDrift
from sbridge.problem import Problem
from sbridge.problems.sampled import Sampled

__all__ = ["Mixture"]


@dataclass(frozen=True)
class Mixture(Sampled):
    """The entropic transport benchmark: N(0, I/4) to five clusters, with the exact bridge known.

    ρ1 is the law at t = 1 of a mixture potential with equal weights and centres uniform on the sphere of radius 5.
    Its components have variance 1/16 where 2ε ≤ 1 and 1/100 beyond, which gives the published problems at 2ε = 0.1, 1
    and 10.

    Raises:
        InputError: dim or components is below one.
    """

    name: ClassVar[str] = "mixture"

    dim: Count = 2
    """Dimension of the points."""
    components: Count = 5
    """Number of clusters of ρ1."""
    samples: Count = 200_000
    """Training points per side."""

    def build(self) -> Problem:
        """The problem with its truth, a `MixtureBridge`."""
        generator = torch.Generator().manual_seed(self.seed)
        directions = torch.randn(self.components, self.dim, generator=generator)
        centres = 5 * directions / directions.norm(dim=1, keepdim=True)
        variances = torch.full_like(centres, 1 / 16 if 2 * self.epsilon <= 1 else 1 / 100)
        weights = torch.full((self.components,), 1 / self.components)
        truth = MixtureBridge(MixtureDrift(weights.log(), centres, variances, self.epsilon), spread0=0.5)
        starts = [
            0.5 * torch.randn(n, self.dim, generator=generator) for n in (self.samples, self.test_samples) for _ in "01"
        ]
        x0, _, test0, _ = starts
        x1, test1 = (truth.endpoints(start, generator) for start in (starts[1], starts[3]))
        return Problem(x0, x1, self.epsilon, test0, test1, f"{self.name} d={self.dim}", truth)
