"""Stochastic interpolants x_t = I(t, x0, x1) + γ(t) z.

An interpolant is two functions, `mean` = I and `variance` = γ²; γ itself has an infinite slope at the ends, γ² is
smooth.  Rates of change, x_t and every regression target follow from these two (`Path`).

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, section 2 and table 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi

import torch
from torch import Tensor
from torch.func import jvp

from sbridge.fields import ResidualMLP
from sbridge.storage import Storable

__all__ = ["Brownian", "FramedInterpolant", "Gamma", "Interpolant", "LearnedGamma", "LearnedMean", "Linear", "Path"]
__all__ += ["Trigonometric"]


class Gamma(Storable):
    """The size of an interpolant's noise: `gamma(t)` is γ²(t), zero at t = 0 and 1, positive between."""

    def __call__(self, t: Tensor) -> Tensor:
        value: Tensor = super().__call__(t)
        return value

    def forward(self, t: Tensor) -> Tensor:
        raise NotImplementedError


class Brownian(Gamma):
    """γ² = 2εt(1−t): pinned Brownian motion of dX = √(2ε) dW.  The largest γ² for which theorem 3.13 is realisable."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, t: Tensor) -> Tensor:
        return 2 * self.epsilon * t * (1 - t)


class Interpolant(Storable):
    """Two functions of time: the mean I(t, x0, x1), which joins x0 to x1, and the variance γ²(t), zero at both ends."""

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        """I(t, x0, x1): t (..., 1), x0 and x1 (..., d) → (..., d)."""
        raise NotImplementedError

    def variance(self, t: Tensor) -> Tensor:
        """γ²(t), of t's shape."""
        raise NotImplementedError

    def path(self, t: Tensor, x0: Tensor, x1: Tensor, z: Tensor) -> Path:
        """x_t for each pair and its noise z, with all rates of change by forward-mode differentiation.

        Shapes: t broadcasts with (..., 1); x0, x1 and z are (..., d).
        """
        t = t.contiguous()  # forward mode refuses an expanded view
        one = torch.ones_like(t)
        mean, mean_rate = jvp(lambda s: self.mean(s, x0, x1), (t,), (one,))
        variance, variance_rate = jvp(self.variance, (t,), (one,))
        return Path(t, mean + variance.sqrt() * z, z, mean, mean_rate, variance, variance_rate)


@dataclass(frozen=True)
class Path:
    """Interpolant points x = mean + γz at times t.

    Shapes: t, variance and variance_rate broadcast with (..., 1); x, z, mean and mean_rate are (..., d).
    """

    t: Tensor
    x: Tensor
    z: Tensor
    mean: Tensor
    mean_rate: Tensor
    variance: Tensor
    variance_rate: Tensor

    @property
    def gamma(self) -> Tensor:
        """γ(t)."""
        return self.variance.sqrt()

    @property
    def gamma_rate(self) -> Tensor:
        """γ̇ = (dγ²/dt)/2γ; it is infinite at the ends."""
        return self.variance_rate / (2 * self.gamma)

    def antithetic(self) -> Path:
        """Every pair twice along the pair axis (−2): first with z, then with −z."""
        twice = torch.cat([self.mean] * 2, dim=-2), torch.cat([self.mean_rate] * 2, dim=-2)
        z = torch.cat([self.z, -self.z], dim=-2)
        return replace(self, x=twice[0] + self.gamma * z, z=z, mean=twice[0], mean_rate=twice[1])

    def conditioned(self) -> Path:
        """Rao–Blackwell: mean_rate and z replaced by their expectations given x, over the pairs of a group.

        The pair axis (−2) is a group that shares one t.  Given the group, x came from pair j with probability
        w_j ∝ exp(−|x − I_j|²/2γ²).  Averaging a target over j keeps its conditional expectation given x, which is all
        a regression sees, and removes variance.
        """
        weight = torch.softmax(-torch.cdist(self.x, self.mean).square() / (2 * self.variance), dim=-1)
        mean = weight @ self.mean
        return replace(self, z=(self.x - mean) / self.gamma, mean=mean, mean_rate=weight @ self.mean_rate)


class Linear(Interpolant):
    """I = (1−t) x0 + t x1."""

    def __init__(self, gamma: Gamma) -> None:
        super().__init__()
        self.gamma = gamma

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return (1 - t) * x0 + t * x1

    def variance(self, t: Tensor) -> Tensor:
        return self.gamma(t)


class Trigonometric(Interpolant):
    """I = cos(πt/2) x0 + sin(πt/2) x1; keeps the variance of centred, uncorrelated ends of equal size."""

    def __init__(self, gamma: Gamma) -> None:
        super().__init__()
        self.gamma = gamma

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return torch.cos(pi / 2 * t) * x0 + torch.sin(pi / 2 * t) * x1

    def variance(self, t: Tensor) -> Tensor:
        return self.gamma(t)


class LearnedMean(Interpolant):
    """I = base mean + t(1−t) N(t, x0, x1), with a network N that starts at zero; γ² is the base's.

    N sees the bare t: oscillations of ∂tI faster than what the drift network resolves would cost nothing in the game.

    Args:
        base: the interpolant to start from.
        dim: dimension d of the points.
        spread0, spread1: standard deviations of the two datasets, which scale the network's input and output.
        width, depth: size of the residual network.
    """

    def __init__(
        self, base: Interpolant, dim: int, spread0: float, spread1: float, width: int = 128, depth: int = 3
    ) -> None:
        super().__init__()
        self.base, self.dim, self.width, self.depth = base, dim, width, depth
        self.spread0, self.spread1 = spread0, spread1
        self.body = ResidualMLP(2 * dim + 1, dim, width, depth, silent=True)

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        inputs = [x0 / self.spread0, x1 / self.spread1, t.expand(*x0.shape[:-1], 1)]
        correction: Tensor = self.body(torch.cat(inputs, dim=-1))
        return self.base.mean(t, x0, x1) + max(self.spread0, self.spread1) * t * (1 - t) * correction

    def variance(self, t: Tensor) -> Tensor:
        return self.base.variance(t)


class LearnedGamma(Interpolant):
    """γ² = base γ² · exp(n(t)) with a network |n| < `bound` that starts at zero; the mean is the base's."""

    def __init__(self, base: Interpolant, bound: float = 2.0, width: int = 32) -> None:
        super().__init__()
        self.base, self.bound, self.width = base, bound, width
        self.body = ResidualMLP(1, 1, width, 2, silent=True)

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return self.base.mean(t, x0, x1)

    def variance(self, t: Tensor) -> Tensor:
        exponent = self.bound * torch.tanh(self.body(t.reshape(t.shape or (1,))))
        return self.base.variance(t) * torch.exp(exponent).reshape(t.shape)


class FramedInterpolant(Interpolant):
    """An interpolant found in a `Frame`'s coordinates, seen from the user's: I ↦ m_t + a·I, γ² ↦ a²γ²."""

    def __init__(self, inner: Interpolant, shift0: Tensor, shift1: Tensor, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale
        self.shift0: Tensor
        self.shift1: Tensor
        self.register_buffer("shift0", shift0)
        self.register_buffer("shift1", shift1)

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        inside = self.inner.mean(t, (x0 - self.shift0) / self.scale, (x1 - self.shift1) / self.scale)
        return (1 - t) * self.shift0 + t * self.shift1 + self.scale * inside

    def variance(self, t: Tensor) -> Tensor:
        return self.scale**2 * self.inner.variance(t)
