"""Bridge: two drifts and ε, whoever computed them.

A pair of drifts b_F, b_B and ε is a whole bridge: b = (b_F + b_B)/2 and s = (b_F − b_B)/(2ε)
(Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, section 2.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sbridge import storage
from sbridge.arrays import Array, as_points, in_kind, seeded
from sbridge.conversions import ScoreFromDrifts
from sbridge.densities import Base, as_density
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.fields import Field, VectorField
from sbridge.interpolants import Interpolant
from sbridge.likelihood import End, LogDensity, Method, as_method, cross_entropy
from sbridge.sampling import EULER, Diffusion, Integrator, graded

if TYPE_CHECKING:
    from sbridge.evaluation.certificate import Certificate

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
        return self._answer(ScoreFromDrifts(self.forward_field, self.backward_field, self.epsilon), t, x)

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
            steps: steps from t = 0 to 1, shorter towards both (`sbridge.sampling.graded`).
            stepper: `EULER`, `HEUN` or `RK4` of `sbridge.sampling`, or its `Adaptive` where D is 0.
            random_state: seed of the noise.
            batch: points moved at once, which bounds memory.
            quiet_end: whether the last 1/steps of time to t = 1 (or 0) belong to the probability flow, so that no noise
                is added last.  The law is the same; where it is narrower than that noise it is blurred less.

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
                for grid, noise in _pieces(graded(start, stop, steps), level, 1 / steps if quiet_end else 0.0):
                    part = stepper.advance(self._drift(noise, sign), part, grid, noise, generator)
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

    def log_prob(
        self,
        x: Array,
        at: End = "x1",
        *,
        base: Base,
        method: str | Method = "ode",
        random_state: int | None = None,
    ) -> LogDensity[Array]:
        """log ρ̂ at the points x (n, d), in nats, with its standard errors: (n,) each.

        Args:
            at: the end whose density is asked for: x1 for ρ1, x0 for ρ0.
            base: what is known of the law at the other end: a torch distribution, a function (n, d) → (n,) of tensors
                that gives its log-density, or samples of it, to which a Gaussian mixture is fitted.
            method: "ode" (probability flow), "sde" (importance-weighted paths), "feynman-kac" or "tilted-bound", or one
                of `sbridge.likelihood` with other settings.  The first is the flow's density, the others are that of
                the SDE with drift b_F from x0 (at x1) or b_B from x1 (at x0); they agree where b_F − b_B is 2ε times
                the score.
            random_state: seed of paths and probes.

        Raises:
            InputError: an argument is none of these, d is too large for an exact divergence, or a point is not finite.
        """
        found = self._log_density(x, at, base, method, random_state)
        return LogDensity(in_kind(found.value, x), in_kind(found.standard_error, x), found.base)

    def cross_entropy(
        self,
        x: Array,
        at: End = "x1",
        *,
        base: Base,
        method: str | Method = "ode",
        random_state: int | None = None,
    ) -> Estimate:
        """−E log ρ̂ over the law that the points x (n, d) are drawn from, in nats; arguments as in `log_prob`.

        It exceeds the entropy of that law by its Kullback–Leibler divergence from ρ̂.
        """
        return cross_entropy(self._log_density(x, at, base, method, random_state))

    def certificate(self, x0: Array, x1: Array, random_state: int | None = None) -> Certificate:
        """How far this is from a Schrödinger bridge, in nats, for whoever knows no true bridge to compare it with.

        It takes a few seconds for networks in 16 dimensions, on one thread.

        Args:
            x0, x1: points of both ends, (n0, d) and (n1, d), 100 a side at least and better thousands.  Take points
                that the bridge was not fitted to: on those it was fitted to it looks better than it is.
            random_state: seed of the references that it is held against, and of its paths.

        Raises:
            InputError: there are fewer than 100 points a side, or one is not finite or of the wrong dimension.
            DivergenceError: a path runs to no finite place.
        """
        from sbridge.evaluation.certificate import certify  # here, because certificates are made of bridges

        return certify(self, self._inward(x0), self._inward(x1), random_state)

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file."""
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

    def _log_density(
        self, x: Array, at: End, base: Base, method: str | Method, random_state: int | None
    ) -> LogDensity[Tensor]:
        points = self._inward(x)
        generator = seeded(random_state, points.device)
        return as_method(method).log_density(self, points, at, as_density(base, points), generator)

    def _drift(self, level: Diffusion, sign: int) -> VectorField:
        """b + sign·D(t)·s as a function of (t, x); a field of weight zero is not evaluated."""
        if callable(level):
            return lambda t, x: self._weighted(sign * level(t) / (2 * self.epsilon), t, x)
        share = sign * level / (2 * self.epsilon)
        weighted = [(0.5 + share, self.forward_field), (0.5 - share, self.backward_field)]
        return lambda t, x: torch.stack([weight * field(t, x) for weight, field in weighted if weight]).sum(0)

    def _weighted(self, share: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return (0.5 + share) * self.forward_field(t, x) + (0.5 - share) * self.backward_field(t, x)

    def _inward(self, x: Array) -> Tensor:
        points = as_points(x)
        points = points.to(next(iter(self.state_dict().values()), points))
        dim = self.forward_field.dim
        if points.ndim != 2 or (dim is not None and points.shape[1] != dim):
            raise InputError(f"points must have shape (n, {dim or 'd'}), not {tuple(points.shape)}")
        if not points.isfinite().all():
            raise InputError("points have NaN or infinite values; drop or fill them first")
        return points

    def _answer(self, function: VectorField, t: float | Array, x: Array) -> Array:
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

    def kinetic_energy(self) -> Estimate:
        """½E∫|u|²dt, in squared units of the data."""
        raise NotImplementedError

    def between(self, t: Tensor, x0: Tensor, x1: Tensor, generator: torch.Generator) -> Tensor:
        """x_t given both ends: t broadcasts with (n, 1), the rest (n, d)."""
        z = torch.randn(x0.shape, dtype=x0.dtype, device=x0.device, generator=generator)
        return (1 - t) * x0 + t * x1 + (2 * self.epsilon * t * (1 - t)).sqrt() * z


def _pieces(times: Tensor, level: Diffusion, quiet: float) -> list[tuple[Tensor, Diffusion]]:
    """Steps and their diffusion; where they end at t = 0 or 1, those of the last `quiet` of time have none."""
    if times[-1] not in (0, 1):
        return [(times, level)]
    first = int(((times - times[-1]).abs() > quiet).sum())
    pieces: list[tuple[Tensor, Diffusion]] = [(times[: first + 1], level), (times[first:], 0.0)]
    return [piece for piece in pieces if len(piece[0]) > 1]


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
