"""How to choose ε: what the data can support, and what changes with ε.

ε is part of the question, so no ε is the right one.  But for a given sample some are useless:

- where a point has hardly more than one partner (`Plan.partners`), the plan is a matching of single points, and the
  bridge between the laws cannot be told from it;
- where half of all points are its partners, the end of a path hardly depends on its start.

The range in between is recommended.  By default the middle of its logarithm is chosen, but no larger noise √(2ε) than
the data's spread where that is inside the range.

`sweep_epsilon` fits a mixture potential for several ε, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, log, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbridge.bridge import Bridge
from sbridge.checks import Positive, checked_value
from sbridge.errors import InputError
from sbridge.estimates import Estimate, rounded
from sbridge.evaluation.distances import energy_distance
from sbridge.plans import entropic_plan
from sbridge.points import points_of
from sbridge.potentials.solver import MixturePotential
from sbridge.problem import Frame, Problem
from sbridge.sampling import HEUN
from sbridge.standardise import Standardise, standardised
from sbridge.tables import html
from sbridge.units import epsilon_named

__all__ = ["AUTO", "EpsilonFit", "EpsilonRange", "EpsilonSweep", "epsilon_per_time", "sweep_epsilon", "with_epsilon"]

AUTO = "auto"
_POINTS = 1000  # of either dataset, among which partners are counted
_FEWEST, _SMALLEST_SHARE, _LARGEST_SHARE = 10, 0.1, 0.5  # partners, and their share of all points
_LARGEST, _FACTOR, _LEVELS = 100.0, 10**0.5, 12  # of ε over the data's variance
_TOLERANCE, _ITERATIONS = 1e-2, 200  # of the plans, which need not be exact
_SWEPT = 7  # values of ε, from half of the range's lower end to twice its upper end
_SWEPT_POINTS, _HELD_OUT = 4000, 0.25  # of either dataset, and the part of them that is not fitted to
_MOVED, _STEPS = 200, 20  # along the flow


@dataclass(frozen=True)
class EpsilonRange:
    """The ε that a sample can support.

    Args:
        low, high: the ends of the recommended range.
        choice: the ε of `epsilon="auto"`.
        fewest: partners of a point at `low`.
        among: points among which partners are counted; at `high` half of them are partners.
        spread: the data's standard deviation, root mean square over columns and both datasets.
    """

    low: float
    high: float
    choice: float
    fewest: float
    among: int
    spread: float

    @staticmethod
    def of(problem: Problem) -> EpsilonRange:
        """The range for the training points of a problem, whose own ε is not used."""
        x0, x1 = (_few(x.detach().cpu().double()) for x in problem.equal_points())
        among, spread = len(x1), Frame.of(problem).scale
        fewest = max(2.0, min(float(_FEWEST), _SMALLEST_SHARE * among))
        epsilons, partners = zip(*_counted(x0, x1, spread**2, fewest), strict=True)
        low, high = (_crossing(epsilons, partners, level) for level in (fewest, _LARGEST_SHARE * among))
        choice = min(sqrt(low * high), max(low, spread**2 / 2))
        return EpsilonRange(low, high, choice, fewest, among, spread)

    @property
    def reason(self) -> str:
        """Why this range, in a sentence."""
        return (
            f"below it a point has fewer than {self.fewest:g} partners among {self.among:,}, too few to tell the "
            "bridge from a matching of points; above it more than half of them, and the end of a path hardly depends "
            "on its start"
        )

    def __str__(self) -> str:
        low, high, choice = (rounded(value) for value in (self.low, self.high, self.choice))
        return (
            f"ε = {choice} (√(2ε) = {rounded(sqrt(2 * self.choice))}, the data's spread is {rounded(self.spread)}). "
            f"Recommended: {low} to {high}; {self.reason}."
        )


def with_epsilon(problem: Problem, epsilon: float | str, kind: Standardise | None = None) -> tuple[Problem, str]:
    """The problem with this ε, and a sentence about it if it was chosen here (else an empty string).

    Args:
        problem: its own ε is not used.
        epsilon: a number, "auto", or a parameter of another library such as "reg=0.4" (`sbridge.units`).
        kind: how the problem will be standardised; ε is that of the standardised problem.

    Raises:
        InputError: epsilon is none of these.
    """
    if epsilon != AUTO:
        return replace(problem, epsilon=_in_our_unit(epsilon)), ""
    found = EpsilonRange.of(standardised(problem, kind)[0])
    return replace(problem, epsilon=found.choice), f"chosen: {found}"


def epsilon_per_time(legs: Iterable[Problem], durations: Sequence[float], epsilon: float | str) -> tuple[float, str]:
    """ε per unit of time for bridges that follow one another, and a sentence about it if it was chosen here.

    "auto" is the geometric mean of what each of them would choose by itself, over its duration.

    Args:
        legs: one problem from each time to the next; their own ε are not used.  They are made only for "auto".
        durations: of the legs.
        epsilon: as for `with_epsilon`.

    Raises:
        InputError: epsilon is not positive, or none of these.
    """
    if epsilon != AUTO:
        return checked_value("epsilon", Positive, _in_our_unit(epsilon)), ""
    ranges = [(EpsilonRange.of(leg), duration) for leg, duration in zip(legs, durations, strict=True)]
    own = [found.choice / duration for found, duration in ranges]
    chosen = exp(float(np.mean(np.log(own))))
    outside = [
        f"; leg {number} recommends {rounded(found.low / duration)} to {rounded(found.high / duration)}"
        for number, (found, duration) in enumerate(ranges, 1)
        if not found.low <= chosen * duration <= found.high
    ]
    why = f"the geometric mean of the legs' own choices {', '.join(map(rounded, own))}{''.join(outside)}"
    return chosen, f"chosen: ε = {rounded(chosen)} per unit of time, {why}."


def _in_our_unit(epsilon: float | str) -> float:
    return epsilon_named(epsilon) if isinstance(epsilon, str) else epsilon


@dataclass(frozen=True)
class EpsilonFit:
    """The mixture potential for one ε, on held-out points.

    Args:
        epsilon: ε.
        partners: effective number of partners of a point.
        energy: ½E∫|u|²dt of the fit's own process, in squared units of the data.
        dual: the lower bound of the bridge's energy, in the same units.
        ends: energy distance between the ends of the fit's paths and the data.
        straightness: of the probability flow: ½E|X₁ − X₀|² over the energy of the flow, 1 for straight lines.
        components: of the potential.
    """

    epsilon: float
    partners: float
    energy: Estimate
    dual: Estimate
    ends: float
    straightness: float
    components: int


@dataclass(frozen=True)
class EpsilonSweep:
    """What changes with ε.

    Args:
        fits: by increasing ε.
        recommended: the range.
        neighbours: median distance of a point from its nearest neighbour in x0 and in x1, over √d.
        floor: the energy distance between two halves of the data that `ends` are compared with.
    """

    fits: tuple[EpsilonFit, ...]
    recommended: EpsilonRange
    neighbours: tuple[float, float]
    floor: float

    def rows(self) -> list[dict[str, str]]:
        """The table, a row for each ε."""
        return [
            {
                "ε": rounded(fit.epsilon),
                "√(2ε)": rounded(sqrt(2 * fit.epsilon)),
                "over spread": rounded(sqrt(2 * fit.epsilon) / self.recommended.spread),
                "over neighbour distance": rounded(sqrt(2 * fit.epsilon) / max(self.neighbours)),
                f"partners of {self.recommended.among:,}": rounded(fit.partners),
                "energy (x²)": str(fit.energy),
                "dual (x²)": str(fit.dual),
                "ends (x)": rounded(fit.ends),
                "straightness": rounded(fit.straightness),
                "recommended": "yes" if self.recommended.low <= fit.epsilon <= self.recommended.high else "",
            }
            for fit in self.fits
        ]

    def _repr_html_(self) -> str:
        """For notebooks: the table under the recommendation."""
        return html(self.rows(), str(self.recommended))


def sweep_epsilon(x0: Any, x1: Any, epsilons: Sequence[float] = (), random_state: int = 0) -> EpsilonSweep:
    """Fit a mixture potential for several ε to three quarters of the points, and measure it on the others.

    Args:
        x0, x1: points, (n0, d) and (n1, d).
        epsilons: by default eight, from half of the lower end of the recommended range to twice its upper end.
        random_state: seed of the split, of the fits and of the simulations.

    Raises:
        InputError: an ε is not positive, there are fewer than 38 points a side, or points cannot be used.
    """
    generator = torch.Generator().manual_seed(random_state)
    posed = Problem.of(points_of(x0, label="x0"), points_of(x1, label="x1"), 1.0)
    found, start, end = EpsilonRange.of(posed), posed.x0, posed.x1
    problem = Problem.split(*_shifted(start, end, generator), 1.0, _HELD_OUT, generator)
    wanted = sorted(epsilons) or np.geomspace(found.low / 2, found.high * 2, _SWEPT).tolist()
    if wanted[0] <= 0:
        raise InputError(f"every ε must be positive, not {wanted[0]}")
    fits = tuple(_fit(replace(problem, epsilon=epsilon), random_state) for epsilon in wanted)
    near = (_neighbour_distance(problem.x0), _neighbour_distance(problem.x1))
    return EpsilonSweep(fits, found, near, abs(energy_distance(*problem.test1.chunk(2))))


def _shifted(x0: Tensor, x1: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Some points of both datasets, less a common mean, in single precision: nothing here depends on the mean."""
    centre = x0.double().mean(0)
    few0, few1 = (x[torch.randperm(len(x), generator=generator)[:_SWEPT_POINTS]] for x in (x0, x1))
    return (few0 - centre).float(), (few1 - centre).float()


def _fit(problem: Problem, seed: int) -> EpsilonFit:
    bridge, generator = MixturePotential().solve(problem, seed), torch.Generator().manual_seed(seed)
    ends = energy_distance(bridge.endpoints(problem.test0, generator), problem.test1)
    plan = entropic_plan(_few(problem.x0).double(), _few(problem.x1).double(), problem.epsilon, _TOLERANCE, _ITERATIONS)
    dual = bridge.dual_on(problem.test0, problem.test1)
    straight = _straightness(bridge, problem.test0[:_MOVED])
    energy = bridge.kinetic_energy()
    return EpsilonFit(problem.epsilon, plan.partners(), energy, dual, ends, straight, bridge.components)


def _straightness(bridge: Bridge, x0: Tensor) -> float:
    """½E|X₁ − X₀|² of the probability flow over its energy, which is the sum of its steps' squares times their rate."""
    times = np.linspace(0, 1, _STEPS + 1).tolist()
    flow = bridge.trajectories(x0, times, stepper=HEUN, diffusion=0.0, steps=_STEPS)
    energy = flow.diff(dim=0).square().sum(-1).sum(0).mean() * _STEPS
    return float((flow[-1] - flow[0]).square().sum(-1).mean() / energy)


def _few(x: Tensor) -> Tensor:
    """At most 1,000 rows, evenly spread over all."""
    return x[:: ceil(len(x) / _POINTS)]


def _counted(x0: Tensor, x1: Tensor, variance: float, fewest: float) -> Iterable[tuple[float, float]]:
    """Pairs of ε and its partners, from large to small ε, until there are too few partners."""
    for level in range(_LEVELS):
        epsilon = variance * _LARGEST / _FACTOR**level
        partners = entropic_plan(x0, x1, epsilon, _TOLERANCE, _ITERATIONS).partners()
        yield epsilon, partners
        if partners < fewest:
            return


def _crossing(epsilons: Sequence[float], partners: Sequence[float], level: float) -> float:
    """The ε with so many partners, between the pairs that were counted; both fall."""
    return exp(float(np.interp(log(level), np.log(partners[::-1]), np.log(epsilons[::-1]))))


def _neighbour_distance(x: Tensor) -> float:
    distances = torch.cdist(_few(x), x)
    distances[distances == 0] = torch.inf  # the point itself and its copies
    return float(distances.amin(1).median()) / sqrt(x.shape[1])
