"""The settings that all solvers with a network share, and how a training is put together from them."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch.optim import Optimizer

from sbridge.bridge import Bridge
from sbridge.checks import Checked, Count, Positive, Seed, Share, checked
from sbridge.couplings import OnlineSinkhorn
from sbridge.errors import InputError
from sbridge.fields import Beside, Corrected, Drifts, Reversed
from sbridge.networks import DriftPair, NetworkFactory, ResidualNetwork, build_network
from sbridge.problem import FEWEST_POINTS, Problem
from sbridge.solvers.answer import LatestNotWorse, MakeRule
from sbridge.solvers.base import Listener, Solver, finish, remarked
from sbridge.solvers.data import Data
from sbridge.solvers.method import MakeCoupling, Method
from sbridge.solvers.soap import decaying_soap
from sbridge.solvers.training import Schedule, Training, warm_cosine
from sbridge.solvers.trial import better_start, trial_steps

__all__ = ["MakeOptimiser", "NetworkSolver"]

_NETWORK = ResidualNetwork()

MakeOptimiser = Callable[..., Optimizer]
"""Makes an optimiser from (parameters, lr=rate): a class of torch.optim, or a partial of one."""


@dataclass(frozen=True)
class NetworkSolver(Checked, ABC):
    """A solver that trains a network; subclasses say by which method.

    Args:
        coupling: makes the rule that draws pairs from (x0, x1, epsilon).
        steps: gradient steps on the drifts.
        batch: points in a step.
        round_steps: steps in a round, whose pairs and paths are drawn at once.
        rate: the optimiser's rate at its highest.
        memory: the average of the weights reaches back over this share of the training so far.
        network: makes the network from (dim, spread0, spread1, epsilon): any torch module that answers `module(t, x)`
            with both drifts side by side (`sbridge.networks`).
        optimiser: makes the optimiser from (parameters, lr=rate).
        schedule: the share of the rate after a fraction of the steps.
        answer: the rule that chooses the weights to return (`sbridge.solvers.answer`).
        prior: a solver whose drifts the network corrects, such as `MixturePotential`.  It solves the problem, and for
            the backward drift the problem with x0 and x1 exchanged.
    """

    name: ClassVar[str]

    coupling: MakeCoupling = OnlineSinkhorn
    steps: Count = 6000
    batch: Count = 512
    round_steps: Count = 3
    rate: Positive = 0.012
    memory: Share = 0.1
    network: NetworkFactory = _NETWORK
    optimiser: MakeOptimiser = decaying_soap
    schedule: Schedule = warm_cosine
    answer: MakeRule = LatestNotWorse
    prior: Solver | None = None

    @abstractmethod
    def method(self, data: Data) -> Method:
        """The method on these data."""

    @checked
    @torch.inference_mode(False)
    @torch.enable_grad()
    def start(self, problem: Problem, random_state: Seed = 0) -> Training:
        """A training to iterate over; each round of steps yields a `Progress`.

        If it has 2,000 steps or more in 10 or more dimensions, a trial before it tells whether the default network
        learns faster with or without linear drifts that it corrects.  A module of your own always corrects them.

        Raises:
            InputError: ε is too small, or the network or the interpolant does not fit the data.
        """
        data = Data.of(problem, random_state)
        method = self.method(data)
        return self._training(data, method, self._drifts(data, method))

    @checked
    @torch.inference_mode(False)
    @torch.enable_grad()
    def solve(self, problem: Problem, random_state: Seed = 0, listeners: Sequence[Listener] = ()) -> Bridge:
        """Train to the end.

        Raises:
            DivergenceError: the training became unstable; with `start`, `Training.bridge` has its last good state.

        Warns:
            DataWarning: there are so few points that the network learned them by heart, and ended early.
        """
        training = self.start(problem, random_state)
        finish(training, listeners)
        return remarked(training.bridge())

    def _training(self, data: Data, method: Method, drifts: Drifts) -> Training:
        optimiser = self.optimiser(drifts.parameters(), lr=self.rate)
        return Training(data, method, drifts, optimiser, self.schedule, self.answer, self.steps, self.memory)

    def _drifts(self, data: Data, method: Method) -> Drifts:
        """The network, or its sum with drifts that are known: the prior's, or else the method's own."""
        network = build_network(self.network, data.dim, data.spreads, data.epsilon, data.random_state).to(data.x0)
        known = method.known_drifts(data) if self.prior is None else _solved(self.prior, data)
        if known is None:
            return network
        alone = copy.deepcopy(network)
        network.silence()
        corrected, steps = Corrected(known, network), trial_steps(self.steps, data.dim)
        trial = method.trial() if self.prior is None and steps else None
        if trial is None or not isinstance(network, DriftPair):
            return corrected
        return better_start(corrected, alone, partial(replace(self, steps=steps)._training, data, trial))


def _solved(prior: Solver, data: Data) -> Drifts:
    """The prior's drifts on the training points."""
    _check_enough_for_prior(data)
    problems = (data.problem, data.problem.exchanged())
    both = (prior.solve(one, data.random_state).to(data.x0) for one in problems)
    there, back = (bridge.forward_field for bridge in both)
    return Beside(there, Reversed(back))


def _check_enough_for_prior(data: Data) -> None:
    fewest = min(len(data.x0), len(data.x1))
    if fewest < FEWEST_POINTS:
        raise InputError(
            f"a fit with a prior needs at least {FEWEST_POINTS + 1} points a side: a tenth is held out, and the prior "
            f"needs {FEWEST_POINTS}, but one side leaves it {fewest}"
        )
