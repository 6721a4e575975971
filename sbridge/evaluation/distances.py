"""Distances between two samples, and between two Gaussians.

Energy distance   2E|X−Y| − E|X−X'| − E|Y−Y'|                      (Székely, Rizzo, J. Stat. Plan. Inference 143, 2013)
Its p-value       share of relabelled samples at least as far apart (the permutation test of the same paper)
W2, W1            (min over couplings of E|X−Y|ᵖ)^{1/p}            (exact: Bonneel et al., ACM TOG 30, 2011, in POT)
Sliced W2         (mean over directions θ of W2²(θ·X, θ·Y))^½      (Bonneel et al., J. Math. Imaging Vis. 51, 2015)
Bures–Wasserstein |m−m'|² + tr C + tr C' − 2 tr(C^½ C' C^½)^½      (W2² between Gaussians; Gelbrich, 1990)

All of them compute in float64, whatever the samples' type.  Weights of points (n,) need no normalisation; None means
equal weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.weights import shares_of

__all__ = ["bures_wasserstein", "chance_level", "energy_distance", "energy_p_value", "moments", "relabelled_distances"]
__all__ += ["sliced_wasserstein", "wasserstein"]

_BLOCK = 1024  # rows of a distance matrix held at once


def energy_distance(x: Tensor, y: Tensor, x_weights: Tensor | None = None, y_weights: Tensor | None = None) -> float:
    """Energy distance between samples x (n, d) and y (m, d), in the data's units.

    The U-statistic: pairs of a point with itself are left out, so it is unbiased, and slightly negative about as often
    as positive where the two laws agree.  It is computed in blocks, in O(n + m) memory, up to about 1e-8 of the data's
    spread.
    """
    a, b = shares_of(x, x_weights), shares_of(y, y_weights)
    x, y = _centred(x, y)
    within = sum(_mean_distance(z, z, w, w) / (1 - w.square().sum()) for z, w in ((x, a), (y, b)))
    return float(2 * _mean_distance(x, y, a, b) - within)


def _centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 with x's mean taken off: distances stay, rounding errors of |x|² − 2x·y + |y|² shrink."""
    centre = x.double().mean(0)
    return x.double() - centre, y.double() - centre


def _mean_distance(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    blocks = zip(x.split(_BLOCK), a.split(_BLOCK), strict=True)
    return torch.stack([part @ (torch.cdist(block, y) @ b) for block, part in blocks]).sum()


def relabelled_distances(
    x: Tensor, y: Tensor, generator: torch.Generator, points: int = 1000, permutations: int = 199
) -> Tensor:
    """Energy distances of x (n, d) and y (m, d): as they are labelled, then under random relabellings.

    Args:
        generator: source of the relabellings.
        points: of each sample at most; time and memory grow with their square (0.2 s for 1,000 on one thread).
        permutations: random relabellings.
    """
    x, y = _centred(x[:points], y[:points])
    joined = torch.cat([x, y])
    return _labelled_distance(torch.cdist(joined, joined), _labels(len(x), len(y), permutations, generator))


def chance_level(relabelled: Tensor) -> float:
    """What the distance of two samples of one law is below in 19 of 20 cases, by distances under relabellings."""
    return float(relabelled.quantile(0.95))


def energy_p_value(
    x: Tensor, y: Tensor, generator: torch.Generator, points: int = 1000, permutations: int = 199
) -> float:
    """Probability, were both laws the same, of an energy distance at least as large as that of x (n, d) and y (m, d).

    Under one law all ways to label the joined points x and y are equally likely, whatever the law.  The answer is the
    rank of the true labelling among random ones, so it lies on a grid from 1/(permutations + 1) to 1, and where the
    laws agree it is at most p with probability p for every p of the grid.

    The arguments are those of `relabelled_distances`.
    """
    found = relabelled_distances(x, y, generator, points, permutations)
    return float((found >= found[0]).double().mean())


def _labels(n: int, m: int, permutations: int, generator: torch.Generator) -> Tensor:
    """Which of n + m points count as the first sample, 1 or 0: as they came, then at random; a column each."""
    as_they_came = torch.arange(n + m, device=generator.device) < n
    keys = torch.rand(n + m, permutations, dtype=torch.float64, generator=generator, device=generator.device)
    return torch.cat([as_they_came[:, None], keys.argsort(0) < n], dim=1).double()


def _labelled_distance(distance: Tensor, first: Tensor) -> Tensor:
    """Energy distance of the two samples for each column of labels, by sums over one distance matrix."""
    n, total = first[:, 0].sum(), distance.sum()
    m = len(first) - n
    within = (first * (distance @ first)).sum(0)
    across = distance.sum(1) @ first - within
    return 2 * across / (n * m) - within / (n * (n - 1)) - (total - within - 2 * across) / (m * (m - 1))


def sliced_wasserstein(
    x: Tensor,
    y: Tensor,
    projections: int,
    generator: torch.Generator,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
) -> float:
    """Sliced W2 between samples x (n, d) and y (m, d) over random directions, in the data's units."""
    directions = torch.randn(x.shape[1], projections, dtype=torch.float64, device=x.device, generator=generator)
    directions = directions / directions.norm(dim=0)
    x, y = _centred(x, y)
    return float(_quantile_gap(_quantiles(x @ directions, x_weights), _quantiles(y @ directions, y_weights)).sqrt())


def _quantile_gap(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Mean over columns of W2²: the mean square gap of the two step functions of quantiles, on their common levels."""
    (x, ranks0), (y, ranks1) = first, second
    columns = max(ranks0.shape[1], ranks1.shape[1])
    ranks = [ranks.expand(-1, columns).T.contiguous() for ranks in (ranks0, ranks1)]
    levels = torch.cat(ranks, dim=1).sort(1).values
    widths = levels.diff(prepend=torch.zeros_like(levels[:, :1]))
    middle = levels - widths / 2
    i, j = (torch.searchsorted(one, middle).clamp(max=one.shape[1] - 1).T for one in ranks)
    gap = x.gather(0, i.expand(-1, x.shape[1])) - y.gather(0, j.expand(-1, y.shape[1]))
    return (widths.T * gap.square()).sum(0).mean()


def _quantiles(x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each column in order, and the levels up to which each of its values is the quantile."""
    ordered = x.sort(0)
    if weights is None:  # the levels are the same in every column
        return ordered.values, (torch.arange(1, len(x) + 1, dtype=x.dtype, device=x.device) / len(x))[:, None]
    return ordered.values, shares_of(x, weights)[ordered.indices].cumsum(0)


def wasserstein(
    x: Tensor, y: Tensor, order: int = 2, x_weights: Tensor | None = None, y_weights: Tensor | None = None
) -> float:
    """Exact W2, or W1 with order 1, between samples x (n, d) and y (m, d), in the data's units.

    It is that of the two samples, which exceeds that of their laws by about n^(−1/d): compare it with its value
    between two true samples of the same sizes.  Time grows like n³ (about a second for n = m = 2,000, ten for 4,000)
    and memory like n·m, so pass a subsample.
    """
    import ot  # here, because importing it takes long

    a, b = (shares_of(z, weights).cpu().numpy() for z, weights in ((x, x_weights), (y, y_weights)))
    x, y = _centred(x, y)
    cost = torch.cdist(x, y).pow(order).cpu().numpy()
    return float(ot.emd2(a, b, cost, numItermax=10_000_000) ** (1 / order))


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (…, d) and unbiased covariance (…, d, d) of samples x (…, n, d), in float64."""
    x = x.double()
    mean = x.mean(-2, keepdim=True)
    return mean.squeeze(-2), (x - mean).mT @ (x - mean) / (x.shape[-2] - 1)


def bures_wasserstein(mean0: Tensor, covariance0: Tensor, mean1: Tensor, covariance1: Tensor) -> Tensor:
    """Squared Bures–Wasserstein distances: means (…, d), covariances (…, d, d) → (…).

    With symmetric roots A, B of the covariances and the polar factor U of BA, the covariances' part is |A − BU|²: it
    subtracts no large traces, so it is accurate near zero.
    """
    a, b = _root(covariance0), _root(covariance1)
    left, _, right = torch.linalg.svd(b @ a)
    gap: Tensor = a - b @ (left @ right)
    return (mean0.double() - mean1.double()).square().sum(-1) + gap.square().sum((-2, -1))


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance.double())
    root: Tensor = (vectors * values.clamp(min=0).sqrt().unsqueeze(-2)) @ vectors.mT
    return root
