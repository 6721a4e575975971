"""Bridge: two drifts and ε, whoever computed them.

A pair of drifts b_F, b_B and ε is a whole bridge: b = (b_F + b_B)/2 and s = (b_F − b_B)/(2ε)
(Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, section 2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sbridge import storage
from sbridge.arrays import Array, as_points, in_kind, seeded
from sbridge.errors import InputError
from sbridge.fields import Field
from sbridge.interpolants import Interpolant
from sbridge.sampling import EULER, Diffusion, Drift, Integrator

__all__ = ["Bridge", "Direction", "ExactBridge"]

Direction = Literal["forward", "backward"]


class Bridge(storage.Storable):
    """A process from ρ0 to ρ1 by its forward drift, its backward drift and ε.

    Every method takes numpy arrays or tensors and answers in kind.

    Args:
        forward_field: drift b_F of dX = b_F dt + √(2ε) dW, run from ρ0 at t = 0.
        backward_field: drift b_B of the same process seen from ρ1 at t = 1: dX = b_B dt + √(2ε) dW, dt < 0.
        epsilon: ε.
        interpolant: the interpolant whose law this is, where there is one.
        remark: what whoever reads a table of results must know of it, such as that its plan did not converge.
    """

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
        self.epsilon, self.interpolant, self.remark = epsilon, interpolant, remark

    def forward_drift(self, t: float | Array, x: Array) -> Array:
        """b_F(t, x): t a number or (n, 1), x (n, d) → (n, d)."""
        return self._answer(self.forward_field, t, x)

    def backward_drift(self, t: float | Array, x: Array) -> Array:
        """b_B(t, x): t a number or (n, 1), x (n, d) → (n, d)."""
        return self._answer(self.backward_field, t, x)

    def velocity(self, t: float | Array, x: Array) -> Array:
        """b = (b_F + b_B)/2, the velocity of the probability flow: t a number or (n, 1), x (n, d) → (n, d)."""
        return self._answer(self._drift(0.0, 1), t, x)

    def score(self, t: float | Array, x: Array) -> Array:
        """s = (b_F − b_B)/(2ε) = ∇log ρ_t: t a number or (n, 1), x (n, d) → (n, d)."""
        return self._answer(
            lambda t, x: (self.forward_field(t, x) - self.backward_field(t, x)) / (2 * self.epsilon), t, x
        )

    def trajectories(
        self,
        x: Array,
        times: Sequence[float],
        diffusion: Diffusion | None = None,
        steps: int = 100,
        stepper: Integrator = EULER,
        random_state: int | None = None,
        batch: int = 32_768,
        quiet_end: bool = False,
    ) -> Array:
        """Paths through the points x (n, d), which stand at times[0]: the states at all `times`, (len(times), n, d).

        Args:
            times: within [0, 1], rising (forward process) or falling (backward process).
            diffusion: D ≥ 0 of the process to run, with drift b ± D s, a number or a function of t (given and answered
                in tensors).  The marginals are those of the bridge for every D; 0 is the probability-flow ODE, and ε,
                the default, the bridge's own law.
            steps: steps per unit of time.
            stepper: `EULER`, `HEUN` or `RK4` of `sbridge.sampling`, or its `Adaptive` where D is 0.
            random_state: seed of the noise.
            batch: points moved at once, which bounds memory.
            quiet_end: whether the last step to t = 1 (or 0) is one of the probability flow.  The law is the same, and
                the last step's noise, of size √(2D/steps), does not blur it.

        Raises:
            InputError: times leave [0, 1] or are not monotone, a point is not finite or of the wrong dimension, or D is
                negative or not finite somewhere.
        """
        sign = 1 if _check_times(times) else -1
        level = self.epsilon if diffusion is None else diffusion
        points = self._inward(x)
        _check_diffusion(level, points)
        generator = seeded(random_state, points.device)

        def states(part: Tensor) -> Iterator[Tensor]:
            yield part
            for start, stop in pairwise(times):
                for begin, end, noise in _pieces(start, stop, level, 1 / steps if quiet_end else 0.0):
                    part = stepper.advance(self._drift(noise, sign), part, begin, end, noise, steps, generator)
                yield part

        with torch.no_grad():
            parts = [torch.stack(list(states(part))) for part in points.split(batch)]
        return in_kind(torch.cat(parts, dim=1), x)

    def transport(
        self,
        x: Array,
        direction: Direction = "forward",
        diffusion: Diffusion | None = None,
        steps: int = 100,
        stepper: Integrator = EULER,
        random_state: int | None = None,
        batch: int = 32_768,
        quiet_end: bool = False,
    ) -> Array:
        """Move points x (n, d) from one end to the other; arguments and errors as in `trajectories`."""
        if direction not in ("forward", "backward"):
            raise InputError(f"direction must be forward or backward, not {direction!r}")
        times = (0.0, 1.0) if direction == "forward" else (1.0, 0.0)
        moved: Array = self.trajectories(x, times, diffusion, steps, stepper, random_state, batch, quiet_end)[1]
        return moved

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file."""
        storage.save(self, path)

    @staticmethod
    def load(path: str | Path) -> Bridge:
        """Read a file written by `save`.

        Raises:
            InputError: the file is missing, damaged or holds something else.
        """
        bridge = storage.load(path)
        if not isinstance(bridge, Bridge):
            raise InputError(f"{path} holds a {type(bridge).__name__}, not a Bridge")
        return bridge

    def _drift(self, level: Diffusion, sign: int) -> Drift:
        """b + sign·D(t)·s as a function of (t, x); a field of weight zero is not evaluated."""
        if callable(level):
            return lambda t, x: self._weighted(sign * level(t) / (2 * self.epsilon), t, x)
        share = sign * level / (2 * self.epsilon)
        weighted = [(0.5 + share, self.forward_field), (0.5 - share, self.backward_field)]
        return lambda t, x: torch.stack([weight * field(t, x) for weight, field in weighted if weight]).sum(0)

    def _weighted(self, share: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return (0.5 + share) * self.forward_field(t, x) + (0.5 - share) * self.backward_field(t, x)

    def _inward(self, x: Array) -> Tensor:
        points = as_points(x).to(next(iter(self.state_dict().values())))
        dim = self.forward_field.dim
        if points.ndim != 2 or (dim is not None and points.shape[1] != dim):
            raise InputError(f"points must have shape (n, {dim or 'd'}), not {tuple(points.shape)}")
        if not points.isfinite().all():
            raise InputError("points have NaN or infinite values; drop or fill them first")
        return points

    def _answer(self, function: Callable[[Tensor, Tensor], Tensor], t: float | Array, x: Array) -> Array:
        points = self._inward(x)
        time = torch.as_tensor(t, dtype=points.dtype, device=points.device)
        if not ((time >= 0) & (time <= 1)).all():
            raise InputError("t must lie in [0, 1]")
        with torch.no_grad():
            return in_kind(function(time, points), x)


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

    def between(self, t: Tensor, x0: Tensor, x1: Tensor, generator: torch.Generator) -> Tensor:
        """x_t given both ends: t broadcasts with (n, 1), the rest (n, d)."""
        z = torch.randn(x0.shape, dtype=x0.dtype, device=x0.device, generator=generator)
        return (1 - t) * x0 + t * x1 + (2 * self.epsilon * t * (1 - t)).sqrt() * z


def _pieces(start: float, stop: float, level: Diffusion, quiet: float) -> list[tuple[float, float, Diffusion]]:
    """An interval of time and its diffusion; where it ends at t = 0 or 1, its last part, `quiet` long, has none."""
    if not quiet or stop not in (0, 1):
        return [(start, stop, level)]
    near = abs(stop - quiet)
    return [(start, near, level), (near, stop, 0.0)] if abs(stop - start) > quiet else [(start, stop, 0.0)]


def _check_diffusion(level: Diffusion, like: Tensor) -> None:
    times = torch.linspace(0, 1, 101, dtype=like.dtype, device=like.device)
    values = torch.as_tensor(level(times) if callable(level) else level)
    if not (values.isfinite() & (values >= 0)).all():
        raise InputError(f"diffusion must be ≥ 0 and finite at all times, not {values.min().item():g}")


def _check_times(times: Sequence[float]) -> bool:
    """Whether the times rise; they may also fall."""
    steps = np.diff(np.asarray(times, dtype=float))
    inside = len(times) > 1 and min(times) >= 0 and max(times) <= 1
    if not (inside and (np.all(steps > 0) or np.all(steps < 0))):
        raise InputError(f"times must be at least two numbers in [0, 1], rising or falling, not {list(times)}")
    return bool(steps[0] > 0)
