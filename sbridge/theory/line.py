"""Laws of processes on a line, up to the error of a grid; the bounds of `sbridge.theory.control` are tested on them.

Diffusions dX = u dt + √(2ε) dW (`diffusion_law`).  The line is cut into cells of width h, between which mass jumps at
the rates

    to the right  (D + u/2)/h,    to the left  (D − u/2)/h,    D = max(ε/h, |u|/2),

with u and ε on the wall between them: the finite-volume scheme with central fluxes where |u|h ≤ 2ε, upwind beyond
(Spalding, Int. J. Numer. Meth. Engng 4, 1972).  This is a birth–death chain, whose law is moved by the exponential of
its generator at the middle of each step (the exponential midpoint rule), summed by uniformisation (Jensen, Skand.
Aktuarietidskr. 36, 1953): a Poisson average of powers of a stochastic matrix.  So for every step and cell the law stays
positive and keeps its mass; the error is of second order in the step and, where |u|h ≤ 2ε, in h.

Flows dX = b dt (`flow_law`).  log ρ_1(x) = log ρ_0(X_0) − ∫∇·b(t, X_t)dt along the flow that ends in x (Liouville),
at the centres of the cells.

`kl` is the divergence of two such laws, `average` the mean of a function over a law and time.

Everything is in float64.  Fields are called with t () and x (m, 1).  A field with values (…, m, 1) is a batch of
fields, and its laws have the shape (…, n).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbridge.errors import InputError
from sbridge.fields import VectorField
from sbridge.sampling import RK4, Diffusion, Integrator, integrate
from sbridge.theory.control import diffusion_at

__all__ = ["Line", "average", "diffusion_law", "flow_law", "kl"]

_LOST_MASS = 1e-6


@dataclass(frozen=True)
class Line:
    """An interval in n equal cells; no mass leaves it.

    Raises:
        InputError: the interval is empty, or there are fewer than two cells.
    """

    lower: float
    upper: float
    cells: int

    def __post_init__(self) -> None:
        if not (self.upper > self.lower and self.cells >= 2):
            raise InputError(f"a line needs upper > lower and at least two cells, not {self}")

    @property
    def width(self) -> float:
        """Width h of a cell."""
        return (self.upper - self.lower) / self.cells

    @property
    def centres(self) -> Tensor:
        """Middles of the cells, (n, 1)."""
        return self.lower + self.width * (torch.arange(self.cells, dtype=torch.float64)[:, None] + 0.5)

    @property
    def walls(self) -> Tensor:
        """Walls between cells, (n − 1, 1)."""
        return self.lower + self.width * torch.arange(1, self.cells, dtype=torch.float64)[:, None]


def diffusion_law(
    drift: VectorField,
    log_density0: Callable[[Tensor], Tensor],
    epsilon: Diffusion,
    line: Line,
    steps: int = 200,
) -> Tensor:
    """Log density at t = 1 of dX = u dt + √(2ε) dW from ρ_0, in every cell, (…, n).

    Args:
        drift: u, called with (t, x).
        log_density0: x (n, 1) ↦ log ρ_0 (n,).
        epsilon: ε > 0, a number or a function of t; its values may have any shape that broadcasts with (…, n − 1).
        line: long enough for all laws on the way.
        steps: equal steps in time.

    Raises:
        InputError: ε is not positive, or part of ρ_0 lies beyond the line.
    """
    law = (line.width * log_density0(line.centres).exp()).numpy()
    if not abs(law.sum() - 1) < _LOST_MASS:
        raise InputError(f"the line holds {law.sum():.6f} of ρ_0, whose mass is one; lengthen it or refine its cells")
    for t in (torch.arange(steps, dtype=torch.float64) + 0.5) / steps:
        with torch.no_grad():
            speed = drift(t, line.walls)[..., 0].double() / 2
            spread = torch.maximum(diffusion_at(epsilon, t) / line.width, speed.abs())
        right, left = ((part / line.width).numpy() for part in (spread + speed, spread - speed))
        law = _jump(law, right, left, 1 / steps)
    return torch.from_numpy(law).div(line.width).log()


def _jump(law: NDArray[Any], right: NDArray[Any], left: NDArray[Any], span: float) -> NDArray[Any]:
    """The law (…, n) of the birth–death chain with rates (…, n − 1) after a time `span`."""
    leaving = np.zeros((*right.shape[:-1], right.shape[-1] + 1))
    leaving[..., :-1] += right
    leaving[..., 1:] += left
    rate = leaving.max()
    stay, right, left = 1 - leaving / rate, right / rate, left / rate
    weights = _poisson(float(rate) * span)
    state = np.broadcast_to(law, leaving.shape)
    total: NDArray[Any] = weights[0] * state
    for weight in weights[1:]:
        moved = stay * state
        moved[..., 1:] += right * state[..., :-1]
        moved[..., :-1] += left * state[..., 1:]
        state = moved
        total += weight * state
    return total


def _poisson(mean: float) -> NDArray[Any]:
    """Probabilities of 0, 1, … under the Poisson law, up to where those left out are below rounding."""
    counts = torch.arange(int(mean + 8 * mean**0.5) + 20, dtype=torch.float64)
    log_weights = counts * torch.tensor(mean, dtype=torch.float64).log() - torch.lgamma(counts + 1)
    return torch.softmax(log_weights, dim=0).numpy()


def flow_law(
    velocity: VectorField,
    log_density0: Callable[[Tensor], Tensor],
    line: Line,
    steps: int = 100,
    stepper: Integrator = RK4,
) -> Tensor:
    """Log density at t = 1 of dX = b dt from ρ_0, at the centre of every cell, (…, n).

    Args:
        velocity: b, called with (t, x (…, n, 1)), differentiable in x.
        log_density0: x (…, n, 1) ↦ log ρ_0 (…, n).
        line: where the answer is wanted; the flow may leave it.
        steps: equal steps in time.
    """

    def rate(t: Tensor, state: Tensor) -> Tensor:
        with torch.enable_grad():
            place = state[..., :1].detach().requires_grad_()
            value = velocity(t, place) + 0 * place  # so that a field that does not depend on x has a gradient too
            (divergence,) = torch.autograd.grad(value.sum(), place)
        return torch.cat([value.detach(), divergence], dim=-1).double()

    with torch.no_grad():
        start = torch.broadcast_to(line.centres, velocity(torch.ones((), dtype=torch.float64), line.centres).shape)
        state = torch.cat([start, torch.zeros_like(start)], dim=-1)
        *_, end = integrate(rate, state, (1.0, 0.0), 0.0, steps, stepper, torch.Generator())
        return log_density0(end[..., :1]) + end[..., 1]


def kl(log_p: Tensor, log_q: Tensor, line: Line) -> Tensor:
    """KL(p‖q) = ∫p log(p/q)dx in nats, by the midpoint rule: log densities (…, n) in the cells → (…)."""
    p = log_p.exp()
    return torch.where(p > 0, p * (log_p - log_q), 0.0).sum(-1) * line.width


def average(
    values: VectorField,
    log_density: Callable[[Tensor, Tensor], Tensor],
    line: Line,
    steps: int = 100,
) -> Tensor:
    """∫E f(t, x_t)dt over the law ρ_t, by midpoint rules in time and space.

    Args:
        values: f, called with t () and x (n, 1) → (…, n).
        log_density: log ρ_t, called alike → (n,).
        line: where the law is.
        steps: equal steps in time.
    """
    times = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    x = line.centres
    with torch.no_grad():
        moments = [(values(t, x) * log_density(t, x).exp()).sum(-1) for t in times]
    return torch.stack(moments).mean(0) * line.width
