"""Chain: the Schrödinger bridge through the laws of several times.

Among all processes with the laws ρ_k at the times τ_k, the one closest to Brownian motion is a Markov process.  Between
neighbouring times it is their Schrödinger bridge, so it is found one leg at a time and is exact where the legs are.

A leg from τ_k to τ_{k+1} = τ_k + T is a `Bridge` in the unit time s = (τ − τ_k)/T.  With ε per unit of time the leg has
the ε of εT, and the drift of the chain is that of the leg over T.  At a joint the law is continuous, and with it the
score.  The velocity is not: the snapshot there is all that the past and the future share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import isclose
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from sbridge import storage
from sbridge.arrays import Array, RandomState, seed_of, seeded
from sbridge.bridge import Bridge, Direction, Times
from sbridge.checks import checked
from sbridge.densities import Base, Density, as_density, is_law
from sbridge.errors import InputError
from sbridge.likelihood import DensityMethod, End, LogDensity, density_method
from sbridge.points import Points
from sbridge.sampling import Diffusion, Simulation
from sbridge.snapshots.density import CarriedDensity
from sbridge.snapshots.joints import Joint, joint_of
from sbridge.weights import SampleWeights, weighted, weights_of_each

__all__ = ["Chain", "check_times"]


class Chain(storage.Storable):
    """Bridges between snapshots at rising times, one after another; every leg has unit time of its own.

    Every method takes NumPy arrays or tensors and returns the same kind.  Times are those of the snapshots, or between.

    Args:
        legs: the bridge of each pair of neighbours.
        times: of the snapshots, one more than there are legs.

    Raises:
        InputError: the times do not rise, their number is wrong, or the legs differ in ε per unit of time.
    """

    def __init__(self, legs: Iterable[Bridge], times: Sequence[float]) -> None:
        super().__init__()
        self.legs = cast(Sequence[Bridge], nn.ModuleList(legs))
        self.times = check_times(times, len(self.legs) + 1)
        for leg, duration in zip(self.legs, np.diff(self.times), strict=True):
            if not isclose(leg.epsilon, self.epsilon * duration, rel_tol=1e-5):
                raise InputError("the legs of a chain must have one epsilon per unit of time")

    @property
    def epsilon(self) -> float:
        """ε per unit of time, in squared units of the data."""
        return self.legs[0].epsilon / (self.times[1] - self.times[0])

    @property
    def columns(self) -> Sequence[str] | None:
        """Names of the d columns of the data; None where they had none."""
        return self.legs[0].columns

    def forward_drift(self, t: float | Array, x: Array) -> Array:
        """b_F(t, x): t a number or (n, 1), x (n, d) → (n, d); at a joint, that of the leg which begins there."""
        return self._field("forward_drift", t, x, per_time=True)

    def backward_drift(self, t: float | Array, x: Array) -> Array:
        """b_B(t, x); as `forward_drift`."""
        return self._field("backward_drift", t, x, per_time=True)

    def velocity(self, t: float | Array, x: Array) -> Array:
        """b = (b_F + b_B)/2, the velocity of the probability flow; as `forward_drift`."""
        return self._field("velocity", t, x, per_time=True)

    def marginal_score(self, t: float | Array, x: Array) -> Array:
        """s = ∇log ρ_t, the score of the law at time t; as `forward_drift`."""
        return self._field("marginal_score", t, x, per_time=False)

    @checked
    def trajectories(
        self,
        x: Array,
        times: Times,
        simulation: Simulation | None = None,
        random_state: RandomState = None,
        start: float | None = None,
        **options: Any,
    ) -> Array:
        """Paths through the points x (n, d): the states at all `times`, (len(times), n, d).

        Args:
            times: rising (forward process) or falling (backward process): at least two, or one if `start` is another
                time.
            simulation, options: as in `Bridge.trajectories`: `steps` are those of each leg, and the diffusion D is per
                unit of time.
            random_state: seed of the noise.
            start: the time at which x stands; by default times[0].

        Raises:
            InputError: times leave those of the snapshots or are not monotone, or as in `Bridge.trajectories`.
        """
        asked = self.legs[0].question(x)
        states = self._states(asked, times, simulation, random_state, start, **options)
        answer: Array = asked.kind.paths(states, times)
        return answer

    def _states(
        self,
        asked: Points,
        times: Sequence[float],
        simulation: Simulation | None,
        random_state: RandomState,
        start: float | None,
        **options: Any,
    ) -> Tensor:
        stops = self._stops(times if start is None or start == times[0] else [start, *times])
        exact = simulation is None and not options
        settings = None if exact else (simulation or Simulation()).changed(**options)
        noise = np.random.default_rng(seed_of(random_state))
        states = {stops[0]: self.legs[0].tensor(asked)}
        for leg, begin, stop in self._legs(reverse=stops[0] > stops[-1]):
            part = [t for t in stops if begin <= t <= stop]
            if len(part) > 1:
                own = [(t - begin) / (stop - begin) for t in part]
                moved = leg.trajectories(states[part[0]], own, _within(settings, begin, stop), noise, own[0])
                states.update(zip(part, moved, strict=True))
        return torch.stack([states[t] for t in times])

    @checked
    def transport(
        self,
        x: Array,
        direction: Direction = "forward",
        simulation: Simulation | None = None,
        random_state: RandomState = None,
        **options: Any,
    ) -> Array:
        """Move points x (n, d) from the first snapshot to the last, or backward; options as in `trajectories`."""
        if direction not in ("forward", "backward"):
            raise InputError(f"direction must be forward or backward, not {direction!r}")
        first, last = self.times[0], self.times[-1]
        start, stop = (first, last) if direction == "forward" else (last, first)
        return self.at(x, stop, start, simulation, random_state, **options)

    def at(
        self,
        x: Array,
        t: float,
        start: float | None = None,
        simulation: Simulation | None = None,
        random_state: RandomState = None,
        **options: Any,
    ) -> Array:
        """Move points x (n, d) from the time `start`, by default the first, to time t; options as in `trajectories`."""
        asked, start = self.legs[0].question(x), self.times[0] if start is None else start
        (moved,) = self._states(asked, [t], simulation, random_state, start, **options)
        answer: Array = asked.kind.vectors(moved, "x")
        return answer

    def log_prob(
        self,
        x: Array,
        at: float,
        *,
        base: Base,
        base_time: float | None = None,
        method: str | DensityMethod = "ode",
        random_state: RandomState = None,
    ) -> LogDensity[Array]:
        """log ρ̂ at the points x (n, d), in nats, with its standard errors: (n,) each.

        Args:
            at: the time of the density, that of a snapshot.
            base: the law at `base_time`, as in `Bridge.log_prob`.
            base_time: of another snapshot: by default the first, or the last where the density is at the first.
            method: as in `Bridge.log_prob`.  The errors of "ode" with probes are those of the leg that ends at `at`;
                those of random paths include all legs.
            random_state: seed of paths and probes.

        Raises:
            InputError: a time is not that of a snapshot, both are the same, or as in `Bridge.log_prob`.
        """
        if base_time is None:
            base_time = self.times[0] if at != self.times[0] else self.times[-1]
        asked = self.legs[0].question(x)
        points, way = self.legs[0].tensor(asked), density_method(method)
        generator = seeded(random_state, points.device)
        base = base if is_law(base) else self.legs[0].question(base).values
        density: Density = as_density(base, points)
        *before, last = self._legs_between(base_time, at)
        end: End = "x1" if at > base_time else "x0"
        for leg in before:
            density = CarriedDensity(leg, end, density, way, generator)
        found = way.log_density(last, points, end, density, generator)
        value, error = found.value, found.standard_error
        kind = asked.kind
        return LogDensity(kind.numbers(value, "log_density"), kind.numbers(error, "standard_error"), found.base)

    def joints(self, snapshots: Sequence[Array], sample_weight: Sequence[SampleWeights] | None = None) -> list[Joint]:
        """How smooth the chain is at each snapshot but the first and the last, by points (n, d) of all snapshots.

        Args:
            sample_weight: the weights (n,) of each snapshot's points, or None for equal ones.
        """
        self._check_count(snapshots)
        inner = list(zip(snapshots, weights_of_each(snapshots, sample_weight), strict=True))[1:-1]
        points = [weighted(self.legs[0].tensor(x), w) for x, w in inner]
        return [joint_of(*legs, *own) for legs, own in zip(pairwise(self._legs()), points, strict=True)]

    def save(self, path: str | Path) -> None:
        """Write the chain to a safetensors file."""
        storage.save(self, path)

    @staticmethod
    def load(path: str | Path, like: nn.Module | None = None) -> Chain:
        """Read a file written by `save`; arguments and errors as in `Bridge.load`."""
        chain = storage.load(path, like)
        if not isinstance(chain, Chain):
            raise InputError(f"{path} holds a {type(chain).__name__}, not a Chain")
        return chain

    def pairs(self, snapshots: Sequence[Array]) -> Iterator[tuple[Bridge, Array, Array]]:
        """Each leg, in its own unit time, with the points at its two ends.

        Raises:
            InputError: there are not as many snapshots as times.
        """
        self._check_count(snapshots)
        return zip(self.legs, snapshots[:-1], snapshots[1:], strict=True)

    def _check_count(self, snapshots: Sequence[Array]) -> None:
        if len(snapshots) != len(self.times):
            raise InputError(f"the chain has {len(self.times)} snapshots; give points of each, not of {len(snapshots)}")

    def _legs(self, reverse: bool = False) -> Iterator[tuple[Bridge, float, float]]:
        """Each leg with its times."""
        legs = list(zip(self.legs, self.times[:-1], self.times[1:], strict=True))
        return iter(legs[::-1] if reverse else legs)

    def _legs_between(self, base_time: float, at: float) -> list[Bridge]:
        """The legs from one snapshot to another, the first one first."""
        if base_time == at or not {base_time, at} <= set(self.times):
            raise InputError(f"at and base_time must be two of the snapshots' times {list(self.times)}")
        first, last = sorted(self.times.index(t) for t in (base_time, at))
        legs = list(self.legs)[first:last]
        return legs if at > base_time else legs[::-1]

    def _stops(self, times: Sequence[float]) -> list[float]:
        """The times in order, with those of the joints between them."""
        steps = np.diff(np.asarray(times, dtype=float))
        inside = len(times) > 1 and self.times[0] <= min(times) and max(times) <= self.times[-1]
        if not (inside and (np.all(steps > 0) or np.all(steps < 0))):
            span = f"[{self.times[0]:g}, {self.times[-1]:g}]"
            raise InputError(f"times must be at least two numbers in {span}, rising or falling, not {list(times)}")
        low, high = min(times), max(times)
        return sorted({*times, *(t for t in self.times if low < t < high)}, reverse=bool(steps[0] < 0))

    def _field(self, name: str, t: float | Array, x: Array, per_time: bool) -> Array:
        asked = self.legs[0].question(x)
        points = self.legs[0].tensor(asked)
        time = torch.as_tensor(t, dtype=torch.float64, device=points.device).expand(len(points), 1).contiguous()
        if not ((time >= self.times[0]) & (time <= self.times[-1])).all():
            raise InputError(f"t must lie in [{self.times[0]:g}, {self.times[-1]:g}]")
        index = torch.bucketize(time[:, 0], time.new_tensor(self.times[1:-1]), right=True)
        value = torch.empty_like(points)
        for number, (leg, start, stop) in enumerate(self._legs()):
            rows = index == number
            if rows.any():
                own = getattr(leg, name)((time[rows] - start) / (stop - start), points[rows])
                value[rows] = own / (stop - start) if per_time else own
        answer: Array = asked.kind.vectors(value, name)
        return answer


def check_times(times: Sequence[float], count: int) -> tuple[float, ...]:
    """The times as numbers.

    Raises:
        InputError: there are not `count` of them, at least two, or they do not rise.
    """
    numbers = tuple(float(t) for t in times)
    if count < 2 or len(numbers) != count:
        raise InputError(f"there must be as many times as snapshots, and at least two, not {len(numbers)} and {count}")
    if not (np.isfinite(numbers).all() and (np.diff(numbers) > 0).all()):
        raise InputError(f"the times of the snapshots must rise, not {list(numbers)}")
    return numbers


def _within(simulation: Simulation | None, start: float, stop: float) -> Simulation | None:
    """The same simulation in the unit time of a leg."""
    if simulation is None or simulation.diffusion is None:
        return simulation
    level, duration = simulation.diffusion, stop - start
    own: Diffusion = (lambda s: duration * level(start + duration * s)) if callable(level) else duration * level
    return simulation.changed(diffusion=own)
