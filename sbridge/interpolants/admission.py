"""Which datasets an interpolant can join, checked by Kolmogorov–Smirnov tests.

A refusal needs a p-value below 10⁻⁶ over all tests made: samples of the right law are practically never refused.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.errors import InputError

__all__ = ["check_alike", "check_gaussian"]

_LEVEL = 1e-6
_POINTS = 20_000  # tested at most


def check_gaussian(x: Tensor) -> None:
    """Refuse points (n, d) whose coordinates or radii are not those of N(0, σ²I).

    Raises:
        InputError: they are not.
    """
    from scipy.stats import chi2, kstest, norm  # here, because importing it takes long

    points = x[:_POINTS].double().cpu()
    scaled = points / points.square().mean().sqrt()
    tests = [kstest(column.numpy(), norm.cdf).pvalue for column in scaled.T]
    tests.append(kstest(scaled.square().sum(1).numpy(), chi2(scaled.shape[1]).cdf).pvalue)
    if min(tests) * len(tests) < _LEVEL:
        raise InputError(
            "x0 is not a sample of Gaussian noise with one standard deviation, which a one-sided interpolant starts "
            "from; give such noise as x0, or choose a two-sided interpolant such as Linear"
        )


def check_alike(x0: Tensor, x1: Tensor) -> None:
    """Refuse points (n0, d) and (n1, d) of different laws, seen in their coordinates and in d oblique directions.

    Raises:
        InputError: a law differs.
    """
    from scipy.stats import ks_2samp  # here, because importing it takes long

    points0, points1 = (x[:_POINTS].double().cpu() @ _directions(x.shape[1]) for x in (x0, x1))
    tests = [ks_2samp(a.numpy(), b.numpy()).pvalue for a, b in zip(points0.T, points1.T, strict=True)]
    if min(tests) * len(tests) < _LEVEL:
        raise InputError(
            "x0 and x1 are samples of different laws; a mirror interpolant goes from a law to itself. "
            "Give the same data for both, or choose an interpolant such as Linear"
        )


def _directions(dim: int) -> Tensor:
    """The axes and an orthogonal frame oblique to them, always the same, the columns of (d, 2d)."""
    generator = torch.Generator().manual_seed(0)
    oblique = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64, generator=generator)).Q
    return torch.cat([torch.eye(dim, dtype=torch.float64), oblique], dim=1)
