"""Snapshots: a scikit-learn-shaped estimator for the Schrödinger bridge through samples of several times."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sbridge.arrays import Array, RandomState, as_tensor, seed_of, seeded
from sbridge.auto import Auto
from sbridge.bridge import Direction
from sbridge.checks import Elsewhere, Positive, checked_arguments
from sbridge.densities import Base
from sbridge.display import note, training_display
from sbridge.epsilon import epsilon_per_time
from sbridge.estimator import SchrodingerBridge, SolverParameters, device_named, posed_with_weights
from sbridge.evaluation.certificate.statement import Certificate
from sbridge.evaluation.distances import chance_level, energy_distance, relabelled_distances
from sbridge.likelihood import LogDensity
from sbridge.points import Points, points_of
from sbridge.problem import Problem
from sbridge.sampling import Simulation
from sbridge.snapshots.chain import Chain, check_times
from sbridge.snapshots.growth import growth_weights
from sbridge.snapshots.joints import Joint
from sbridge.snapshots.one_network import KnownBridge, OneNetwork, one_network_solver
from sbridge.solvers.base import Listener, Solver
from sbridge.weights import SampleWeights, thinned, weights_of_each

__all__ = ["Snapshots"]

_FLOOR_POINTS = 2000  # of each sample


class Snapshots(SolverParameters):
    """The Schrödinger bridge through samples of several times, for dX = u dt + √(2ε) dW.

    It is the chain of the bridges between neighbouring times (`sbridge.snapshots.Chain`), and each of them is a fit of
    its own, or with `one_network` all are fitted together.

    Args:
        epsilon: ε per unit of time, in squared units of the data.  Between two snapshots at a distance of T in time a
            path gets noise of the standard deviation √(2εT).  "auto" chooses it from the data and says so
            (`sbridge.epsilon`); "reg=0.4", "blur=0.4" and "sigma=0.4" are the parameters of POT, GeomLoss and torchcfm.
        solver, random_state, device, verbose: of each fit, as in `SchrodingerBridge`.
        growth: None, or ρ > 0 in squared units of the data: the points from which each leg starts get weights by
            unbalanced transport to the next snapshot (`sbridge.snapshots.growth_weights`).  The chain then has another
            law on the two sides of a snapshot: before it that of the points, after it that of the weighted points.
        one_network: train one network, with time as an input, for all legs at once; `solver` must be a `Regression`.
            The file is smaller, and a leg with few points learns from its neighbours.

    Attributes:
        epsilon_ (float): ε per unit of time, as a number.
        chain_ (Chain): the fitted `Chain`, which also has everything below.
        legs_ (list): the fitted `SchrodingerBridge` of each pair of neighbours, in unit time.
        growth_ (list): with `growth`, the weights (n_k,) of each snapshot but the last, with the mean one.
        n_features_in_ (int): dimension d of the data.
    """

    chain_: Chain
    legs_: list[SchrodingerBridge]
    growth_: list[Tensor]

    def __init__(
        self,
        epsilon: float | str = 0.5,
        solver: Annotated[str | Solver | type[Solver], Elsewhere()] = Auto(),
        random_state: RandomState = 0,
        device: str = "cpu",
        verbose: bool = False,
        growth: Positive | None = None,
        one_network: bool = False,
    ) -> None:
        self.epsilon, self.solver, self.random_state, self.device = epsilon, solver, random_state, device
        self.verbose, self.growth, self.one_network = verbose, growth, one_network

    def fit(
        self,
        snapshots: Sequence[Any],
        times: Sequence[float] | None = None,
        callbacks: Sequence[Listener] = (),
        sample_weight: Sequence[SampleWeights] | None = None,
    ) -> Snapshots:
        """Find the bridge through samples (n_k, d) at rising times.

        Args:
            snapshots: the samples, at least two; a row is a point.
            times: of the snapshots; by default 0, 1, 2, …
            callbacks: functions that are given each `Progress` of every training, one leg after another.
            sample_weight: the weights (n_k,) of each sample, or None for equal ones, as in `SchrodingerBridge.fit`.

        Raises:
            InputError: ε is no positive number, the times do not rise, times or weights are not as many as the samples,
                growth does not converge, or as in `SchrodingerBridge.fit`.
            DivergenceError: a training became unstable.
        """
        checked_arguments(type(self), vars(self))
        instants = check_times(range(len(snapshots)) if times is None else times, len(snapshots))
        points, weights = _aligned(snapshots), weights_of_each(snapshots, sample_weight)
        self.epsilon_ = self._chosen(points, instants, weights)
        legs = self._posed(points, instants, weights)
        seed = seed_of(self.random_state)
        solvers = self._together(legs, instants, seed, callbacks) if self.one_network else [self.solver] * len(legs)
        self.legs_ = []
        for leg, solver in zip(legs, solvers, strict=True):
            model = SchrodingerBridge(leg.epsilon, solver, seed, self.device, self.verbose)
            self.legs_.append(model.fit(leg.x0, leg.x1, callbacks, leg.weights))
        self.growth_ = [cast(Tensor, leg.weights[0]) for leg in legs] if self.growth is not None else []
        self.chain_ = Chain([leg.bridge_ for leg in self.legs_], instants)
        self.n_features_in_ = self.legs_[0].n_features_in_
        return self

    def _chosen(self, points: Sequence[Points], times: Sequence[float], weights: Sequence[SampleWeights]) -> float:
        """ε per unit of time."""
        pairs = zip(pairwise(points), pairwise(weights), strict=True)
        problems = (posed_with_weights(*two, own) for two, own in pairs)
        epsilon, choice = epsilon_per_time(problems, np.diff(times).tolist(), self.epsilon)
        if choice:
            note(choice)
        return epsilon

    def _posed(self, points: Sequence[Points], times: Sequence[float], weights: Sequence[SampleWeights]) -> list[_Leg]:
        """The question of each leg in its unit time."""
        found = []
        for k, duration in enumerate(np.diff(times).tolist()):
            x0, x1, epsilon = points[k], points[k + 1], self.epsilon_ * duration
            found.append(_Leg(x0, x1, epsilon, self._grown(epsilon, x0.values, x1.values, weights[k], weights[k + 1])))
        return found

    def _together(
        self, legs: Sequence[_Leg], times: Sequence[float], seed: int, callbacks: Sequence[Listener]
    ) -> list[Solver]:
        """The bridges of all legs by one network, each as a solver of its leg."""
        solver, device = one_network_solver(self._made_solver()), device_named(self.device)
        problems = [leg.problem().to(device) for leg in legs]
        with ExitStack() as stack:
            display = [stack.enter_context(training_display(solver.name))] if self.verbose else []
            bridges = OneNetwork(solver, problems, times).solve(seed, [*display, *callbacks])
        return [KnownBridge(bridge) for bridge in bridges]

    def transport(
        self,
        x: Array,
        direction: Direction = "forward",
        simulation: Simulation | None = None,
        random_state: RandomState = None,
        **options: Any,
    ) -> Array:
        """Move points x (n, d) from the first snapshot to the last, or backward; options as in `Chain.trajectories`."""
        return self._fitted().transport(x, direction, simulation, random_state, **options)

    def at(
        self,
        x: Array,
        t: float,
        start: float | None = None,
        simulation: Simulation | None = None,
        random_state: RandomState = None,
        **options: Any,
    ) -> Array:
        """Move points x (n, d) from the time `start`, by default the first, to time t; as in `Chain.at`."""
        return self._fitted().at(x, t, start, simulation, random_state, **options)

    def trajectories(
        self,
        x: Array,
        times: Sequence[float],
        simulation: Simulation | None = None,
        random_state: RandomState = None,
        start: float | None = None,
        **options: Any,
    ) -> Array:
        """Paths through x (n, d), (len(times), n, d); arguments as in `Chain.trajectories`."""
        return self._fitted().trajectories(x, times, simulation, random_state, start, **options)

    def log_prob(self, x: Array, at: float, *, base: Base | None = None, **options: Any) -> LogDensity[Array]:
        """log ρ̂ at points x (n, d) at the time of a snapshot, in nats; options as in `Chain.log_prob`.

        Without a base, it is a Gaussian mixture fitted to the first snapshot, or to the last where `at` is the first.
        """
        chain = self._fitted()
        if base is None:
            base = self.legs_[-1].sample("x1") if at == chain.times[0] else self.legs_[0].sample("x0")
        return chain.log_prob(x, at, base=base, **options)

    def certificates(
        self,
        snapshots: Sequence[Array],
        random_state: RandomState = None,
        sample_weight: Sequence[SampleWeights] | None = None,
    ) -> list[Certificate]:
        """How far each leg is from a Schrödinger bridge, in nats: `Bridge.certificate` of every leg.

        Args:
            snapshots: points (n, d) of each snapshot that were not used in the fit.
            random_state: seed of the reference bridges and of the paths.
            sample_weight: weights (n,) of the points.  With them, and with growth, points are thinned to their
                effective number, of which at least 100 are needed.

        Raises:
            InputError: as in `Bridge.certificate`.
        """
        seed, weights = seed_of(random_state), weights_of_each(snapshots, sample_weight)
        found = []
        for k, (leg, x0, x1) in enumerate(self._fitted().pairs(snapshots)):
            start, end = leg.tensor(x0), leg.tensor(x1)
            own = self._grown(leg.epsilon, start, end, weights[k], weights[k + 1])
            generator = torch.Generator(start.device).manual_seed(seed)
            few0, few1 = (thinned(x, w, generator) for x, w in zip((start, end), own, strict=True))
            found.append(leg.certificate(few0, few1, seed))
        return found

    def ends(
        self,
        snapshots: Sequence[Array],
        random_state: RandomState = None,
        sample_weight: Sequence[SampleWeights] | None = None,
    ) -> list[dict[str, float]]:
        """Energy distances at both ends of each leg, in the units of the data, as rows of a table.

        The points (n, d) of each snapshot, with their weights (n,) and growth, are moved to its neighbours and compared
        with the points there.  The distances are unbiased: where the laws agree they are negative about as often as
        positive, and in 19 of 20 cases below the floor, which relabelling (of at most 2,000 points a side) gives.
        """
        chain, seed, rows = self._fitted(), seed_of(random_state), []
        weights = weights_of_each(snapshots, sample_weight)
        for k, (leg, x0, x1) in enumerate(chain.pairs(snapshots)):
            start, end = leg.tensor(x0), leg.tensor(x1)
            before, after = self._grown(leg.epsilon, start, end, weights[k], weights[k + 1])
            moved = leg.transport(start, random_state=seed)
            returned = leg.transport(end, "backward", random_state=seed)
            there, back = energy_distance(moved, end, before, after), energy_distance(returned, start, after, before)
            floors = _floor(moved, end, before, after, seed), _floor(returned, start, after, before, seed)
            row = {"from": chain.times[k], "to": chain.times[k + 1], "forward": there, "forward floor": floors[0]}
            rows.append({**row, "backward": back, "backward floor": floors[1]})
        return rows

    def joints(self, snapshots: Sequence[Array], sample_weight: Sequence[SampleWeights] | None = None) -> list[Joint]:
        """How smooth the chain is at each snapshot between the first and the last; arguments as in `Chain.joints`."""
        return self._fitted().joints(snapshots, sample_weight)

    def save(self, path: str | Path) -> None:
        """Write the fitted chain to a safetensors file, for `Chain.load`."""
        self._fitted().save(path)

    def _grown(
        self, epsilon: float, x0: Tensor, x1: Tensor, weights0: SampleWeights, weights1: SampleWeights
    ) -> tuple[Tensor | None, Tensor | None]:
        """The weights of a leg's points as tensors, those of its start with their growth."""
        before, after = (w if w is None else as_tensor(w) for w in (weights0, weights1))
        if self.growth is not None:
            before = growth_weights(x0, x1, epsilon, self.growth, before, after)
        return before, after

    def _fitted(self) -> Chain:
        check_is_fitted(self)
        return self.chain_


@dataclass(frozen=True)
class _Leg:
    """The question of one leg: points of its two snapshots, ε in its unit time, and the weights of both sides."""

    x0: Points
    x1: Points
    epsilon: float
    weights: tuple[Tensor | None, Tensor | None]

    def problem(self) -> Problem:
        return replace(posed_with_weights(self.x0, self.x1, self.weights), epsilon=self.epsilon)


def _aligned(snapshots: Sequence[Any]) -> list[Points]:
    """Points of all snapshots with the columns in the order of the first one's."""
    first, *others = (points_of(x, label=f"snapshot {k}") for k, x in enumerate(snapshots))
    return [first, *(x.aligned(first.columns, f"those of {first.label}") for x in others)]


def _floor(x: Tensor, y: Tensor, x_weights: Tensor | None, y_weights: Tensor | None, seed: int) -> float:
    """What the energy distance of two samples of one law is below in 19 of 20 cases, by relabelling x and y."""
    generator = seeded(seed, x.device)
    both = thinned(x, x_weights, generator), thinned(y, y_weights, generator)
    return chance_level(relabelled_distances(*both, generator, _FLOOR_POINTS)[1:])
