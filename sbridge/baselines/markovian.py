"""DSBM-IMF: iterative Markovian fitting, reimplemented on this package's networks.

Brownian bridges x_t = (1−t)x0 + t x1 + √(2εt(1−t)) z on pairs that the drifts of the iteration before have simulated.
b_F is regressed on (x1 − x_t)/(1−t) for pairs that were simulated backward, b_B on (x_t − x0)/t for pairs that were
simulated forward.

Network, average of the weights, rate schedule and choice of the answer are this package's, without which it does worse.
Antithetic pairs and conditioned targets, which are not part of the method, are not used.

Shi, De Bortoli, Campbell, Doucet, arXiv 2303.16852, algorithm 1; Peluchetti, arXiv 2304.00917.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
from torch import Tensor

from sbridge.baselines.matching import brownian_bridges
from sbridge.checks import Count, Named, Share
from sbridge.couplings.self_consistent import SelfConsistent, Simulated
from sbridge.errors import InputError
from sbridge.interpolants import Path
from sbridge.solvers.data import Data
from sbridge.solvers.held_out import antithetic_path, bridge_pairs, drift_losses
from sbridge.solvers.method import Batch, Method, TrainingState, drift_batches
from sbridge.solvers.network_solver import NetworkSolver

__all__ = ["MarkovianFitting", "MarkovianMethod"]

_GROUP = 2  # a pair simulated from x0 and one simulated from x1 share a time


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
        if self.batch % _GROUP:
            raise InputError(f"batch must be even, half of it from either side, not {self.batch}")

    def method(self, data: Data) -> MarkovianMethod:
        """Bridge matching on simulated pairs."""
        return MarkovianMethod(self, data)


class MarkovianMethod(Method):
    """Bridge matching whose pairs are simulated again between iterations."""

    def __init__(self, settings: MarkovianFitting, data: Data) -> None:
        self.interpolant, self.draws = brownian_bridges(settings, data, _GROUP)
        self.round_steps, self.iterations = settings.round_steps, settings.iterations
        self.simulated = cast(tuple[Simulated, Simulated], (self.draws.coupling, self.draws.check_coupling))

    def batches(self, training: TrainingState) -> Iterator[Batch]:
        self._simulate(training)
        with torch.no_grad():
            path = self.interpolant.path(*self.draws.training(training, self.round_steps))
        return drift_batches(path, training.data.epsilon, self.draws.groups, _own_losses)

    def _simulate(self, training: TrainingState) -> None:
        """Where an iteration is due and the pairs have been used."""
        due = training.step * self.iterations // training.steps
        coupling, _ = self.simulated
        if coupling.used_up and due > coupling.simulations:
            for one in self.simulated:
                one.simulate(training.averaged, training.generator)

    def reference_path(self, data: Data) -> Path:
        """Brownian bridges on the entropic plan between held-out points, which every iteration comes closer to."""
        pairs = bridge_pairs(data.check0, data.check1, data.epsilon, data.generator)
        return antithetic_path(self.interpolant, *pairs, data.generator)


def _own_losses(drifts: Tensor, target: Tensor, epsilon: float) -> Tensor:
    """The objective of b_F on pairs from x1 and of b_B on pairs from x0: both (..., 2, 2d) → (...)."""
    return drift_losses(_own(drifts), _own(target), epsilon)


def _own(both: Tensor) -> Tensor:
    """b_F where the pair came from x1 beside b_B where it came from x0, (..., 2d), of both at both, (..., 2, 2d)."""
    from0, from1 = both.unbind(-2)
    return torch.cat([from1.chunk(2, dim=-1)[0], from0.chunk(2, dim=-1)[1]], dim=-1)
