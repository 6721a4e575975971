"""Shrinkage of variances and covariances: invariances, limits, and the errors that it is for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sbridge.potentials.shrinkage import shrunk_eigenvalues, shrunk_variances
from sbridge.weights import effective_sizes

SHRINKAGES = pytest.mark.parametrize("shrunk", [shrunk_variances, shrunk_eigenvalues])
SIZES = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12).map(sorted)


@SHRINKAGES
@given(sizes=SIZES, points=st.floats(20, 1e6), scale=st.floats(1e-3, 1e3))
def test_shrinkage_has_no_units_and_ends_with_many_points(
    shrunk: Callable[[Tensor, Tensor], Tensor], sizes: list[float], points: float, scale: float
) -> None:
    sample, n = torch.tensor([sizes], dtype=torch.float64), torch.tensor([points], dtype=torch.float64)
    torch.testing.assert_close(shrunk(scale * sample, n), scale * shrunk(sample, n))
    torch.testing.assert_close(shrunk(sample, torch.full_like(n, 1e12)), sample, rtol=1e-4, atol=0)


@given(sizes=SIZES, points=st.floats(1, 1e6))
def test_shrunk_variances_are_nearer_to_their_geometric_mean(sizes: list[float], points: float) -> None:
    sample = torch.tensor([sizes], dtype=torch.float64)
    logs = sample.log() - sample.log().mean()
    found = shrunk_variances(sample, torch.tensor([points])).log() - sample.log().mean()
    share = found.norm() / logs.norm().clamp(min=1e-9)
    torch.testing.assert_close(found, share * logs)
    assert share < 1 + 1e-9


@given(sizes=SIZES, points=st.floats(1, 1e6))
def test_shrunk_eigenvalues_are_positive_and_keep_their_sum(sizes: list[float], points: float) -> None:
    sample = torch.tensor([sizes], dtype=torch.float64)
    found = shrunk_eigenvalues(sample, torch.tensor([points]))
    assert (found > 0).all()
    torch.testing.assert_close(found.sum(), sample.sum())


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_variances_of_few_coordinates_are_not_shrunk(dim: int) -> None:
    sample = torch.rand(4, dim, dtype=torch.float64) + 0.1
    torch.testing.assert_close(shrunk_variances(sample, torch.full((4,), 10.0)), sample)


@pytest.mark.parametrize("ends", [(0.0, 0.0), (0.0, -3.0)])
def test_shrunk_covariances_are_nearer_to_those_of_the_law(ends: tuple[float, float]) -> None:
    """In KL(N(0, A)‖N(0, Â)), for one size of all eigenvalues, and for sizes over three decades."""
    points, dim = 120, 40
    true = torch.logspace(*ends, dim, dtype=torch.float64)
    noise = torch.randn(20, points, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = noise * true.sqrt()
    sizes, axes = torch.linalg.eigh(x.mT @ x / points)
    n = torch.full((20,), float(points))

    def divergence(sizes: Tensor) -> float:
        inverse = (axes / sizes[:, None]) @ axes.mT
        terms = inverse.diagonal(dim1=1, dim2=2) @ true - dim + sizes.log().sum(1) - true.log().sum()
        return float(terms.mean() / 2)

    assert divergence(shrunk_eigenvalues(sizes, n)) < 0.8 * divergence(sizes)


@pytest.mark.parametrize(("lowest", "share"), [(0.0, 0.3), (-4.0, 1.02)])
def test_shrunk_variances_are_nearer_where_they_are_alike_and_no_farther_where_not(lowest: float, share: float) -> None:
    points, dim = 50, 16
    true = torch.logspace(0.0, lowest, dim, dtype=torch.float64)
    noise = torch.randn(200, points, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sample = (noise * true.sqrt()).var(1)
    ratios = (sample.log() - true.log(), shrunk_variances(sample, torch.full((200,), 50.0)).log() - true.log())
    before, after = (float(ratio.square().mean()) for ratio in ratios)
    assert after < share * before


def test_points_are_counted_by_their_shares() -> None:
    shares = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5], [1.0, 0.5, 0.0, 0.0]])
    torch.testing.assert_close(effective_sizes(shares), torch.tensor([2.0, 4.0, 1.8], dtype=torch.float64))
