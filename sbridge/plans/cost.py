"""The costs |x_i−y_j|²/4ε between two samples, computed in blocks of rows, and one Sinkhorn iteration on them.

For a potential g the rows of the plan are exact with

    f_i = −log Σ_j exp(g_j − c_ij)/n1,        and        s_j = Σ_i exp(f_i + g_j − c_ij)/n0

is the mass of column j over its weight 1/n1.  Sinkhorn's iteration is g ← g − log s.  One pass over the blocks gives
both f and s and computes each exponential once.  Where points have weights, these stand in the place of 1/n0 and 1/n1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from sbridge.arrays import by_rows, mean_of
from sbridge.weights import shares_of

__all__ = ["Cost", "Seen", "scaled_cost"]

_ENTRIES_AT_ONCE = 2**20  # of the plan, in memory
_SMALLEST_LOG = -60.0  # of an entry over the largest of its row: denormal numbers are ten times slower
_COLUMNS_SUMMED = 64  # before one of them is drawn

Seen = Callable[[slice, Tensor], None]
"""Takes some rows and their block of a plan (rows, n1)."""


def scaled_cost(x0: Tensor, x1: Tensor, epsilon: float) -> Tensor:
    """|x−y|²/4ε for all pairs, (n0, n1)."""
    return torch.cdist(x0, x1).square() / (4 * epsilon)


@dataclass(frozen=True)
class Cost:
    """|x_i−y_j|²/4ε = rows_i + columns_j − ⟨x_i, y_j⟩, with x (n0, d) and y (n1, d) centred and y divided by 2ε.

    row_weights (n0,) and column_weights (n1,) are those of the points, with the mean one.
    """

    x: Tensor
    y: Tensor
    rows: Tensor
    columns: Tensor
    row_weights: Tensor
    column_weights: Tensor

    @staticmethod
    def between(
        x0: Tensor, x1: Tensor, epsilon: float, weights0: Tensor | None = None, weights1: Tensor | None = None
    ) -> Cost:
        """Products of centred points are small, so single precision is enough for them; the rest is in double."""
        masses = (len(x) * shares_of(x, weights) for x, weights in ((x0, weights0), (x1, weights1)))
        mean0, mean1 = mean_of(x0), mean_of(x1)
        rows = by_rows(lambda x: (x - mean1).square().sum(1), x0) - (mean1 - mean0).square().sum()
        columns = by_rows(lambda y: (y - mean0).square().sum(1), x1)
        x = by_rows(lambda x: (x - mean0).to(x0), x0)
        y = by_rows(lambda y: ((y - mean1) / (2 * epsilon)).to(x0), x1)
        return Cost(x, y, rows / (4 * epsilon), columns / (4 * epsilon), *masses)

    def half_step(self, g: Tensor, seen: Seen = lambda rows, kernel: None) -> tuple[Tensor, Tensor]:
        """The f (n0,) with exact rows for g (n1,), and the columns' masses s (n1,).

        `seen` is given every block of the plan, up to a factor for each row, and which rows it has.
        """
        bias, mean = self._bias(g)
        masses, logs, weights = torch.zeros_like(g), self._for_each_row(), self.row_weights.to(self.x)
        for rows, kernel, largest in self._kernels(bias):
            totals = kernel.sum(1)
            masses += (weights[rows] / totals) @ kernel
            logs[rows] = largest + totals.log()
            seen(rows, kernel)
        return self._potential(logs, mean), self._masses(masses)

    def half_step_with_partners(
        self, g: Tensor, uses: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The answers of `half_step`, and columns drawn from the law of each row, (n0, uses)."""
        columns = torch.empty(len(self.x), uses, dtype=torch.long, device=self.x.device)

        def draw(rows: slice, kernel: Tensor) -> None:
            columns[rows] = _drawn_columns(kernel, uses, generator)

        return *self.half_step(g, draw), columns

    def mean_entropy(self, g: Tensor) -> float:
        """The mean entropy of the rows' laws for g (n1,), in nats."""
        bias, _ = self._bias(g)
        entropies = self._for_each_row()
        for rows, kernel, _ in self._kernels(bias):
            totals = kernel.sum(1)
            entropies[rows] = totals.log() + torch.special.entr(kernel).sum(1) / totals
        return float(entropies.mean())

    def refined(self, g: Tensor, iterations: int) -> Tensor:
        """g (n1,) after some Sinkhorn iterations on exponentials that are computed once and held, (n0, n1).

        The iterate is v = exp(change of g).  Near the fixed point it stays moderate and needs no logarithms.
        """
        bias, _ = self._bias(g)
        kernel = self.x.new_empty(len(self.x), len(g))
        for part, block, _ in self._kernels(bias):
            kernel[part] = block
        v, rows, columns = torch.ones_like(bias), self.row_weights.to(bias), self.column_weights.to(bias)
        for _ in range(iterations):
            v = len(self.x) / len(g) * columns / ((rows / (kernel @ v)) @ kernel)
        return g + v.log()

    def transport_cost(self, g: Tensor) -> Tensor:
        """E_π c of the plan with exact rows for g (n1,)."""
        bias, _ = self._bias(g)
        costs = torch.zeros_like(self.rows)
        for rows, kernel, _ in self._kernels(bias):
            costs[rows] = (kernel * (self.columns - self.x[rows] @ self.y.T)).sum(1) / kernel.sum(1)
        return (self.row_weights * (self.rows + costs)).mean()

    def _kernels(self, bias: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Blocks of exp(bias + ⟨x, y⟩), each row over its largest entry: which rows, the block, and the logs of these.

        A block is overwritten by the next, and what is kept of it is put where there is room for all rows: small pieces
        of memory that are kept would lie between large ones that are freed, and what is in use would grow all the time.
        """
        at_once = min(len(self.x), max(1, _ENTRIES_AT_ONCE // len(self.y)))
        space = self.x.new_empty(at_once, len(self.y))
        for first in range(0, len(self.x), at_once):
            rows = slice(first, min(first + at_once, len(self.x)))
            kernel = torch.addmm(bias, self.x[rows], self.y.T, out=space[: rows.stop - first])
            largest = kernel.amax(1, keepdim=True)
            yield rows, kernel.sub_(largest).clamp_(min=_SMALLEST_LOG).exp_(), largest[:, 0]

    def _for_each_row(self) -> Tensor:
        """Room for a number for each row, (n0,)."""
        return self.x.new_empty(len(self.x))

    def _bias(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """g − columns (n1,) in the precision of the points, less its mean for the sake of precision, and the mean."""
        bias = g + self.column_weights.log() - self.columns
        return (bias - bias.mean()).to(self.x), bias.mean()

    def _masses(self, sums: Tensor) -> Tensor:
        """Masses of the columns, each over that of its weight, from sums over the rows, (n1,)."""
        return sums * (len(self.y) / len(self.x)) / self.column_weights

    def _potential(self, logs: Tensor, mean: Tensor) -> Tensor:
        """f (n0,) from the logarithms of the rows' sums."""
        return self.rows - logs.double() - mean + log(len(self.y))


def _drawn_columns(weights: Tensor, uses: int, generator: torch.Generator) -> Tensor:
    """Columns drawn with probabilities in proportion to the weights (n, m) of their row, (n, uses).

    First a block of columns is drawn, then a column of it: cumulative sums over whole rows take longer than the
    exponentials.
    """
    parts = F.pad(weights, (0, -weights.shape[1] % _COLUMNS_SUMMED)).unflatten(1, (-1, _COLUMNS_SUMMED))
    totals = parts.sum(2)
    sums = totals.cumsum(1)
    uniform = torch.rand(len(weights), uses, generator=generator, dtype=weights.dtype, device=weights.device)
    point = uniform * sums[:, -1:]
    block = torch.searchsorted(sums, point)
    row = torch.arange(len(weights), device=weights.device)[:, None]
    within = parts[row, block].cumsum(2)
    rest = point - (sums - totals)[row, block]
    column = torch.searchsorted(within, rest[..., None])[..., 0]
    return (block * _COLUMNS_SUMMED + column).clamp_max(weights.shape[1] - 1)
