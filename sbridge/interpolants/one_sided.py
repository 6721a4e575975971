"""One-sided interpolants: ρ0 is Gaussian, and the noise z itself is x0.

    x_t = α(t) σ₀ z + β(t) x1,    α(0) = β(1) = 1,  α(1) = β(0) = 0,    ρ0 = N(0, σ₀² I).

As an interpolant: mean I = βx1, variance γ² = σ₀²α².  A diffusion model that starts at t = 0 from its noise.

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, section 3.2 and table 2; variance preserving: Song et al., arXiv
2011.13456 (α² + β² = 1).
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from sbridge.checks import NotNegative, checked
from sbridge.interpolants.admission import check_gaussian
from sbridge.interpolants.closed import ClosedForm
from sbridge.interpolants.gammas import Gamma

__all__ = ["OneSided", "OneSidedLinear", "OneSidedTrigonometric", "VariancePreserving"]


class OneSided(ClosedForm):
    """x_t = α(t) σ₀ z + β(t) x1; members define α² and β.

    Args:
        spread0: σ₀, the standard deviation of ρ0 in each coordinate.
    """

    @checked
    def __init__(self, spread0: NotNegative) -> None:
        super().__init__()
        self.spread0 = spread0

    @classmethod
    def make(cls, gamma: Gamma, spread0: float) -> OneSided:
        return cls(spread0)

    @staticmethod
    def admit(x0: Tensor, x1: Tensor) -> None:
        """Check that x0 is a sample of N(0, σ₀²I).

        Raises:
            InputError: it is not.
        """
        check_gaussian(x0)

    @staticmethod
    def noise_share(t: Tensor) -> Tensor:
        """α²(t)."""
        raise NotImplementedError

    @staticmethod
    def data_share(t: Tensor) -> Tensor:
        """β(t)."""
        raise NotImplementedError

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return self.data_share(t) * x1

    def variance(self, t: Tensor) -> Tensor:
        return self.spread0**2 * self.noise_share(t)


class OneSidedLinear(OneSided):
    """α = 1−t, β = t."""

    @staticmethod
    def noise_share(t: Tensor) -> Tensor:
        return (1 - t).square()

    @staticmethod
    def data_share(t: Tensor) -> Tensor:
        return t


class OneSidedTrigonometric(OneSided):
    """α = cos(πt/2), β = sin(πt/2)."""

    @staticmethod
    def noise_share(t: Tensor) -> Tensor:
        return torch.sin(pi / 2 * (1 - t)).square()  # a cosine that is exactly zero at t = 1

    @staticmethod
    def data_share(t: Tensor) -> Tensor:
        return torch.sin(pi / 2 * t)


class VariancePreserving(OneSided):
    """α = √(1−t²), β = t: the variance-preserving diffusion in the time t = exp(−its own)."""

    @staticmethod
    def noise_share(t: Tensor) -> Tensor:
        return (1 - t) * (1 + t)

    @staticmethod
    def data_share(t: Tensor) -> Tensor:
        return t
