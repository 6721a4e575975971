"""Problem: two datasets and ε.  Frame: the coordinates in which it is solved."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sbridge.arrays import all_finite, by_rows
from sbridge.bridge import Bridge, ExactBridge
from sbridge.checks import Checked, Positive
from sbridge.errors import InputError
from sbridge.fields import Framed, moved_pair
from sbridge.interpolants import FramedInterpolant
from sbridge.points import Points
from sbridge.weights import check_weights, repeated, shares_of, thinned

__all__ = ["FEWEST_POINTS", "Frame", "Problem", "shuffled_and_cut"]

FEWEST_POINTS = 10  # points per dataset
_POINTS = ("x0", "x1", "test0", "test1")


@dataclass(frozen=True)
class Problem(Checked):
    """Two datasets, ε, and held-out points to evaluate the answer on.

    Args:
        x0, x1: training points, (n0, d) and (n1, d), of one floating dtype and device.
        epsilon: ε of dX = u dt + √(2ε) dW, in squared units of the data.
        test0, test1: held-out points of equal weight; they default to the training points of problems too small to
            split.
        name: its name in tables.
        truth: the exact bridge, where it is known.
        weights0, weights1: of the training points, (n0,) and (n1,), positive; None means equal weights.
        columns: names of the d columns, where they have some.

    Raises:
        InputError: shapes disagree, a value is not finite, fewer than 10 points, a weight is not positive, or ε is not
            positive.
    """

    x0: Tensor
    x1: Tensor
    epsilon: Positive
    test0: Tensor
    test1: Tensor
    name: str = "data"
    truth: ExactBridge | None = None
    columns: tuple[str, ...] | None = None
    weights0: Tensor | None = None
    weights1: Tensor | None = None

    def validate(self) -> None:
        for label in _POINTS:
            _check_points(label, getattr(self, label), self.x0)
        for label, weights, x in (("weights0", self.weights0, self.x0), ("weights1", self.weights1, self.x1)):
            if weights is not None:
                check_weights(label, weights, x)

    @property
    def dim(self) -> int:
        """Dimension d of the points."""
        return self.x0.shape[1]

    @property
    def weights(self) -> tuple[Tensor | None, Tensor | None]:
        """The weights of both sides."""
        return self.weights0, self.weights1

    def equal_points(self) -> list[Tensor]:
        """Training points of equal weight, (n0, d) and (n1, d): points with weights are repeated, by the same seed."""
        generator = torch.Generator(self.x0.device).manual_seed(0)
        return [repeated(x, w, 1, generator) for x, w in zip((self.x0, self.x1), self.weights, strict=True)]

    def thinned_points(self) -> tuple[Tensor, Tensor]:
        """Training points of equal weight, as many as the weighted ones are worth, by the same seed."""
        generator = torch.Generator(self.x0.device).manual_seed(0)
        return thinned(self.x0, self.weights0, generator), thinned(self.x1, self.weights1, generator)

    def to(self, device: torch.device | str) -> Problem:
        """A copy of the problem with its points and its truth on a device."""
        points = {label: getattr(self, label).to(device) for label in _POINTS}
        weights0, weights1 = (w if w is None else w.to(device) for w in self.weights)
        points |= {"weights0": weights0, "weights1": weights1}
        return replace(self, **points, truth=self.truth and copy.deepcopy(self.truth).to(device))

    def exchanged(self) -> Problem:
        """The problem from x1 to x0, without the truth."""
        x0, x1, w0, w1 = self.x1, self.x0, self.weights1, self.weights0
        again = Problem(x0, x1, self.epsilon, self.test1, self.test0, self.name, columns=self.columns)
        return replace(again, weights0=w0, weights1=w1)

    @staticmethod
    def of(x0: Points, x1: Points, epsilon: float, name: str = "data") -> Problem:
        """A problem in which all points are training points and held-out points.

        The columns of x1 are put in the order of x0's by their names, and both datasets in the higher precision.

        Raises:
            InputError: column names, shapes or sizes disagree, or a value is missing or infinite.
        """
        columns = x1.columns if x0.columns is None else x0.columns
        x1 = x1.aligned(x0.columns, f"those of {x0.label}")
        if x0.values.shape[1] != x1.values.shape[1]:
            counts = f"{x0.label} has {x0.values.shape[1]} columns and {x1.label} has {x1.values.shape[1]}"
            raise InputError(f"{counts}; both need the same")
        for points in (x0, x1):
            points.check_finite()
        dtype = torch.promote_types(x0.values.dtype, x1.values.dtype)
        start, end = (points.values.to(dtype) for points in (x0, x1))
        found = Problem(start, end, epsilon, start, end, name, columns=columns)
        return replace(found, weights0=x0.weights, weights1=x1.weights)

    def divided(self, held_out: float, generator: torch.Generator) -> Problem:
        """The problem that holds out the fraction `held_out` of the training points of each dataset, at random.

        Of held-out points with weights, as many of equal weight are kept as they are worth.
        """
        (x0, w0, test0), (x1, w1, test1) = (
            shuffled_and_cut(x, w, held_out, generator) for x, w in ((self.x0, self.weights0), (self.x1, self.weights1))
        )
        fitted = Problem(x0, x1, self.epsilon, test0, test1, self.name, None, self.columns)
        return replace(fitted, weights0=w0, weights1=w1)

    @staticmethod
    def split(
        x0: Tensor, x1: Tensor, epsilon: float, held_out: float, generator: torch.Generator, name: str = "data"
    ) -> Problem:
        """A problem that holds out the fraction `held_out` of each dataset, chosen at random."""
        return Problem(x0, x1, epsilon, x0, x1, name).divided(held_out, generator)


def _check_points(label: str, x: Tensor, like: Tensor) -> None:
    if x.ndim != 2:
        raise InputError(f"{label} must have shape (n, d), not {tuple(x.shape)}")
    if not (x.is_floating_point() and x.dtype == like.dtype):
        raise InputError(f"{label} must be floating point like x0 ({like.dtype}), not {x.dtype}")
    if x.shape[1] != like.shape[1]:
        raise InputError(f"{label} has {x.shape[1]} columns where x0 has {like.shape[1]}; both need the same")
    if len(x) < FEWEST_POINTS:
        raise InputError(f"{label} has {len(x)} points; at least {FEWEST_POINTS} are needed")
    if not all_finite(x):
        bad = int((~torch.isfinite(x)).any(dim=1).sum())
        raise InputError(f"{label} has {bad} rows with NaN or infinite values; drop or fill them first")


def shuffled_and_cut(
    x: Tensor, weights: Tensor | None, fraction: float, generator: torch.Generator
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Shuffled points and their weights, and the fraction that is held out, in equal weights."""
    order = torch.randperm(len(x), generator=generator).to(x.device)
    out, kept = order.tensor_split([round(len(x) * fraction)])
    if weights is None:
        return x[kept], None, x[out]
    return x[kept], weights[kept], thinned(x[out], weights[out], generator)


@dataclass(frozen=True)
class Frame:
    """Coordinates in which both datasets are centred and share one scale a.

    y = (x − m_t)/a with m_t = (1−t)m₀ + t m₁.  The Schrödinger bridge is equivariant: a shift adds its difference to
    the drift, a scale turns ε into a²ε, so a bridge found in y for ε/a² is the bridge in x for ε.
    """

    shift0: Tensor
    shift1: Tensor
    scale: float
    columns: tuple[str, ...] | None = None
    """Names of the user's coordinates."""

    @staticmethod
    def of(problem: Problem) -> Frame:
        """Means to zero, root-mean-square standard deviation of both datasets to one.

        Raises:
            InputError: all points of both datasets are equal.
        """
        sides = ((problem.x0, problem.weights0), (problem.x1, problem.weights1))
        (mean0, variance0), (mean1, variance1) = (_moments(x.double(), weights) for x, weights in sides)
        scale = ((variance0 + variance1) / 2).sqrt().item()
        if scale == 0:
            raise InputError("x0 and x1 do not vary at all; a bridge needs at least one spread-out dataset")
        return Frame(mean0, mean1, scale, problem.columns)

    def inside(self, problem: Problem) -> Problem:
        """The problem in this frame's coordinates, without the truth; the points are still in their precision."""
        x0, x1 = self.points_inside(problem.x0, 0), self.points_inside(problem.x1, 1)
        test0, test1 = self.points_inside(problem.test0, 0), self.points_inside(problem.test1, 1)
        w0, w1 = problem.weights
        return Problem(x0, x1, problem.epsilon / self.scale**2, test0, test1, problem.name, weights0=w0, weights1=w1)

    def points_inside(self, x: Tensor, end: int, dtype: torch.dtype | None = None) -> Tensor:
        """Points (n, d) of the law at time 0 or 1 in this frame's coordinates, of the given dtype or their own."""
        shift = self.shift1 if end else self.shift0
        return by_rows(lambda part: ((part - shift) / self.scale).to(dtype or x.dtype), x)

    def points_outside(self, y: Tensor, end: int, dtype: torch.dtype | None = None) -> Tensor:
        """The inverse of `points_inside`."""
        shift = self.shift1 if end else self.shift0
        return (shift + self.scale * y.double()).to(dtype or y.dtype)

    def kinetic_energy(self, inside: Tensor) -> Tensor:
        """½E∫|u|²dt in the user's units, from its value inside, where the mean displacement is zero."""
        return self.scale**2 * inside + 0.5 * (self.shift1 - self.shift0).square().sum()

    def outside(self, bridge: Bridge) -> Bridge:
        """A bridge of this frame's coordinates, in the user's coordinates, whose names it keeps."""
        frame = (self.shift0, self.shift1, self.scale)
        there, back = moved_pair(bridge.forward_field, bridge.backward_field, lambda field: Framed(field, *frame))
        interpolant = bridge.interpolant and FramedInterpolant(bridge.interpolant, *frame)
        found = Bridge(there, back, bridge.epsilon * self.scale**2, interpolant, bridge.remark)
        found.columns = self.columns
        return found


def _moments(x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean (d,) and mean variance () of points (n, d)."""
    if weights is None:
        return x.mean(0), x.var(0).mean()
    shares = shares_of(x, weights)
    mean = shares @ x
    return mean, shares @ (x - mean).square().mean(1)
