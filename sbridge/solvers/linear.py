"""The best linear drifts of an interpolant, which a network then corrects.

Among all fields A(t) x, the regression of a drift's target on x_t = mean + γz is the one with

    A(t) = Cov(target, x_t) Var(x_t)⁻¹,    Var(x_t) = Var(mean) + γ² I,
    Cov(target, x_t) = Cov(d mean/dt, mean) + (½ dγ²/dt ∓ ε) I      for b_F (−) and b_B (+),

where the expectation over z is exact.  Between Gaussians it is the bridge.  At large ε, and in many dimensions, it is
most of the drift, and a network would need long to find it.

The targets: Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, section 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.couplings import Coupling
from sbridge.fields import Drifts
from sbridge.interpolants import Interpolant
from sbridge.solvers.data import Data

__all__ = ["LinearDrifts", "linear_drifts", "regressed"]

_NODES, _SPACING = 18, 0.4  # on either side of t = ½, in log t/(1−t); the first is at t = 7e-4
_NEAR = 1e-4  # of the ends, where γ has no derivative
_RIDGE = 1e-4  # of the mean variance
_LARGEST = 256  # dimensions; the cost grows with d²
_PER_DIM = 10  # points that a linear map of as many columns needs
_PAIRS = 16_384


class LinearDrifts(Drifts):
    """Drifts A(t) x, with A piecewise linear in log t/(1−t).

    Args:
        slopes: A of both drifts at the nodes, to be multiplied by rows x, (nodes, d, 2d).
    """

    slopes: Tensor

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        self.register_buffer("slopes", slopes)
        self.dim = slopes.shape[1]

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        shares = _shares(t.reshape(-1, 1).to(x)) @ self.slopes.flatten(1)
        slopes = shares.view(*t.shape[:-1], *self.slopes.shape[1:])
        if t.numel() == 1:
            return x @ slopes.view(self.slopes.shape[1:])
        if t.shape[-2] == 1:  # a group of points shares a time
            return x @ slopes.squeeze(-3)
        value: Tensor = (x[..., None, :] @ slopes).squeeze(-2)
        return value


def _shares(t: Tensor) -> Tensor:
    """Of the nodes in the value at t, (n, 1) → (n, nodes): two neighbours share one."""
    place = (t.clamp(_NEAR, 1 - _NEAR).logit() / _SPACING).clamp(-_NODES, _NODES)
    nodes = torch.arange(-_NODES, _NODES + 1).to(t)
    return (1 - (place - nodes).abs()).clamp_min(0)


def linear_drifts(interpolant: Interpolant, coupling: Coupling, data: Data) -> LinearDrifts | None:
    """The regression on pairs of the coupling; None where the data are too few for it or have too many columns."""
    if data.dim > _LARGEST or min(len(data.x0), len(data.x1)) < _PER_DIM * data.dim:
        return None
    return regressed(interpolant, *coupling.pairs(_PAIRS, data.generator), data.epsilon)


def regressed(interpolant: Interpolant, x0: Tensor, x1: Tensor, epsilon: float) -> LinearDrifts:
    """The regression on pairs x0, x1 (n, d) of mean zero."""
    times = (_SPACING * torch.arange(-_NODES, _NODES + 1).to(x0)).sigmoid()[:, None]
    return LinearDrifts(torch.stack([_slopes(interpolant, t, x0, x1, epsilon) for t in times]))


def _slopes(interpolant: Interpolant, t: Tensor, x0: Tensor, x1: Tensor, epsilon: float) -> Tensor:
    """A of both drifts at a time, (d, 2d)."""
    with torch.no_grad():
        path = interpolant.path(t[None], x0, x1, torch.zeros_like(x0))
    mean, rate = (x.double() for x in (path.mean, path.mean_rate))
    unit = torch.eye(x0.shape[1], dtype=torch.float64, device=x0.device)
    second, cross = mean.mT @ mean / len(x0), mean.mT @ rate / len(x0)
    variance = second + (path.variance.double() + _RIDGE * second.diagonal().mean()) * unit
    turned = [cross + (path.variance_rate.double() / 2 - sign * epsilon) * unit for sign in (1, -1)]
    slopes: Tensor = torch.linalg.solve(variance, torch.cat(turned, dim=1)).to(x0)
    return slopes
