"""How far a fit is from the Schrödinger bridge of the data, without knowing it.

Let P_û be the process of a drift û from ρ₀, P_ψ an exact Schrödinger bridge from ρ₀ near it (`duality`), and P* that of
the data.  Two ψ are tried, one regressed on paths of û and that of a mixture potential fitted to their two ends, and
the nearer one is taken.  The divergence of the fit from P* has two parts:

    KL(P_û‖P_ψ)    û is no bridge's drift: known from the fit's paths alone, to any accuracy;
    KL(P*‖P_ψ)     ψ leads to another end than the data: to be found from points of the data.

No finite sample bounds the second part from above, because it contains the divergence of the ends' laws.  A lower bound
is the divergence of the laws of both ends by nearest neighbours (`ends`), which sees fine differences; what it still
gains from half of the points to all counts as an error.  What their moments miss is smooth, small in the nats of ends
and larger in those of paths.  Another lower bound, of the whole, is by how much a mixture potential fitted
to half of the points is nearer to P* on the other half (`sbridge.evaluation.pairs`); it sees coarse differences, and
all if the data are mixtures.

**Backwards**, the same figures are those of −b_B in reversed time, with data exchanged.  Whether b_F and b_B belong to
one process cannot be seen in b_F − b_B − 2εs for a bridge whose score is made of the two; but the laws that they lead
to, from either end, must agree at all times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, hypot
from typing import Any

import torch
from torch import Tensor

from sbridge.arrays import drawn_seed, seeded
from sbridge.bridge import Bridge, Direction
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.evaluation.certificate import duality
from sbridge.evaluation.certificate.columns import Columns, spreads_of
from sbridge.evaluation.certificate.duality import Care, Pair
from sbridge.evaluation.certificate.ends import check, smooth_gap
from sbridge.evaluation.certificate.known import WithPotential, framed, mixed, own_pair
from sbridge.evaluation.certificate.reference import Reference
from sbridge.evaluation.certificate.statement import (
    Certificate,
    Distance,
    Meeting,
    Passage,
    Residual,
)
from sbridge.evaluation.certificate.walks import STEPS, Walk, martingale, rotation, run
from sbridge.evaluation.distances import chance_level, relabelled_distances
from sbridge.fields import Field, Reversed, VectorField
from sbridge.potentials.bridge import TurnedPotential, WithBackwardPotential
from sbridge.problem import Frame
from sbridge.solvers.base import Listener, Progress

__all__ = ["SMALLEST", "certify"]

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
    care = care or Care.for_points(min(len(x0), len(x1)))
    own = isinstance(bridge, WithPotential)
    tell = _Teller(listeners, 2 * STEPS if own else 2 * (2 * STEPS + care.fitted_steps))
    with torch.no_grad():
        # First of all, so that fits that are certified by one seed have one rival.
        ahead, behind = (Reference.of(*ends, bridge.epsilon, drawn_seed(generator)) for ends in ((x0, x1), (x1, x0)))
        paths = (len(x0), _FEW) if own else (care.paths, care.paths)  # a potential's backward drift takes long
        there = Process.of(bridge, "forward", x0, x1, paths[0], generator, tell)
        back = Process.of(bridge, "backward", x1, x0, paths[1], generator, tell)
        if isinstance(bridge, WithPotential):
            forward = _exact(there, bridge, ahead, generator, columns)
            turned = TurnedPotential(bridge) if isinstance(bridge, WithBackwardPotential) else None
            backward = _exactly_back(forward, back, turned, behind, generator, columns)
        else:
            forward, backward = (
                Examination.of(process, reference, care, generator, tell).passage(generator, columns)
                for process, reference in ((there, ahead), (back, behind))
            )
        middle = ((there.at(t, generator), back.at(1 - t, generator)) for t in (0.25, 0.5, 0.75))
        meeting = Meeting(*(_distance(*both, generator) for both in middle))
        return Certificate(bridge.epsilon, forward, backward, meeting)


def _check(x0: Tensor, x1: Tensor) -> None:
    for label, x in (("x0", x0), ("x1", x1)):
        if len(x) < SMALLEST:
            raise InputError(f"{label} has {len(x)} held-out points; a certificate needs at least {SMALLEST} a side")


class _Teller:
    """Tells listeners of every step."""

    def __init__(self, listeners: Sequence[Listener], steps: int) -> None:
        self.listeners, self.steps, self.step = listeners, steps, 0

    def __call__(self) -> None:
        self.step += 1
        for listener in self.listeners:
            listener(Progress(self.step, self.steps, {}))


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
        frame, problem = framed(x0, x1, bridge.epsilon)
        z0, z1 = problem.x0, problem.x1
        starts = z0.repeat(ceil(paths / len(z0)), 1)[:paths]
        inside = _inside(_drift_of(bridge, direction), frame)
        walk = Walk(inside, problem.epsilon, starts, min(len(z0), len(starts), _COMPARED))
        run(walk, generator, tell)
        return Process(bridge, direction, inside, frame, z0, z1, walk)

    def moved(self, generator: torch.Generator) -> Tensor:
        """The points x0 moved as `Bridge.transport` moves them, (n0, d), in the frame's coordinates."""
        x0 = self.frame.points_outside(self.x0, 0)
        ends = self.bridge.transport(x0, self.direction, random_state=drawn_seed(generator))
        return self.frame.points_inside(ends, 1)

    def seen_at_end(self, moved: Tensor, generator: torch.Generator, columns: Columns) -> dict[str, Any]:
        """What tells the points `moved` (m, d) from the data: `ends`, `smooth` and `column` of a `Passage`."""
        data, ends = (self.frame.points_outside(y, 1, torch.float64) for y in (self.x1, moved))
        return {
            "ends": check(self.x1, moved, spreads_of(self.x1), generator),
            "smooth": smooth_gap(self.x1, moved, self.walk.epsilon, generator),
            "column": columns.widest_gap(data, ends),
        }

    @property
    def field(self) -> Field:
        """Its drift in the user's coordinates and its own time."""
        return _drift_of(self.bridge, self.direction)

    @property
    def outer_ends(self) -> tuple[Tensor, Tensor]:
        """Starts and ends of the paths, in the user's coordinates."""
        return self.frame.points_outside(self.walk.start, 0), self.frame.points_outside(self.walk.x, 1)

    def at(self, t: float, generator: torch.Generator) -> Tensor:
        """Where some paths are at a quarter, half or three quarters of the time, in the user's coordinates."""
        centre = (1 - t) * self.frame.shift0 + t * self.frame.shift1
        return centre + self.frame.scale * self.walk.at(t, generator)


def _drift_of(bridge: Bridge, direction: Direction) -> Field:
    return bridge.forward_field if direction == "forward" else Reversed(bridge.backward_field)


@dataclass(frozen=True)
class Examination:
    """A process whose potential is not known, and the potentials of two exact bridges near it.

    Args:
        process: the process.
        reference: a rival in closed form.
        pairs: ψ and c, regressed on the paths; ψ and λ_ψ of a closed form fitted to their ends.
        from_few: paths from some starts.
        coarser: with the same noise, in a half and a quarter of the steps.
        care: how many.
    """

    process: Process
    reference: Reference
    pairs: tuple[Pair, Pair]
    from_few: Walk
    coarser: Sequence[Walk]
    care: Care

    @staticmethod
    def of(
        process: Process, reference: Reference, care: Care, generator: torch.Generator, tell: Callable[[], None]
    ) -> Examination:
        """Regress ψ, and run new paths: those of the regression would flatter it."""
        regressed = duality.fitted_pair(process.walk, care.fitted_steps, generator, tell)
        few = process.x0[: care.starts].repeat_interleave(care.per_start, 0)
        from_few, *coarser = (Walk(process.drift, process.walk.epsilon, few) for _ in range(3))
        run(from_few, generator, tell, coarser)
        own = reference.refitted(*process.outer_ends)
        pairs = regressed, own_pair(own, process.frame)
        return Examination(process, reference, pairs, from_few, coarser, care)

    @property
    def starts(self) -> Tensor:
        """Where distances are measured from."""
        return self.process.x0[: self.care.starts]

    def nearness(self, pair: Pair) -> Nearness:
        """The distance of the process from the exact bridge of a potential."""
        whole, half, at_starts = duality.distances(pair, self.from_few, self.starts)
        coarse, coarsest = (duality.distances(pair, walk, self.starts)[0] for walk in self.coarser)
        extrapolated = (8 * whole - 6 * coarse + coarsest) / 3  # to steps of no length, by their length and its square
        parts = extrapolated, half - whole, 3 * coarse - coarsest - 2 * whole
        return Nearness(pair, at_starts, *map(Estimate.of, parts))

    def passage(self, generator: torch.Generator, columns: Columns) -> Passage:
        """All figures of the process."""
        process = self.process
        near = min(map(self.nearness, self.pairs), key=lambda one: one.distance.value)
        dual = duality.dual(near.pair, process.x0, process.x1, self.starts, near.at_starts)
        moved = process.moved(generator)
        hjb, turning = martingale(process.walk, generator)
        return Passage(
            starts=len(self.starts),
            paths=self.care.per_start,
            distance=near.distance,
            fewer_paths=near.fewer_paths,
            fewer_steps=near.fewer_steps,
            residual=near.pair.residual,
            dual=dual.value,
            behind=self.reference.ahead_of(process.field),
            end_error=_difference(near.pair.end(process.walk.x).double(), dual.ends),
            **process.seen_at_end(moved, generator, columns),
            hjb=hjb,
            curl=rotation(process.walk, generator),
            turning=turning,
        )


@dataclass(frozen=True)
class Nearness:
    """How far a process is from the exact bridge of a potential, in nats.

    Args:
        pair: ψ and λ_ψ.
        at_starts: λ_ψ at the starts, (m,).
        distance, fewer_paths, fewer_steps: as in `Passage`.
    """

    pair: Pair
    at_starts: Tensor
    distance: Estimate
    fewer_paths: Estimate
    fewer_steps: Estimate


def _exact(
    process: Process, potential: WithPotential, reference: Reference, generator: torch.Generator, columns: Columns
) -> Passage:
    """The passage of an exact bridge, which its potential tells without paths from some starts."""
    moved = process.moved(generator)
    hjb, turning = martingale(process.walk, generator)
    dual, behind, end_error = _by_potential(potential, process, reference, moved)
    return Passage(
        starts=len(process.x0),
        paths=0,
        distance=_ZERO,
        fewer_paths=_ZERO,
        fewer_steps=_ZERO,
        residual=Residual(0.0, 0.0),
        dual=dual,
        behind=behind,
        end_error=end_error,
        **process.seen_at_end(moved, generator, columns),
        hjb=hjb,
        curl=rotation(process.walk, generator),
        turning=turning,
    )


def _exactly_back(
    forward: Passage,
    back: Process,
    potential: WithPotential | None,
    reference: Reference,
    generator: torch.Generator,
    columns: Columns,
) -> Passage:
    """The backward passage of an exact bridge: what is not known of it is that of the forward process."""
    moved = back.moved(generator)
    seen = replace(forward, **back.seen_at_end(moved, generator, columns))
    if potential is None:
        return seen
    dual, behind, end_error = _by_potential(potential, back, reference, moved)
    return replace(seen, dual=dual, behind=behind, end_error=end_error)


def _by_potential(
    potential: WithPotential, process: Process, reference: Reference, moved: Tensor
) -> tuple[Estimate, Estimate, Estimate]:
    """Dual value, `behind` and `end_error` of a process with a known potential, which ends at `moved` (m, d)."""
    pair = own_pair(potential, process.frame)
    dual = duality.exact_dual(pair, process.x0, process.x1)
    return dual.value, reference.ahead_of_potential(potential), _difference(pair.end(moved).double(), dual.ends)


def _inside(drift: VectorField, frame: Frame) -> VectorField:
    """A drift of the user's coordinates, in the frame's."""
    s = frame.shift1 - frame.shift0

    def inside(t: Tensor, y: Tensor) -> Tensor:
        x = (1 - t) * frame.shift0 + t * frame.shift1 + frame.scale * y
        return ((drift(t, x.to(y)) - s) / frame.scale).to(y)

    return inside


def _distance(x: Tensor, y: Tensor, generator: torch.Generator) -> Distance:
    """The energy distance of x and y, and its 95 % quantile over relabellings of them."""
    found = relabelled_distances(x, y, generator, _COMPARED, _PERMUTATIONS)
    return Distance(float(found[0]), chance_level(found[1:]))


def _difference(a: Tensor, b: Tensor) -> Estimate:
    """Of the means of independent draws."""
    one, two = Estimate.of(a), Estimate.of(b)
    return Estimate(one.value - two.value, hypot(one.standard_error, two.standard_error))
