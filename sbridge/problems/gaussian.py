"""The Schrödinger bridge between two Gaussians, N(m₀, S₀) → N(m₁, S₁), in closed form.

The plan is Gaussian.  With D = (S₀^½ S₁ S₀^½ + ε²I)^½, x₁ given x₀ has mean m₁ + R(x₀ − m₀) and covariance 2εR, where

    R = S₀^{−½} (D − εI) S₀^{−½}

is symmetric.  Write T_t = (1−t)I + tR.  The noise-free forward flow carries x₀ − m₀ to T_t(x₀ − m₀), so

    b_F(t, x) = m₁ − m₀ + Ṫ_t T_t⁻¹ (x − m_t),    m_t = (1−t)m₀ + t m₁,
    Σ_t = (1−t)²S₀ + t²S₁ + t(1−t)(RS₀ + S₀R + 2εI),
    KE  = ½|m₁ − m₀|² + ½ tr((R−I)² S₀) + ε tr(R − I − log R).

The backward drift is that of the swapped ends in reversed time: T_t = tI + (1−t)R̃, with R̃ the regression of x₀ on x₁.

Mallasto, Gerolin, Minh, arXiv 2006.03416; Bunne, Hsieh, Cuturi, Krause, arXiv 2202.05722 (the plan and Σ_t); the other
forms follow from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from sbridge.bridge import ExactBridge
from sbridge.checks import Count, check_memory
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.fields import Field
from sbridge.problem import Problem
from sbridge.problems.sampled import Sampled

__all__ = ["Gaussian", "GaussianBridge", "LinearDrift", "ShiftedGaussian"]


class LinearDrift(Field):
    """m₁ − m₀ + Ṫ_t T_t⁻¹ (x − m_t) with T_t = (1−t)A + tB, for commuting symmetric A, B > 0; finite on all of [0, 1].

    Args:
        mean0, mean1: m₀ and m₁, (d,).
        axes: common eigenvectors of A and B, the columns of (d, d).
        scales0, scales1: eigenvalues of A and of B, (d,).
    """

    mean0: Tensor
    mean1: Tensor
    axes: Tensor
    scales0: Tensor
    scales1: Tensor

    def __init__(self, mean0: Tensor, mean1: Tensor, axes: Tensor, scales0: Tensor, scales1: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean0", mean0)
        self.register_buffer("mean1", mean1)
        self.register_buffer("axes", axes)
        self.register_buffer("scales0", scales0)
        self.register_buffer("scales1", scales1)

    @property
    def dim(self) -> int:
        return len(self.mean0)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        rate = (self.scales1 - self.scales0) / ((1 - t) * self.scales0 + t * self.scales1)
        away = x - (1 - t) * self.mean0 - t * self.mean1
        return self.mean1 - self.mean0 + (away @ self.axes * rate) @ self.axes.T


class GaussianBridge(ExactBridge):
    """The Schrödinger bridge from N(mean0, cov0) to N(mean1, cov1).

    Args:
        mean0, mean1: (d,).
        cov0, cov1: (d, d), symmetric and positive definite.
        epsilon: ε of dX = u dt + √(2ε) dW.

    Raises:
        InputError: a covariance is not symmetric positive definite.
    """

    mean0: Tensor
    cov0: Tensor
    mean1: Tensor
    cov1: Tensor

    def __init__(self, mean0: Tensor, cov0: Tensor, mean1: Tensor, cov1: Tensor, epsilon: float) -> None:
        axes0, scales0 = _regression(cov0, cov1, epsilon)
        axes1, scales1 = _regression(cov1, cov0, epsilon)
        one = torch.ones_like(mean0)
        super().__init__(
            LinearDrift(mean0, mean1, axes0.to(mean0), one, scales0.to(mean0)),
            LinearDrift(mean0, mean1, axes1.to(mean0), scales1.to(mean0), one),
            epsilon,
        )
        self.register_buffer("mean0", mean0)
        self.register_buffer("cov0", cov0)
        self.register_buffer("mean1", mean1)
        self.register_buffer("cov1", cov1)

    def marginal(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of x_t at one time t."""
        slope = self._slope().to(self.cov0)
        between = slope @ self.cov0 + self.cov0 @ slope + 2 * self.epsilon * torch.eye(len(slope)).to(slope)
        cov = (1 - t) ** 2 * self.cov0 + t**2 * self.cov1 + t * (1 - t) * between
        return (1 - t) * self.mean0 + t * self.mean1, cov

    def endpoints(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        axes, scales = self._eigen()
        z = torch.randn(x0.shape, dtype=x0.dtype, device=x0.device, generator=generator)
        noise = z @ (axes * (2 * self.epsilon * scales).sqrt()).T.to(z)
        return self.mean1 + (x0 - self.mean0) @ self._slope().to(x0) + noise

    def conditional_moments(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        slope = self._slope().to(x0)
        return self.mean1 + (x0 - self.mean0) @ slope, (2 * self.epsilon * slope).expand(len(x0), -1, -1)

    def endpoint_moments(self) -> tuple[Tensor, Tensor]:
        return self.mean1, self.cov1

    def kinetic_energy(self) -> Estimate:
        """½E∫|u|²dt, exactly."""
        axes, scales = self._eigen()
        along = torch.diagonal(axes.T @ self.cov0.double() @ axes)
        spread = (scales - 1).square() * along + 2 * self.epsilon * (scales - 1 - scales.log())
        shift = (self.mean1 - self.mean0).double().square()
        return Estimate((shift.sum() + spread.sum()).item() / 2, 0.0)

    def _eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvectors and eigenvalues of R, in float64."""
        return _regression(self.cov0, self.cov1, self.epsilon)

    def _slope(self) -> Tensor:
        """R, in float64."""
        axes, scales = self._eigen()
        return axes * scales @ axes.T


def _regression(cov0: Tensor, cov1: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Eigenvectors and eigenvalues of R for the plan from covariance cov0 to cov1, in float64."""
    values, vectors = _spectrum(cov0.double())
    root, inverse = (vectors * values**power @ vectors.T for power in (0.5, -0.5))
    squares, axes = _spectrum(root @ cov1.double() @ root)
    # √(m + ε²) − ε without cancellation where m ≪ ε².
    middle = inverse @ axes * (squares / ((squares + epsilon**2).sqrt() + epsilon)) @ axes.T @ inverse
    values, vectors = torch.linalg.eigh((middle + middle.T) / 2)
    return vectors, values


def _spectrum(cov: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(cov)
    if not (values[0] > 0 and torch.allclose(cov, cov.T, rtol=1e-4, atol=1e-6 * float(values[-1]))):
        raise InputError("a covariance must be symmetric and positive definite")
    return values, vectors


@dataclass(frozen=True)
class _Normals(Sampled):
    """Two Gaussians of any dimension."""

    dim: Count = 2
    """Dimension of the points."""

    def validate(self) -> None:
        super().validate()
        check_memory("covariances of so many columns", 8 * self.dim**2)

    def build(self) -> Problem:
        """The problem with its truth, a `GaussianBridge`."""
        truth = self._truth()
        law0, law1 = partial(_points, truth.mean0, truth.cov0), partial(_points, truth.mean1, truth.cov1)
        return self.drawn(law0, law1, f"{self.name} d={self.dim}", truth)

    def _truth(self) -> GaussianBridge:
        raise NotImplementedError


class Gaussian(_Normals):
    """N(−1, S₀) → N(1, S₁) with covariances that do not commute, and the exact bridge known.

    Along the axes the variances fall geometrically from 2 to ½; neighbouring coordinates have correlation ½ in S₀ and
    −½ in S₁.  With d = 2 and ε = 0.5 the linear interpolant under the product coupling, without learning, has
    γ² = 2εt(1−t) and a plan whose conditional Bures–Wasserstein UVP is 6.0 %: a visible gap for a fit to close.  With
    covariances that commute it could not exceed 2.2 %.

    Raises:
        InputError: dim is below one.
    """

    name: ClassVar[str] = "gaussian"

    def _truth(self) -> GaussianBridge:
        deviations = torch.logspace(0.5, -0.5, self.dim, base=2)
        lag = (torch.arange(self.dim)[:, None] - torch.arange(self.dim)).abs()
        cov0, cov1 = (deviations[:, None] * torch.tensor(rho).pow(lag) * deviations for rho in (0.5, -0.5))
        one = torch.ones(self.dim)
        return GaussianBridge(-one, cov0, one, cov1, self.epsilon)


@dataclass(frozen=True)
class ShiftedGaussian(_Normals):
    """N(−shift·1, I) → N(shift·1, I), the setting of DSBM (Shi et al., arXiv 2303.16852), with the exact bridge known.

    The published runs have 2ε = 1.

    Raises:
        InputError: dim is below one.
    """

    name: ClassVar[str] = "shifted-gaussian"

    dim: Count = 5
    """Dimension of the points; the published runs have 5, 20 and 50."""
    shift: float = 0.1
    """Half the distance between the means in each coordinate."""

    def _truth(self) -> GaussianBridge:
        mean, cov = torch.full((self.dim,), self.shift), torch.eye(self.dim)
        return GaussianBridge(-mean, cov, mean, cov, self.epsilon)


def _points(mean: Tensor, cov: Tensor, n: int, generator: torch.Generator) -> Tensor:
    points: Tensor = mean + torch.randn(n, len(mean), generator=generator) @ torch.linalg.cholesky(cov).T
    return points
