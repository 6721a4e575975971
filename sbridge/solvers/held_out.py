"""Held-out points: how well a pair of drifts does on them.

The drifts' quadratic objective is evaluated on a fixed set of held-out points x_t with their targets, so that its noise
is the same at every check.  Divided by 2ε it is, up to a constant, the path KL to the law of those points in nats.  It
compares iterates, and rises when a network starts to memorise its training points.

For the search for the Schrödinger bridge that law is the entropic plan between held-out points with a Brownian bridge
on each pair (`entropic_path`).  The plan of a finite sample is biased, so the value is no measure of the distance to
the bridge between the two laws.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.fields import Drifts
from sbridge.interpolants import Brownian, Interpolant, Linear, Path
from sbridge.objectives import Drift, quadratic_loss
from sbridge.plans import Plan, annealed_potential, refined
from sbridge.weights import repeated

__all__ = ["POINTS", "Monitor", "antithetic_path", "drift_losses", "drift_targets", "entropic_path", "set_aside"]

POINTS = 2048
_PLAN_ITERATIONS = 50  # after annealing


def drift_targets(path: Path, epsilon: float) -> Tensor:
    """Targets of both drifts side by side, as `Drifts` answer: (..., 2d)."""
    return torch.cat([Drift(epsilon).target(path), Drift(-epsilon).target(path)], dim=-1)


def drift_losses(value: Tensor, target: Tensor, epsilon: float) -> Tensor:
    """The mean of both drifts' quadratic loss, over 2ε: (..., 2d) → (...), in nats of path KL up to a constant."""
    return quadratic_loss(value, target) / (4 * epsilon)


def set_aside(x: Tensor, generator: torch.Generator, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Split x (n, d) at random into training points and held-out points: a tenth of all, 2,048 at most.

    Points with weights (n,) are repeated in proportion to them, after the split, so that both parts have other points.
    """
    order = torch.randperm(len(x), generator=generator, device=generator.device)
    count = min(POINTS, len(x) // 10)
    kept, checked = order[count:], order[:count]
    return (
        repeated(x[kept], None if weights is None else weights[kept], 4, generator),
        repeated(x[checked], None if weights is None else weights[checked], 1, generator),
    )


class Monitor:
    """The drifts' objective on the same points every time.

    Args:
        path: held-out points, in groups: (groups, points, d).
        epsilon: the bridge's ε.

    Attributes:
        scale: the typical size of the losses in nats, from the mean squared velocity and the noise.
    """

    def __init__(self, path: Path, epsilon: float) -> None:
        self.t, self.x, self.epsilon = path.t, path.x, epsilon
        self.target = drift_targets(path, epsilon)
        self.scale = path.mean_rate.square().sum(-1).mean().item() / (4 * epsilon) + path.x.shape[-1]

    def losses(self, pair: Drifts) -> Tensor:
        """The objective in nats, averaged over each group: (groups,)."""
        with torch.no_grad():
            return drift_losses(pair(self.t, self.x), self.target, self.epsilon).mean(-1)


def antithetic_path(interpolant: Interpolant, x0: Tensor, x1: Tensor, generator: torch.Generator) -> Path:
    """Each pair at one time, evenly spread over [0, 1], with two opposite noises: (n, d), (n, d) → (n, 2, d)."""
    t = (torch.arange(len(x0), dtype=x0.dtype, device=x0.device) + 0.5) / len(x0)
    z = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
    with torch.no_grad():
        return interpolant.path(t.view(-1, 1, 1), x0[:, None], x1[:, None], z[:, None]).antithetic()


def entropic_path(x0: Tensor, x1: Tensor, epsilon: float, generator: torch.Generator) -> Path:
    """Brownian bridges on pairs from the whole entropic plan between two samples, as `antithetic_path`."""
    g = refined(x0, x1, annealed_potential(x0, x1, epsilon), epsilon, _PLAN_ITERATIONS)
    pairs = Plan.of_potential(x0, x1, epsilon, g).pairs(POINTS, generator)
    return antithetic_path(Linear(Brownian(epsilon)), *pairs, generator)
