"""What the bridge-matching methods of the literature share: Brownian bridges on pairs, single points, uniform times."""

from __future__ import annotations

from sbridge.interpolants import Brownian, Interpolant, Linear
from sbridge.solvers.data import Data
from sbridge.solvers.method import Draws
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.times import Uniform

__all__ = ["brownian_bridges"]


def brownian_bridges(settings: NetworkSolver, data: Data, group: int) -> tuple[Interpolant, Draws]:
    """x_t = (1−t)x0 + t x1 + √(2εt(1−t)) z on the coupling's pairs, `group` of which share a uniform time."""
    interpolant = data.seeded(Linear(Brownian(data.epsilon)))
    return interpolant, Draws(data, settings.coupling, Uniform(interpolant), settings.batch // group, group)
