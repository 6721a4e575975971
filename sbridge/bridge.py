"""Problem: two datasets and ε.  Bridge: two drifts and ε, whoever computed them.

A pair of drifts b_F, b_B and ε is a whole bridge: b = (b_F + b_B)/2 and s = (b_F − b_B)/(2ε)
(Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, section 2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbridge import storage
from sbridge.errors import InputError
from sbridge.fields import Field, Framed
from sbridge.interpolants import FramedInterpolant, Interpolant
from sbridge.sampling import EULER, Stepper, integrate

__all__ = ["Array", "Bridge", "Direction", "ExactBridge", "Frame", "Problem", "as_points"]

Array = TypeVar("Array", NDArray[Any], Tensor)
Direction = Literal["forward", "backward"]
_SMALLEST = 10  # points per dataset


@dataclass(frozen=True)
class Problem:
    """Two datasets, ε, and points kept apart to judge the answer by.

    Args:
        x0, x1: training points, (n0, d) and (n1, d), of one floating dtype and device.
        epsilon: ε of dX = u dt + √(2ε) dW, in squared units of the data.
        test0, test1: held-out points; they default to the training points of problems too small to split.
        name: what tables call it.
        truth: the exact bridge, where it is known.

    Raises:
        InputError: shapes disagree, a value is not finite, fewer than 10 points, or ε is not positive.
    """

    x0: Tensor
    x1: Tensor
    epsilon: float
    test0: Tensor
    test1: Tensor
    name: str = "data"
    truth: ExactBridge | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.epsilon) and self.epsilon > 0):
            raise InputError(f"epsilon must be a positive number, not {self.epsilon}")
        for label in ("x0", "x1", "test0", "test1"):
            _check_points(label, getattr(self, label), self.x0)

    @property
    def dim(self) -> int:
        """Dimension d of the points."""
        return self.x0.shape[1]

    @staticmethod
    def split(
        x0: Tensor, x1: Tensor, epsilon: float, held_out: float, generator: torch.Generator, name: str = "data"
    ) -> Problem:
        """A problem that keeps the fraction `held_out` of each dataset apart, chosen at random."""
        (a, a_test), (b, b_test) = (_shuffle_and_cut(x, held_out, generator) for x in (x0, x1))
        return Problem(a, b, epsilon, a_test, b_test, name)


def _check_points(label: str, x: Tensor, like: Tensor) -> None:
    if x.ndim != 2:
        raise InputError(f"{label} must have shape (n, d), not {tuple(x.shape)}")
    if not (x.is_floating_point() and x.dtype == like.dtype):
        raise InputError(f"{label} must be floating point like x0 ({like.dtype}), not {x.dtype}")
    if x.shape[1] != like.shape[1]:
        raise InputError(f"{label} has {x.shape[1]} columns where x0 has {like.shape[1]}; both need the same")
    if len(x) < _SMALLEST:
        raise InputError(f"{label} has {len(x)} points; at least {_SMALLEST} are needed")
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).any(dim=1).sum())
        raise InputError(f"{label} has {bad} rows with NaN or infinite values; drop or fill them first")


def _shuffle_and_cut(x: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(x), generator=generator).to(x.device)
    cut = round(len(x) * fraction)
    return x[order[cut:]], x[order[:cut]]


@dataclass(frozen=True)
class Frame:
    """Coordinates in which both datasets are centred and share one scale a.

    y = (x − m_t)/a with m_t = (1−t)m₀ + t m₁.  The Schrödinger bridge is equivariant: a shift adds its difference to
    the drift, a scale turns ε into a²ε, so a bridge found in y for ε/a² is the bridge in x for ε.
    """

    shift0: Tensor
    shift1: Tensor
    scale: float

    @staticmethod
    def of(problem: Problem) -> Frame:
        """Means to zero, root-mean-square standard deviation of both datasets to one.

        Raises:
            InputError: all points of both datasets are equal.
        """
        x0, x1 = problem.x0.double(), problem.x1.double()
        scale = ((x0.var(0).mean() + x1.var(0).mean()) / 2).sqrt().item()
        if scale == 0:
            raise InputError("x0 and x1 do not vary at all; a bridge needs at least one spread-out dataset")
        return Frame(x0.mean(0), x1.mean(0), scale)

    def inside(self, problem: Problem) -> Problem:
        """The problem in this frame's coordinates (its truth is left behind)."""
        x0, test0 = ((x - self.shift0).div(self.scale).to(x) for x in (problem.x0, problem.test0))
        x1, test1 = ((x - self.shift1).div(self.scale).to(x) for x in (problem.x1, problem.test1))
        return Problem(x0, x1, problem.epsilon / self.scale**2, test0, test1, problem.name)

    def kinetic_energy(self, inside: Tensor) -> Tensor:
        """½E∫|u|²dt in the user's units, from its value inside, where the mean displacement is zero."""
        return self.scale**2 * inside + 0.5 * (self.shift1 - self.shift0).square().sum()

    def outside(self, bridge: Bridge) -> Bridge:
        """A bridge found in this frame's coordinates, in the user's."""
        frame = (self.shift0, self.shift1, self.scale)
        return Bridge(
            Framed(bridge.forward_field, *frame),
            Framed(bridge.backward_field, *frame),
            bridge.epsilon * self.scale**2,
            bridge.interpolant and FramedInterpolant(bridge.interpolant, *frame),
            bridge.remark,
        )


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
        return self._answer(self._drift(0.0), t, x)

    def score(self, t: float | Array, x: Array) -> Array:
        """s = (b_F − b_B)/(2ε) = ∇log ρ_t: t a number or (n, 1), x (n, d) → (n, d)."""
        return self._answer(
            lambda t, x: (self.forward_field(t, x) - self.backward_field(t, x)) / (2 * self.epsilon), t, x
        )

    def trajectories(
        self,
        x: Array,
        times: Sequence[float],
        diffusion: float | None = None,
        steps: int = 100,
        stepper: Stepper = EULER,
        random_state: int | None = None,
        batch: int = 32_768,
    ) -> Array:
        """Paths through the points x (n, d), which stand at times[0]: the states at all `times`, (len(times), n, d).

        Args:
            times: within [0, 1], rising (forward process) or falling (backward process).
            diffusion: D ≥ 0 of the process to run, with drift b ± D s.  The marginals are those of the bridge for every
                D; 0 is the probability-flow ODE, and ε, the default, the bridge's own law.
            steps: steps per unit of time.
            random_state: seed of the noise.
            batch: points moved at once, which bounds memory.

        Raises:
            InputError: times leave [0, 1] or are not monotone, or a point is not finite or of the wrong dimension.
        """
        forward = _check_times(times)
        level = self.epsilon if diffusion is None else diffusion
        if not level >= 0:
            raise InputError(f"diffusion must be ≥ 0, not {diffusion}")
        drift = self._drift(level if forward else -level)
        points = self._inward(x)
        generator = _generator(random_state, points.device)
        with torch.no_grad():
            parts = [
                torch.stack(list(integrate(drift, part, times, level, steps, stepper, generator)))
                for part in points.split(batch)
            ]
        return _outward(torch.cat(parts, dim=1), x)

    def transport(
        self,
        x: Array,
        direction: Direction = "forward",
        diffusion: float | None = None,
        steps: int = 100,
        stepper: Stepper = EULER,
        random_state: int | None = None,
        batch: int = 32_768,
    ) -> Array:
        """Move points x (n, d) from one end to the other; arguments and errors as in `trajectories`."""
        if direction not in ("forward", "backward"):
            raise InputError(f"direction must be forward or backward, not {direction!r}")
        times = (0.0, 1.0) if direction == "forward" else (1.0, 0.0)
        moved: Array = self.trajectories(x, times, diffusion, steps, stepper, random_state, batch)[1]
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

    def _drift(self, level: float) -> Callable[[Tensor, Tensor], Tensor]:
        """b + level·s as a function of (t, x); a field of weight zero is not evaluated."""
        share = level / (2 * self.epsilon)
        weighted = [(0.5 + share, self.forward_field), (0.5 - share, self.backward_field)]
        return lambda t, x: torch.stack([weight * field(t, x) for weight, field in weighted if weight]).sum(0)

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
            return _outward(function(time, points), x)


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


def _check_times(times: Sequence[float]) -> bool:
    """Whether the times rise; they may also fall."""
    steps = np.diff(np.asarray(times, dtype=float))
    inside = len(times) > 1 and min(times) >= 0 and max(times) <= 1
    if not (inside and (np.all(steps > 0) or np.all(steps < 0))):
        raise InputError(f"times must be at least two numbers in [0, 1], rising or falling, not {list(times)}")
    return bool(steps[0] > 0)


def _generator(random_state: int | None, device: torch.device) -> torch.Generator:
    generator = torch.Generator(device)
    if random_state is None:
        generator.seed()
    else:
        generator.manual_seed(random_state)
    return generator


def as_points(x: NDArray[Any] | Tensor) -> Tensor:
    """Numbers of any kind as a floating tensor.

    Raises:
        InputError: they are no numbers.
    """
    try:
        points = x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    except (TypeError, ValueError) as error:
        raise InputError(f"points must be an array of numbers of shape (n, d): {error}") from error
    return points if points.is_floating_point() else points.double()


def _outward(value: Tensor, like: Array) -> Array:
    """The value as the kind, floating precision and place of what was asked with."""
    if isinstance(like, Tensor):
        return value.to(device=like.device, dtype=like.dtype if like.is_floating_point() else value.dtype)
    kind = np.asarray(like).dtype
    return value.cpu().numpy().astype(kind if np.issubdtype(kind, np.floating) else np.float64)
