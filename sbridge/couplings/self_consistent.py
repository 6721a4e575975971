"""Pairs that a process simulates itself: from data at one end to the other end.

The Schrödinger bridge is the one Markov process that is also a mixture of Brownian bridges.  Regressing drifts on the
Brownian bridges between pairs makes the process Markov; new pairs simulated by it give a mixture of bridges again.
Repeating both converges to the Schrödinger bridge (iterative Markovian fitting).

A simulated end has the law of the drifts, not the data's.  Half of the pairs start from x0 and half from x1, so that
each half has one correct marginal (`Simulated`).  Where both drifts are trained on all pairs this is not enough: errors
of the marginals grow from one simulation to the next.  `SelfConsistent` moves every simulated end to a data point.

Shi, De Bortoli, Campbell, Doucet, arXiv 2303.16852; Peluchetti, arXiv 2304.00917.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.checks import Count, checked
from sbridge.couplings.base import Coupling, Independent, rows_of
from sbridge.couplings.minibatch import MinibatchSinkhorn
from sbridge.errors import DivergenceError
from sbridge.fields import VectorField
from sbridge.sampling import EULER, graded

__all__ = ["SelfConsistent", "Simulated"]

_LEAST_AHEAD = 64  # pairs of a plan: where the points are few, each gives several
_SIMULATED_AT_ONCE = 4096  # points; more do not fit into a processor's cache
_MATCHED_AT_ONCE = 512  # points; with more, each moves less far, but takes more time in proportion to their number


class Simulated(Coupling):
    """Pairs of the last simulation; before the first, pairs of a starting coupling.

    Args:
        start: the starting coupling.
        points: paths simulated from each end at a time, at most the number of points of the larger dataset.
        steps: Euler–Maruyama steps of a path.
        uses: how often each pair is drawn, on average, before the pairs are `used_up` and new ones are simulated.
    """

    @checked
    def __init__(
        self,
        x0: Tensor,
        x1: Tensor,
        epsilon: float,
        start: type[Coupling] = Independent,
        points: Count = 4096,
        steps: Count = 50,
        uses: Count = 10,
    ) -> None:
        super().__init__(x0, x1, epsilon)
        self.start, self.steps, self.uses = start(x0, x1, epsilon), steps, uses
        self.ends0: Tensor
        self.ends1: Tensor
        self.simulations: Tensor
        self.drawn: Tensor
        empty = x0.new_zeros(min(points, max(len(x0), len(x1))), 2, x0.shape[1])
        self.register_buffer("ends0", empty)  # [:, 0] of the paths from x0, [:, 1] of those from x1
        self.register_buffer("ends1", empty.clone())
        self.register_buffer("simulations", torch.zeros((), dtype=torch.long))  # stays on the CPU, where it is read
        self.register_buffer("drawn", torch.zeros((), dtype=torch.long))  # pairs since the last of them

    @property
    def used_up(self) -> bool:
        """Whether each pair has been drawn `uses` times on average."""
        return bool(self.drawn >= 2 * self.uses * len(self.ends0))

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n pairs, each (n, d): simulated from x0 and from x1 in turn."""
        self.drawn += n
        if not self.simulations:
            return self.start.pairs(n, generator)
        rows = torch.randint(len(self.ends0), (-(-n // 2),), generator=generator, device=generator.device)
        x0, x1 = (ends[rows].flatten(0, 1)[:n] for ends in (self.ends0, self.ends1))
        return x0, x1

    def reference(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n pairs of the entropic plan, to which the pairs converge: (n, d) each."""
        batch = min(n, max(len(self.x0), len(self.x1)))
        partners = -(-_LEAST_AHEAD // batch)
        plans = MinibatchSinkhorn(self.x0, self.x1, self.epsilon, batch, partners, iterations=30)
        return plans.pairs(n, generator)

    def simulate(self, drifts: VectorField, generator: torch.Generator) -> None:
        """Simulate new pairs with (t, x) ↦ (b_F, b_B) side by side.

        Raises:
            DivergenceError: the end of a path is not finite; the pairs stay as they were.
        """
        x0, x1 = (rows_of(x, len(self.ends0), generator) for x in (self.x0, self.x1))
        after, before = self._moved(drifts, x0, 0, generator), self._moved(drifts, x1, 1, generator)
        if not (after.isfinite().all() and before.isfinite().all()):
            raise DivergenceError("pairs simulated with the drifts trained so far are not finite; lower the rate")
        self.ends0.copy_(torch.stack([x0, self.kept_ends(before, self.x0, generator)], dim=1))
        self.ends1.copy_(torch.stack([self.kept_ends(after, self.x1, generator), x1], dim=1))
        self.simulations += 1
        self.drawn.zero_()

    def kept_ends(self, ends: Tensor, data: Tensor, generator: torch.Generator) -> Tensor:
        """The ends (points, d) that pairs get for simulated ends, which should have the law of data (n, d)."""
        return ends

    def _moved(self, drifts: VectorField, x: Tensor, origin: int, generator: torch.Generator) -> Tensor:
        """Points (n, d) at t = `origin` moved to the other end by the drift that starts there."""

        def drift(t: Tensor, points: Tensor) -> Tensor:
            return drifts(t, points).chunk(2, dim=-1)[origin]

        times = graded(origin, 1 - origin, self.steps)
        with torch.no_grad():
            parts = [EULER.advance(drift, part, times, self.epsilon, generator) for part in x.split(_SIMULATED_AT_ONCE)]
        return torch.cat(parts)


class SelfConsistent(Simulated):
    """Pairs with the data's marginals, simulated with the drifts trained so far whenever the last pairs are used up.

    Each minibatch of simulated ends is matched one to one with data points, so that the sum of squared distances is
    smallest.  At the Schrödinger bridge the ends have the data's law already and move by the sampling error only.
    """

    def follow(self, drifts: VectorField, generator: torch.Generator) -> None:
        if self.used_up:
            self.simulate(drifts, generator)

    def kept_ends(self, ends: Tensor, data: Tensor, generator: torch.Generator) -> Tensor:
        """The data points that the ends are matched with."""
        points = rows_of(data, len(ends), generator)
        parts = zip(ends.split(_MATCHED_AT_ONCE), points.split(_MATCHED_AT_ONCE), strict=True)
        return torch.cat([_matched(*part) for part in parts])


def _matched(ends: Tensor, points: Tensor) -> Tensor:
    """The points (n, d) in the order that brings them closest to the ends (n, d), by an optimal assignment."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    _, order = linear_sum_assignment(torch.cdist(ends, points).square().cpu().numpy())
    return points[torch.as_tensor(order, device=points.device)]
