"""Interpolants given by a formula, with two ends and a noise between (Albergo et al., arXiv 2303.08797, table 2)."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from sbridge.checks import checked
from sbridge.interpolants.admission import check_alike
from sbridge.interpolants.base import Interpolant
from sbridge.interpolants.gammas import Gamma

__all__ = ["ClosedForm", "EncoderDecoder", "Linear", "Mirror", "Trigonometric", "TwoSided"]


class ClosedForm(Interpolant):
    """An interpolant given by a formula: what a solver starts from."""

    @classmethod
    def make(cls, gamma: Gamma, spread0: float) -> ClosedForm:
        """The interpolant with noise of size `gamma` between data, the first with standard deviation `spread0`."""
        raise NotImplementedError

    @staticmethod
    def admit(x0: Tensor, x1: Tensor) -> None:
        """Check that the interpolant can join centred datasets (n0, d) and (n1, d); most join any.

        Raises:
            InputError: it cannot.
        """


class TwoSided(ClosedForm):
    """A mean between two ends, and a noise that vanishes at both.

    Args:
        gamma: γ².
    """

    @checked
    def __init__(self, gamma: Gamma) -> None:
        super().__init__()
        self.gamma = gamma

    @classmethod
    def make(cls, gamma: Gamma, spread0: float) -> TwoSided:
        return cls(gamma)

    def variance(self, t: Tensor) -> Tensor:
        return self.gamma(t)


class Linear(TwoSided):
    """I = (1−t) x0 + t x1."""

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return (1 - t) * x0 + t * x1


class Trigonometric(TwoSided):
    """I = cos(πt/2) x0 + sin(πt/2) x1; keeps the variance of centred, uncorrelated ends of equal size."""

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return torch.cos(pi / 2 * t) * x0 + torch.sin(pi / 2 * t) * x1


class EncoderDecoder(TwoSided):
    """I = cos²(πt) x0 until t = ½ and cos²(πt) x1 from there: at t = ½ only noise is left.

    The second half makes x1 from noise as the first made noise of x0, so half-way the law does not depend on the data.
    """

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return torch.cos(pi * t).square() * torch.where(t < 0.5, x0, x1)


class Mirror(TwoSided):
    """I = x1 for ρ0 = ρ1: noise comes to a point and goes (noising and denoising within one law).

    x0 is not used: a process through x_t between two points of the same law.  The velocity is γ̇η, −γγ̇s.
    """

    @staticmethod
    def admit(x0: Tensor, x1: Tensor) -> None:
        """Check that both are samples of one law.

        Raises:
            InputError: they are not.
        """
        check_alike(x0, x1)

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return x1 + 0 * t  # of the shape of both, with a rate
