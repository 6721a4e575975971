"""Common parts of all log-densities: the model, the ends, the result and averages over it."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import Generic, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from sbridge.arrays import Array
from sbridge.checks import Several, checked_value
from sbridge.densities import Density
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.fields import VectorField

__all__ = ["DensityMethod", "End", "LogDensity", "Model", "bits_per_dimension", "clock"]
__all__ += ["cross_entropy", "finite", "joined", "rows_at_once", "times_from"]

End = Literal["x1", "x0"]

_TIMES = {"x1": (1.0, 0.0), "x0": (0.0, 1.0)}
_MOST_ROWS, _MOST_NUMBERS = 4096, 2**20  # moved at once


class Model(Protocol):
    """Two drifts and ε; a `Bridge` is one."""

    @property
    def forward_field(self) -> VectorField:
        """b_F(t, x)."""

    @property
    def backward_field(self) -> VectorField:
        """b_B(t, x)."""

    @property
    def drifts(self) -> VectorField:
        """b_F and b_B side by side, (t, x) ↦ (..., 2d)."""

    @property
    def epsilon(self) -> float:
        """ε."""


@dataclass(frozen=True)
class LogDensity(Generic[Array]):
    """Log-densities at some points, in nats, their standard errors over paths or probes, and the base's name.

    The errors are those of sampling; the error of the time steps is not included.  The logarithm of an unbiased
    density is too low by about half its squared standard error.  Where that error is near 1, one path outweighs all
    others, and neither the value nor its error can be trusted.
    """

    value: Array
    standard_error: Array
    base: str


@runtime_checkable
class DensityMethod(Protocol):
    """A way to compute a model's log-density."""

    def log_density(
        self, model: Model, x: Tensor, at: End, base: Density, generator: torch.Generator
    ) -> LogDensity[Tensor]:
        """log ρ̂ at the points x (n, d), which stand at the end `at`; `base` is the density of the other end.

        Raises:
            InputError: `at` is not an end, a path gets infinite or NaN, or d is too large for an exact divergence.
        """


def cross_entropy(log_density: LogDensity[Tensor], weights: Tensor | None = None) -> Estimate:
    """−E log ρ̂ in nats over the points' law, from at least two points drawn independently from it.

    The points may have weights (n,).  The standard error is that of a mean over points; the scatter over each point's
    paths is part of theirs.

    Raises:
        InputError: fewer than two points.
    """
    checked_value("the number of points", Several, len(log_density.value))
    return Estimate.of(-log_density.value, weights)


def bits_per_dimension(nats: Estimate, dim: int) -> Estimate:
    """A cross-entropy in bits per coordinate of points in R^dim, from nats per point."""
    unit = dim * log(2)
    return Estimate(nats.value / unit, nats.standard_error / unit)


def times_from(at: End) -> tuple[float, float]:
    """Times a and c at which a path from that end starts and stops."""
    if at not in _TIMES:
        raise InputError(f"at must be x1 or x0, not {at!r}")
    return _TIMES[at]


def clock(tau: Tensor) -> tuple[Tensor, Tensor]:
    """Time t = τ − sin(2πτ)/2π and its rate dt/dτ.

    Equal steps in τ are small steps in t near both ends, where drifts may be stiff.  As the rate is periodic, they are
    as accurate as equal steps in t along straight paths (Euler and Maclaurin).
    """
    return tau - torch.sin(2 * pi * tau) / (2 * pi), 2 * torch.sin(pi * tau).square()


def rows_at_once(x: Tensor) -> int:
    """How many points like the rows of x are moved at once, which bounds memory."""
    return max(1, min(_MOST_ROWS, _MOST_NUMBERS // x.shape[1]))


def finite(state: Tensor) -> Tensor:
    """The same rows.

    Raises:
        InputError: some are not finite.
    """
    lost = int((~state.isfinite()).any(-1).sum())
    if lost:
        raise InputError(
            f"{lost} of {len(state)} paths end with infinite or NaN coordinates or density: take more steps. If that "
            "does not help, a drift or its derivative is not finite there, and this density cannot be computed"
        )
    return state


def joined(parts: list[tuple[Tensor, Tensor]], base: Density) -> LogDensity[Tensor]:
    """One answer from the values and standard errors of blocks of points."""
    values, errors = zip(*parts, strict=True)
    return LogDensity(torch.cat(values), torch.cat(errors), base.name)
