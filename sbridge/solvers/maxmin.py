"""The Schrödinger bridge by optimising the interpolant: max over I (and γ) of min over u.

Theorem 3.13 (Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797): the law of the interpolant that maximises
min_u ∫E[½|u|² − (∂tI + (γ̇ − ε/γ)z)·u]dt is the Schrödinger bridge, and u its drift.  The inner player is the regression
of `solvers.regression`; after each of its rounds the outer player moves I a step along the force (`solvers.force`).

Two traps.  The outer batch must be fresh: a network has just moved towards the targets of the points it was trained on,
and the force, a difference in time, would see that.  And I must not vary faster in time than the drift network resolves
(`LearnedMean`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.optim import Optimizer

from sbridge.checks import Count, Positive
from sbridge.couplings.self_consistent import Simulated
from sbridge.errors import InputError
from sbridge.fields import Drifts
from sbridge.interpolants import (
    Brownian,
    GammaKind,
    Interpolant,
    InterpolantKind,
    LearnedGamma,
    LearnedMean,
    Linear,
    Path,
)
from sbridge.solvers.data import Data
from sbridge.solvers.draws import Draw
from sbridge.solvers.force import hjb_force
from sbridge.solvers.held_out import entropic_path
from sbridge.solvers.method import Batch, Draws, Method, TrainingState
from sbridge.solvers.network_solver import MakeOptimiser, NetworkSolver
from sbridge.solvers.regression import (
    InterpolantRegression,
    Regression,
    base_interpolant,
    check_gamma,
    check_groups,
    regression_on,
)
from sbridge.solvers.simulated import SIDES, Refined
from sbridge.solvers.smoothed import partners_of
from sbridge.solvers.soap import Soap
from sbridge.solvers.training import Schedule
from sbridge.times import Arcsine, TimesKind, Uniform

__all__ = ["MaxMin", "MaxMinMethod", "settled"]

_MANY_PARTNERS = 16  # with 27 the outer player cost accuracy, with 2 to 4 it gained some


@dataclass(frozen=True)
class MaxMin(NetworkSolver):
    """Find the Schrödinger bridge by max–min over the interpolant.

    Where a point has at least 16 partners in the plan that pairs are drawn from, the straight interpolant is the saddle
    point but for a small bias; then this is regression on it (`settled`), and the bridge's interpolant is `Linear`.
    Where it has fewer, I is learned for two fifths of the steps, and pairs that the drifts simulate themselves take the
    place of the plan's for the rest (`solvers.simulated`).

    Args:
        interpolant, gamma, times, group: of the interpolant to start from, as in `Regression`.
        learn_mean: whether I is learned, as the base interpolant and a correction by a network (`LearnedMean`).
        learn_gamma: whether γ² is learned, as a bounded multiple of the base's (`LearnedGamma`).
        outer_rate: rate of the interpolant's optimiser at its highest, with the same schedule as the drifts'.
        outer_optimiser: makes that optimiser from (parameters, lr=outer_rate).
        outer_width, outer_depth: size of the interpolant's network.

    `round_steps` is the number of drift steps between two steps of the interpolant.  The other arguments are
    `NetworkSolver`'s.

    Raises:
        InputError: there is nothing to learn, a one-sided interpolant is given a gamma, or group does not divide batch.
    """

    name: ClassVar[str] = "max–min"

    round_steps: Count = 5
    interpolant: InterpolantKind = Linear
    gamma: GammaKind = Brownian
    times: TimesKind = Arcsine
    group: Count = 16
    learn_mean: bool = True
    learn_gamma: bool = False
    outer_rate: Positive = 4e-3
    outer_optimiser: MakeOptimiser = Soap
    outer_width: Count = 64
    outer_depth: Count = 3

    def validate(self) -> None:
        check_gamma(self.interpolant, self.gamma)
        check_groups(self.batch, self.group)
        if not (self.learn_mean or self.learn_gamma):
            raise InputError("max–min needs something to learn, the mean or γ; for a fixed interpolant use Regression")

    def method(self, data: Data) -> Method:
        """Regression on the learned interpolant, and the player that moves it; regression alone where `settled`."""
        base = base_interpolant(self.interpolant, self.gamma, data)
        draws = Draws(data, self.coupling, self.times(base), self.batch // self.group, self.group // 2)
        linear, brownian = self.interpolant is Linear, self.gamma is Brownian
        partners = partners_of(draws.coupling, data.generator)
        if linear and brownian and not self.learn_gamma and settled(partners):
            return regression_on(base, draws, Regression.round_steps, linear, brownian, partners)
        learned = data.seeded(self._learned(base, data))
        inner = InterpolantRegression(learned, draws, self.round_steps, linear, brownian)
        outer = self.outer_optimiser(learned.parameters(), lr=self.outer_rate)
        players = MaxMinMethod(inner, outer, self.outer_rate, self.schedule)
        if not (linear and brownian and partners) or self.learn_gamma:
            return players
        simulated = Draws(data, Simulated, Uniform(base), self.batch // SIDES, SIDES)
        return Refined.of(players, base, simulated, self.round_steps, self.batch)

    def _learned(self, base: Interpolant, data: Data) -> Interpolant:
        size = (self.outer_width, self.outer_depth)
        learned = LearnedMean(base, data.dim, *data.spreads, *size) if self.learn_mean else base
        return LearnedGamma(learned) if self.learn_gamma else learned


def settled(partners: float) -> bool:
    """Whether pairs are so near to those of the bridge that the linear interpolant is already the saddle point.

    The pairs of an entropic plan between samples are biased by about one over the effective number of partners.  The
    outer player mends that bias; where there is hardly any, its steps are noise and cost time.
    """
    return partners > _MANY_PARTNERS


class MaxMinMethod(Method):
    """The two players: regression on the interpolant as it stands, and steps of the interpolant along the force.

    Args:
        inner: regression on the learned interpolant.
        outer: the optimiser of the interpolant.
        rate, schedule: its highest rate, and the share of it after a fraction of the steps.
    """

    def __init__(self, inner: InterpolantRegression, outer: Optimizer, rate: float, schedule: Schedule) -> None:
        self.inner, self.outer, self.rate, self.schedule = inner, outer, rate, schedule
        self.interpolant, self.draws, self.brownian = inner.interpolant, inner.draws, inner.brownian
        self.fresh: Draw  # pairs that the drifts are not trained on in this round

    def batches(self, training: TrainingState) -> Iterator[Batch]:
        draw = self.draws.training(training, self.inner.round_steps + 1)
        self.fresh, trained_on = draw.split(self.draws.groups)
        return self.inner.batches_of(trained_on, training.data.epsilon)

    def after_round(self, training: TrainingState) -> None:
        """One step of the interpolant along the force."""
        path = self.interpolant.path(*self.fresh)
        generator = training.generator
        xi = torch.randn(path.x.shape, generator=generator, dtype=path.x.dtype, device=path.x.device)
        force = hjb_force(training.drifts, path.detach(), training.data.epsilon, xi)
        fraction = (training.step - self.inner.round_steps) / training.steps
        for group in self.outer.param_groups:
            group["lr"] = self.rate * self.schedule(fraction)
        self.outer.zero_grad()
        (-(self.draws.times.per_time(path.t) * force * path.x).sum(-1).mean()).backward()
        self.outer.step()

    def known_drifts(self, data: Data) -> Drifts | None:
        """The inner player's, for the interpolant that the outer player starts from."""
        return self.inner.known_drifts(data)

    def trial(self) -> Method | None:
        """The inner player's, for the interpolant that the outer player starts from."""
        return self.inner.trial()

    def check_path(self, training: TrainingState) -> Path:
        return self.inner.check_path(training)

    def reference_path(self, data: Data) -> Path:
        """Brownian bridges on the entropic plan between held-out points."""
        return entropic_path(data.check0, data.check1, data.epsilon, data.generator)

    def parts(self) -> dict[str, Any]:
        return {**super().parts(), "outer": self.outer}
