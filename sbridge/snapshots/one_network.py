"""One network for all legs of a chain: its drifts are functions of all of time, from pairs of all legs at once.

Time is u in [0, 1] from the first snapshot to the last.  The coordinates have one scale, and are centred on the line
between the means of the two snapshots of a leg; ε per unit of u is one number in them.  On [u_k, u_k + ℓ_k], the leg k,
x/√ℓ_k in the unit time s = (u − u_k)/ℓ_k is a process with the same ε (Brownian scaling).  Its drifts are

    A_k(s) x + √ℓ_k f(u, √ℓ_k x)

with the leg's best linear drifts A_k (`solvers.linear`) and the network f, which all legs share.  f is continuous at a
joint; what jumps there is A_k and the velocity of the means.

Each leg has a `Method` of its own, that of `Regression` between its two snapshots.  Here their batches are joined, leg
after leg in equal parts; so is everything else that a training asks of its method.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from math import sqrt
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from sbridge.bridge import Bridge
from sbridge.errors import InputError
from sbridge.fields import Confined, Corrected, Drifts, Part
from sbridge.interpolants import Path
from sbridge.networks import build_network
from sbridge.problem import Frame, Problem
from sbridge.solvers import Batch, Data, Listener, Method, Solver, Training, TrainingState
from sbridge.solvers.base import finish
from sbridge.solvers.data import check_epsilon
from sbridge.solvers.held_out import set_aside
from sbridge.solvers.regression import Regression

__all__ = ["KnownBridge", "OneNetwork", "bridges_of", "one_network_solver"]


def one_network_solver(solver: Solver) -> Regression:
    """The solver, if it can train one network for all legs.

    Raises:
        InputError: it is no regression, or has a prior.
    """
    if isinstance(solver, Regression) and solver.prior is None:
        return solver
    raise InputError(
        f"one network for all legs is trained by regression without a prior, not by {solver.name}: give "
        "solver=sbridge.Regression(), or leave out one_network to fit each leg by itself"
    )


@dataclass(frozen=True)
class KnownBridge:
    """A bridge that is known, as a solver of its problem."""

    bridge: Bridge
    name: ClassVar[str] = "one network"

    def solve(self, problem: Problem, random_state: int = 0, listeners: Sequence[Listener] = ()) -> Bridge:
        """The bridge."""
        return self.bridge


@dataclass(frozen=True)
class OneNetwork:
    """A fit of all legs by one network.

    Args:
        solver: its settings; a step has `solver.batch` points of every leg.
        problems: the legs in their unit times, with one ε per unit of time.
        times: of the snapshots.
    """

    solver: Regression
    problems: Sequence[Problem]
    times: Sequence[float]

    @torch.inference_mode(False)
    @torch.enable_grad()
    def solve(self, random_state: int = 0, listeners: Iterable[Listener] = ()) -> list[Bridge]:
        """The bridge of every leg in its unit time.

        Raises:
            InputError: ε is too small, or the network or the interpolant does not fit the data.
            DivergenceError: the training became unstable.
        """
        training = self.start(random_state)
        finish(training, listeners)
        return bridges_of(training)

    def start(self, random_state: int = 0) -> Training:
        """The training, to iterate over; `bridges_of` has its answer."""
        legs, solver = self._legs(random_state), self.solver
        method = AllLegs(legs, [solver.method(leg) for leg in legs])
        drifts = self._drifts(method)
        optimiser = solver.optimiser(drifts.parameters(), lr=solver.rate)
        whole = self._whole(legs)
        return Training(whole, method, drifts, optimiser, solver.schedule, solver.answer, solver.steps, solver.memory)

    def _lengths(self) -> list[float]:
        """ℓ_k."""
        durations = np.diff(self.times)
        return [float(length) for length in durations / durations.sum()]

    def _legs(self, random_state: int) -> list[Data]:
        """The legs' data, with ε the same number in all of them."""
        frames = [Frame.of(problem) for problem in self.problems]
        for problem, frame in zip(self.problems, frames, strict=True):
            check_epsilon(problem.epsilon, frame)
        scale = float(np.sqrt(np.mean([frame.scale**2 for frame in frames])))
        scaled = [replace(f, scale=scale * sqrt(length)) for f, length in zip(frames, self._lengths(), strict=True)]
        generator = torch.Generator(self.problems[0].x0.device).manual_seed(random_state)
        return [
            _leg_data(problem, frame, random_state, k, generator)
            for k, (problem, frame) in enumerate(zip(self.problems, scaled, strict=True))
        ]

    def _drifts(self, method: AllLegs) -> LegDrifts:
        """The network's part of each leg's drifts, and the linear drifts that it corrects."""
        first, last, lengths = method.legs[0], method.legs[-1], self._lengths()
        spreads = (sqrt(lengths[0]) * first.spreads[0], sqrt(lengths[-1]) * last.spreads[1])
        make, seed = self.solver.network, first.random_state
        network = build_network(make, first.dim, spreads, first.epsilon, seed).to(first.x0)
        known = [one.known_drifts(leg) for one, leg in zip(method.methods, method.legs, strict=True)]
        if any(known):
            network.silence()
        starts = np.cumsum([0.0, *lengths[:-1]]).tolist()
        parts = [Part(network, start, length) for start, length in zip(starts, lengths, strict=True)]
        both = zip(known, parts, strict=True)
        return LegDrifts(part if base is None else Corrected(base, part) for base, part in both)

    def _whole(self, legs: Sequence[Data]) -> Data:
        """What a training sees of the data of all legs: ε, the generator, and the unit of its energy."""
        ends, durations = (legs[0], legs[-1]), np.diff(self.times).tolist()
        gaps = [leg.frame.shift1 - leg.frame.shift0 for leg in legs]
        energy = sum(gap.square().sum() / 2 / t for gap, t in zip(gaps, durations, strict=True))
        scale = legs[0].frame.scale * sqrt(len(legs) / durations[0])
        frame = _Course(ends[0].frame.shift0, ends[1].frame.shift1, scale, means_energy=float(energy))
        return replace(legs[0], frame=frame, x1=ends[1].x1, check1=ends[1].check1)


@dataclass(frozen=True)
class _Course(Frame):
    """The coordinates of all legs.

    Args:
        scale: its square times the mean of the legs' energies is their sum in the user's units.
        means_energy: ½∫|dm/dt|²dt of the means.
    """

    means_energy: float = 0.0

    def kinetic_energy(self, inside: Tensor) -> Tensor:
        return self.scale**2 * inside + self.means_energy


def _leg_data(problem: Problem, frame: Frame, random_state: int, k: int, generator: torch.Generator) -> Data:
    """The data of leg k.  The same points of a snapshot are held out in the leg before it and in the leg after it."""
    inside = frame.inside(problem)
    sides = ((inside.x0, inside.weights0), (inside.x1, inside.weights1))
    splits = [
        set_aside(x.float(), torch.Generator(x.device).manual_seed(random_state + k + end), weights)
        for end, (x, weights) in enumerate(sides)
    ]
    (x0, check0), (x1, check1) = splits
    return Data(frame, inside.epsilon, x0, x1, check0, check1, random_state, generator)


class LegDrifts(Drifts):
    """Both drifts of all legs, of points in equal parts for one leg after the other.

    Args:
        legs: the drifts of each leg.
    """

    def __init__(self, legs: Iterable[Drifts]) -> None:
        super().__init__()
        self.legs = cast(Sequence[Drifts], nn.ModuleList(legs))
        self.dim = self.legs[0].dim

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        count = len(self.legs)
        parts = zip(self.legs, t.chunk(count), x.chunk(count), strict=True)
        return torch.cat([leg(time, place) for leg, time, place in parts])


@dataclass
class _OneLeg:
    """A training of all legs, as the method of one of them sees it."""

    data: Data
    drifts: Drifts
    averaged: Drifts
    generator: torch.Generator
    step: int
    steps: int


class AllLegs(Method):
    """The methods of all legs as one.

    Args:
        legs: their data.
        methods: regression on an interpolant between the two snapshots of each leg.
    """

    brownian = False  # a leg's answer is confined to the leg's own data

    def __init__(self, legs: Sequence[Data], methods: Sequence[Method]) -> None:
        self.legs, self.methods = legs, methods
        self.interpolant = methods[0].interpolant  # a fixed interpolant has no weights, so one stands for all

    def batches(self, training: TrainingState) -> Iterator[Batch]:
        states = self._states(training)
        rounds = (method.batches(state) for method, state in zip(self.methods, states, strict=True))
        for parts in zip(*rounds, strict=True):
            t, x = torch.cat([part.t for part in parts]), torch.cat([part.x for part in parts])
            yield Batch(t, x, partial(_losses, parts=parts))

    def check_path(self, training: TrainingState) -> Path:
        states = self._states(training)
        return _joined([method.check_path(state) for method, state in zip(self.methods, states, strict=True)])

    def reference_path(self, data: Data) -> Path:
        return _joined([method.reference_path(leg) for method, leg in zip(self.methods, self.legs, strict=True)])

    def learn(self, t: Tensor, losses: Tensor) -> None:
        count = len(self.methods)
        for method, *part in zip(self.methods, t.chunk(count), losses.chunk(count), strict=True):
            method.learn(*part)

    def per_time(self, t: Tensor) -> Tensor:
        parts = zip(self.methods, t.chunk(len(self.methods)), strict=True)
        return torch.cat([method.per_time(time) for method, time in parts])

    def parts(self) -> dict[str, Any]:
        return {
            f"{name} of leg {k}": part for k, method in enumerate(self.methods) for name, part in method.parts().items()
        }

    def _states(self, training: TrainingState) -> list[_OneLeg]:
        rest = (training.generator, training.step, training.steps)
        drifts, averaged = (cast(LegDrifts, both).legs for both in (training.drifts, training.averaged))
        return [_OneLeg(*leg, *rest) for leg in zip(self.legs, drifts, averaged, strict=True)]


def bridges_of(training: Training) -> list[Bridge]:
    """The bridge of every leg by the answer so far, in the problems' units and unit times."""
    drifts, method = cast(LegDrifts, training.kept_drifts()), cast(AllLegs, training.method)
    return [
        leg.bridge(Confined(both, leg.reach) if one.brownian else both, copy.deepcopy(one.interpolant))
        for leg, one, both in zip(method.legs, method.methods, drifts.legs, strict=True)
    ]


def _losses(drifts: Tensor, parts: Sequence[Batch]) -> Tensor:
    """The losses of all legs' batches."""
    return torch.cat([part.losses(own) for part, own in zip(parts, drifts.chunk(len(parts)), strict=True)])


def _joined(paths: Sequence[Path]) -> Path:
    """The points of all paths, one path after the other."""
    return Path(*(torch.cat([getattr(path, field.name) for path in paths]) for field in fields(Path)))
