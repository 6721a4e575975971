"""Sums of Gaussians about the points of a planar grid, and Sinkhorn's algorithm for them.

A Gaussian of two coordinates is a product, so a sum over n² grid points is two products with matrices of n rows:

    Σ_jk W_jk N(x₁ | r_j, v) N(x₂ | r_k, v) = A(x₁) W B(x₂).

All sums are kept as logarithms, in double precision.  For Sinkhorn's algorithm each column is divided by its largest
entry before its product.  For sums at single points, W_jk = exp(m_j + n_k) R_jk with R ≤ 1; m is added to the exponents
of A and n to those of B.  Where all terms underflow, far from all atoms, the n² terms are added one by one.

Sinkhorn's steps are overrelaxed: Thibault, Chizat, Dossal, Papadakis, arXiv 1711.01851; the factor is that of Lehmann,
von Renesse, Sambale, Uschmajew, arXiv 2012.12562, from the observed rate of the first steps.
"""

from __future__ import annotations

from math import log, pi, sqrt

import torch
from torch import Tensor

from sbridge.errors import DivergenceError
from sbridge.problems.atoms import Atoms

__all__ = ["Grid", "grid_sinkhorn", "smoothed"]

_LOWEST = -1e30  # in the place of −∞ where differences are taken
_UNDERFLOW = 1e-250  # sums below it are added up again
_ROWS = 4096  # points at once
_PLAIN_STEPS, _RATE_STEPS, _MOST_STEPS = 20, 5, 5000


def smoothed(log_weights: Tensor, axis: Tensor, at: Tensor, variance: float) -> Tensor:
    """log Σ_jk w_jk N(· | (r_j, r_k), variance) on another grid, (m, m).

    Args:
        log_weights: log w (n, n).
        axis: r (n,), the coordinates of the grid in both directions.
        at: coordinates of the other grid (m,).
        variance: of the Gaussians.
    """
    kernel = torch.exp(-(at[:, None] - axis).square() / (2 * variance))
    once = _along(log_weights, kernel)
    return _along(once.T, kernel).T - log(2 * pi * variance)


def _along(logs: Tensor, kernel: Tensor) -> Tensor:
    top = logs.amax(0).clamp_min(_LOWEST)
    return (kernel @ (logs - top).exp()).log() + top


def grid_sinkhorn(
    p: Tensor, q: Tensor, axis: Tensor, variance: float, tolerance: float = 1e-10
) -> tuple[Tensor, Tensor]:
    """log a and log w (n, n) of the plan a_i N(s_i | r_j, variance) w_j with marginals p and q.

    Args:
        p, q: masses on the grid (n, n), each of sum one; zeros are allowed.
        axis: coordinates of the grid (n,).
        variance: of the kernel.
        tolerance: Σ|marginal − q| at which the overrelaxed steps stop.  One plain step of both sides follows, after
            which the other marginal is p to rounding.

    Raises:
        DivergenceError: the tolerance is not reached in 5,000 steps.
    """
    log_a, log_w, relaxation, errors = p.log(), q.log(), 1.0, [2.0]
    while errors[-1] > tolerance:
        log_a = log_a + relaxation * _gap(p, log_a + smoothed(log_w, axis, axis, variance))
        marginal = log_w + smoothed(log_a, axis, axis, variance)
        log_w = log_w + relaxation * _gap(q, marginal)
        errors.append(float((marginal.exp() - q).abs().sum()))
        if len(errors) == _PLAIN_STEPS:
            rate = (errors[-1] / errors[-1 - _RATE_STEPS]) ** (1 / _RATE_STEPS)
            relaxation = 2 / (1 + sqrt(1 - min(rate, 1.0)))
        if len(errors) > _MOST_STEPS:
            raise DivergenceError(f"Sinkhorn's marginal error is {errors[-1]:.1g} after {_MOST_STEPS} steps")
    log_w = log_w + _gap(q, log_w + smoothed(log_a, axis, axis, variance))
    return log_a + _gap(p, log_a + smoothed(log_w, axis, axis, variance)), log_w


def _gap(masses: Tensor, log_marginal: Tensor) -> Tensor:
    return torch.where(masses > 0, masses.log() - log_marginal, 0.0)


class Grid(Atoms):
    """Atoms on a product of planar grids, turned by a rotation.

    Args:
        log_weights: log w of the different blocks (K, n, n).
        axis: coordinates of the grids (n,), in both directions of every plane.
        kinds: the number in `log_weights` of every block, d/2 of them.
        rotation: orthogonal (d, d); x @ rotation has the coordinates of the first block, then of the second, and so on.
        epsilon: ε.
        variance: v of `Atoms`.
    """

    log_weights: Tensor
    axis: Tensor
    rotation: Tensor
    rows: Tensor
    columns: Tensor
    table: Tensor

    def __init__(
        self,
        log_weights: Tensor,
        axis: Tensor,
        kinds: list[int],
        rotation: Tensor,
        epsilon: float,
        variance: float,
    ) -> None:
        super().__init__(epsilon, variance)
        self.kinds = kinds
        rows = log_weights.amax(2).clamp_min(_LOWEST)
        columns = (log_weights - rows[:, :, None]).amax(1).clamp_min(_LOWEST)
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("axis", axis)
        self.register_buffer("rotation", rotation)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("table", (log_weights - rows[:, :, None] - columns[:, None]).exp(), persistent=False)

    @property
    def dim(self) -> int:
        return len(self.rotation)

    def log_sum(self, x: Tensor, spread: Tensor) -> Tensor:
        return self._blocks(x, spread)[..., 0].sum(1)

    def mean(self, x: Tensor, spread: Tensor) -> Tensor:
        return self._blocks(x, spread)[..., 1:].flatten(1) @ self.rotation.T

    def moments(self, x: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        cov = torch.zeros(len(x), self.dim, self.dim).to(x)
        for block, (kind, y) in enumerate(self._planes(x)):
            plane = slice(2 * block, 2 * block + 2)
            cov[:, plane, plane] = torch.cat([self._covariance(kind, part, width) for part, width in _rows(y, spread)])
        return self.mean(x, spread), self.rotation @ cov @ self.rotation.T

    def draw(self, x: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
        drawn = [
            torch.cat([self._draw(kind, part, width, generator) for part, width in _rows(y, spread)])
            for kind, y in self._planes(x)
        ]
        atoms: Tensor = torch.cat(drawn, dim=1) @ self.rotation.T
        return atoms

    def chosen(self, n: int, partners: Atoms, spread: float, generator: torch.Generator) -> Tensor:
        assert isinstance(partners, Grid)
        drawn = []
        for kind in self.kinds:
            logs = self.log_weights[kind] + smoothed(partners.log_weights[kind], self.axis, self.axis, spread)
            place = torch.multinomial(logs.exp().flatten(), n, replacement=True, generator=generator)
            drawn += [self.axis[place // len(self.axis)], self.axis[place % len(self.axis)]]
        return torch.stack(drawn, dim=1) @ self.rotation.T

    def _planes(self, x: Tensor) -> list[tuple[int, Tensor]]:
        """Every block's kind and the coordinates of the points in its plane, (n, 2)."""
        return list(zip(self.kinds, (x @ self.rotation).split(2, dim=1), strict=True))

    def _blocks(self, x: Tensor, spread: Tensor) -> Tensor:
        """log Σ w N and the mean atom in every plane, (n, d/2, 3)."""
        return torch.stack(
            [
                torch.cat([self._block(kind, part, width) for part, width in _rows(y, spread)])
                for kind, y in self._planes(x)
            ],
            dim=1,
        )

    def _factors(self, kind: int, x: Tensor, spread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A and B (n, N), each divided by its largest entry, and the logarithm of the divisors (n,)."""
        left = self.rows[kind] - (x[:, :1] - self.axis).square() / (2 * spread)
        right = self.columns[kind] - (x[:, 1:] - self.axis).square() / (2 * spread)
        tops = left.amax(1, keepdim=True), right.amax(1, keepdim=True)
        return (left - tops[0]).exp(), (right - tops[1]).exp(), (tops[0] + tops[1])[:, 0]

    def _block(self, kind: int, x: Tensor, spread: Tensor) -> Tensor:
        left, right, top = self._factors(kind, x, spread)
        weights = (left @ self.table[kind]) * right
        total = weights.sum(1)
        first = ((left * self.axis) @ self.table[kind] * right).sum(1)
        found = torch.stack([total.log() + top, first / total, weights @ self.axis / total], dim=1)
        far = total < _UNDERFLOW
        if far.any():
            found[far] = torch.cat([self._term_by_term(kind, y, width) for y, width in _rows(x[far], spread[far], 64)])
        found[:, 0] -= torch.log(2 * pi * spread[:, 0])
        return found

    def _term_by_term(self, kind: int, x: Tensor, spread: Tensor) -> Tensor:
        square = (x[:, :1, None] - self.axis[:, None]).square() + (x[:, 1:, None] - self.axis).square()
        logs = (self.log_weights[kind] - square / (2 * spread[..., None])).flatten(1)
        total = torch.logsumexp(logs, dim=1)
        share = (logs - total[:, None]).exp().unflatten(1, (len(self.axis), -1))
        return torch.stack([total, share.sum(2) @ self.axis, share.sum(1) @ self.axis], dim=1)

    def _covariance(self, kind: int, x: Tensor, spread: Tensor) -> Tensor:
        left, right, _ = self._factors(kind, x, spread)
        table, powers = self.table[kind], torch.stack([self.axis**k for k in range(3)])
        through = torch.stack([(left * power) @ table for power in powers]) * right
        total, first, square1 = through.sum(-1)
        mean1, mean2 = first / total, through[0] @ self.axis / total
        product = through[1] @ self.axis / total - mean1 * mean2
        entries = [square1 / total - mean1**2, product, product, through[0] @ powers[2] / total - mean2**2]
        return torch.stack(entries, dim=1).reshape(-1, 2, 2)

    def _draw(self, kind: int, x: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
        """The first coordinate by its own probabilities, the second given the first."""
        left, right, _ = self._factors(kind, x, spread)
        j = _choice(left * (right @ self.table[kind].T), generator)
        k = _choice(self.table[kind][j] * right, generator)
        return torch.stack([self.axis[j], self.axis[k]], dim=1)


def _choice(weights: Tensor, generator: torch.Generator) -> Tensor:
    """A column for every row of weights (n, m), with probabilities proportional to them.

    It takes one random number a row, where `torch.multinomial` takes one an entry.
    """
    sums = weights.cumsum(1)
    level = 1 - torch.rand(len(weights), 1, dtype=sums.dtype, device=sums.device, generator=generator)  # never 0
    column: Tensor = torch.searchsorted(sums, level * sums[:, -1:])[:, 0]
    return column


def _rows(x: Tensor, spread: Tensor, rows: int = _ROWS) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(rows), spread.split(rows), strict=True))
