"""Steppers for the generative equations dX = f(t, X) dt + √(2D(t)) dW, in either direction of time.

A method is its Butcher tableau.  Orders for smooth f: Euler 1, Heun 2, RK4 4 without noise.  The noise is additive, and
a step's stages share its increment, whose variance is 2|dt| times D in the middle of the step: with it, Euler is
Euler–Maruyama (strong and weak order 1) and Heun is stochastic Heun (weak order 2).  `Adaptive` chooses its steps
itself, for equations without noise.

Where the states are computed is the caller's choice.  A bridge changes fastest at its ends, where its drift draws
points together within a time of the order of their variance over 2D, and a longer step leaves its own noise on them.
So its steps are `graded`: at equal distances of s = I_t(⅓, ⅓), the regularised incomplete beta function, so that the
time left to an end is proportional to the third power of s there.  Of n steps from 0 to 1 none is longer than 2.1/n.

The backward equation of a drift b_B (Albergo et al., arXiv 2303.08797, eq. 2.32) is integrated with the same f = b_B
from t = 1 to 0: a negative step turns the drift's sign around and leaves the size √(2D|dt|) of the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import ceil, sqrt
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
import torch
from annotated_types import MinLen
from torch import Tensor

from sbridge.checks import Checked, Count, NotNegative, Positive
from sbridge.errors import InputError
from sbridge.fields import VectorField

__all__ = ["EULER", "HEUN", "RK4", "Adaptive", "Diffusion", "Integrator", "PiecewiseLinear", "Simulation"]
__all__ += ["Stepper", "brownian_bridge_step", "even", "graded", "integrate", "steps_for", "through"]

_GRADE = 1 / 3  # with 1/2, the arcsine law, narrow laws are blurred twice as much; less leaves long steps between
_NEAREST = 1e-6  # of a step to an end: single precision must tell the times apart
_ON_CPU, _ELSEWHERE = 2048, 65_536  # points moved at once
_STEPS, _STEPS_PER_NOISE = 100, 40  # the latter times √(2ε) over the spread

Diffusion = NotNegative | Callable[[Tensor], Tensor]
"""D, or a function of times (in a tensor of any shape) that gives D(t) ≥ 0."""


@runtime_checkable
class Integrator(Protocol):
    """What carries points from one time to another."""

    def advance(
        self,
        drift: VectorField,
        x: Tensor,
        times: Tensor,
        diffusion: Diffusion,
        generator: torch.Generator,
    ) -> Tensor:
        """The states (n, d) at times[-1] from x (n, d) at times[0], by way of the other `times`, (steps + 1,)."""


@dataclass(frozen=True)
class Stepper:
    """An explicit Runge–Kutta method.

    Args:
        stages: row i weighs slopes 0 … i−1 in the place where slope i is taken.
        weights: of all slopes in the step.
    """

    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    def advance(
        self,
        drift: VectorField,
        x: Tensor,
        times: Tensor,
        diffusion: Diffusion,
        generator: torch.Generator,
    ) -> Tensor:
        """The states (n, d) at times[-1] from x (n, d) at times[0], by a step to each of the other `times`."""
        grid = times.to(x)
        for t, dt in zip(grid, grid.diff(), strict=False):
            x = self.step(drift, t, dt, x, _noise(x, diffusion, t, dt, generator))
        return x

    def step(self, drift: VectorField, t: Tensor, dt: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        """The state at t + dt from x at t: t and dt scalars, x and noise = √(2D) dW of shape (n, d)."""
        slopes: list[Tensor] = []
        for row in self.stages:
            place = x + _combine(row, slopes, dt) + sum(row) * noise
            slopes.append(drift(t + sum(row) * dt, place))
        return x + _combine(self.weights, slopes, dt) + noise


def _combine(weights: Sequence[float], slopes: Sequence[Tensor], dt: Tensor) -> Tensor | float:
    return sum((w * dt * slope for w, slope in zip(weights, slopes, strict=True) if w), 0.0)


EULER = Stepper(stages=((),), weights=(1.0,))
HEUN = Stepper(stages=((), (1.0,)), weights=(0.5, 0.5))
RK4 = Stepper(stages=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), weights=(1 / 6, 1 / 3, 1 / 3, 1 / 6))


@dataclass(frozen=True)
class Adaptive(Checked):
    """Dormand–Prince 5(4) with steps chosen by its error estimate, by torchdiffeq; for the probability flow only.

    Args:
        rtol, atol: relative and absolute tolerance of a step's error, root mean square over all points.
    """

    rtol: Positive = 1e-6
    atol: Positive = 1e-6

    def advance(
        self,
        drift: VectorField,
        x: Tensor,
        times: Tensor,
        diffusion: Diffusion,
        generator: torch.Generator,
    ) -> Tensor:
        """The states (n, d) at times[-1] from x (n, d) at times[0]; the others have no meaning here.

        Raises:
            InputError: there is noise, or torchdiffeq is not installed.
        """
        if diffusion != 0:
            raise InputError("adaptive steps are for the probability flow: diffusion must be 0")
        try:
            from torchdiffeq import odeint
        except ImportError as error:
            raise InputError("adaptive steps need torchdiffeq: pip install torchdiffeq") from error
        span = times[[0, -1]].to(x)
        end: Tensor = odeint(drift, x, span, rtol=self.rtol, atol=self.atol, method="dopri5")[-1]
        return end


@dataclass(frozen=True)
class PiecewiseLinear(Checked):
    """D(t) through `values` at equally spaced times from 0 to 1, linear between; a single value is a constant.

    Raises:
        InputError: a value is negative or no number, or there is none.
    """

    values: Annotated[tuple[NotNegative, ...], MinLen(1)]

    @classmethod
    def called(cls, field: str) -> str:
        return "diffusion"

    def __call__(self, t: Tensor) -> Tensor:
        knots = t.new_tensor([*self.values, self.values[-1]])  # one more, for t = 1
        place = t.clamp(0, 1) * (len(self.values) - 1)
        left = place.long()
        return torch.lerp(knots[left], knots[left + 1], place - left)


def through(values: Sequence[float]) -> Diffusion | None:
    """D through values at equally spaced times: a number where there is one, None where there is none.

    Raises:
        InputError: as `PiecewiseLinear`.
    """
    if not values:
        return None
    line = PiecewiseLinear(tuple(values))
    return line if len(values) > 1 else values[0]


@dataclass(frozen=True)
class Simulation(Checked):
    """How a bridge moves points: the process, its steps, and how many points move at once.

    Args:
        steps: steps from t = 0 to 1, shorter near both ends (`graded`).  None means 100, or as many more as the noise
            needs where it is larger than the data's spread (`steps_for`).
        diffusion: D ≥ 0 of the process dX = (b ± D s) dt + √(2D) dW, in squared units of the data.  It is a number, or
            a function that takes a tensor of times and gives a tensor.  None means ε, the bridge's own law.  0 is the
            probability-flow ODE.  The marginals are the same for every D.
        stepper: `EULER`, `HEUN` or `RK4`; with D = 0 also `Adaptive`, which chooses its own steps.
        batch: points moved at once, which bounds memory.  None means 2,048 on a CPU, because a network's numbers for
            them fit into its cache, and 65,536 on other devices.

    Raises:
        InputError: steps or batch is below 1, or D is negative or not finite at some time.
    """

    steps: Count | None = None
    diffusion: Diffusion | None = None
    stepper: Integrator = EULER
    batch: Count | None = None

    def validate(self) -> None:
        if callable(self.diffusion):
            _check_diffusion(self.diffusion)

    def batch_on(self, device: torch.device) -> int:
        """The points moved at once on a device."""
        return self.batch or (_ON_CPU if device.type == "cpu" else _ELSEWHERE)

    def changed(self, **options: Any) -> Simulation:
        """The same with other values of some fields.

        Raises:
            InputError: there is no field of that name, or a value cannot be used.
        """
        names = [field.name for field in fields(self)]
        unknown = [name for name in options if name not in names]
        if unknown:
            raise InputError(f"a simulation has no option {unknown[0]!r}; it has {', '.join(names)}")
        return replace(self, **options)

    def with_steps(self, steps: int) -> Simulation:
        """The same with so many steps, if they are not given."""
        return replace(self, steps=steps) if self.steps is None else self


def steps_for(epsilon: float, spread: float | None) -> int:
    """Steps from one end to the other that leave the ends of paths right to a few per cent of the data's spread.

    The last steps of a graded grid leave some of their noise √(2εh), which must be small for the data.
    """
    return _STEPS if spread is None else max(_STEPS, ceil(_STEPS_PER_NOISE * sqrt(2 * epsilon) / spread))


def _check_diffusion(diffusion: Callable[[Tensor], Tensor]) -> None:
    values = torch.as_tensor(diffusion(torch.linspace(0, 1, 101)))
    if not (values.isfinite() & (values >= 0)).all():
        raise InputError(f"diffusion must be ≥ 0 and finite at all times, not {values.min().item():g}")


def even(start: float, stop: float, steps: int) -> Tensor:
    """Times at equal distances from start to stop, with `steps` steps per unit of time, in float64."""
    return torch.linspace(start, stop, max(1, round(steps * abs(stop - start))) + 1, dtype=torch.float64)


def graded(start: float, stop: float, steps: int) -> Tensor:
    """Times from start to stop, both within [0, 1], that are denser towards 0 and 1; `steps` steps from 0 to 1."""
    from scipy.special import betainc, betaincinv  # here, because importing it takes long

    first, last = betainc(_GRADE, _GRADE, [start, stop])
    count = max(1, round(steps * abs(last - first)))
    first, last = betainc(_GRADE, _GRADE, np.clip([start, stop], _NEAREST, 1 - _NEAREST))
    times = torch.from_numpy(betaincinv(_GRADE, _GRADE, np.linspace(first, last, count + 1)))
    times[0], times[-1] = start, stop
    return times


def integrate(
    drift: VectorField,
    x: Tensor,
    times: Sequence[float],
    diffusion: Diffusion,
    steps: int,
    stepper: Integrator,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """The states at each of `times`, the first of which is where x (n, d) stands.

    Times rise (forward) or fall (backward); steps are even, `steps` of them per unit of time.
    """
    yield x
    for start, stop in pairwise(times):
        x = stepper.advance(drift, x, even(start, stop, steps), diffusion, generator)
        yield x


def brownian_bridge_step(
    x: Tensor, end: Tensor, start: float, stop: float, end_time: float, epsilon: float, generator: torch.Generator
) -> Tensor:
    """States at `stop` of Brownian bridges, variance 2ε per unit of time, that are at x at `start`: (n, d).

    They reach end (n, d) at `end_time`; `stop` lies between the two times, in either direction.
    """
    if stop == end_time:
        return end
    share = (stop - start) / (end_time - start)
    z = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    return torch.lerp(x, end, share) + sqrt(2 * epsilon * abs(stop - start) * (1 - share)) * z


def _noise(x: Tensor, diffusion: Diffusion, t: Tensor, dt: Tensor, generator: torch.Generator) -> Tensor:
    """√(2D) dW of a step: with D of its middle, the variance is right to second order."""
    if diffusion == 0:
        return torch.zeros_like(x)
    z = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    level = diffusion(t + dt / 2) if callable(diffusion) else diffusion
    return (2 * level * dt.abs()).sqrt() * z
