"""The potential ψ of a drift û, learned from its own paths, and what ψ says of û and of the data.

Let X be û's Euler chain from ρ₀ and W the Brownian chain of the same steps, e = 2ε.  For every function ψ, in nats,

    λ_ψ(x) = log E_W[exp ψ(X₁) | X₀ = x],   P_ψ = W·exp(ψ(X₁) − λ_ψ(X₀))

is an exact Schrödinger bridge from ρ₀ to its own end.  With L = log dP_û/dW (`walks`),

    λ_ψ(x) = log E_û[exp(ψ(X₁) − L) | X₀ = x]        by paths of the fit,
    KL(P_û‖P_ψ) = E_û[L − ψ(X₁) + λ_ψ(X₀)],           the distance to that bridge,
    D(ψ) = E_data ψ(x₁) − E_data λ_ψ(x₀) ≤ KE*/e,     with KE*/e − D(ψ) = KL(P*‖P_ψ), P* the bridge of the data.

û is the drift of a bridge if and only if L = ψ(X₁) − c(X₀) path by path.  So ψ and c are regressed: two networks,
after a quadratic part by least squares, minimise

    E|L − ψ(X₁) + c(X₀)|² + w E(|∇ψ(X₁) − û(1−, X₁)/e|² + |∇c(X₀) − û(0, X₀)/e|²)

with w = 0 in the second half of the steps.  The gradients show the shape of ψ soon; but where û is no gradient they
contradict each other, and with them to the end the distance came out up to three times too large.

A chain of steps of length h is no bridge's even if û is, so its distance is too large by O(h): that of three
numbers of steps is extrapolated to h = 0.  There are as many paths as one likes, and no point of the other end is used.
With the estimate of λ_ψ on a few starts, c is the control variate that gives λ_ψ on all of them.  λ_ψ by K paths is low
by Var(exp(ψ − L))/2K, and so is the distance.  Where ψ is too sharp for a network the distance is too large.

Everything is in the frame's coordinates, where the mean displacement s is zero.  This takes s·(x₁ − x₀)/e − |s|²/2e off
L, and its two parts off ψ and λ: D falls by |s|²/2e, which all methods share.

Duality: Léonard, arXiv 1308.0215.  That L regressed on both ends is a distance is this package's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn

from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.statement import Residual
from sbridge.evaluation.certificate.walks import NEAR_END, Walk
from sbridge.networks import ResidualMLP, initialise
from sbridge.solvers.soap import Soap
from sbridge.solvers.training import warm_cosine

__all__ = ["Care", "Dual", "Pair", "Potential", "distances", "dual", "exact_dual", "fitted_pair"]

_BATCH = 256
_RATE = 0.02
_GRADIENTS = 0.1  # weight w of the gradients' part, in the first half of the steps
_WIDTH, _DEPTH = 128, 3
_SIZE = 10.0  # of the network's part; a network learns values of about one fastest
_GAIN = 2.0  # of its first layer: ψ follows the shape of the data, the quadratic part its moments
_SHOWN_OUT = 0.1  # of the paths, on which the residual is measured

Potential = Callable[[Tensor], Tensor]
"""Places (n, d) ↦ nats (n,)."""


@dataclass(frozen=True)
class Care:
    """How much is spent on the potential of a drift.

    Args:
        paths: for the regression of ψ.
        fitted_steps: of the regression.
        starts, per_start: points that λ_ψ is estimated at, and paths from each.
    """

    paths: int = 32_768
    fitted_steps: int = 1000
    starts: int = 256
    per_start: int = 64

    @staticmethod
    def for_points(count: int) -> Care:
        """As much as so many points can tell; all from 1,000 points on."""
        share = min(1.0, count / 1000)
        return Care(round(32_768 * share), max(100, round(1000 * share)))


@dataclass(frozen=True)
class Pair:
    """ψ and its λ_ψ, or the control variate c in its place.

    Args:
        end: ψ.
        start: λ_ψ if it is exact, else c.
        exact: whether `start` is λ_ψ itself.
        residual: of the regression.
    """

    end: Potential
    start: Potential
    exact: bool
    residual: Residual


@dataclass(frozen=True)
class Dual:
    """D(ψ) by its parts, in nats.

    Args:
        ends: ψ on the points x1, (n1,).
        starts: λ_ψ, or c, on the points x0, (n0,).
        correction: λ_ψ − c on some of the points x0, (m,).
    """

    ends: Tensor
    starts: Tensor
    correction: Tensor

    @property
    def value(self) -> Estimate:
        """D(ψ) with its standard error over the points."""
        parts = [Estimate.of(part) for part in (self.ends, self.starts, self.correction)]
        total = parts[0].value - parts[1].value - parts[2].value
        return Estimate(total, sum(part.standard_error**2 for part in parts) ** 0.5)

    def minus(self, other: Dual) -> Dual:
        """The difference of two on the same points; its standard error is that of the pairs."""
        return Dual(self.ends - other.ends, self.starts - other.starts, self.correction - other.correction)

    def blocks(self, count: int) -> list[float]:
        """Its values on as many blocks of the points, or on fewer if there are fewer points; their mean is `value`."""
        count = min(count, *map(len, (self.ends, self.starts, self.correction)))
        parts = (self.ends, self.starts, self.correction)
        ends, starts, correction = ([float(block.mean()) for block in part.tensor_split(count)] for part in parts)
        return [a - b - c for a, b, c in zip(ends, starts, correction, strict=True)]

    def part(self, ends: slice, starts: slice) -> Dual:
        """On some of the points."""
        return Dual(self.ends[ends], self.starts[starts], self.correction)


class _Network(nn.Module):
    """A quadratic function without mixed terms plus a network."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = ResidualMLP(dim, 1, _WIDTH, _DEPTH, silent=True, gain=_GAIN)
        self.slopes = nn.Parameter(torch.zeros(2 * dim))
        self.constant = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = _SIZE * self.body(x)[:, 0] + _squares(x) @ self.slopes + self.constant
        return value


def fitted_pair(walk: Walk, steps: int, generator: torch.Generator, told: Callable[[], None]) -> Pair:
    """ψ and c regressed on finished paths by so many steps, after each of which `told` is called."""
    x0, dim, e = walk.start, walk.start.shape[1], 2 * walk.epsilon
    end, start = (_Network(dim).to(x0) for _ in "ψc")
    for network in (end, start):
        initialise(network, generator)
    _start_quadratic(end, start, walk)
    slopes0, slopes1 = walk.drift_at(0, x0) / e, walk.drift_at(NEAR_END, walk.x) / e
    target = walk.log_density.to(x0)
    parameters = [*end.parameters(), *start.parameters()]
    optimiser = Soap(parameters, lr=_RATE)
    fitted = len(x0) - round(_SHOWN_OUT * len(x0))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * warm_cosine(step / steps)
        rows = torch.randint(fitted, (_BATCH,), generator=generator, device=x0.device)
        with torch.enable_grad():
            if 2 * step < steps:
                one, off1 = _with_slope(end, walk.x[rows], slopes1[rows])
                zero, off0 = _with_slope(start, x0[rows], slopes0[rows])
                loss = (target[rows] - one + zero).square().mean() + _GRADIENTS * (off1 + off0)
            else:
                loss = (target[rows] - end(walk.x[rows]) + start(x0[rows])).square().mean()
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
        optimiser.step()
        told()
    miss = walk.log_density - end(walk.x).double() + start(x0).double()
    return Pair(end, start, False, Residual(_size(miss[:fitted]), _size(miss[fitted:])))


def _size(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def _squares(x: Tensor) -> Tensor:
    return torch.cat([x, x.square()], -1)


def _start_quadratic(end: _Network, start: _Network, walk: Walk) -> None:
    """Set the quadratic parts by least squares."""
    x0 = walk.start
    features = torch.cat([_squares(walk.x), -_squares(x0), torch.ones_like(x0[:, :1])], -1).double()
    ridge = 1e-6 * len(features) * torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    found = torch.linalg.solve(features.mT @ features + ridge, features.mT @ walk.log_density)
    half = 2 * x0.shape[1]
    end.slopes.copy_(found[:half])
    start.slopes.copy_(found[half:-1])
    end.constant.copy_(found[-1])


def _with_slope(function: nn.Module, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Values at x, and the mean of |∇f − slope|²."""
    place = x.detach().requires_grad_()
    value = function(place)
    (gradient,) = torch.autograd.grad(value.sum(), place, create_graph=True)
    return value, (gradient - slope).square().sum(-1).mean()


def distances(pair: Pair, walk: Walk, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """KL(P_û‖P_ψ) given each start, by all its paths; the same by half of them; and λ_ψ there; (m,) each, in nats.

    Args:
        walk: finished paths, as many from each start, one start's after the other's.
        starts: (m, d).
    """
    weight = _log_weights(pair, walk, starts)
    halves = weight.tensor_split(2, dim=1)
    whole = _log_mean(weight)
    start = pair.start(starts).double() if pair.exact else whole
    fewer = pair.start(starts).double() if pair.exact else torch.stack([_log_mean(half) for half in halves]).mean(0)
    return start - weight.mean(1), fewer - weight.mean(1), start


def _log_weights(pair: Pair, walk: Walk, starts: Tensor) -> Tensor:
    """ψ(X₁) − L of each start's paths, (m, paths)."""
    weight: Tensor = (pair.end(walk.x).double() - walk.log_density).view(len(starts), -1)
    return weight


def _log_mean(weight: Tensor) -> Tensor:
    return weight.logsumexp(1) - log(weight.shape[1])


def exact_dual(pair: Pair, x0: Tensor, x1: Tensor) -> Dual:
    """D(ψ) on the points x0 and x1 of a pair whose λ_ψ is exact."""
    start = pair.start(x0).double()
    return Dual(pair.end(x1).double(), start, torch.zeros_like(start))


def dual(pair: Pair, x0: Tensor, x1: Tensor, starts: Tensor, at_starts: Tensor) -> Dual:
    """D(ψ) on the points x0 and x1, with λ_ψ as estimated at some starts."""
    correction = at_starts - pair.start(starts).double()
    return Dual(pair.end(x1).double(), pair.start(x0).double(), correction)
