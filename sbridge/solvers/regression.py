"""Regression of both drifts on a given interpolant between two datasets.

The law of x_t = I(t, x0, x1) + γ(t) z is that of the diffusions with drifts b ± εs, each the minimiser of its quadratic
objective (`sbridge.objectives.Drift`).  One network answers for both.  Batches are groups of pairs that share a time;
within a group every pair serves with z and −z, and under Brownian noise the targets are Rao–Blackwellised
(`Path.conditioned`), by many more points where a plan gives them (`solvers.smoothed`); times are stratified.  The
network corrects the best linear drifts (`solvers.linear`), or learns without them where it is sooner good
(`solvers.trial`).

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, sections 2 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from sbridge.checks import Count
from sbridge.errors import InputError
from sbridge.fields import Drifts
from sbridge.interpolants import (
    Brownian,
    ClosedForm,
    Gamma,
    GammaKind,
    Interpolant,
    InterpolantKind,
    Linear,
    OneSided,
    Path,
)
from sbridge.solvers.data import Data
from sbridge.solvers.draws import Draw
from sbridge.solvers.linear import linear_drifts
from sbridge.solvers.method import Batch, Draws, Method, TrainingState, drift_batches
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.solvers.smoothed import SmoothedRegression, partners_of, smoothing_pays
from sbridge.times import Arcsine, TimesKind

__all__ = ["InterpolantRegression", "Regression", "base_interpolant", "check_gamma", "check_groups"]
__all__ += ["regression_on"]


@dataclass(frozen=True)
class Regression(NetworkSolver):
    """Fit both drifts of a given interpolant: stochastic interpolants without the search for the bridge.

    With a linear interpolant of Brownian γ and pairs close to the entropic plan this is already close to the
    Schrödinger bridge (Tong et al., arXiv 2307.03672); with the product coupling it is not.

    Args:
        interpolant: the kind of interpolant, a class of `sbridge.interpolants`.  A one-sided one takes x0, which must
            be Gaussian noise, as its own noise; a mirror one needs two samples of one law.
        gamma: its noise, for the problem's ε.
        times: the law of the times of a batch, a class of `sbridge.times`.
        group: points that share a time: half as many pairs, each with z and −z.  Large groups leave less noise in the
            targets; small ones leave room for more times, which matters most at large ε.

    The other arguments are `NetworkSolver`'s.

    Raises:
        InputError: a one-sided interpolant is given a gamma, or group does not divide batch.
    """

    name: ClassVar[str] = "fixed interpolant"

    interpolant: InterpolantKind = Linear
    gamma: GammaKind = Brownian
    times: TimesKind = Arcsine
    group: Count = 16

    def validate(self) -> None:
        check_gamma(self.interpolant, self.gamma)
        check_groups(self.batch, self.group)

    def method(self, data: Data) -> Method:
        """Regression on the interpolant as it is, with smoothed targets where a plan gives points many partners."""
        base = base_interpolant(self.interpolant, self.gamma, data)
        draws = Draws(data, self.coupling, self.times(base), self.batch // self.group, self.group // 2)
        linear, brownian = self.interpolant is Linear, self.gamma is Brownian
        partners = partners_of(draws.coupling, data.generator)
        return regression_on(base, draws, self.round_steps, linear, brownian, partners)


def regression_on(
    base: Interpolant, draws: Draws, round_steps: int, linear: bool, brownian: bool, partners: float
) -> Method:
    """Regression on a fixed interpolant, with smoothed targets where they exist and have less noise."""
    if linear and brownian and smoothing_pays(draws.coupling, partners):
        return SmoothedRegression(base, draws, round_steps)
    return InterpolantRegression(base, draws, round_steps, linear, brownian)


def check_gamma(interpolant: type[ClosedForm], gamma: type[Gamma]) -> None:
    """Raises InputError where a one-sided interpolant is given a gamma."""
    if issubclass(interpolant, OneSided) and gamma is not Brownian:
        raise InputError(f"{interpolant.__name__} has a noise of its own and takes no other gamma")


def check_groups(batch: int, group: int) -> None:
    """Raises InputError where a batch cannot be divided into groups of pairs, each with z and −z."""
    if group % 2 or batch % group:
        raise InputError(f"group must be even and divide batch, but group is {group} and batch {batch}")


def base_interpolant(interpolant: type[ClosedForm], gamma: type[Gamma], data: Data) -> Interpolant:
    """The interpolant of that kind for these data.

    Raises:
        InputError: it cannot join them.
    """
    interpolant.admit(data.x0, data.x1)
    return data.seeded(interpolant.make(gamma(data.epsilon), data.spreads[0]))


class InterpolantRegression(Method):
    """Batches of an interpolant's points with the objective of both drifts.

    Args:
        interpolant: the interpolant, which others may move between rounds.
        draws: what its points are made of.
        round_steps: batches of a round.
        linear: whether its mean is, or starts as, the straight line.
        conditioned: whether its noise is Brownian, so that targets are replaced by their means within a group.  Where
            γ vanishes faster near the ends, this would bring back too much of the ε/γ that ±z cancel.
    """

    def __init__(
        self, interpolant: Interpolant, draws: Draws, round_steps: int, linear: bool, conditioned: bool
    ) -> None:
        self.interpolant, self.draws, self.round_steps, self.conditioned = interpolant, draws, round_steps, conditioned
        self.brownian = linear and conditioned

    def batches(self, training: TrainingState) -> Iterator[Batch]:
        return self.batches_of(self.draws.training(training, self.round_steps), training.data.epsilon)

    def batches_of(self, draw: Draw, epsilon: float) -> Iterator[Batch]:
        """The batches that a draw gives."""
        return drift_batches(self.path(draw), epsilon, self.draws.groups)

    def known_drifts(self, data: Data) -> Drifts | None:
        """The best linear drifts of the interpolant as it is."""
        return linear_drifts(self.interpolant, self.draws.coupling, data)

    def trial(self) -> Method:
        return self.with_half_batches()

    def check_path(self, training: TrainingState) -> Path:
        return self.path(self.draws.held_out(training))

    def path(self, draw: Draw) -> Path:
        """Points with what their targets are made of, in groups: (groups, points, d)."""
        with torch.no_grad():
            path = self.interpolant.path(*draw)
            return path.conditioned() if self.conditioned else path.antithetic()
