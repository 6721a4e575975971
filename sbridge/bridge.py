"""Bridge: two drifts and ε, the result of every solver.

A pair of drifts b_F, b_B and ε is a whole bridge: b = (b_F + b_B)/2 and s = (b_F − b_B)/(2ε)
(Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, section 2.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sbridge import storage
from sbridge.arrays import Array, RandomState, all_finite, seed_of, seeded
from sbridge.checks import Elsewhere, Positive, Time, checked, checked_value
from sbridge.densities import Base, as_density, is_law
from sbridge.errors import DivergenceError, InputError
from sbridge.estimates import Estimate, rounded
from sbridge.fields import Field, VectorField, side_by_side
from sbridge.interpolants import Interpolant
from sbridge.likelihood import DensityMethod, End, LogDensity, cross_entropy, density_method
from sbridge.points import Points, points_of
from sbridge.sampling import Diffusion, Simulation, brownian_bridge_step, graded, steps_for
from sbridge.tables import html

if TYPE_CHECKING:
    from sbridge.evaluation.certificate import Certificate
    from sbridge.solvers.base import Listener

__all__ = ["Bridge", "Direction", "ExactBridge", "Times"]

Direction = Literal["forward", "backward"]
Times = Annotated[Sequence[float], Elsewhere()]


class Bridge(storage.Storable):
    """A process from ρ0 to ρ1, given by its forward drift, its backward drift and ε.

    Every method takes points of any kind that `sbridge.points_of` takes (array, tensor, DataFrame, AnnData) and answers
    in that kind.  Where both the bridge and the points have column names, columns are matched by name.

    Args:
        forward_field: drift b_F of dX = b_F dt + √(2ε) dW, run from ρ0 at t = 0.
        backward_field: drift b_B of the same process seen from ρ1 at t = 1: dX = b_B dt + √(2ε) dW, dt < 0.
        epsilon: ε.
        interpolant: the interpolant that has this law, if there is one.
        remark: a note shown in result tables, e.g. that the plan did not converge.

    Attributes:
        columns: names of the d columns of the data; None where they had none.
        tried: what the solver tried and kept, to be printed (`sbridge.auto.Account`), until the bridge is saved; None
            of a solver that does not choose.
    """

    kept: ClassVar[Mapping[str, Any]] = {"columns": list[str] | None}

    def __init__(
        self,
        forward_field: Field,
        backward_field: Field,
        epsilon: float,
        interpolant: Interpolant | None = None,
        remark: str = "",
    ) -> None:
        super().__init__()
        self.forward_field, self.backward_field = forward_field, backward_field
        self.epsilon: float = checked_value("epsilon", Positive, epsilon)
        self.interpolant, self.remark = interpolant, remark
        self.columns: Sequence[str] | None = None
        self.tried: object = None

    @property
    def drifts(self) -> VectorField:
        """Both drifts at once, (t, x) ↦ (..., 2d) in tensors; a network that gives both is evaluated once."""
        return side_by_side(self.forward_field, self.backward_field)

    def forward_drift(self, t: Any, x: Array) -> Array:
        """b_F(t, x): t a number or (n, 1), x (n, d) → (n, d)."""
        return self._answer(self.forward_field, t, x, "forward_drift")

    def backward_drift(self, t: Any, x: Array) -> Array:
        """b_B(t, x): t a number or (n, 1), x (n, d) → (n, d)."""
        return self._answer(self.backward_field, t, x, "backward_drift")

    def velocity(self, t: Any, x: Array) -> Array:
        """b = (b_F + b_B)/2, the velocity of the probability flow: t a number or (n, 1), x (n, d) → (n, d)."""
        return self._answer(self._drift(0.0, 1), t, x, "velocity")

    def marginal_score(self, t: Any, x: Array) -> Array:
        """s = (b_F − b_B)/(2ε) = ∇log ρ_t, the score of the law at time t: t a number or (n, 1), x (n, d) → (n, d)."""
        return self._answer(self._score, t, x, "marginal_score")

    @checked
    def trajectories(
        self,
        x: Array,
        times: Times,
        simulation: Simulation | None = None,
        random_state: RandomState = None,
        start: Time | None = None,
        **options: Any,
    ) -> Array:
        """Paths through the points x (n, d): the states at all `times`, (len(times), n, d).

        Args:
            times: within [0, 1], rising (forward process) or falling (backward process): at least two, or one if
                `start` is another time.
            simulation: steps, diffusion D, stepper and batch (`sbridge.Simulation`).  None, without options,
                draws the paths of a mixture potential from their exact law, without steps: the end, and a Brownian
                bridge to it.  For every other bridge None is `Simulation()`.
            random_state: seed of the noise.
            start: the time at which x stands; by default times[0], if that is 0 or 1.
            options: fields of the simulation to change, such as steps=50 or diffusion=0.

        Raises:
            InputError: times leave [0, 1] or are not monotone, it is not said where x stands, a point is not finite or
                of the wrong dimension, or the simulation has no such option or value.
            DivergenceError: a path became infinite or NaN.
        """
        asked = self.question(x)
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
        route = _route(times, start)
        sign = 1 if route[-1] > route[0] else -1
        exact = simulation is None and not options and self._own_field(sign).known_end is not None
        simulation = (simulation or Simulation()).changed(**options)
        simulation = simulation.with_steps(steps_for(self.epsilon, self.forward_field.data_spread))
        self._check_points(asked)
        points, home = asked.values, self._home(asked)
        generator = seeded(random_state, home.device)

        def states(part: Tensor) -> Iterator[Tensor]:
            if exact:
                return self._drawn_states(part, route, sign, generator)
            return self._simulated_states(part, route, sign, simulation, generator)

        found = points.new_empty(len(times), *points.shape)  # filled part by part, which takes the least memory
        asked_for, batch = len(route) - len(times), simulation.batch_on(home.device)
        with torch.no_grad():
            for part, rows in zip(points.split(batch), found.split(batch, dim=1), strict=True):
                for place, state in enumerate(states(part.to(home))):
                    if place >= asked_for:
                        rows[place - asked_for] = state
        return _finite(found)

    @checked
    def at(
        self,
        x: Array,
        t: Time,
        start: Time = 0.0,
        simulation: Simulation | None = None,
        random_state: RandomState = None,
        **options: Any,
    ) -> Array:
        """The points x (n, d), which stand at time `start`, moved to time t, (n, d); the rest as in `trajectories`."""
        asked = self.question(x)
        moved = self._states(asked, [t], simulation, random_state, start, **options)[0]
        answer: Array = asked.kind.vectors(moved, f"t{t:g}")
        return answer

    @checked
    def transport(
        self,
        x: Array,
        direction: Direction = "forward",
        simulation: Simulation | None = None,
        random_state: RandomState = None,
        until: Time | None = None,
        **options: Any,
    ) -> Array:
        """Move points x (n, d) from one end to the other, or to time `until`, (n, d); the rest as in `trajectories`."""
        start, end = (0.0, 1.0) if direction == "forward" else (1.0, 0.0)
        return self.at(x, end if until is None else until, start, simulation, random_state, **options)

    @checked
    def log_prob(
        self,
        x: Array,
        at: End = "x1",
        *,
        base: Annotated[Base, Elsewhere()],
        method: str | DensityMethod = "ode",
        random_state: RandomState = None,
    ) -> LogDensity[Array]:
        """log ρ̂ at the points x (n, d), in nats, with its standard errors: (n,) each.

        Args:
            at: the end at which the density is computed: x1 for ρ1, x0 for ρ0.
            base: the law at the other end: a torch distribution, a function of tensors (n, d) → (n,) that gives its
                log-density, or samples of it, to which a Gaussian mixture is fitted.
            method: "ode" (probability flow), "sde" (importance-weighted paths), "feynman-kac" or "tilted-bound", or one
                of `sbridge.likelihood` with other settings.  The first gives the density of the flow, the others that
                of the SDE with drift b_F from x0 (at x1) or b_B from x1 (at x0).  They agree where b_F − b_B is 2ε
                times the score.
            random_state: seed of paths and probes.

        Raises:
            InputError: an argument cannot be used, d is too large for an exact divergence, or a point is not finite.
        """
        asked = self.question(x)
        found = self._log_density(asked, at, base, method, random_state)
        value, error = (asked.kind.numbers(getattr(found, name), name) for name in ("value", "standard_error"))
        return LogDensity(value, error, found.base)

    @checked
    def cross_entropy(
        self,
        x: Array,
        at: End = "x1",
        *,
        base: Annotated[Base, Elsewhere()],
        method: str | DensityMethod = "ode",
        random_state: RandomState = None,
    ) -> Estimate:
        """−E log ρ̂ over the law that the points x (n, d) are drawn from, in nats; arguments as in `log_prob`.

        It exceeds the entropy of that law by its Kullback–Leibler divergence from ρ̂.
        """
        return cross_entropy(self._log_density(self.question(x), at, base, method, random_state))

    def certificate(
        self, x0: Array, x1: Array, random_state: RandomState = None, listeners: Sequence[Listener] = ()
    ) -> Certificate:
        """How far this is from the Schrödinger bridge of the data, in nats, when that bridge is not known.

        It takes about a minute for networks, on one thread.  Print it: the verdict comes first.

        Args:
            x0, x1: points of both ends, (n0, d) and (n1, d), at least 100 of each and better thousands.  Do not use
                training points: on them the bridge looks better than it is.
            random_state: seed of the paths and of the regression of their potential.
            listeners: told of each step, as in a solver's `solve`.

        Raises:
            InputError: there are fewer than 100 points a side, or one is not finite or of the wrong dimension.
            DivergenceError: a path gets infinite or NaN coordinates.
        """
        from sbridge.evaluation.certificate import Columns, certify  # here, because certificates are made of bridges

        columns = Columns(self.columns or ())
        return certify(self, self.tensor(x0), self.tensor(x1), seed_of(random_state), listeners, columns=columns)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        count = sum(parameter.numel() for parameter in self.parameters())
        facts = {
            "dimension": self.forward_field.dim,
            "ε": rounded(self.epsilon),
            "√(2ε)": rounded((2 * self.epsilon) ** 0.5),
            "parameters": f"{count:,}",
            "note": self.remark,
        }
        return html([facts], type(self).__name__)

    def save(self, path: str | Path) -> None:
        """Write the bridge to a safetensors file."""
        storage.save(self, path)

    @staticmethod
    def load(path: str | Path, like: nn.Module | None = None) -> Bridge:
        """Read a file written by `save`.

        Args:
            path: the file.
            like: a module like the one that the bridge was fitted with, where it was a network of your own: the file
                holds its weights only.

        Raises:
            InputError: the file is missing, damaged or holds something else, or `like` is missing or does not fit.
        """
        bridge = storage.load(path, like)
        if not isinstance(bridge, Bridge):
            raise InputError(f"{path} holds a {type(bridge).__name__}, not a Bridge")
        return bridge

    def question(self, x: Any) -> Points:
        """Points of any kind, with their columns in the bridge's order.

        Raises:
            InputError: they are no points, or their column names are others.
        """
        return points_of(x, self.columns, whose="those of the bridge")

    def tensor(self, x: Any) -> Tensor:
        """Points of any kind as a tensor (n, d) in the bridge's precision, on its device.

        Raises:
            InputError: a value is missing or infinite, or the dimension or the column names are others.
        """
        return self._inward(self.question(x))

    def _log_density(
        self, asked: Points, at: End, base: Base, method: str | DensityMethod, random_state: RandomState
    ) -> LogDensity[Tensor]:
        points = self._inward(asked)
        generator = seeded(random_state, points.device)
        base = base if is_law(base) else self.question(base).values
        return density_method(method).log_density(self, points, at, as_density(base, points), generator)

    def _simulated_states(
        self, x: Tensor, times: Sequence[float], sign: int, simulation: Simulation, generator: torch.Generator
    ) -> Iterator[Tensor]:
        level = self.epsilon if simulation.diffusion is None else simulation.diffusion
        drift, steps = self._drift(level, sign), simulation.steps
        assert steps is not None  # see `Simulation.with_steps`
        yield x
        for start, stop in pairwise(times):
            x = simulation.stepper.advance(drift, x, graded(start, stop, steps), level, generator)
            yield x

    def _drawn_states(
        self, x: Tensor, times: Sequence[float], sign: int, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """The end drawn from its law, and a Brownian bridge to it."""
        field = self._own_field(sign)
        assert field.known_end is not None
        end = field.draw_end(x.new_full((1, 1), times[0]), x, generator)
        yield x
        for start, stop in pairwise(times):
            x = brownian_bridge_step(x, end, start, stop, field.known_end, self.epsilon, generator)
            yield x

    def _own_field(self, sign: int) -> Field:
        return self.forward_field if sign > 0 else self.backward_field

    def _drift(self, level: Diffusion, sign: int) -> VectorField:
        """b + sign·D(t)·s as a function of (t, x); for D = ε it is one of the two drifts."""
        if level == self.epsilon:
            return self._own_field(sign)

        drifts = self.drifts

        def drift(t: Tensor, x: Tensor) -> Tensor:
            there, back = drifts(t, x).chunk(2, dim=-1)
            share = sign * (level(t) if callable(level) else level) / (2 * self.epsilon)
            return (0.5 + share) * there + (0.5 - share) * back

        return drift

    def _score(self, t: Tensor, x: Tensor) -> Tensor:
        there, back = self.drifts(t, x).chunk(2, dim=-1)
        return (there - back) / (2 * self.epsilon)

    def _inward(self, asked: Points) -> Tensor:
        self._check_points(asked)
        points = asked.values.to(self._home(asked))
        replace(asked, values=points).check_finite()  # a large number may be infinite in single precision
        return points

    def _check_points(self, asked: Points) -> None:
        dim = self.forward_field.dim
        if dim is not None and asked.values.shape[1] != dim:
            raise InputError(f"{asked.label} must have shape (n, {dim}), not {tuple(asked.values.shape)}")
        asked.check_finite()

    def _home(self, asked: Points) -> Tensor:
        """A tensor with the bridge's precision and device; the points' own, if the bridge has neither."""
        return next(iter(self.state_dict().values()), asked.values)

    def _answer(self, function: VectorField, t: Any, x: Array, name: str) -> Array:
        asked = self.question(x)
        points = self._inward(asked)
        time = _time(t, points)
        with torch.no_grad():
            answer: Array = asked.kind.vectors(function(time, points), name)
        return answer


class ExactBridge(Bridge):
    """A Schrödinger bridge known in closed form, with the law of its ends.

    Given its ends, every Schrödinger bridge is a Brownian bridge of variance 2εt(1−t).
    """

    def endpoints(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        """x1 drawn from the exact plan given x0, both (n, d)."""
        raise NotImplementedError

    def conditional_moments(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (n, d) and covariance (n, d, d) of x1 given x0 (n, d)."""
        raise NotImplementedError

    def endpoint_moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of ρ1."""
        raise NotImplementedError

    def kinetic_energy(self) -> Estimate:
        """½E∫|u|²dt, in squared units of the data."""
        raise NotImplementedError

    def between(self, t: Tensor, x0: Tensor, x1: Tensor, generator: torch.Generator) -> Tensor:
        """x_t given both ends: t broadcasts with (n, 1), the rest (n, d)."""
        z = torch.randn(x0.shape, dtype=x0.dtype, device=x0.device, generator=generator)
        return (1 - t) * x0 + t * x1 + (2 * self.epsilon * t * (1 - t)).sqrt() * z


def _time(t: Any, points: Tensor) -> Tensor:
    """Times (), (1,) or (n, 1) of points (n, d), in their precision and on their device."""
    try:
        time = torch.as_tensor(t, dtype=points.dtype, device=points.device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"t must be a number or (n, 1) numbers, not {t!r}") from None
    if not ((time >= 0) & (time <= 1)).all():
        raise InputError("t must lie in [0, 1]")
    if (time.ndim > 1 and tuple(time.shape) not in ((1, 1), (len(points), 1))) or (time.ndim == 1 and len(time) != 1):
        raise InputError(f"t must be a number or have shape ({len(points)}, 1), not {tuple(time.shape)}")
    return time


def _finite(states: Tensor) -> Tensor:
    if not all_finite(states.flatten(0, 1)):
        raise DivergenceError("paths became infinite or NaN: take more steps, a smaller diffusion or nearer points")
    return states


def _route(times: Sequence[float], start: float | None) -> list[float]:
    """The times that a path goes through, from where it starts.

    Raises:
        InputError: they leave [0, 1] or are not monotone, or times[0] is no end and there is no start.
    """
    route = list(checked_value("times", tuple[float, ...], list(times) if isinstance(times, Iterable) else times))
    if start is not None and route[:1] != [start]:
        route = [float(start), *route]
    steps = np.diff(route)
    inside = len(route) > (start is None) and 0 <= min(route) <= max(route) <= 1
    if not (inside and (np.all(steps > 0) or np.all(steps < 0))):
        raise InputError(f"times must be at least two numbers in [0, 1], rising or falling, not {route}")
    if start is None and route[0] not in (0, 1):
        raise InputError(
            f"times begin at {route[0]:g}, which is no end: say where the points stand, by start={route[0]:g} if they "
            "stand there, or by start=0 or start=1"
        )
    return route
