"""Variances and covariances of few points, shrunk: those of the sample are farther apart than those of its law.

Both rules see how far apart the sample's values are beyond what their own errors explain.  So variances of very
different sizes stay as they are, unlike under a shrinkage towards a fixed target, and with many points nothing changes.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["shrunk_eigenvalues", "shrunk_variances"]

_TINY = 1e-30


def shrunk_variances(variances: Tensor, points: Tensor) -> Tensor:
    """Variances of d coordinates, drawn towards their geometric mean.

    The error of log variance is about √(2/n), so the sum of d squared deviations from their mean is on average (d − 1)
    2/n where all variances are one.  The part (d − 3) 2/n of it is taken off, which is never worse on average where d
    is above 3 (James–Stein, towards a mean: Efron & Morris, J. Am. Stat. Assoc. 70, 1975).

    Args:
        variances: (K, d), positive.
        points: effective numbers of points n, (K,).
    """
    logs = variances.log()
    centre = logs.mean(1, keepdim=True)
    squares = (logs - centre).square().sum(1, keepdim=True).clamp(min=_TINY)
    errors = 2 * max(variances.shape[1] - 3, 0) / points[:, None]
    return torch.lerp(centre, logs, (1 - errors / squares).clamp(min=0)).exp()


def shrunk_eigenvalues(sizes: Tensor, points: Tensor) -> Tensor:
    """Eigenvalues of covariances as they are for the law; their sum stays the same.

    Source: quadratic-inverse shrinkage, Ledoit & Wolf, Bernoulli 28, 2022, section 4.  Where there are no more points
    than dimensions, nothing is changed.

    Args:
        sizes: eigenvalues of the sample's covariances, (K, d), positive.
        points: effective numbers of points n, (K,).
    """
    share = (sizes.shape[1] / points)[:, None]
    width = (share**0.7 / sizes.shape[1] ** 0.35)[..., None]  # of the kernel, in relation to an eigenvalue
    inverse = 1 / sizes
    others = inverse[:, None, :]
    apart = others - inverse[:, :, None]
    kernel = others / (apart.square() + (width * others).square())
    real, imaginary = (kernel * apart).mean(2), (kernel * width * others).mean(2)
    factors = (1 - share).square() + 2 * share * (1 - share) * real + share.square() * (real**2 + imaginary**2)
    found = sizes / factors
    found = found * (sizes.sum(1) / found.sum(1))[:, None]
    return torch.where(share < 1, found, sizes)
