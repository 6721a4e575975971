"""Fields: anything (t, x) → tensor.

A velocity b, a score s, a drift u, a denoiser η, in closed form, as a plug-in of a discrete plan or as a network, all
are called as `field(t, x)` with t of shape (), (n, 1) or any shape that broadcasts with (..., 1), and x of shape
(..., d); the value has the shape of x.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from math import pi

import torch
from torch import Tensor, nn

from sbridge.storage import Storable

__all__ = ["Confined", "Corrected", "DriftPair", "Drifts", "Field", "Framed", "Half", "ResidualMLP", "Reversed"]
__all__ += ["VectorField", "common_pair", "initialise", "side_by_side", "time_features", "working_dtype"]

_TINY = 1e-12  # keeps the derivative of a norm finite at zero
_SOON = 0.01  # time left to an end, below which a drift towards it grows no more

VectorField = Callable[[Tensor, Tensor], Tensor]
"""(t, x) ↦ a vector at every x: a `Field`, or a plain function called like one."""


class Field(Storable):
    """A function of time and place; subclasses define `forward(t, x)`."""

    @property
    def dim(self) -> int | None:
        """Dimension d of the points; None where any will do."""
        return None

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        value: Tensor = super().__call__(t, x)
        return value

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError


def time_features(t: Tensor, octaves: int = 3) -> Tensor:
    """(..., 1) → (..., 1 + 2·octaves): t itself and sine/cosine pairs of periods 2, 1, ½, …"""
    phases = [2**k * pi * t for k in range(octaves)]
    return torch.cat([t, *map(torch.sin, phases), *map(torch.cos, phases)], dim=-1)


class ResidualMLP(nn.Module):
    """SiLU layers, h ← h + silu(Wh), between an input and an output layer.

    Args:
        inputs, outputs, width: sizes.
        depth: hidden layers.
        silent: start with an output of zero.
    """

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, silent: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.last = nn.Linear(width, outputs)
        self.activation = nn.SiLU()
        self.silent = silent
        self.initialise(torch.Generator())

    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights anew, uniform in ±1/√fan-in; a silent network's output layer is zero."""
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    bound = layer.in_features**-0.5
                    layer.weight.uniform_(-bound, bound, generator=generator)
                    layer.bias.uniform_(-bound, bound, generator=generator)
            if self.silent:
                nn.init.zeros_(self.last.weight)
                nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> Tensor:
        rows = features.reshape(-1, features.shape[-1])  # the backward pass is faster on matrices
        h = self.activation(self.first(rows))
        for layer in self.hidden:
            h = h + self.activation(layer(h))
        value: Tensor = self.last(h)
        return value.reshape(*features.shape[:-1], value.shape[-1])


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of every network inside `module` from `generator` (on the CPU, like the weights)."""
    for part in module.modules():
        if isinstance(part, ResidualMLP):
            part.initialise(generator)


class Drifts(Storable):
    """Both drifts of a bridge side by side: (t, x) ↦ (b_F, b_B), (..., d) → (..., 2d)."""

    dim: int

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        value: Tensor = super().__call__(t, x)
        return value

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError


class DriftPair(Drifts):
    """One network for both drifts.

    x is divided by √V(t), V = (1−t)²σ₀² + t²σ₁² + 2εt(1−t) (the variance of a bridge between uncorrelated ends), so
    that the input has unit size at every time; the output is multiplied by max(σ₀, σ₁).  The drifts share a trunk
    because they differ by 2ε times the score only.

    Args:
        dim: dimension d of the points.
        spread0, spread1: standard deviations σ₀, σ₁ of the two datasets (root mean square over coordinates).
        epsilon: the bridge's ε.
        width, depth: size of the residual network.
        silent: start with drifts of zero.
    """

    def __init__(
        self,
        dim: int,
        spread0: float,
        spread1: float,
        epsilon: float,
        width: int = 128,
        depth: int = 3,
        silent: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.width, self.depth, self.silent = dim, width, depth, silent
        self.spread0, self.spread1, self.epsilon = spread0, spread1, epsilon
        self.body = ResidualMLP(dim + time_features(torch.zeros(1)).numel(), 2 * dim, width, depth, silent)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        r = 1 - t
        spread = (r**2 * self.spread0**2 + t**2 * self.spread1**2 + 2 * self.epsilon * t * r).sqrt()
        features = time_features(t.expand(*x.shape[:-1], 1))
        value: Tensor = max(self.spread0, self.spread1) * self.body(torch.cat([x / spread, features], dim=-1))
        return value


class Corrected(Drifts):
    """Two known drifts and a network that is added to them.

    Args:
        known_forward, known_backward: b_F and b_B of another bridge.
        correction: what is added.
    """

    def __init__(self, known_forward: Field, known_backward: Field, correction: DriftPair) -> None:
        super().__init__()
        self.known_forward, self.known_backward, self.correction = known_forward, known_backward, correction
        self.dim = correction.dim

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.cat([self.known_forward(t, x), self.known_backward(t, x)], dim=-1) + self.correction(t, x)


class Confined(Drifts):
    """Drifts that lead to where the data are.

    Between x0 and x1 a bridge goes by b_F(t, x) = (E[x1|x_t = x] − x)/(1−t) and b_B(t, x) = (x − E[x0|x_t = x])/t, and
    a mean of points lies among them.  A network is another matter: where it has seen no point it may be far off, and
    carry one that gets there away at an exponential rate.  So where x + (1−t) b_F or x − t b_B is farther than `reach`
    from the origin, the drift is the one that leads to the end of that reach, on the same ray.

    Args:
        drifts: of a bridge between data centred at the origin.
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
        """What of an end is out of reach."""
        return end * (1 - self.reach * (end.square().sum(-1, keepdim=True) + _TINY).rsqrt()).clamp_min(0)


class Half(Field):
    """The forward (index 0) or backward (index 1) drift of a pair."""

    def __init__(self, pair: Drifts | Framed, index: int) -> None:
        super().__init__()
        self.pair, self.index = pair, index

    @property
    def dim(self) -> int:
        return self.pair.dim

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.pair(t, x).chunk(2, dim=-1)[self.index]


def common_pair(forward_field: Field, backward_field: Field) -> Drifts | Framed | None:
    """The pair whose two halves these fields are, if there is one."""
    halves = [field for field in (forward_field, backward_field) if isinstance(field, Half)]
    is_pair = [half.index for half in halves] == [0, 1] and halves[0].pair is halves[1].pair
    return halves[0].pair if is_pair else None


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

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return -self.inner(1 - t, x)


class Framed(Field):
    """A drift found in a `Frame`'s coordinates, seen from the user's.

    With y = (x − m_t)/a and m_t = (1−t)m₀ + t m₁, a drift ũ(t, y) becomes a·ũ(t, y) + (m₁ − m₀).  y is of order one
    whatever x is, so the inner field may work in less precision than x has.  An inner pair of drifts stays a pair.
    """

    def __init__(self, inner: Field | Drifts, shift0: Tensor, shift1: Tensor, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale
        self.shift0: Tensor
        self.shift1: Tensor
        self.register_buffer("shift0", shift0)
        self.register_buffer("shift1", shift1)

    @property
    def dim(self) -> int:
        return len(self.shift0)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        centre = (1 - t) * self.shift0 + t * self.shift1
        y = (x - centre) / self.scale
        dtype = working_dtype(self.inner, y)
        value = self.scale * self.inner(t.to(dtype), y.to(dtype)).to(y)
        return value + (self.shift1 - self.shift0).repeat(value.shape[-1] // self.dim)


def working_dtype(module: nn.Module, x: Tensor) -> torch.dtype:
    """The dtype a module computes in: that of its tensors, or x's where it has none."""
    return next(chain(module.parameters(), module.buffers()), x).dtype
