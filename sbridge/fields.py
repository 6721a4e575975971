"""Fields: anything (t, x) → tensor.

A velocity b, a score s, a drift u, a denoiser η, in closed form, as a plug-in of a discrete plan or as a network, all
are called as `field(t, x)` with t of shape (), (n, 1) or any shape that broadcasts with (..., 1), and x of shape
(..., d); the value has the shape of x.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from math import sqrt

import torch
from torch import Tensor, nn

from sbridge.storage import Storable

__all__ = ["Blend", "Confined", "Corrected", "Drifts", "Field", "Framed", "Half", "Part", "Rescaled", "Reversed"]
__all__ += ["VectorField", "common_pair", "moved_pair", "side_by_side", "working_dtype"]

_TINY = 1e-12  # keeps the derivative of a norm finite at zero
_SOON = 0.01  # time left to an end, below which the correction does not grow

VectorField = Callable[[Tensor, Tensor], Tensor]
"""(t, x) ↦ a vector at every x: a `Field`, or a plain function called like one."""


class Field(Storable):
    """A function of time and place; subclasses define `forward(t, x)`."""

    @property
    def dim(self) -> int | None:
        """Dimension d of the points; None where any will do."""
        return None

    @property
    def known_end(self) -> float | None:
        """The time, 0 or 1, at which `draw_end` draws the process of this drift; None where its law is not known."""
        return None

    def draw_end(self, t: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """States at `known_end` of the process that is at x (n, d) at time t, drawn exactly, without steps: (n, d)."""
        raise NotImplementedError

    @property
    def data_spread(self) -> float | None:
        """Standard deviation of the data that it was fitted to, root mean square over coordinates; None if unknown."""
        return None

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        value: Tensor = super().__call__(t, x)
        return value

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError


class Drifts(Storable):
    """Both drifts of a bridge side by side: (t, x) ↦ (b_F, b_B), (..., d) → (..., 2d)."""

    dim: int

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        value: Tensor = super().__call__(t, x)
        return value

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError


class Beside(Drifts):
    """Two drifts of a bridge as one module.

    Args:
        there, back: b_F and b_B.
    """

    def __init__(self, there: Field, back: Field) -> None:
        super().__init__()
        self.there, self.back, self.dim = there, back, there.dim or 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.cat([self.there(t, x), self.back(t, x)], dim=-1)


class Corrected(Drifts):
    """Known drifts and a correction that is added to them.

    Args:
        known: both drifts of another bridge.
        correction: what is added.
    """

    def __init__(self, known: Drifts, correction: Drifts) -> None:
        super().__init__()
        self.known, self.correction, self.dim = known, correction, correction.dim

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.known(t, x) + self.correction(t, x)


class Confined(Drifts):
    """Drifts whose predicted endpoints stay near the data.

    A bridge between x0 and x1 has b_F(t, x) = (E[x1|x_t = x] − x)/(1−t) and b_B(t, x) = (x − E[x0|x_t = x])/t, and a
    mean of points lies among them.  A network may be far off where it has seen no point, and carry a point that gets
    there away at an exponential rate.  So where the predicted endpoint, x + (1−t) b_F or x − t b_B, is farther than
    `reach` from the origin, it is moved along its ray to that distance.

    Args:
        drifts: of a bridge between data that are centred at the origin.
        reach: largest distance of a mean of the data from the origin.
    """

    def __init__(self, drifts: Drifts, reach: float) -> None:
        super().__init__()
        self.drifts, self.reach, self.dim = drifts, reach, drifts.dim

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        there, back = self.drifts(t, x).chunk(2, dim=-1)
        left, gone = (1 - t).clamp_min(_SOON), t.clamp_min(_SOON)
        past1, past0 = self._beyond(x + left * there), self._beyond(x - gone * back)
        return torch.cat([there - past1 / left, back + past0 / gone], dim=-1)

    def _beyond(self, end: Tensor) -> Tensor:
        """The part of a predicted endpoint beyond the reach."""
        return end * (1 - self.reach * (end.square().sum(-1, keepdim=True) + _TINY).rsqrt()).clamp_min(0)


class Part(Drifts):
    """Drifts on the part [start, start + T] of their time, as those of a process in unit time with the same ε.

    By Brownian scaling the process of x_{start + Ts}/√T has the drift √T b(start + Ts, √T x).

    Args:
        drifts: of the whole time.
        start, duration: of the part, start and T.
    """

    def __init__(self, drifts: Drifts, start: float, duration: float) -> None:
        super().__init__()
        self.drifts, self.start, self.duration, self.dim = drifts, start, duration, drifts.dim

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        root = sqrt(self.duration)
        return root * self.drifts(self.start + self.duration * t, root * x)


class Half(Field):
    """The forward (index 0) or backward (index 1) drift of a pair."""

    def __init__(self, pair: _Pair, index: int) -> None:
        super().__init__()
        self.pair, self.index = pair, index

    @property
    def dim(self) -> int:
        return self.pair.dim

    @property
    def data_spread(self) -> float | None:
        return self.pair.data_spread if isinstance(self.pair, Field) else None

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.pair(t, x).chunk(2, dim=-1)[self.index]


def common_pair(forward_field: Field, backward_field: Field) -> _Pair | None:
    """The pair whose two halves these fields are, if there is one."""
    halves = [field for field in (forward_field, backward_field) if isinstance(field, Half)]
    is_pair = [half.index for half in halves] == [0, 1] and halves[0].pair is halves[1].pair
    return halves[0].pair if is_pair else None


def moved_pair(
    forward_field: Field, backward_field: Field, move: Callable[[Field | _Pair], Framed | Rescaled]
) -> tuple[Field, Field]:
    """Both drifts in other coordinates; the halves of a pair stay the halves of a pair."""
    pair = common_pair(forward_field, backward_field)
    if pair is None:
        return move(forward_field), move(backward_field)
    moved = move(pair)
    return Half(moved, 0), Half(moved, 1)


def side_by_side(forward_field: Field, backward_field: Field) -> VectorField:
    """Both drifts at once, (t, x) ↦ (..., 2d); a network that gives both is evaluated once."""
    pair = common_pair(forward_field, backward_field)
    if pair is not None:
        return pair
    return lambda t, x: torch.cat([forward_field(t, x), backward_field(t, x)], dim=-1)


class Reversed(Field):
    """The drift of a process seen from its other end, −f(1−t, x), where f is its drift in reversed time."""

    def __init__(self, inner: Field) -> None:
        super().__init__()
        self.inner = inner

    @property
    def dim(self) -> int | None:
        return self.inner.dim

    @property
    def known_end(self) -> float | None:
        return None if self.inner.known_end is None else 1 - self.inner.known_end

    def draw_end(self, t: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.inner.draw_end(1 - t, x, generator)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return -self.inner(1 - t, x)


class Blend(Field):
    """w·u + (1 − w)·v of two drifts, with w from 0 to 1."""

    def __init__(self, one: Field, other: Field, share: float) -> None:
        super().__init__()
        self.one, self.other, self.share = one, other, share

    @property
    def dim(self) -> int | None:
        return self.one.dim or self.other.dim

    @property
    def data_spread(self) -> float | None:
        return self.one.data_spread or self.other.data_spread

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.share * self.one(t, x) + (1 - self.share) * self.other(t, x)


class Framed(Field):
    """A drift of a `Frame`'s coordinates, in the user's coordinates.

    With y = (x − m_t)/a and m_t = (1−t)m₀ + t m₁, a drift ũ(t, y) becomes a·ũ(t, y) + (m₁ − m₀).  y is of order one
    whatever x is, so the inner field may work in less precision than x has.  An inner pair of drifts stays a pair.
    """

    def __init__(self, inner: Field | _Pair, shift0: Tensor, shift1: Tensor, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale
        self.shift0: Tensor
        self.shift1: Tensor
        self.register_buffer("shift0", shift0)
        self.register_buffer("shift1", shift1)

    @property
    def dim(self) -> int:
        return len(self.shift0)

    @property
    def known_end(self) -> float | None:
        return self.inner.known_end if isinstance(self.inner, Field) else None

    def draw_end(self, t: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        assert isinstance(self.inner, Field) and self.known_end is not None
        y = self._inside(t, x)
        dtype = working_dtype(self.inner, y)
        end = self.scale * self.inner.draw_end(t.to(dtype), y.to(dtype), generator).to(y)
        return (end + torch.lerp(self.shift0, self.shift1, self.known_end)).to(x)

    @property
    def data_spread(self) -> float:
        return self.scale

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        y = self._inside(t, x)
        dtype = working_dtype(self.inner, y)
        value = self.scale * self.inner(t.to(dtype), y.to(dtype)).to(y)
        return value + (self.shift1 - self.shift0).repeat(value.shape[-1] // self.dim)

    def potential(self, inner: VectorField, t: Tensor, x: Tensor, back: bool = False) -> Tensor:
        """The potential λ̃(t, y) of a drift in the inner coordinates, (n,), in the user's; `back` of a backward drift.

        t is a number in a tensor or (n, 1), x (n, d).
        """
        y = self._inside(t, x)
        dtype = working_dtype(self.inner, y)
        value = self.scale**2 * inner(t.to(dtype), y.to(dtype)).to(x)
        shift, gone = (self.shift0 - self.shift1, 1 - t) if back else (self.shift1 - self.shift0, t)
        return value + x @ shift.to(x) - (gone * shift.square().sum() / 2).to(x).squeeze(-1)

    def _inside(self, t: Tensor, x: Tensor) -> Tensor:
        """The places in the inner coordinates."""
        centre = (1 - t) * self.shift0 + t * self.shift1
        return (x - centre) / self.scale


class Rescaled(Field):
    """A drift of linear coordinates z = (x − c)A⁻¹, in the user's coordinates: v(t, z) becomes vA.

    Args:
        inner: v; a pair of drifts stays a pair.
        centre, scale: c (d,) and the symmetric A (d, d).
    """

    def __init__(self, inner: Field | _Pair, centre: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.centre: Tensor
        self.scale: Tensor
        self.inverse: Tensor
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)
        self.register_buffer("inverse", torch.linalg.inv(scale), persistent=False)

    @property
    def dim(self) -> int:
        return len(self.centre)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        value = self.inner(t, ((x - self.centre) @ self.inverse).to(x))
        return torch.cat([part @ self.scale.to(x) for part in value.split(self.dim, dim=-1)], dim=-1)


_Pair = Drifts | Framed | Rescaled
"""Both drifts side by side, (t, x) ↦ (..., 2d), perhaps in other coordinates."""


def working_dtype(module: nn.Module, x: Tensor) -> torch.dtype:
    """The dtype a module computes in: that of its tensors, or x's where it has none."""
    return next(chain(module.parameters(), module.buffers()), x).dtype
