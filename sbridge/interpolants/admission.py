"""What datasets an interpolant may join, seen by Kolmogorov–Smirnov tests.

A refusal needs a p-value below 10⁻⁶ over all tests made: samples of the right law are practically never refused.
"""

from __future__ import annotations

from scipy.stats import chi2, ks_2samp, kstest, norm
from torch import Tensor

from sbridge.errors import InputError

__all__ = ["check_alike", "check_gaussian"]

_LEVEL = 1e-6
_POINTS = 20_000  # looked at


def check_gaussian(x: Tensor) -> None:
    """Refuse points (n, d) whose coordinates or radii are not those of N(0, σ²I).

    Raises:
        InputError: they are not.
    """
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
    """Refuse points (n0, d) and (n1, d) whose coordinates have different laws.

    Raises:
        InputError: they have.
    """
    columns = zip(x0[:_POINTS].double().cpu().T, x1[:_POINTS].double().cpu().T, strict=True)
    tests = [ks_2samp(a.numpy(), b.numpy()).pvalue for a, b in columns]
    if min(tests) * len(tests) < _LEVEL:
        raise InputError(
            "x0 and x1 are samples of different laws; a mirror interpolant goes from a law to itself. "
            "Give the same data for both, or choose an interpolant such as Linear"
        )
