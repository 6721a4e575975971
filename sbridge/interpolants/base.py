"""A stochastic interpolant x_t = I(t, x0, x1) + γ(t) z is two functions; everything else follows from them.

`mean` = I and `variance` = γ²; γ itself may have an infinite slope at the ends, γ² is smooth.  Rates of change, x_t and
every regression target follow from these two (`Path`).

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from sbridge.storage import Storable

__all__ = ["Interpolant", "Path", "with_rate"]


class Interpolant(Storable):
    """Two functions of time: the mean I(t, x0, x1) and the variance γ²(t).

    x_t is x0's at t = 0 and x1's at t = 1: I joins x0 to x1 and γ² is zero at both ends.  Only in a one-sided
    interpolant the noise itself is x0, so that I(0) = 0 and γ²(0) is ρ0's variance.
    """

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
        which is all a regression sees, and removes variance where γ is wide beside the distances of the points; where
        it is narrow, some of what ±z cancel comes back.
        """
        x = self.antithetic().x
        weight = torch.softmax(torch.cdist(x, self.mean).square() / (-2 * self.variance), dim=-1)
        mean, mean_rate = (weight @ torch.cat([self.mean, self.mean_rate], dim=-1)).chunk(2, dim=-1)
        return replace(self, x=x, z=(x - mean) / self.gamma, mean=mean, mean_rate=mean_rate)
