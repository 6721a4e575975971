"""Sizes of an interpolant's noise.

Theorem 3.13 of Albergo, Boffi, Vanden-Eijnden (arXiv 2303.08797) is realisable where γ² ≤ 2εt(1−t).  Each shape here is
given for an ε at the largest size for which that holds, so that all meet γ²(½) = ε/2:

    √(a t(1−t)), a = 2ε    `Brownian`       γ̇ and 1/γ grow like t^(−½) at the ends: integrable
    t(1−t) · √(8ε)         `Parabolic`      γ̇ is finite, 1/γ grows like 1/t
    sin²(πt) · √(ε/2)      `SineSquared`    γ̇ vanishes, 1/γ grows like 1/t²

The paper's t(1−t) is `Parabolic(1/8)`, its sin²(πt) `SineSquared(2)` (table 2).
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from sbridge.checks import Positive, checked
from sbridge.storage import Storable

__all__ = ["Brownian", "Gamma", "Parabolic", "SineSquared"]


class Gamma(Storable):
    """The size of an interpolant's noise: `gamma(t)` is γ²(t), zero at t = 0 and 1, positive between.

    Args:
        epsilon: ε, the bridge's.
    """

    @checked
    def __init__(self, epsilon: Positive) -> None:
        super().__init__()
        self.epsilon = epsilon

    def __call__(self, t: Tensor) -> Tensor:
        value: Tensor = super().__call__(t)
        return value

    def forward(self, t: Tensor) -> Tensor:
        raise NotImplementedError


class Brownian(Gamma):
    """γ² = 2εt(1−t): pinned Brownian motion of dX = √(2ε) dW."""

    def forward(self, t: Tensor) -> Tensor:
        return 2 * self.epsilon * t * (1 - t)


class Parabolic(Gamma):
    """γ² = 8ε t²(1−t)²."""

    def forward(self, t: Tensor) -> Tensor:
        return 8 * self.epsilon * (t * (1 - t)).square()


class SineSquared(Gamma):
    """γ² = (ε/2) sin⁴(πt)."""

    def forward(self, t: Tensor) -> Tensor:
        return self.epsilon / 2 * torch.sin(pi * torch.minimum(t, 1 - t)).pow(4)  # exactly zero at t = 1 too
