"""Regression on pairs that the drifts simulate themselves, and when max–min goes over to it.

Brownian bridges x_t = (1−t)x0 + t x1 + √(2εt(1−t)) z on pairs simulated by the drifts of the iteration before.  b_F is
regressed on (x1 − x_t)/(1−t) for pairs that were simulated backward, which have the law of the data at t = 1, and b_B
on (x_t − x0)/t for pairs that were simulated forward.  Repeated, this converges to the Schrödinger bridge (iterative
Markovian fitting), slowly where it starts far from it.

Where a point has few partners, pairs from a plan between samples are biased, and training on them ends at that bias,
however long it is.  `Refined` starts on such pairs and goes on with simulated ones, which have no such bias.

Shi, De Bortoli, Campbell, Doucet, arXiv 2303.16852, algorithm 1; Peluchetti, arXiv 2304.00917.  That the iterations
start from a fit to a plan is this package's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from sbridge.couplings.self_consistent import Simulated
from sbridge.fields import Drifts
from sbridge.interpolants import Interpolant, Path
from sbridge.solvers.data import Data
from sbridge.solvers.held_out import drift_losses, entropic_path
from sbridge.solvers.method import Batch, Draws, Method, TrainingState, drift_batches

__all__ = ["SIDES", "Refined", "SimulatedRegression"]

SIDES = 2
"""A pair simulated from x0 and one simulated from x1 share a time."""

_BEGIN = 0.4  # of the steps on pairs of the plan
_ITERATIONS = 20
_PASSES = 50  # over the points: from then on simulated pairs would teach the drifts what they have learned by heart


class SimulatedRegression(Method):
    """Bridge matching whose pairs are simulated again between iterations.

    Args:
        interpolant: the linear one with Brownian noise.
        draws: what its points are made of; their couplings simulate, and groups have `SIDES` pairs.
        round_steps: batches of a round.
        iterations: of Markovian fitting; the steps are split evenly between them, in a short training between fewer.
        begin: the share of the training before the first of them.
    """

    def __init__(
        self, interpolant: Interpolant, draws: Draws, round_steps: int, iterations: int, begin: float = 0.0
    ) -> None:
        self.interpolant, self.draws, self.round_steps = interpolant, draws, round_steps
        self.iterations, self.begin = iterations, begin
        self.simulated = cast(tuple[Simulated, Simulated], (draws.coupling, draws.check_coupling))

    def batches(self, training: TrainingState) -> Iterator[Batch]:
        first = round(self.begin * training.steps)
        due = (training.step - first) * self.iterations // (training.steps - first)
        coupling, _ = self.simulated
        if coupling.used_up and due > coupling.simulations:  # the pairs were used, and an iteration is due
            self.simulate(training)
        with torch.no_grad():
            path = self.interpolant.path(*self.draws.training(training, self.round_steps))
        return drift_batches(path, training.data.epsilon, self.draws.groups, _own_losses)

    def simulate(self, training: TrainingState) -> None:
        """New pairs, by the averaged drifts."""
        for one in self.simulated:
            one.simulate(training.averaged, training.generator)

    def reference_path(self, data: Data) -> Path:
        """Brownian bridges on the entropic plan between held-out points, which every iteration comes closer to."""
        return entropic_path(data.check0, data.check1, data.epsilon, data.generator)


def _own_losses(drifts: Tensor, target: Tensor, epsilon: float) -> Tensor:
    """The objective of b_F on pairs from x1 and of b_B on pairs from x0: both (..., 2, 2d) → (...)."""
    return drift_losses(_own(drifts), _own(target), epsilon)


def _own(both: Tensor) -> Tensor:
    """b_F where the pair came from x1 beside b_B where it came from x0, (..., 2d), of both at both, (..., 2, 2d)."""
    from0, from1 = both.unbind(-2)
    return torch.cat([from1.chunk(2, dim=-1)[0], from0.chunk(2, dim=-1)[1]], dim=-1)


class Refined(Method):
    """A method on pairs of a plan, and after two fifths of the training, regression on simulated pairs.

    The second part is left out where the first has seen the points often.

    Args:
        first: the method that begins.
        second: what it goes over to.
        batch: points in a step.
    """

    def __init__(self, first: Method, second: SimulatedRegression, batch: int) -> None:
        self.first, self.second, self.batch = first, second, batch
        self.interpolant, self.draws, self.brownian = first.interpolant, first.draws, first.brownian

    @staticmethod
    def of(first: Method, interpolant: Interpolant, draws: Draws, round_steps: int, batch: int) -> Refined:
        """The second part with `_ITERATIONS` in the steps that are left to it."""
        return Refined(first, SimulatedRegression(interpolant, draws, round_steps, _ITERATIONS, _BEGIN), batch)

    def batches(self, training: TrainingState) -> Iterable[Batch]:
        coupling, _ = self.second.simulated
        if not coupling.simulations and self._due(training):
            self.second.simulate(training)
        self.past_plans = bool(coupling.simulations)
        return (self.second if self.past_plans else self.first).batches(training)

    def _due(self, training: TrainingState) -> bool:
        passes = training.step * self.batch / min(len(training.data.x0), len(training.data.x1))
        return training.step >= _BEGIN * training.steps and passes < _PASSES

    def after_round(self, training: TrainingState) -> None:
        if not self.past_plans:
            self.first.after_round(training)

    def learn(self, t: Tensor, losses: Tensor) -> None:
        (self.second if self.past_plans else self.first).learn(t, losses)

    def known_drifts(self, data: Data) -> Drifts | None:
        """The first method's."""
        return self.first.known_drifts(data)

    def trial(self) -> Method | None:
        """The first method's."""
        return self.first.trial()

    def check_path(self, training: TrainingState) -> Path:
        return self.first.check_path(training)

    def reference_path(self, data: Data) -> Path:
        return self.first.reference_path(data)

    def parts(self) -> dict[str, Any]:
        """Those of both."""
        second = {f"second {name}": part for name, part in self.second.parts().items()}
        return {**self.first.parts(), **second}
