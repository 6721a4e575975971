"""An interpolant in the user's coordinates."""

from __future__ import annotations

from torch import Tensor

from sbridge.fields import working_dtype
from sbridge.interpolants.base import Interpolant

__all__ = ["FramedInterpolant"]


class FramedInterpolant(Interpolant):
    """An interpolant of a `Frame`'s coordinates, in the user's coordinates: I ↦ m_t + a·I, γ² ↦ a²γ²."""

    def __init__(self, inner: Interpolant, shift0: Tensor, shift1: Tensor, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale
        self.shift0: Tensor
        self.shift1: Tensor
        self.register_buffer("shift0", shift0)
        self.register_buffer("shift1", shift1)

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        y0, y1 = (x0 - self.shift0) / self.scale, (x1 - self.shift1) / self.scale
        dtype = working_dtype(self.inner, y0)
        inside = self.inner.mean(t.to(dtype), y0.to(dtype), y1.to(dtype)).to(y0)
        return (1 - t) * self.shift0 + t * self.shift1 + self.scale * inside

    def variance(self, t: Tensor) -> Tensor:
        return self.scale**2 * self.inner.variance(t.to(working_dtype(self.inner, t))).to(t)
