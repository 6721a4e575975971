"""[SF]²M: score and flow matching on minibatch entropic plans, reimplemented on this package's networks.

On Brownian bridges between the pairs of entropic plans between minibatches, the velocity v is regressed on
u° = x1 − x0 + γ̇z, and w = εs on −εz/γ with the weight λ² = (γ/ε)², that is λw on −z; then b_F = v + w and b_B = v − w.

Network, average of the weights, rate schedule and choice of the answer are this package's.

Tong, Malkin, Fatras, Atanackovic, Zhang, Huguet, Wolf, Bengio, arXiv 2307.03672.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from sbridge.baselines.matching import brownian_bridges
from sbridge.checks import Count, checked
from sbridge.couplings import Coupling
from sbridge.couplings.base import rows_of
from sbridge.errors import InputError
from sbridge.networks import NetworkFactory, ResidualNetwork
from sbridge.objectives import Velocity
from sbridge.plans import scaled_cost
from sbridge.solvers.data import Data
from sbridge.solvers.method import Batch, MakeCoupling, Method, TrainingState
from sbridge.solvers.network_solver import NetworkSolver

__all__ = ["NETWORK", "MinibatchPot", "ScoreFlowMatching", "ScoreFlowMethod", "flow_and_score_losses"]

NETWORK = ResidualNetwork(logarithms=False)  # with logarithms path KL is a third larger (mixture d = 16, ε = 0.5)


class MinibatchPot(Coupling):
    """Pairs from the entropic plan between minibatches, each computed by POT to convergence, as [SF]²M does.

    Args:
        batch: points per side of a plan, which gives as many pairs.

    Raises:
        InputError: ε is so small that POT's iteration, not in the log domain, underflows (when pairs are drawn).
    """

    @checked
    def __init__(self, x0: Tensor, x1: Tensor, epsilon: float, batch: Count = 512) -> None:
        super().__init__(x0, x1, epsilon)
        self.batch = batch

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = [torch.cat(self._plan_pairs(generator), dim=1) for _ in range(-(-n // self.batch))]
        x0, x1 = torch.cat(drawn)[:n].chunk(2, dim=1)
        return x0, x1

    def _plan_pairs(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        a, b = rows_of(self.x0, self.batch, generator), rows_of(self.x1, self.batch, generator)
        import ot  # slow to import

        plan = ot.sinkhorn([], [], scaled_cost(a.double(), b.double(), self.epsilon), reg=1.0)
        if not plan.sum() > 0.5:
            raise InputError(f"POT's plans underflow at epsilon = {self.epsilon:g}; OnlineSinkhorn's do not")
        cells = torch.multinomial(plan.flatten(), self.batch, replacement=True, generator=generator)
        return a[cells // self.batch], b[cells % self.batch]


@dataclass(frozen=True)
class ScoreFlowMatching(NetworkSolver):
    """[SF]²M: simulation-free score and flow matching; the arguments are `NetworkSolver`'s."""

    name: ClassVar[str] = "[SF]²M (own)"

    coupling: MakeCoupling = MinibatchPot
    network: NetworkFactory = NETWORK

    def method(self, data: Data) -> ScoreFlowMethod:
        """Matching of velocity and score."""
        return ScoreFlowMethod(self, data)


class ScoreFlowMethod(Method):
    """Matching of velocity and score; `training_loss` is their own loss, the others are the drifts' in nats."""

    def __init__(self, settings: ScoreFlowMatching, data: Data) -> None:
        self.interpolant, self.draws = brownian_bridges(settings, data, group=1)
        self.round_steps = settings.round_steps

    def batches(self, training: TrainingState) -> Iterator[Batch]:
        with torch.no_grad():
            path = self.interpolant.path(*self.draws.training(training, self.round_steps))
        parts = (path.t, path.x, Velocity().target(path), path.z, path.gamma / training.data.epsilon)
        for t, x, flow, z, weight in zip(*(part.split(self.draws.groups) for part in parts), strict=True):
            yield Batch(t, x, partial(flow_and_score_losses, flow=flow, z=z, weight=weight))


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
