"""Quasi-Monte-Carlo nodes for normal laws.

Scrambled Sobol points: Owen, J. Complexity 14 (1998).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

__all__ = ["normal_nodes", "principal_root"]


def normal_nodes(count: int, dim: int, seed: int) -> Tensor:
    """Scrambled Sobol points mapped to N(0, I), (count, dim) in float64; count a power of two."""
    engine: Callable[..., Any] = SobolEngine
    uniform = engine(dim, scramble=True, seed=seed).draw(count, dtype=torch.float64)
    nodes: Tensor = torch.special.ndtri(uniform + 2.0**-31)  # the middle of a cell of its 30 bits
    return nodes


def principal_root(cov: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """R with RRᵀ = cov (n, K, K) along its principal axes, the longest first, and cov⁺R: (n, K, columns) each.

    The gradient of R is ½ d(cov) cov⁺R.  It is that of another root of the same matrix, a rotation of this one, but
    unlike the gradient of eigenvectors it is finite where eigenvalues are equal.
    """
    fixed = cov.detach()
    sizes, axes = (value[..., -columns:].flip(-1) for value in torch.linalg.eigh(fixed))
    live = sizes > torch.finfo(sizes.dtype).eps * sizes[:, :1].clamp_min(torch.finfo(sizes.dtype).tiny)
    scale = torch.where(live, sizes, 1.0).sqrt()[:, None]
    inverse = axes * live[:, None] / scale
    change = (cov - fixed) @ inverse / 2
    return axes * scale * live[:, None] + change, inverse - inverse @ (inverse.mT @ change)
