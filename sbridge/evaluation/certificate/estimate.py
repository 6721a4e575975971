"""How far a fit is from the Schrödinger bridge of the data, without knowing it.

Let P_û be the process of a drift û from ρ₀, P_ψ the exact Schrödinger bridge from ρ₀ nearest to it (`duality`), and P*
that of the data.  The divergence of the fit from P* has two parts:

    KL(P_û‖P_ψ)    û is no bridge's drift: known from the fit's paths alone, to any accuracy;
    KL(P*‖P_ψ)     ψ leads to another end than the data: to be found from points of the data.

No finite sample bounds the second part from above, because it contains the divergence of the ends' laws.  Two lower
bounds are taken, and the larger counts: KL(ρ1‖law of the ends) by nearest neighbours (`ends`), which sees fine
differences, and D(λ) − D(ψ) for a mixture potential λ fitted to half of the points, evaluated on the other half, which
sees coarse ones and those of data that are mixtures.  What nearest neighbours still gain from half of the points to all
counts as an error.

**Backwards**, the same figures are those of −b_B in reversed time, with data exchanged.  Whether b_F and b_B belong to
one process cannot be seen in b_F − b_B − 2εs for a bridge whose score is made of the two; but the laws that they lead
to, from either end, must agree at all times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, hypot
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sbridge.arrays import drawn_seed, seeded
from sbridge.bridge import Bridge, Direction
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.evaluation.certificate import duality
from sbridge.evaluation.certificate.columns import ColumnGap, Columns, spreads_of
from sbridge.evaluation.certificate.duality import Care, Dual, Pair
from sbridge.evaluation.certificate.ends import check
from sbridge.evaluation.certificate.statement import (
    MOST_POINTS,
    Certificate,
    Distance,
    EndCheck,
    Meeting,
    Passage,
    Residual,
)
from sbridge.evaluation.certificate.walks import STEPS, Walk, martingale, rotation, run
from sbridge.evaluation.distances import chance_level, relabelled_distances
from sbridge.fields import Reversed, VectorField
from sbridge.potentials.bridge import TurnedPotential, WithBackwardPotential
from sbridge.potentials.solver import potentials_for
from sbridge.problem import Frame, Problem
from sbridge.solvers.base import Listener, Progress

__all__ = ["SMALLEST", "certify", "dual_of", "mixed"]

SMALLEST = 100  # points a side
_FEW = 1024  # paths of a potential's backward process, for where it is on the way
_COMPARED, _PERMUTATIONS = 2000, 99  # points of either sample that an energy distance compares, at most
_ZERO = Estimate(0.0, 0.0)  # the distance of an exact bridge to itself: its paths would only add their steps' error


def certify(
    bridge: Bridge,
    x0: Tensor,
    x1: Tensor,
    random_state: int | None = None,
    listeners: Sequence[Listener] = (),
    care: Care | None = None,
    columns: Columns = Columns(),
) -> Certificate:
    """The answer of `Bridge.certificate`; arguments and errors are the same.

    `care` says how much is spent, and `columns` what the user calls the columns, and in which units.
    """
    _check(x0, x1)
    generator = seeded(random_state, x0.device)
    x0, x1 = (mixed(x, generator) for x in (x0, x1))
    own = isinstance(bridge, WithPotential)
    care = care or Care.for_points(min(len(x0), len(x1)))
    tell = _Teller(listeners, 3 * STEPS if own else 2 * (2 * STEPS + care.fitted_steps))
    with torch.no_grad():
        there = Process.of(bridge, "forward", x0, x1, len(x0) if own else care.paths, generator, tell)
        pair = there.own_pair or there.pair(care, generator, tell)
        forward = Examination.of(there, pair, care, generator, tell).passage(generator, columns)
        if own:  # one process, of one potential, whose backward drift takes long to evaluate
            forward = replace(forward, distance=_ZERO, fewer_paths=_ZERO, fewer_steps=_ZERO)
            back = Process.of(bridge, "backward", x1, x0, _FEW, generator, tell)
            ends = back.moved(generator)
            backward = replace(forward, ends=back.ends(ends, generator), column=back.column(ends, columns))
            if isinstance(bridge, WithBackwardPotential):  # of any other, both directions are one exact process
                places = back.frame.shift1 + back.frame.scale * ends
                backward = _by_potential(backward, TurnedPotential(bridge), x1, x0, places, care, generator)
        else:
            back = Process.of(bridge, "backward", x1, x0, care.paths, generator, tell)
            backward = Examination.of(back, back.pair(care, generator, tell), care, generator, tell).passage(
                generator, columns
            )
        meeting = Meeting(*(_distance(there.at(t), back.at(1 - t), generator) for t in (0.25, 0.5, 0.75)))
        return Certificate(bridge.epsilon, forward, backward, meeting)


def dual_of(bridge: WithPotential, x0: Tensor, x1: Tensor, random_state: int | None = None) -> Dual:
    """D(ψ) of an exact bridge on x0 (n0, d) and x1 (n1, d), for differences between bridges.

    Bridges with the same points and random_state are measured on the same points in the same order.
    """
    generator = seeded(random_state, x0.device)
    x0, x1 = (mixed(x, generator) for x in (x0, x1))
    with torch.no_grad():
        frame, inside = _framed(x0, x1, bridge.epsilon)
        pair, starts = own_pair(bridge, frame), inside.x0
        return duality.dual(pair, inside.x0, inside.x1, starts, pair.start(starts).double())


def _check(x0: Tensor, x1: Tensor) -> None:
    for label, x in (("x0", x0), ("x1", x1)):
        if len(x) < SMALLEST:
            raise InputError(f"{label} has {len(x)} held-out points; a certificate needs at least {SMALLEST} a side")


def mixed(x: Tensor, generator: torch.Generator) -> Tensor:
    return x[torch.randperm(len(x), generator=generator, device=x.device)[:MOST_POINTS]]


class _Teller:
    """Tells listeners of every step."""

    def __init__(self, listeners: Sequence[Listener], steps: int) -> None:
        self.listeners, self.steps, self.step = listeners, steps, 0

    def __call__(self) -> None:
        self.step += 1
        for listener in self.listeners:
            listener(Progress(self.step, self.steps, {}))


@runtime_checkable
class WithPotential(Protocol):
    """A bridge that knows its potential λ(t, x), in squared units of the data."""

    @property
    def epsilon(self) -> float: ...

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ at one time in a tensor and places (n, d), (n,)."""


@dataclass(frozen=True)
class Process:
    """A process in the coordinates of the points' frame, and paths of it.

    Args:
        bridge, direction: whose process it is.
        drift: in the frame's coordinates.
        frame: of the points.
        x0, x1: points of the process's start and end, in the frame's coordinates.
        walk: finished paths, the first of which start from x0, one from each.
    """

    bridge: Bridge
    direction: Direction
    drift: VectorField
    frame: Frame
    x0: Tensor
    x1: Tensor
    walk: Walk

    @staticmethod
    def of(
        bridge: Bridge,
        direction: Direction,
        x0: Tensor,
        x1: Tensor,
        paths: int,
        generator: torch.Generator,
        tell: Callable[[], None],
    ) -> Process:
        """From points of the user's coordinates, with so many paths."""
        frame, problem = _framed(x0, x1, bridge.epsilon)
        z0, z1 = problem.x0, problem.x1
        drift = bridge.forward_field if direction == "forward" else Reversed(bridge.backward_field)
        starts = z0.repeat(ceil(paths / len(z0)), 1)[:paths]
        inside = _inside(drift, frame)
        walk = Walk(inside, problem.epsilon, starts, min(len(z0), len(starts), _COMPARED))
        run(walk, generator, tell)
        return Process(bridge, direction, inside, frame, z0, z1, walk)

    def moved(self, generator: torch.Generator) -> Tensor:
        """The points x0 moved as `Bridge.transport` moves them, (n0, d), in the frame's coordinates."""
        frame, seed = self.frame, drawn_seed(generator)
        x0 = (frame.shift0 + frame.scale * self.x0).to(self.x0)
        ends = self.bridge.transport(x0, self.direction, random_state=seed)
        return (ends - frame.shift1).div(frame.scale).to(ends)

    def ends(self, moved: Tensor, generator: torch.Generator) -> EndCheck:
        """Whether the process ends like the data."""
        return check(self.x1, moved, spreads_of(self.x1), generator)

    def column(self, moved: Tensor, columns: Columns) -> ColumnGap:
        """The column that the process's end misses most."""
        data, ends = (self.frame.shift1 + self.frame.scale * y.double() for y in (self.x1, moved))
        return columns.widest_gap(data, ends)

    @property
    def problem(self) -> Problem:
        """Its points, in the frame's coordinates."""
        return Problem(self.x0, self.x1, self.walk.epsilon, self.x0, self.x1)

    @property
    def own_pair(self) -> Pair | None:
        """ψ and λ_ψ, where the bridge knows them and this is its forward process."""
        return own_pair(self.bridge, self.frame) if isinstance(self.bridge, WithPotential) else None

    def pair(self, care: Care, generator: torch.Generator, tell: Callable[[], None]) -> Pair:
        """ψ and c, regressed on the paths."""
        return duality.fitted_pair(self.walk, care.fitted_steps, generator, tell)

    def at(self, t: float) -> Tensor:
        """Where some paths are at a quarter, half or three quarters of the time, in the user's coordinates."""
        centre = (1 - t) * self.frame.shift0 + t * self.frame.shift1
        return centre + self.frame.scale * self.walk.at(t)


@dataclass(frozen=True)
class Examination:
    """A process and its potential.

    Args:
        process: the process.
        pair: ψ and c.
        from_few: paths from some starts.
        coarser: with the same noise, in a half and a quarter of the steps.
        care: how many.
    """

    process: Process
    pair: Pair
    from_few: Walk
    coarser: Sequence[Walk]
    care: Care

    @staticmethod
    def of(
        process: Process, pair: Pair, care: Care, generator: torch.Generator, tell: Callable[[], None]
    ) -> Examination:
        """Run new paths: those on which ψ was regressed would flatter it."""
        few = process.x0[: care.starts].repeat_interleave(care.per_start, 0)
        from_few, *coarser = (Walk(process.drift, process.walk.epsilon, few) for _ in range(3))
        run(from_few, generator, tell, coarser)
        return Examination(process, pair, from_few, coarser, care)

    @property
    def starts(self) -> Tensor:
        """Where the distance is measured from."""
        return self.process.x0[: self.care.starts]

    @property
    def dual(self) -> Dual:
        """D(ψ) on all points."""
        return self._dual(duality.distances(self.pair, self.from_few, self.starts)[2])

    def _dual(self, at_starts: Tensor) -> Dual:
        return duality.dual(self.pair, self.process.x0, self.process.x1, self.starts, at_starts)

    def passage(self, generator: torch.Generator, columns: Columns) -> Passage:
        """All figures of the process."""
        whole, half, at_starts = duality.distances(self.pair, self.from_few, self.starts)
        coarse, coarsest = (duality.distances(self.pair, walk, self.starts)[0] for walk in self.coarser)
        change = 3 * coarse - coarsest - 2 * whole
        moved = self.process.moved(generator)
        hjb, turning = martingale(self.process.walk, generator)
        dual = self._dual(at_starts)
        return Passage(
            starts=len(self.starts),
            paths=self.care.per_start,
            distance=Estimate.of(_extrapolated(whole, coarse, coarsest)),
            fewer_paths=Estimate.of(half - whole),
            fewer_steps=Estimate.of(change),
            residual=self.pair.residual,
            dual=dual.value,
            behind=_behind(self.process.problem, self.starts, dual, generator),
            end_error=_difference(self.pair.end(self.process.walk.x).double(), dual.ends),
            ends=self.process.ends(moved, generator),
            column=self.process.column(moved, columns),
            hjb=hjb,
            curl=rotation(self.process.walk, generator),
            turning=turning,
        )


def _by_potential(
    passage: Passage,
    bridge: WithPotential,
    x0: Tensor,
    x1: Tensor,
    ends: Tensor,
    care: Care,
    generator: torch.Generator,
) -> Passage:
    """The passage with what needs no paths, by the potential of its own process, which ends at `ends` (m, d)."""
    frame, inside = _framed(x0, x1, bridge.epsilon)
    pair, starts = own_pair(bridge, frame), inside.x0[: care.starts]
    dual = duality.dual(pair, inside.x0, inside.x1, starts, pair.start(starts).double())
    places = (ends - frame.shift1) / frame.scale
    error = _difference(pair.end(places.to(inside.x1)).double(), dual.ends)
    behind = _behind(inside, starts, dual, generator)
    return replace(passage, dual=dual.value, behind=behind, end_error=error)


def _behind(inside: Problem, starts: Tensor, dual: Dual, generator: torch.Generator) -> Estimate:
    """D(λ) − D(ψ) on the second half of the points, for the best mixture potential λ fitted to the first half."""
    x0, x1 = inside.x0, inside.x1
    cut0, cut1 = len(x0) // 2, len(x1) // 2
    fitted = Problem(x0[:cut0], x1[:cut1], inside.epsilon, x0[cut0:], x1[cut1:])
    seed, found = drawn_seed(generator), []
    for solver in potentials_for(fitted.x0, fitted.x1):
        reference = own_pair(solver.solve(fitted, seed), Frame(*_still(x0)))
        other = duality.dual(reference, x0, x1, starts, reference.start(starts).double())
        found.append(other.minus(dual).part(slice(cut1, None), slice(cut0, None)).value)
    return max(found, key=lambda behind: behind.value)


def own_pair(bridge: WithPotential, frame: Frame) -> Pair:
    """ψ and λ_ψ of a bridge that knows them, of places in the frame's coordinates; both exact."""
    e, s = 2 * bridge.epsilon, frame.shift1 - frame.shift0

    def end(y: Tensor) -> Tensor:
        x = frame.shift1 + frame.scale * y.double()
        return (bridge.potential(x.new_ones(()), x) - x @ s + s.square().sum() / 2) / e

    def start(y: Tensor) -> Tensor:
        x = frame.shift0 + frame.scale * y.double()
        return (bridge.potential(x.new_zeros(()), x) - x @ s) / e

    return Pair(end, start, True, Residual(0.0, 0.0))


def _extrapolated(fine: Tensor, coarse: Tensor, coarsest: Tensor) -> Tensor:
    """To steps of no length, from those of lengths h, 2h and 4h, by h and h²."""
    return (8 * fine - 6 * coarse + coarsest) / 3


def _inside(drift: VectorField, frame: Frame) -> VectorField:
    """A drift of the user's coordinates, in the frame's."""
    s = frame.shift1 - frame.shift0

    def inside(t: Tensor, y: Tensor) -> Tensor:
        x = (1 - t) * frame.shift0 + t * frame.shift1 + frame.scale * y
        return ((drift(t, x.to(y)) - s) / frame.scale).to(y)

    return inside


def _framed(x0: Tensor, x1: Tensor, epsilon: float) -> tuple[Frame, Problem]:
    """The frame of the points, and their problem in its coordinates."""
    problem = Problem(x0, x1, epsilon, x0, x1)
    frame = Frame.of(problem)
    return frame, frame.inside(problem)


def _still(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """The frame that changes nothing."""
    zero = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    return zero, zero, 1.0


def _distance(x: Tensor, y: Tensor, generator: torch.Generator) -> Distance:
    """The energy distance of x and y, and its 95 % quantile over relabellings of them."""
    found = relabelled_distances(x, y, generator, _COMPARED, _PERMUTATIONS)
    return Distance(float(found[0]), chance_level(found[1:]))


def _difference(a: Tensor, b: Tensor) -> Estimate:
    """Of the means of independent draws."""
    one, two = Estimate.of(a), Estimate.of(b)
    return Estimate(one.value - two.value, hypot(one.standard_error, two.standard_error))
