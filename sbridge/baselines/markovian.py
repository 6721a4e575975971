"""Two published ways to the Schrödinger bridge, on this package's networks: DSBM-IMF and [SF]²M.

Both put Brownian bridges x_t = (1−t)x0 + t x1 + √(2εt(1−t)) z on pairs and regress on them, each point with a pair, a
uniform time and a noise of its own.  They differ in the pairs and in what is regressed:

    DSBM-IMF   pairs simulated by the drifts of the iteration before (Shi, De Bortoli, Campbell, Doucet,
               arXiv 2303.16852, algorithm 1; Peluchetti, arXiv 2304.00917).  b_F on (x1 − x_t)/(1−t) for pairs that
               were simulated backward, b_B on (x_t − x0)/t for pairs that were simulated forward.
    [SF]²M     pairs from entropic plans between minibatches (Tong, Malkin, Fatras, Atanackovic, Zhang, Huguet, Wolf,
               Bengio, arXiv 2307.03672).  The velocity v on u° = x1 − x0 + γ̇z and w = εs on −εz/γ with the weight
               λ² = (γ/ε)², that is λw on −z; then b_F = v + w and b_B = v − w.

They are own reimplementations: with this package's network, averaging of weights, rate schedule and choice of the
iterate, without which they do worse, and without its antithetic pairs and conditioned targets, which are not theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sbridge.couplings import Coupling
from sbridge.couplings.base import rows_of
from sbridge.couplings.self_consistent import Simulated
from sbridge.errors import InputError
from sbridge.interpolants import Brownian, Linear, Path
from sbridge.objectives import Velocity
from sbridge.plans import scaled_cost
from sbridge.problem import Problem
from sbridge.solvers.draws import Draw, draw
from sbridge.solvers.monitor import antithetic_path, bridge_pairs, drift_losses, drift_targets
from sbridge.solvers.regression import Regression
from sbridge.solvers.training import Training
from sbridge.times import TimeDensity, Uniform

__all__ = ["BridgeMatching", "BridgeMatchingTraining", "MarkovianFitting", "MinibatchPot", "ScoreFlowMatching"]
__all__ += ["ScoreFlowTraining", "flow_and_score_losses"]


class MinibatchPot(Coupling):
    """Pairs from the entropic plan between minibatches, each computed by POT to convergence, as [SF]²M does.

    Args:
        batch: points per side of a plan, which gives as many pairs.

    Raises:
        InputError: ε is so small that POT's iteration, not in the log domain, underflows (when pairs are drawn).
    """

    def __init__(self, x0: Tensor, x1: Tensor, epsilon: float, batch: int = 512) -> None:
        super().__init__(x0, x1, epsilon)
        self.batch = batch

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = [torch.cat(self._plan_pairs(generator), dim=1) for _ in range(-(-n // self.batch))]
        x0, x1 = torch.cat(drawn)[:n].chunk(2, dim=1)
        return x0, x1

    def _plan_pairs(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        import ot

        a, b = rows_of(self.x0, self.batch, generator), rows_of(self.x1, self.batch, generator)
        plan = ot.sinkhorn([], [], scaled_cost(a.double(), b.double(), self.epsilon), reg=1.0)
        if not plan.sum() > 0.5:
            raise InputError(f"POT's plans underflow at epsilon = {self.epsilon:g}; Regression's do not")
        cells = torch.multinomial(plan.flatten(), self.batch, replacement=True, generator=generator)
        return a[cells // self.batch], b[cells % self.batch]


@dataclass(frozen=True)
class BridgeMatching(Regression):
    """What both have in common: Brownian bridges on pairs, uniform times; the arguments are `Recipe`'s.

    Raises:
        InputError: another interpolant or gamma is asked for.
    """

    times: type[TimeDensity] = Uniform
    group: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interpolant is not Linear or self.gamma is not Brownian:
            raise InputError(f"{self.name} is defined by Brownian bridges; for other interpolants use Regression")


class BridgeMatchingTraining(Training):
    """`Training` on single points: `group` pairs share a time, each with one noise and its own target."""

    def draw(self, coupling: Coupling, batches: int) -> Draw:
        recipe = self.recipe
        return draw(coupling, self.times, batches, recipe.batch // recipe.group, recipe.group, self.generator)

    def training_path(self, draw: Draw) -> Path:
        with torch.no_grad():
            return self.interpolant.path(*draw)


@dataclass(frozen=True)
class MarkovianFitting(BridgeMatching):
    """DSBM-IMF: iterative Markovian fitting, from independent pairs.

    The two drifts share a network, so both are trained at every step, each on its own half of the batch; after each
    iteration both halves are simulated anew with the averaged network.

    Args:
        coupling: simulates the pairs, which takes as long for one step between two simulations as for a thousand: they
            are not made anew before they are worn.
        iterations: of Markovian fitting; the steps are split evenly between them, in a short training between fewer.

    The average of the weights looks back on less than an iteration, so that the next is not simulated by the last.
    """

    coupling: Callable[[Tensor, Tensor, float], Simulated] = Simulated
    group: int = 2
    memory: float = 0.02
    iterations: int = 20

    @property
    def name(self) -> str:
        """What tables call it."""
        return "DSBM-IMF (own)"

    def start(self, problem: Problem, random_state: int = 0) -> MarkovianTraining:
        """A training to iterate over; each round of steps yields a `Progress`."""
        return MarkovianTraining(self, problem, random_state)


class MarkovianTraining(BridgeMatchingTraining):
    """Bridge matching whose pairs are simulated anew between iterations."""

    recipe: MarkovianFitting
    coupling: Simulated
    check_coupling: Simulated

    def reference_path(self, x0: Tensor, x1: Tensor) -> Path:
        """Brownian bridges on the entropic plan between held-out points, which every iteration comes closer to."""
        return antithetic_path(self.base, *bridge_pairs(x0, x1, self.epsilon, self.generator), self.generator)

    def round(self) -> None:
        due = self.step * self.recipe.iterations // self.steps
        if self.coupling.worn and due > self.coupling.simulations:
            for coupling in (self.coupling, self.check_coupling):
                coupling.simulate(self.averaged, self.generator)
        super().round()

    def descend(self, draw: Draw) -> None:
        """Steps of both drifts: of b_F on pairs simulated from x1, of b_B on those from x0."""
        path = self.training_path(draw)
        targets = drift_targets(path, self.epsilon)
        size = self.recipe.batch // self.recipe.group
        for t, x, target in zip(path.t.split(size), path.x.split(size), targets.split(size), strict=True):
            self.advance(t, drift_losses(_own(self.pair(t, x)), _own(target), self.epsilon))
        self.average.update_parameters(self.pair)


def _own(both: Tensor) -> Tensor:
    """b_F where the pair came from x1 beside b_B where it came from x0, (..., 2d), of both at both, (..., 2, 2d)."""
    from0, from1 = both.unbind(-2)
    return torch.cat([from1.chunk(2, dim=-1)[0], from0.chunk(2, dim=-1)[1]], dim=-1)


@dataclass(frozen=True)
class ScoreFlowMatching(BridgeMatching):
    """[SF]²M: simulation-free score and flow matching on minibatch entropic plans; the arguments are `Recipe`'s."""

    coupling: Callable[[Tensor, Tensor, float], Coupling] = MinibatchPot

    @property
    def name(self) -> str:
        """What tables call it."""
        return "[SF]²M (own)"

    def start(self, problem: Problem, random_state: int = 0) -> ScoreFlowTraining:
        """A training to iterate over; each round of steps yields a `Progress`."""
        return ScoreFlowTraining(self, problem, random_state)


class ScoreFlowTraining(BridgeMatchingTraining):
    """Bridge matching of velocity and score; `training_loss` is their own loss, the others are the drifts' in nats."""

    def descend(self, draw: Draw) -> None:
        path = self.training_path(draw)
        flow, weight = Velocity().target(path), path.gamma / self.epsilon
        size = self.recipe.batch // self.recipe.group
        for t, x, *targets in zip(*(part.split(size) for part in (path.t, path.x, flow, path.z, weight)), strict=True):
            self.advance(t, flow_and_score_losses(self.pair(t, x), *targets))
        self.average.update_parameters(self.pair)


def flow_and_score_losses(drifts: Tensor, flow: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """|v − u°|² + |λw + z|² over d, for v = (b_F + b_B)/2 and w = (b_F − b_B)/2.

    Args:
        drifts: b_F and b_B side by side, (..., 2d).
        flow: u°, (..., d).
        z: the noise, (..., d).
        weight: λ = γ/ε = 2γ/σ², (..., 1).
    """
    forward, backward = drifts.chunk(2, dim=-1)
    velocity, scaled_score = (forward + backward) / 2, (forward - backward) / 2
    return ((velocity - flow).square() + (weight * scaled_score + z).square()).mean(-1)
