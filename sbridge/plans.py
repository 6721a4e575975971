"""Entropic plans between two samples: Sinkhorn's algorithm in the log domain, whole or by blocks.

Potentials are in units of 2ε.  Between small samples, of equal weights, `log_sinkhorn_step` holds the matrix of costs
and has the plan exp(f_i + g_j − c_ij), c_ij = |x_i−y_j|²/4ε, with rows that sum to one.

Between large ones nothing is ever held but a block of it, and potentials do not depend on the sizes: the plan is
exp(f_i + g_j − c_ij)/(n0 n1).  With f(g)_i = −log Σ_j exp(g_j − c_ij)/n1 the rows are exact, and the dual value

    D(g) = Σ_i f(g)_i/n0 + Σ_j g_j/n1  →  max,        2ε max D = min over π of E_π ½|x−y|² + 2ε KL(π | ρ0 ⊗ ρ1),

has the gradient (1 − s_j)/n1, s_j = n1 times the mass of column j.  One pass over the blocks gives both f and s, each
exponential being computed once, and Sinkhorn's iteration is g ← g − log s.  What makes it fast:

- Anderson's extrapolation of the last iterations, which Sinkhorn takes from a rate 1−δ to about 1−√δ (Walker & Ni, SIAM
  J. Numer. Anal. 49, 2011; for Sinkhorn: Chizat et al., arXiv 2006.08172);
- a start from every fourth point, solved in the same way: f there is a function of y by the formula of g, and is nearly
  right everywhere (in the manner of Schmitzer, SIAM J. Sci. Comput. 41, 2019); the smallest samples are started by
  annealing ε.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from math import inf, log, pi

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Plan", "annealed_potential", "entropic_plan", "entropic_plans", "extended", "kinetic_energy"]
__all__ += ["log_sinkhorn_step", "scaled_cost"]

_ELEMENTS = 2**20  # of the plan held at once
_BLOCK = 64  # columns
_SMALLEST = -60.0  # logarithm of the least share of a row's largest entry: denormal numbers are ten times as slow
_COARSEST = 256  # points of the sample that is started by annealing
_THINNING = 4  # each sample is started from one with a share of its points
_COARSE_TOLERANCE = 1e-2  # such starts are only as good as their points are many
_MEMORY = 8  # iterations that are extrapolated from
_RANK = 1e-10  # share of their greatest eigenvalue below which directions are left out
_TOO_FAR = 2.0  # times the least error so far: an extrapolation that is taken back


def log_sinkhorn_step(g: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """One Sinkhorn iteration between equal weights (each row and column of exp(f + g − cost) sums to one)."""
    f = -torch.logsumexp(g - cost, dim=1)
    return f, -torch.logsumexp(f[:, None] - cost, dim=0)


def annealed_potential(cost: Tensor, steps_per_halving: int = 10) -> Tensor:
    """A starting potential g (n1,) for Sinkhorn's algorithm at `cost` (n0, n1) = |x−y|²/4ε, by annealing ε.

    ε is halved from where the costs are of order one down to its own value.
    """
    g = cost.new_zeros(cost.shape[1])
    halvings = max(0, int(cost.max().clamp(min=1).log2().ceil()))
    for level in range(halvings, 0, -1):
        eased = cost / 2.0**level
        for _ in range(steps_per_halving):
            _, g = log_sinkhorn_step(g, eased)
        g = 2 * g  # the potential in units of cost stays, ε halves
    return g


def scaled_cost(x0: Tensor, x1: Tensor, epsilon: float) -> Tensor:
    """|x−y|²/4ε of every pair, (n0, n1)."""
    return torch.cdist(x0, x1).square() / (4 * epsilon)


@dataclass(frozen=True)
class _Cost:
    """|x_i−y_j|²/4ε = rows_i + columns_j − ⟨x_i, y_j⟩ with x (n0, d), y (n1, d) centred, and y divided by 2ε."""

    x: Tensor
    y: Tensor
    rows: Tensor
    columns: Tensor

    @staticmethod
    def between(x0: Tensor, x1: Tensor, epsilon: float) -> _Cost:
        """Products of centred points are small, so that single precision does for them; the rest is in double."""
        near, far = x0.double() - x0.double().mean(0), x1.double() - x0.double().mean(0)
        apart = far.mean(0)
        rows = (near.square().sum(1) - 2 * near @ apart) / (4 * epsilon)
        columns = far.square().sum(1) / (4 * epsilon)
        return _Cost(near.to(x0), ((far - apart) / (2 * epsilon)).to(x0), rows, columns)

    def half_step(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """The f (n0,) with exact rows for g (n1,), and the columns' masses s (n1,), which are one where exact."""
        bias, middle = self.bias(g)
        masses, logs = torch.zeros_like(g), []
        for kernel, top in self.kernels(bias):
            totals = kernel.sum(1)
            masses += (1 / totals) @ kernel
            logs.append(top + totals.log())
        return self.potential(torch.cat(logs), middle), masses * (len(g) / len(self.x))

    def half_step_with_partners(self, g: Tensor, uses: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The f (n0,) with exact rows for g (n1,), and for each x `uses` columns of its row's law, (n0, uses)."""
        bias, middle = self.bias(g)
        logs, columns = [], []
        for kernel, top in self.kernels(bias):
            logs.append(top + kernel.sum(1).log())
            columns.append(_drawn(kernel, uses, generator))
        return self.potential(torch.cat(logs), middle), torch.cat(columns)

    def kernels(self, bias: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Blocks of rows of exp(bias + ⟨x, y⟩), each over its largest entry, and the logarithms of these."""
        for x in self.x.split(max(1, _ELEMENTS // len(bias))):
            kernel = torch.addmm(bias, x, self.y.T)
            top = kernel.amax(1, keepdim=True)
            yield kernel.sub_(top).clamp_(min=_SMALLEST).exp_(), top[:, 0]

    def potential(self, logs: Tensor, middle: Tensor) -> Tensor:
        """f of the logarithms of the rows' sums."""
        return self.rows - logs.double() - middle + log(len(self.y))

    def bias(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """What the products of a row are raised by (n1,), and a constant that is left out of it to be precise."""
        bias = g - self.columns
        return (bias - bias.mean()).to(self.x), bias.mean()


def _drawn(weights: Tensor, uses: int, generator: torch.Generator) -> Tensor:
    """Columns drawn with probabilities in proportion to the weights (n, m) of their row, (n, uses).

    First a block of columns, then one of it: running sums along whole rows take longer than the exponentials.
    """
    parts = F.pad(weights, (0, -weights.shape[1] % _BLOCK)).unflatten(1, (-1, _BLOCK))
    totals = parts.sum(2)
    sums = totals.cumsum(1)
    uniform = torch.rand(len(weights), uses, generator=generator, dtype=weights.dtype, device=weights.device)
    point = uniform * sums[:, -1:]
    block = torch.searchsorted(sums, point)
    inside = parts.take_along_dim(block[..., None], dim=1).cumsum(2)
    rest = point - (sums - totals).gather(1, block)
    column = torch.searchsorted(inside, rest[..., None])[..., 0]
    return (block * _BLOCK + column).clamp_max(weights.shape[1] - 1)


@dataclass(frozen=True)
class Plan:
    """The plan exp(f_i + g_j − |x_i−y_j|²/4ε)/(n0 n1) between equally weighted points, never held as a matrix.

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

    @staticmethod
    def of_potential(x0: Tensor, x1: Tensor, epsilon: float, g: Tensor) -> Plan:
        """The plan with this g (n1,), up to a constant, whose rows are exact."""
        return next(_sinkhorn(x0, x1, epsilon, g.double()))

    @property
    def value(self) -> float:
        """The dual value 2ε(mean f + mean g): at most min E_π ½|x−y|² + 2ε KL(π | ρ0 ⊗ ρ1), at convergence that."""
        return 2 * self.epsilon * float(self.f.mean() + self.g.mean())

    def remark(self, tolerance: float) -> str:
        """What to say of a plan whose error exceeds the tolerance; else nothing."""
        return "" if self.error <= tolerance else f"plan did not converge: marginal error {self.error:.1e}"

    def transport_cost(self) -> float:
        """E_π ½|x−y|²."""
        total = torch.zeros((), dtype=torch.float64, device=self.x0.device)
        for x, law in self._conditionals(self.x0):
            total += (law * torch.cdist(x, self.x1).square()).sum()
        return float(total) / (2 * len(self.x0))

    def partners(self, rows: Tensor, uses: int, generator: torch.Generator) -> Tensor:
        """For each of x0's rows (n,), `uses` rows of x1 drawn from the law of x1 given x0: (n, uses)."""
        laws = (law for _, law in self._conditionals(self.x0[rows]))
        return torch.cat([torch.multinomial(law, uses, replacement=True, generator=generator) for law in laws])

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n independent pairs from the plan, each (n, d)."""
        rows = torch.randint(len(self.x0), (n,), generator=generator, device=generator.device)
        return self.x0[rows], self.x1[self.partners(rows, 1, generator)[:, 0]]

    def _conditionals(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Blocks of x (n, d), and the probabilities (·, n1) of all partners of each point."""
        cost, block = _Cost.between(x, self.x1, self.epsilon), max(1, _ELEMENTS // len(self.x1))
        bias, _ = cost.bias(self.g)
        for points, centred in zip(x.split(block), cost.x.split(block), strict=True):
            yield points, torch.softmax(torch.addmm(bias, centred, cost.y.T), dim=1)


def entropic_plan(x0: Tensor, x1: Tensor, epsilon: float, tolerance: float = 1e-3, iterations: int = 1000) -> Plan:
    """The entropic plan between samples; its `remark(tolerance)` says where the iterations did not suffice.

    Time grows with n0 n1, memory with n0 + n1.  Single precision is enough for errors down to about 1e-5 where the
    costs are not above a few hundred ε; pass points in double precision for less.

    Args:
        x0, x1: points, (n0, d) and (n1, d).
        epsilon: ε of dX = u dt + √(2ε) dW, in squared units of the points.
        tolerance: sum of absolute errors of x1's marginal at which to stop; x0's is exact.
        iterations: passes over all pairs of points at most.
    """
    for plan in entropic_plans(x0, x1, epsilon):
        if plan.error <= tolerance or plan.iterations >= iterations:
            break
    return plan


def entropic_plans(x0: Tensor, x1: Tensor, epsilon: float) -> Iterator[Plan]:
    """Better and better plans without end, one for each pass over all pairs: for whoever shows progress."""
    return _sinkhorn(x0, x1, epsilon, _start(x0, x1, epsilon))


def extended(
    x: Tensor, y: Tensor, g: Tensor, epsilon: float, uses: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The potential f (n,) of a plan at points x (n, d) it was not made of, and partners drawn for them.

    f has exact rows for the potential g (m,) on y (m, d): half a step of Sinkhorn's.  Partners are rows of y, drawn
    from the law of y given x: (n, uses).
    """
    return _Cost.between(x, y, epsilon).half_step_with_partners(g.double(), uses, generator)


def kinetic_energy(x0: Tensor, x1: Tensor, log_density1: Callable[[Tensor], Tensor], epsilon: float) -> float:
    """The bridge's energy ½E∫|u|²dt between the laws that x0 and x1 are samples of, ρ1's density being known.

    The bridge's divergence from the Brownian motion that starts at ρ0 is that of their plans, and 2ε times it is

        KE = min (E_π ½|x−y|² + 2ε KL(π | ρ0 ⊗ ρ1)) + 2ε E log ρ1 + ε d log 4πε.

    The minimum between samples of n points has a bias ∝ 1/n, which twice itself minus the mean of those of both halves
    has not (Richardson).

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


def _start(x0: Tensor, x1: Tensor, epsilon: float) -> Tensor:
    """A potential g (n1,) to start from, in float64."""
    if max(len(x0), len(x1)) <= _COARSEST:
        return annealed_potential(scaled_cost(x0.double(), x1.double(), epsilon))
    few0, few1 = x0[::_THINNING], x1[::_THINNING]
    coarse = entropic_plan(few0, few1, epsilon, _COARSE_TOLERANCE)
    return _Cost.between(x1, few0, epsilon).half_step(coarse.f)[0]


def _sinkhorn(x0: Tensor, x1: Tensor, epsilon: float, g: Tensor) -> Iterator[Plan]:
    """Sinkhorn's iteration from g (n1,), extrapolated."""
    cost, extrapolation = _Cost.between(x0, x1, epsilon), _Anderson()
    for iteration in count(1):
        f, masses = cost.half_step(g)
        error = float((masses - 1).abs().mean())
        yield Plan(x0, x1, epsilon, f, g, error, iteration)
        g = extrapolation.next(g, -masses.log(), error)


class _Anderson:
    """Anderson's extrapolation of a fixed-point iteration, which converges wherever the plain one does.

    An extrapolation whose error is well above the least so far is taken back: a plain step from the point of the least
    error follows, and plain Sinkhorn never raises it.
    """

    def __init__(self) -> None:
        self.points: list[Tensor] = []
        self.steps: list[Tensor] = []
        self.least = inf
        self.best: tuple[Tensor, Tensor]

    def next(self, point: Tensor, step: Tensor, error: float) -> Tensor:
        """Where to go on, from a point, the plain step there, and the error."""
        if error < self.least:
            self.least, self.best = error, (point, step)
        if error > _TOO_FAR * self.least:
            point, step = self.best
            self.points, self.steps = [], []
        self.points, self.steps = [*self.points[-_MEMORY:], point], [*self.steps[-_MEMORY:], step]
        return point + step - self._correction(step)

    def _correction(self, step: Tensor) -> Tensor:
        """The combination of the past differences whose steps fit this step best, in least squares."""
        if len(self.points) == 1:
            return torch.zeros_like(step)
        points, steps = (torch.stack(past).diff(dim=0) for past in (self.points, self.steps))
        inverse = torch.linalg.pinv(steps @ steps.T, rtol=_RANK, hermitian=True)
        correction: Tensor = (inverse @ (steps @ step)) @ (points + steps)
        return correction
