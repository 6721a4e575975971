"""Distances between two samples, and between two Gaussians.

Energy distance   2E|X−Y| − E|X−X'| − E|Y−Y'|                      (Székely, Rizzo, J. Stat. Plan. Inference 143, 2013)
Its p-value       share of relabelled samples at least as far apart (the permutation test of the same paper)
W2                (min over couplings of E|X−Y|²)^½                (exact: Bonneel et al., ACM TOG 30, 2011, in POT)
Sliced W2         (mean over directions θ of W2²(θ·X, θ·Y))^½      (Bonneel et al., J. Math. Imaging Vis. 51, 2015)
Bures–Wasserstein |m−m'|² + tr C + tr C' − 2 tr(C^½ C' C^½)^½      (W2² between Gaussians; Gelbrich, 1990)

All of them compute in float64, whatever the samples' type.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["bures_wasserstein", "energy_distance", "energy_p_value", "moments", "relabelled_distances"]
__all__ += ["sliced_wasserstein", "wasserstein"]

_BLOCK = 1024  # rows of a distance matrix held at once


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Energy distance between samples x (n, d) and y (m, d), in the data's units.

    The U-statistic: pairs of a point with itself are left out, so it is unbiased, and slightly negative about as often
    as positive where the two laws agree.  It is computed in blocks, in O(n + m) memory, up to about 1e-8 of the data's
    spread.
    """
    x, y = _centred(x, y)
    n, m = len(x), len(y)
    within = _total_distance(x, x) / (n * (n - 1)) + _total_distance(y, y) / (m * (m - 1))
    return float(2 * _total_distance(x, y) / (n * m) - within)


def _centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 with x's mean taken off: distances stay, rounding errors of |x|² − 2x·y + |y|² shrink."""
    centre = x.double().mean(0)
    return x.double() - centre, y.double() - centre


def _total_distance(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([torch.cdist(block, y).sum() for block in torch.split(x, _BLOCK)]).sum()


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


def sliced_wasserstein(x: Tensor, y: Tensor, projections: int, generator: torch.Generator) -> float:
    """Sliced W2 between samples x (n, d) and y (m, d) over random directions, in the data's units."""
    directions = torch.randn(x.shape[1], projections, dtype=torch.float64, device=x.device, generator=generator)
    directions = directions / directions.norm(dim=0)
    x, y = _centred(x, y)
    return float(_quantile_gap(x @ directions, y @ directions).mean().sqrt())


def _quantile_gap(x: Tensor, y: Tensor) -> Tensor:
    """W2² of each column: the mean square gap of the two step functions of quantiles, on their common levels."""
    n, m = len(x), len(y)
    ranks = [torch.arange(1, size + 1, dtype=x.dtype, device=x.device) / size for size in (n, m)]
    levels = torch.cat(ranks).sort().values
    widths = levels.diff(prepend=levels.new_zeros(1))
    middle = levels - widths / 2
    i, j = ((middle * size).long().clamp(max=size - 1) for size in (n, m))
    return widths @ (x.sort(0).values[i] - y.sort(0).values[j]).square()


def wasserstein(x: Tensor, y: Tensor) -> float:
    """Exact W2 between samples x (n, d) and y (m, d), in the data's units.

    It is the W2 of the two samples, which exceeds that of their laws by about n^(−1/d): compare it with its value
    between two true samples of the same sizes.  Time grows like n³ (about a second for n = m = 2,000, ten for 4,000)
    and memory like n·m, so pass a subsample.
    """
    import ot  # here, because importing it takes long

    x, y = _centred(x, y)
    cost = torch.cdist(x, y).square().cpu().numpy()
    return float(ot.emd2([], [], cost, numItermax=10_000_000) ** 0.5)


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
