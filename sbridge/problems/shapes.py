"""Rotated products of planar shapes: exact bridges that no small Gaussian mixture holds.

With quadratic cost an entropic plan between products is the product of the blocks' plans, and it turns with its ends.
So the bridge of d/2 independent blocks in the plane, turned by a rotation, is exact in d dimensions.  A block joins two
shapes of `laws`, given as masses on a grid of 160 × 160 points over ±4 standard deviations and smoothed as `atoms`
says, with v₀ = v₁ = h² for the grid's spacing h = 0.05.  Its bridge is then a finite sum, with no quadrature at any
time or ε.

Its errors, for ε from 0.02 to 5, and the tests in `tests/test_shapes.py` that bound them:

    drift and log φ against all terms, every t in [0, 1]      < 1e-10  test_sums_are_those_of_all_terms
    masses of the atoms, Σ|marginal − mass|                   < 1e-9   test_sinkhorn_meets_both_marginals
    drift against the closed form between two Gaussians       < 2e-5   test_block_between_gaussians_is_the_closed_form
    drift and KE* on a grid of 240 × 240, smooth densities    < 1e-6   test_a_finer_grid_gives_the_same_bridge
    the same, densities that jump                             < 1e-2   the same

The first is the error of the bridge.  The second and the last two say how near its ends are to the shapes, which is no
error of the bridge.  A block takes 0.05 to 0.7 s to solve, the drift 6 µs a point and block on one thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, islice
from typing import Annotated, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor

from sbridge.checks import Count, Positive
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.fields import Reversed
from sbridge.problem import Problem
from sbridge.problems.atoms import AtomBridge
from sbridge.problems.grid import Grid, grid_sinkhorn, smoothed
from sbridge.problems.laws import LAWS, masses
from sbridge.problems.sampled import Sampled

__all__ = ["Shapes", "ShapesBridge", "solved"]

_HALF_WIDTH, _CELLS = 4.0, 160
_MARGIN = 12  # standard deviations of the smoothing beyond the grid, to which integrals go


class ShapesBridge(AtomBridge):
    """The Schrödinger bridge between rotated products of planar shapes.

    Args:
        forward_field: the grid of the atoms after t = 1.
        backward_field: the grid of those before t = 0, as a field in reversed time.
        epsilon: ε.
    """

    forward_field: Grid

    @property
    def sources(self) -> Grid:
        assert isinstance(self.backward_field.inner, Grid)
        return self.backward_field.inner

    def endpoint_moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of ρ1, by the trapezoidal rule on a grid of half the spacing."""
        found = [self._moments(kind) for kind in self.forward_field.kinds]
        turn = self.forward_field.rotation
        mean, cov = torch.cat([mean for mean, _ in found]), torch.block_diag(*(cov for _, cov in found))
        return turn @ mean, turn @ cov @ turn.T

    def kinetic_energy(self) -> Estimate:
        """½E∫|u|²dt = E λ(1, x1) − E λ(0, x0), by the trapezoidal rule on a grid of half the spacing."""
        energies = {kind: self._energy(kind) for kind in set(self.forward_field.kinds)}
        return Estimate(sum(energies[kind] for kind in self.forward_field.kinds), 0.0)

    def _moments(self, kind: int) -> tuple[Tensor, Tensor]:
        axis, (_, log_density) = self._fine(), self._logs(kind, 1.0)
        mass = log_density.exp() / log_density.exp().sum()
        points = torch.cartesian_prod(axis, axis)
        mean = mass.flatten() @ points
        away = points - mean
        return mean, (away * mass.flatten()[:, None]).T @ away

    def _energy(self, kind: int) -> float:
        means = []
        for t in (0.0, 1.0):
            log_phi, log_density = self._logs(kind, t)
            mass = log_density.exp()
            means.append(torch.where(mass > 0, mass * log_phi, 0.0).sum() / mass.sum())
        return 2 * self.epsilon * float(means[1] - means[0])

    def _logs(self, kind: int, t: float) -> tuple[Tensor, Tensor]:
        """log φ and log ρ_t of one block on the fine grid, (m, m) each."""
        e, target, source = 2 * self.epsilon, self.forward_field, self.sources
        phi = smoothed(target.log_weights[kind], target.axis, self._fine(), e * (1 - t) + target.variance)
        return phi, phi + smoothed(source.log_weights[kind], source.axis, self._fine(), e * t + source.variance)

    def _fine(self) -> Tensor:
        axis, edge = self.forward_field.axis, _MARGIN * self.sources.variance**0.5
        step = (axis[1] - axis[0]) / 2
        return torch.arange(float(axis[0]) - edge, float(axis[-1]) + edge, float(step)).to(axis)


@lru_cache(maxsize=64)
def solved(pair: str, epsilon: float) -> tuple[Tensor, Tensor]:
    """log a and log w (n, n) of the block "source:target", kept for the life of the process."""
    axis = _axis()
    p, q = (masses(LAWS[name], axis) for name in pair.split(":"))
    return grid_sinkhorn(p, q, axis, 2 * epsilon + 2 * _variance())


def _axis() -> Tensor:
    """Middles of the grid's cells, (n,)."""
    return (2 * torch.arange(_CELLS, dtype=torch.float64) + 1) * (_HALF_WIDTH / _CELLS) - _HALF_WIDTH


def _variance() -> float:
    return (2 * _HALF_WIDTH / _CELLS) ** 2


@dataclass(frozen=True)
class Shapes(Sampled):
    """Rotated products of shapes in the plane, each of unit spread, with the exact bridge known.

    Raises:
        InputError: dim is not even and positive, or a pair does not name two shapes.
    """

    name: ClassVar[str] = "shapes"

    dim: Count = 8
    """Dimension of the points, an even number: dim/2 planes."""
    laws: Annotated[tuple[str, ...], MinLen(1)] = (
        "moons:spiral",
        "student:checkerboard",
        "rings:clusters",
        "uniform:gap",
    )
    """Shapes SOURCE:TARGET of the planes, repeated if there are more planes.  Shapes: normal, moons, spiral, clusters,
    rings, checkerboard, student, uniform, gap."""
    epsilon: Positive = 0.05
    """ε of dX = u dt + √(2ε) dW, in squared units of the data, whose standard deviation is 1 in every coordinate."""

    def validate(self) -> None:
        super().validate()
        if self.dim % 2:
            raise InputError(f"dim must be an even number from 2, not {self.dim}")
        for pair in self.laws:
            if len(pair.split(":")) != 2 or not set(pair.split(":")) <= LAWS.keys():
                raise InputError(f"laws must be pairs SOURCE:TARGET of {', '.join(LAWS)}, not {pair!r}")

    def build(self) -> Problem:
        """The problem with its truth, a `ShapesBridge`."""
        generator = torch.Generator().manual_seed(self.seed)
        truth = self.truth(generator)
        x0, test0 = (truth.pairs(n, generator)[0].float() for n in (self.samples, self.test_samples))
        x1, test1 = (truth.pairs(n, generator)[1].float() for n in (self.samples, self.test_samples))
        return Problem(x0, x1, self.epsilon, test0, test1, f"{self.name} d={self.dim}", truth)

    def truth(self, generator: torch.Generator) -> ShapesBridge:
        """The exact bridge, turned by a rotation from the generator."""
        pairs = list(islice(cycle(self.laws), self.dim // 2))
        different = list(dict.fromkeys(pairs))
        kinds = [different.index(pair) for pair in pairs]
        turn = torch.linalg.qr(torch.randn(self.dim, self.dim, dtype=torch.float64, generator=generator)).Q
        logs = zip(*(solved(pair, self.epsilon) for pair in different), strict=True)
        sources, targets = (
            Grid(torch.stack(weights), _axis(), kinds, turn, self.epsilon, _variance()) for weights in logs
        )
        return ShapesBridge(targets, Reversed(sources), self.epsilon)
