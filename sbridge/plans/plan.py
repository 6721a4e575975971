"""Entropic plans between two samples of any size: potentials are held, the matrix never is.

The dual value

    D(g) = Σ_i f_i/n0 + Σ_j g_j/n1  →  max,        2ε max D = min over π of E_π ½|x−y|² + 2ε KL(π | ρ0 ⊗ ρ1),

has the gradient (1 − s_j)/n1, where f has exact rows for g and s_j is n1 times the mass of column j.

Each plan starts from the plan of every fourth point, found in the same way: the potential of few points is a function
of x and nearly right at all points (in the manner of Schmitzer, SIAM J. Sci. Comput. 41, 2019).  The smallest samples
start by annealing ε.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from math import exp, log, pi
from typing import NamedTuple

import torch
from torch import Tensor

from sbridge.plans.cost import Cost
from sbridge.plans.iteration import annealed_potential, sinkhorn
from sbridge.weights import drawn_rows, shares_of

__all__ = ["Drawn", "Plan", "drawn_partners", "effective_partners", "entropic_plan", "entropic_plans", "extended"]
__all__ += ["plan_energy", "refined"]

_ANNEALED_POINTS = 256  # at most, of a sample that starts by annealing; larger ones start from fewer points
_THINNING = 4  # times fewer
_COARSE_TOLERANCE = 1e-2  # of the plan between fewer points, which differs from the large one by more than that


@dataclass(frozen=True)
class Plan:
    """The plan a_i b_j exp(f_i + g_j − |x_i−y_j|²/4ε) between points of weights a and b: 1/n0 and 1/n1 for None.

    Args:
        x0, x1: points, (n0, d) and (n1, d).
        epsilon: ε of dX = u dt + √(2ε) dW.
        f, g: potentials in units of 2ε, (n0,) and (n1,), in float64.
        error: the sum of absolute errors of x1's marginal; x0's is exact.
        iterations: passes over all pairs of points that were made for it.
    """

    x0: Tensor
    x1: Tensor
    epsilon: float
    f: Tensor
    g: Tensor
    error: float
    iterations: int
    weights0: Tensor | None = None
    weights1: Tensor | None = None

    @staticmethod
    def of_potential(
        x0: Tensor,
        x1: Tensor,
        epsilon: float,
        g: Tensor,
        weights0: Tensor | None = None,
        weights1: Tensor | None = None,
    ) -> Plan:
        """The plan with exact rows for this g (n1,), which may be off by a constant."""
        return next(_plans_from(x0, x1, epsilon, g.double(), weights0, weights1))

    @property
    def value(self) -> float:
        """The dual value 2ε(mean f + mean g), a lower bound of min E_π ½|x−y|² + 2ε KL(π | ρ0 ⊗ ρ1) and its limit."""
        means = shares_of(self.x0, self.weights0) @ self.f + shares_of(self.x1, self.weights1) @ self.g
        return 2 * self.epsilon * float(means)

    def remark(self, tolerance: float) -> str:
        """A note for a plan whose error exceeds the tolerance (or is not finite); else an empty string."""
        return "" if self.error <= tolerance else f"plan did not converge: marginal error {self.error:.1e}"

    def transport_cost(self) -> float:
        """E_π ½|x−y|²."""
        cost = Cost.between(self.x0, self.x1, self.epsilon, self.weights0, self.weights1)
        return 2 * self.epsilon * float(cost.transport_cost(self.g))

    def partners(self) -> float:
        """The effective number of points of x1 that share a point of x0, from 1 to n1.

        It is exp H, with H the mean entropy of x1 given x0 under the plan; over n1 it is exp(−I), with I the mutual
        information of both ends.
        """
        return effective_partners(self.x0, self.x1, self.g, self.epsilon)

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n independent pairs from the plan, each (n, d)."""
        rows = drawn_rows(self.x0, self.weights0, n, generator)
        drawn = drawn_partners(self.x0[rows], self.x1, self.g, self.epsilon, 1, generator, self.weights1)
        return self.x0[rows], self.x1[drawn.rows[:, 0]]


class Drawn(NamedTuple):
    """The potential f (n,), y's masses times their number (m,), and rows of y drawn for each point, (n, uses)."""

    potential: Tensor
    masses: Tensor
    rows: Tensor


def entropic_plan(
    x0: Tensor,
    x1: Tensor,
    epsilon: float,
    tolerance: float = 1e-3,
    iterations: int = 1000,
    weights0: Tensor | None = None,
    weights1: Tensor | None = None,
) -> Plan:
    """The entropic plan between samples; its `remark(tolerance)` says whether it did not converge.

    Time grows with n0 n1, memory with n0 + n1.  Single precision is enough for errors down to about 1e-5 where the
    costs are at most a few hundred ε; for smaller errors pass points in double precision.

    Args:
        x0, x1: points, (n0, d) and (n1, d).
        epsilon: ε of dX = u dt + √(2ε) dW, in squared units of the points.
        tolerance: the sum of absolute errors of x1's marginal at which to stop; x0's is exact.
        iterations: passes over all pairs of points at most.
        weights0, weights1: of the points, (n0,) and (n1,), positive; None means equal ones.
    """
    for plan in entropic_plans(x0, x1, epsilon, weights0, weights1):
        if plan.error <= tolerance or plan.iterations >= iterations:
            break
    return plan


def entropic_plans(
    x0: Tensor, x1: Tensor, epsilon: float, weights0: Tensor | None = None, weights1: Tensor | None = None
) -> Iterator[Plan]:
    """Better and better plans without end, one for each pass over all pairs, e.g. to show progress."""
    start = _start(x0, x1, epsilon, weights0, weights1)
    return _plans_from(x0, x1, epsilon, start, weights0, weights1)


def extended(x: Tensor, y: Tensor, g: Tensor, epsilon: float, weights: Tensor | None = None) -> Tensor:
    """The potential f (n,) at new points x (n, d), from the potential g (m,) at y (m, d): half a Sinkhorn step.

    The weights (m,) are those of y.
    """
    return Cost.between(x, y, epsilon, None, weights).half_step(g)[0]


def drawn_partners(
    x: Tensor,
    y: Tensor,
    g: Tensor,
    epsilon: float,
    uses: int,
    generator: torch.Generator,
    weights: Tensor | None = None,
) -> Drawn:
    """`extended`, and `uses` partners of each of x (n, d), drawn from the plan's law of y given x."""
    return Drawn(*Cost.between(x, y, epsilon, None, weights).half_step_with_partners(g, uses, generator))


def effective_partners(x: Tensor, y: Tensor, g: Tensor, epsilon: float) -> float:
    """exp of the mean entropy of y given x, under the plan of the potential g (m,) at y (m, d); x is (n, d)."""
    return exp(Cost.between(x, y, epsilon).mean_entropy(g))


def refined(x0: Tensor, x1: Tensor, g: Tensor, epsilon: float, iterations: int) -> Tensor:
    """g (n1,) after plain Sinkhorn iterations from a g close to the solution; memory grows with n0 n1."""
    return Cost.between(x0, x1, epsilon).refined(g, iterations)


def plan_energy(x0: Tensor, x1: Tensor, log_density1: Callable[[Tensor], Tensor], epsilon: float) -> float:
    """The bridge's energy ½E∫|u|²dt between the laws that x0 and x1 are samples of, where ρ1's density is known.

    The bridge's divergence from the Brownian motion that starts at ρ0 is that of their plans, and 2ε times it is

        KE = min (E_π ½|x−y|² + 2ε KL(π | ρ0 ⊗ ρ1)) + 2ε E log ρ1 + ε d log 4πε.

    The minimum between samples of n points has a bias ∝ 1/n.  Twice the minimum, minus its mean over the two halves of
    the samples, does not (Richardson extrapolation).

    Args:
        x0, x1: independent samples, (n, d) each, in random order.
        log_density1: log ρ1 at points, (n, d) → (n,).
        epsilon: ε.
    """
    halves = zip(x0.chunk(2), x1.chunk(2), strict=True)
    coarse = sum(entropic_plan(*half, epsilon).value for half in halves) / 2
    transport = 2 * entropic_plan(x0, x1, epsilon).value - coarse
    entropy = -float(log_density1(x1).double().mean())
    return transport - 2 * epsilon * entropy + epsilon * x0.shape[1] * log(4 * pi * epsilon)


def _start(x0: Tensor, x1: Tensor, epsilon: float, weights0: Tensor | None, weights1: Tensor | None) -> Tensor:
    """A potential g (n1,) to start from, in float64."""
    if max(len(x0), len(x1)) <= _ANNEALED_POINTS:
        return annealed_potential(x0.double(), x1.double(), epsilon, weights0, weights1)
    few0, few1 = x0[::_THINNING], x1[::_THINNING]
    w0, w1 = (w if w is None else w[::_THINNING] for w in (weights0, weights1))
    few = entropic_plan(few0, few1, epsilon, _COARSE_TOLERANCE, weights0=w0, weights1=w1)
    return extended(x1, few0, few.f, epsilon, w0)


def _plans_from(
    x0: Tensor, x1: Tensor, epsilon: float, g: Tensor, weights0: Tensor | None, weights1: Tensor | None
) -> Iterator[Plan]:
    """The plans of Sinkhorn's iteration from g (n1,)."""
    iterates = sinkhorn(Cost.between(x0, x1, epsilon, weights0, weights1), g)
    for iteration, (f, potential, error) in zip(count(1), iterates, strict=False):
        yield Plan(x0, x1, epsilon, f, potential, error, iteration, weights0, weights1)
