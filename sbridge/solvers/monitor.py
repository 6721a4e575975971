"""Held-out points: how well a pair of drifts does on them, and which iterate to keep.

A fixed set of held-out points x_t with their targets gives the drifts' quadratic objective the same noise at every
check. Over 2ε it is, up to a constant, the path KL to the law of those points in nats: it tells iterates apart and
rises when a network starts to memorise its training points.

For the search for the Schrödinger bridge that law is the entropic plan between held-out points with a Brownian bridge
on each pair (`bridge_pairs`).  The plan of a finite sample is biased, so the value is no measure of the distance to
the bridge between the two laws.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from sbridge.fields import Drifts
from sbridge.interpolants import Interpolant, Path
from sbridge.objectives import Drift, quadratic_loss
from sbridge.plans import Plan, annealed_potential, refined

__all__ = ["POINTS", "Monitor", "Selection", "antithetic_path", "bridge_pairs", "drift_losses", "drift_targets"]
__all__ += ["set_aside"]

POINTS = 2048
_PLAN_ITERATIONS = 50  # after annealing


def drift_targets(path: Path, epsilon: float) -> Tensor:
    """Targets of both drifts side by side, as `Drifts` answer: (..., 2d)."""
    return torch.cat([Drift(epsilon).target(path), Drift(-epsilon).target(path)], dim=-1)


def drift_losses(value: Tensor, target: Tensor, epsilon: float) -> Tensor:
    """The mean of both drifts' quadratic loss, over 2ε: (..., 2d) → (...), in nats of path KL up to a constant."""
    return quadratic_loss(value, target) / (4 * epsilon)


def set_aside(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split x (n, d) at random into training points and a tenth of them, 2048 at most, to check on."""
    order = torch.randperm(len(x), generator=generator, device=generator.device)
    count = min(POINTS, len(x) // 10)
    return x[order[count:]], x[order[:count]]


class Monitor:
    """The drifts' objective on the same points every time.

    Args:
        path: held-out points, in groups: (groups, points, d).
        epsilon: the bridge's ε.

    Attributes:
        scale: the size of the losses, in nats: what the mean squared velocity and the noise make of them.
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


def bridge_pairs(x0: Tensor, x1: Tensor, epsilon: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs from the whole entropic plan between two samples, (points, d) each."""
    g = refined(x0, x1, annealed_potential(x0, x1, epsilon), epsilon, _PLAN_ITERATIONS)
    return Plan.of_potential(x0, x1, epsilon, g).pairs(POINTS, generator)


class Selection:
    """Keeps the latest weights that are not significantly worse than the best.

    Significant is a mean of paired differences of more than two standard errors.

    Args:
        weights: what to answer before the first check.
    """

    def __init__(self, weights: dict[str, Any]) -> None:
        self.kept = weights
        self.best: Tensor | None = None

    def offer(self, losses: Tensor, weights: dict[str, Any]) -> None:
        """Weigh new `weights` by their losses, one for each held-out bridge point."""
        excess = losses - losses if self.best is None else losses - self.best
        mean, error = excess.mean(), excess.std() / len(excess) ** 0.5
        if self.best is None or mean < 0:
            self.best = losses
        if mean <= 2 * error:
            self.kept = copy.deepcopy(weights)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        vars(self).update(state)
