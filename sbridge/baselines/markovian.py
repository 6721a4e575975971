"""DSBM-IMF: iterative Markovian fitting, reimplemented on this package's networks (`sbridge.solvers.simulated`).

Network, average of the weights, rate schedule and choice of the answer are this package's, without which it does worse.
Antithetic pairs and conditioned targets, which are not part of the method, are not used.

Shi, De Bortoli, Campbell, Doucet, arXiv 2303.16852, algorithm 1; Peluchetti, arXiv 2304.00917.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from sbridge.baselines.matching import brownian_bridges
from sbridge.checks import Count, Named, Share
from sbridge.couplings.self_consistent import SelfConsistent, Simulated
from sbridge.errors import InputError
from sbridge.solvers.data import Data
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.solvers.simulated import SIDES, SimulatedRegression

__all__ = ["MarkovianFitting"]

_SIMULATED: dict[str, type[Simulated]] = {"simulated": Simulated, "self-consistent": SelfConsistent}
MakeSimulated = Annotated[Callable[[Tensor, Tensor, float], Simulated], Named(_SIMULATED, Simulated)]
"""Makes a coupling that simulates its pairs, from (x0, x1, epsilon); or its name."""


@dataclass(frozen=True)
class MarkovianFitting(NetworkSolver):
    """DSBM-IMF: iterative Markovian fitting, from independent pairs.

    The two drifts share a network, so both are trained at every step, each on its own half of the batch; after each
    iteration both halves are simulated again with the averaged network.

    Args:
        coupling: simulates the pairs.  A simulation takes as long before one step as before a thousand, so pairs are
            not simulated again before each has been used several times.
        memory: less than an iteration, so that the average that simulates the next pairs forgets the pairs before.
        iterations: of Markovian fitting; the steps are split evenly between them, in a short training between fewer.

    The other arguments are `NetworkSolver`'s.
    """

    name: ClassVar[str] = "DSBM-IMF (own)"

    coupling: MakeSimulated = Simulated
    memory: Share = 0.02
    iterations: Count = 20

    def validate(self) -> None:
        if self.batch % SIDES:
            raise InputError(f"batch must be even, half of it from either side, not {self.batch}")

    def method(self, data: Data) -> SimulatedRegression:
        """Bridge matching on simulated pairs."""
        interpolant, draws = brownian_bridges(self, data, SIDES)
        return SimulatedRegression(interpolant, draws, self.round_steps, self.iterations)
