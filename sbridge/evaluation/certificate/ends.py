"""Whether a process ends like the data: two-sample checks by nearest neighbours and by moments, in nats.

**Neighbours.**  Of points y of one law p and as many z of another q, in d dimensions, let ρ be a y's distance to the
nearest other y and ν that to the nearest z.  Then

    KL(p‖q) ≈ d · mean log(ν/ρ)

(Wang, Kulkarni, Verdú, IEEE Trans. Inf. Theory 55, 2009, eq. 5 with k = 1).  Density is seen at the scale of the
distance between neighbours.  Where q is a little narrower than p, this scale is another for y than for z, and in many
dimensions the figure is far below zero; then KL(q‖p) is as far above.  So the mean of both is taken.  Finer differences
are missed: it grows with the number of points and is, in general, too low.  Under one law all labellings of the joined
points are equally likely: relabelling gives the floor.

**Moments.**  A smooth difference of the ends can be small in nats and large in the nats of paths.  A shift of the end
by δ is |δ|²/2σ² nats of ends of variance σ², but the paths that mend it have |δ|²/4ε more energy, over 2ε.  For means
and covariances of both samples this is BW²/4ε, with their Bures–Wasserstein distance, less its mean over relabellings.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log, sqrt

import torch
from torch import Tensor

from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.statement import MOST_POINTS, EndCheck
from sbridge.evaluation.distances import bures_wasserstein, chance_level, moments

__all__ = ["check", "smooth_gap"]

_NEIGHBOURS = 12  # kept of each point; among so many, both labels are found but for one in 4,000
_RELABELLINGS = 199
_FEW_RELABELLINGS = 20  # for the moments, whose distance takes long in many dimensions
_BLOCK = 1024  # rows of a distance matrix held at once
_BLURS = (0.05, 0.1, 0.2, 0.4, 0.8)  # in spreads of the columns
_TINY = 1e-30


@dataclass(frozen=True)
class _Neighbours:
    """Of each of 2n joined points its nearest others: their rows and log-distances, (2n, k)."""

    rows: Tensor
    logs: Tensor
    dim: int

    @staticmethod
    def of(joined: Tensor, least: float = -inf) -> _Neighbours:
        """Log-distances below `least` count as `least`."""
        squares = joined.square().sum(-1)
        rows, logs = [], []
        for first in range(0, len(joined), _BLOCK):
            block = joined[first : first + _BLOCK]
            square = block.square().sum(-1, keepdim=True) - 2 * block @ joined.mT + squares
            own = torch.arange(len(block), device=joined.device)
            square[own, first + own] = torch.inf
            found = square.topk(min(_NEIGHBOURS, len(joined) - 1), largest=False)
            exact = (block.unsqueeze(1) - joined[found.indices]).double().square().sum(-1)
            rows.append(found.indices)
            logs.append((exact.clamp_min(_TINY).log() / 2).clamp_min(least))
        return _Neighbours(torch.cat(rows), torch.cat(logs), joined.shape[1])

    def divergence(self, is_data: Tensor) -> Tensor:
        """The mean of d·log(ν/ρ) over all points; a label that is not among the neighbours counts as next, ()."""
        own = is_data[self.rows] == is_data[:, None]
        return self.dim * (self._first(~own) - self._first(own)).mean()

    def _first(self, wanted: Tensor) -> Tensor:
        beyond = torch.where(wanted.any(1), wanted.int().argmax(1), wanted.shape[1] - 1)
        return self.logs.gather(1, beyond[:, None])[:, 0]


def check(data: Tensor, ends: Tensor, spreads: Tensor, generator: torch.Generator) -> EndCheck:
    """How far the law of the data is from that of the process's ends, in nats.

    Args:
        data, ends: points (n, d), (m, d); as many are used of each, at most 10,000.
        spreads: of the columns of the data, (d,), which scale the distances.
        generator: source of the relabellings.
    """
    count = min(len(data), len(ends), MOST_POINTS)
    y, z = (x[:count] / spreads for x in (data, ends))
    least = _resolution(y)
    neighbours = _Neighbours.of(torch.cat([y, z]), least)
    is_data = torch.arange(2 * count, device=y.device) < count
    divergence = float(neighbours.divergence(is_data))
    relabelled = torch.stack([_relabelled(neighbours, generator) for _ in range(_RELABELLINGS)])
    found = Estimate(divergence, float(relabelled.std()))
    p_value = (1 + int((relabelled >= found.value).sum())) / (1 + _RELABELLINGS)
    halves = [_divergence(y[part::2], z[part::2], least) for part in (0, 1)]
    grown = found.value - sum(halves) / 2
    visible = 2 * sqrt(2) * found.standard_error  # of half of the points
    blur = _seen_blur(z, visible, least, generator)
    return EndCheck(count, found, chance_level(relabelled), p_value, grown, blur, data.shape[1])


def smooth_gap(data: Tensor, ends: Tensor, epsilon: float, generator: torch.Generator) -> Estimate:
    """What means and covariances of the ends (m, d) miss of the data's (n, d), in nats of paths.

    The standard error is that over relabellings.
    """
    joined = torch.cat([data, ends]).double()
    orders = (torch.randperm(len(joined), generator=generator, device=joined.device) for _ in range(_FEW_RELABELLINGS))
    found, *others = (
        float(bures_wasserstein(*moments(one), *moments(other)) / (4 * epsilon))
        for one, other in (x.tensor_split([len(data)]) for x in (joined, *(joined[order] for order in orders)))
    )
    chance = torch.tensor(others, dtype=torch.float64)
    return Estimate(found - float(chance.mean()), float(chance.std()))


def _resolution(y: Tensor) -> float:
    """The log-distance below which the data are not looked at.

    Rounded data repeat, and of a law without repetitions they would be infinitely far.  Where rows repeat, it is the
    median distance between different neighbours; otherwise there is no such limit.
    """
    nearest = _Neighbours.of(y).logs[:, 0]
    different = nearest > log(_TINY) / 2
    return -inf if different.all() else float(nearest[different].median()) if different.any() else 0.0


def _divergence(y: Tensor, z: Tensor, least: float) -> float:
    is_data = torch.arange(len(y) + len(z), device=y.device) < len(y)
    return float(_Neighbours.of(torch.cat([y, z]), least).divergence(is_data))


def _relabelled(neighbours: _Neighbours, generator: torch.Generator) -> Tensor:
    count = len(neighbours.rows)
    order = torch.randperm(count, generator=generator, device=neighbours.rows.device)
    return neighbours.divergence(order < count // 2)


def _seen_blur(z: Tensor, visible: float, least: float, generator: torch.Generator) -> float | None:
    """The least normal noise, in spreads, with which half of the process's own ends differ from the other half."""
    one, other = z.tensor_split(2)
    other = other[torch.randperm(len(other), generator=generator, device=z.device)][: len(one)]
    one = one[: len(other)]
    for blur in _BLURS:
        noise = torch.randn(other.shape, dtype=z.dtype, device=z.device, generator=generator)
        if _divergence(one, other + blur * noise, least) > visible:
            return blur
    return None
