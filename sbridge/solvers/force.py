"""The force on an interpolant's points: the derivative of the max–min objective with the drifts frozen.

Along a displacement δx_t of the points the objective changes by E[F·δx_t], with

    F = ∂tu + (∇u)u + εΔu + (∇u − ∇uᵀ)(target − u).

The first three terms are the gradient of the residual of the Hamilton–Jacobi–Bellman equation, the rate at which u
fails to be a martingale along its own process; a finite difference along one simulated step measures them without
derivatives.  In the last term, `target` is what u is regressed on.  It vanishes where u is a gradient; without it,
drifts that rotate, which can be martingales too, would pass for the bridge.  The backward drift gives the same force in
reversed time; the mean of both is used.

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, theorem 3.13; the form as a martingale defect is this package's own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.fields import VectorField
from sbridge.interpolants import Path
from sbridge.solvers.held_out import drift_targets

__all__ = ["curl_force", "hjb_force", "martingale_defect"]

_SPAN = 0.005  # of the time left: the step of the martingale defect, whose bias is proportional to it


def martingale_defect(drift: VectorField, here: Tensor, t: Tensor, x: Tensor, dt: Tensor, noise: Tensor) -> Tensor:
    """E[f(t + dt, X_{t+dt}) − f(t, x)]/dt for the drift f along a step of its own process from x, f(t, x) = `here`.

    The expectation is the mean over ±`noise`, √(2ε|dt|) dW; dt < 0 is a step of the backward process.
    """
    ahead = drift(t + dt, torch.stack([x + here * dt + noise, x + here * dt - noise])).mean(0)
    return (ahead - here) / dt


def curl_force(value: Tensor, place: Tensor, residual: Tensor) -> Tensor:
    """(∇f − ∇fᵀ) r at every point, for a residual r (..., d) and f's value with its graph from `place`.

    It is zero where the drift f is a gradient.
    """
    with torch.enable_grad():
        weights = torch.zeros_like(residual, requires_grad=True)
        (pulled,) = torch.autograd.grad(value, place, weights + residual, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, weights, residual, retain_graph=True)
    return pushed - pulled.detach()


def hjb_force(pair: VectorField, path: Path, epsilon: float, xi: Tensor) -> Tensor:
    """The force F of frozen drifts on the interpolant's points, the mean of its forward and its backward estimate.

    Args:
        pair: (t, x) ↦ both drifts side by side, (..., 2d).
        path: the points, (..., d), with what the drifts' targets are made of.
        epsilon: the bridge's ε.
        xi: standard normal noise, (..., d).
    """
    t = path.t
    place = path.x.detach().requires_grad_()
    with torch.enable_grad():
        values = pair(t, place).chunk(2, dim=-1)
    targets = drift_targets(path, epsilon).chunk(2, dim=-1)
    steps = (_SPAN * (1 - t), -_SPAN * t)
    with torch.no_grad():
        forces = [
            martingale_defect(_half(pair, k), value, t, path.x, dt, (2 * epsilon * dt.abs()).sqrt() * xi)
            + curl_force(value, place, target - value)
            for k, (value, target, dt) in enumerate(zip(values, targets, steps, strict=True))
        ]
        return torch.stack(forces).mean(0)


def _half(pair: VectorField, index: int) -> VectorField:
    return lambda t, x: pair(t, x).chunk(2, dim=-1)[index]
