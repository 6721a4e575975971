"""Stochastic interpolants x_t = I(t, x0, x1) + γ(t) z.

An interpolant is two functions, `mean` = I and `variance` = γ²; γ itself has an infinite slope at the ends, γ² is
smooth.  Rates of change, x_t and every regression target follow from these two (`Path`).

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, section 2 and table 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import comb, pi

import torch
from torch import Tensor

from sbridge.fields import ResidualMLP, working_dtype
from sbridge.storage import Storable

__all__ = ["Brownian", "FramedInterpolant", "Gamma", "Interpolant", "LearnedGamma", "LearnedMean", "Linear", "Path"]
__all__ += ["Trigonometric", "with_rate"]


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
        """x_t for each pair and its noise z, with all rates of change by automatic differentiation.

        Shapes: t broadcasts with (..., 1); x0, x1 and z are (..., d).
        """
        mean, mean_rate = with_rate(lambda s: self.mean(s, x0, x1), t)
        variance, variance_rate = with_rate(self.variance, t)
        return Path(t, mean + variance.sqrt() * z, z, mean, mean_rate, variance, variance_rate)


def with_rate(function: Callable[[Tensor], Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
    """f(t) and df/dt for a function whose values each depend on one time only.

    The Jacobian-vector product is taken by two vector-Jacobian products; torch's forward mode gives the same numbers
    and costs ten times as much on small tensors.  Differentiable once more where gradients are enabled.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        time = t.detach().requires_grad_()
        value = function(time)
        weights = torch.ones_like(value, requires_grad=True)
        (pulled,) = torch.autograd.grad(value, time, weights, create_graph=True)
        (rate,) = torch.autograd.grad(pulled, weights, torch.ones_like(pulled), create_graph=again)
    return (value, rate) if again else (value.detach(), rate)


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

    def detach(self) -> Path:
        """The same numbers without a graph."""
        return Path(*(getattr(self, field.name).detach() for field in fields(self)))

    def antithetic(self) -> Path:
        """Every pair twice along the pair axis (−2): first with z, then with −z."""
        twice = torch.cat([self.mean] * 2, dim=-2), torch.cat([self.mean_rate] * 2, dim=-2)
        z = torch.cat([self.z, -self.z], dim=-2)
        return replace(self, x=twice[0] + self.gamma * z, z=z, mean=twice[0], mean_rate=twice[1])

    def conditioned(self) -> Path:
        """Every pair with z and −z, and mean, mean_rate and z replaced by their expectations given x within a group.

        The pair axis (−2) is a group that shares one t.  Given the group, x came from pair j with probability w_j ∝
        exp(−|x − I_j|²/2γ²).  Averaging a target over j (Rao–Blackwell) keeps its conditional expectation given x,
        which is all a regression sees, and removes variance.
        """
        x = self.antithetic().x
        weight = torch.softmax(torch.cdist(x, self.mean).square() / (-2 * self.variance), dim=-1)
        mean, mean_rate = (weight @ torch.cat([self.mean, self.mean_rate], dim=-1)).chunk(2, dim=-1)
        return replace(self, x=x, z=(x - mean) / self.gamma, mean=mean, mean_rate=mean_rate)


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
    """I = base mean + Σ_k B_k(t) N_k(x0, x1): a Bézier curve's correction to the base; γ² is the base's.

    B_k = C(n, k) t^k (1−t)^(n−k), k = 1 … n−1, are Bernstein polynomials, so the correction is t(1−t) times a
    polynomial in t with coefficients from a network, which starts at zero.  A correction that were free to vary
    faster in time than the drift network resolves would go unseen by it.

    Args:
        base: the interpolant to start from.
        dim: dimension d of the points.
        spread0, spread1: standard deviations of the two datasets, which scale the network's input and output.
        width, depth: size of the residual network.
        degree: n.
    """

    def __init__(
        self,
        base: Interpolant,
        dim: int,
        spread0: float,
        spread1: float,
        width: int = 64,
        depth: int = 3,
        degree: int = 8,
    ) -> None:
        super().__init__()
        self.base, self.dim, self.width, self.depth, self.degree = base, dim, width, depth, degree
        self.spread0, self.spread1 = spread0, spread1
        self.body = ResidualMLP(2 * dim, (degree - 1) * dim, width, depth, silent=True)

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        n = self.degree
        powers = torch.arange(1, n, dtype=t.dtype, device=t.device)
        binomials = t.new_tensor([comb(n, k) for k in range(1, n)])
        basis = t**powers * (1 - t) ** (n - powers) * (binomials * max(self.spread0, self.spread1))
        points: Tensor = self.body(torch.cat([x0 / self.spread0, x1 / self.spread1], dim=-1))
        correction: Tensor = (basis.unsqueeze(-1) * points.unflatten(-1, (n - 1, self.dim))).sum(-2)
        return self.base.mean(t, x0, x1) + correction

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
        y0, y1 = (x0 - self.shift0) / self.scale, (x1 - self.shift1) / self.scale
        dtype = working_dtype(self.inner, y0)
        inside = self.inner.mean(t.to(dtype), y0.to(dtype), y1.to(dtype)).to(y0)
        return (1 - t) * self.shift0 + t * self.shift1 + self.scale * inside

    def variance(self, t: Tensor) -> Tensor:
        return self.scale**2 * self.inner.variance(t.to(working_dtype(self.inner, t))).to(t)
