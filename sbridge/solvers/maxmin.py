"""The Schrödinger bridge by optimising the interpolant: max over I (and γ) of min over u.

Theorem 3.13 (Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797): the law of the interpolant that maximises
min_u ∫E[½|u|² − (∂tI + (γ̇ − ε/γ)z)·u]dt is the Schrödinger bridge, and u its drift.  The inner player is
`Regression`'s; the outer player moves I between its rounds.

With u frozen, the objective's derivative along a displacement δx_t of the interpolant's points is E[F·δx_t] for the
force F = ∂tu + (∇u)u + εΔu + (∇u − ∇uᵀ)(target − u).  Its first three terms are the residual of the
Hamilton–Jacobi–Bellman equation, the rate at which u fails to be a martingale along its own process; a finite
difference along one simulated step measures them without derivatives.  In the last, `target` is what u is regressed
on.  It vanishes where u is a gradient; without it drifts that turn, which can be martingales too, would pass for the
bridge. F·x_t is ascended.  The backward drift gives the same force in reversed time; the mean of both is used.

Two traps: the outer batch must be fresh, because a network has just moved towards the targets of the points it was
trained on and F, a difference in time, takes that for a force; and I must not vary faster in time than the drift
network resolves (`LearnedMean`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from sbridge.errors import InputError
from sbridge.fields import VectorField
from sbridge.interpolants import Brownian, Interpolant, LearnedGamma, LearnedMean, Linear, Path
from sbridge.problem import Problem
from sbridge.solvers.draws import Draw
from sbridge.solvers.monitor import antithetic_path, bridge_pairs, drift_targets
from sbridge.solvers.regression import Regression
from sbridge.solvers.soap import Soap
from sbridge.solvers.training import Training, warm_cosine

__all__ = ["MaxMin", "MaxMinTraining", "hjb_force", "martingale_defect"]

_SPAN = 0.005  # of the time left: the step of the martingale defect, whose bias is proportional to it


@dataclass(frozen=True)
class MaxMin(Regression):
    """Find the Schrödinger bridge by max–min over the interpolant.

    Args:
        learn_mean: whether I is learned, as the base interpolant and a correction by a network (`LearnedMean`).
        learn_gamma: whether γ² is learned, as a bounded multiple of the base's.
        outer_rate: Soap's rate for the interpolant at its height, with the same schedule as the drifts'.
        outer_width, outer_depth: size of the interpolant's network.

    `round_steps` is the number of drift steps between two steps of the interpolant; the other arguments are
    `Recipe`'s.
    """

    round_steps: int = 5
    learn_mean: bool = True
    learn_gamma: bool = False
    outer_rate: float = 4e-3
    outer_width: int = 64
    outer_depth: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.learn_mean or self.learn_gamma):
            raise InputError("max–min needs something to learn, the mean or γ; for a fixed interpolant use Regression")

    @property
    def name(self) -> str:
        """What tables call it."""
        return "max–min"

    def start(self, problem: Problem, random_state: int = 0) -> MaxMinTraining:
        """A training to iterate over; each round of steps yields a `Progress`."""
        return MaxMinTraining(self, problem, random_state)


def martingale_defect(drift: VectorField, here: Tensor, t: Tensor, x: Tensor, dt: Tensor, noise: Tensor) -> Tensor:
    """E[f(t + dt, X_{t+dt}) − f(t, x)]/dt for the drift f along a step of its own process from x, f(t, x) = `here`.

    The expectation is the mean over ±`noise`, √(2ε|dt|) dW; dt < 0 is a step of the backward process.
    """
    ahead = drift(t + dt, torch.stack([x + here * dt + noise, x + here * dt - noise])).mean(0)
    return (ahead - here) / dt


def curl(value: Tensor, place: Tensor, residual: Tensor) -> Tensor:
    """(∇f − ∇fᵀ) r at every point, for a residual r (..., d) and f's value with its graph from `place`.

    It is zero where the drift f is a gradient.
    """
    with torch.enable_grad():
        weights = torch.zeros_like(residual, requires_grad=True)
        (pulled,) = torch.autograd.grad(value, place, weights + residual, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, weights, residual, retain_graph=True)
    return pushed - pulled.detach()


def hjb_force(pair: VectorField, path: Path, epsilon: float, xi: Tensor) -> Tensor:
    """The force F of frozen drifts on the interpolant's points, the mean of its forward and its backward estimate.

    Args:
        pair: (t, x) ↦ both drifts side by side, (..., 2d).
        path: the points, (..., d), with what the drifts' targets are made of.
        epsilon: the bridge's ε.
        xi: standard normal noise, (..., d).
    """
    t = path.t
    place = path.x.detach().requires_grad_()
    with torch.enable_grad():
        values = pair(t, place).chunk(2, dim=-1)
    targets = drift_targets(path, epsilon).chunk(2, dim=-1)
    steps = (_SPAN * (1 - t), -_SPAN * t)
    with torch.no_grad():
        forces = [
            martingale_defect(_half(pair, k), value, t, path.x, dt, (2 * epsilon * dt.abs()).sqrt() * xi)
            + curl(value, place, target - value)
            for k, (value, target, dt) in enumerate(zip(values, targets, steps, strict=True))
        ]
        return torch.stack(forces).mean(0)


def _half(pair: VectorField, index: int) -> VectorField:
    return lambda t, x: pair(t, x).chunk(2, dim=-1)[index]


class MaxMinTraining(Training):
    """`Training` with an outer player, who moves the interpolant once a round."""

    recipe: MaxMin

    def __init__(self, recipe: MaxMin, problem: Problem, random_state: int) -> None:
        super().__init__(recipe, problem, random_state)
        self.outer = Soap(self.interpolant.parameters(), lr=recipe.outer_rate)
        self.outer_schedule = LambdaLR(self.outer, lambda done: warm_cosine(done * recipe.round_steps / self.steps))

    def reference_path(self, x0: Tensor, x1: Tensor) -> Path:
        """Brownian bridges on the entropic plan between held-out points."""
        pairs = bridge_pairs(x0, x1, self.epsilon, self.generator)
        return antithetic_path(Linear(Brownian(self.epsilon)), *pairs, self.generator)

    def make_interpolant(self, dim: int, spread0: float, spread1: float) -> Interpolant:
        interpolant = super().make_interpolant(dim, spread0, spread1)
        if self.recipe.learn_mean:
            size = (self.recipe.outer_width, self.recipe.outer_depth)
            interpolant = LearnedMean(interpolant, dim, spread0, spread1, *size)
        return LearnedGamma(interpolant) if self.recipe.learn_gamma else interpolant

    def round(self) -> None:
        fresh, trained_on = self.draw(self.coupling, self.recipe.round_steps + 1).split(
            self.recipe.batch // self.recipe.group
        )
        self.descend(trained_on)
        self.ascend(fresh)

    def ascend(self, draw: Draw) -> None:
        """One step of the interpolant along the force, with pairs that the drifts were not trained on."""
        path = self.interpolant.path(*draw)
        xi = torch.randn(path.x.shape, generator=self.generator, dtype=path.x.dtype, device=path.x.device)
        force = hjb_force(self.pair, path.detach(), self.epsilon, xi)
        self.outer.zero_grad()
        (-(self.times.per_time(path.t) * force * path.x).sum(-1).mean()).backward()
        self.outer.step()
        self.outer_schedule.step()

    def _parts(self) -> dict[str, object]:
        return {**super()._parts(), "outer": self.outer, "outer_schedule": self.outer_schedule}
