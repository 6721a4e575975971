"""Networks: one for both drifts of a bridge, and the adapters by which any torch module serves as one.

A *network factory* is a function (dim, spread0, spread1, epsilon) → module.  The module is called as `module(t, x)`
with t (..., 1) and x (..., d) and answers with the forward and the backward drift side by side, (..., 2d).  It sees the
data in the coordinates of `sbridge.problem.Frame`: centred, and of about unit spread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi, prod
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from sbridge.checks import Checked, Count
from sbridge.errors import InputError
from sbridge.fields import Drifts
from sbridge.storage import Storable

__all__ = ["DriftPair", "NetworkFactory", "OwnDrifts", "ResidualMLP", "ResidualNetwork", "Shaped", "build_network"]
__all__ += ["initialise", "time_features"]

_GAIN = 2.5
_NEAREST = 0.001  # of a time's logarithm to an end

NetworkFactory = Callable[[int, float, float, float], nn.Module]
"""(dim, spread0, spread1, epsilon) → a module (t, x) ↦ both drifts; the spreads are standard deviations of the data."""


def time_features(t: Tensor, octaves: int = 3, logarithms: bool = True) -> Tensor:
    """(..., 1) → (..., 1 + 2·octaves (+ 2)): t itself, sine/cosine pairs of periods 2, 1, ½, …, and log t, log(1 − t).

    The logarithms end at a distance of 0.001 from 0 and 1.  Drifts of narrow laws change by the logarithm of the time
    that is left.
    """
    phases = [2**k * pi * t for k in range(octaves)]
    logs = [(distance + _NEAREST).log() / 3 + 1 for distance in (t, 1 - t) if logarithms]
    return torch.cat([t, *map(torch.sin, phases), *map(torch.cos, phases), *logs], dim=-1)


class ResidualMLP(nn.Module):
    """SiLU layers, h ← h + silu(Wh), between an input and an output layer.

    Args:
        inputs, outputs, width: sizes.
        depth: hidden layers.
        silent: start with an output of zero.
        gain: on the first layer's weights at the start.  With 1 the layers are nearly linear in the input at first,
            and see little of a target whose linear part is known.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int, depth: int, silent: bool = False, gain: float = 1.0
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # layers draw weights from the global generator; ours are drawn below
            self.first = nn.Linear(inputs, width)
            self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
            self.last = nn.Linear(width, outputs)
        self.activation = nn.SiLU()
        self.silent, self.gain = silent, gain
        self.initialise(torch.Generator())

    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights uniformly in ±1/√fan-in, times the first layer's gain; a silent network's output is zero."""
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    bound = layer.in_features**-0.5
                    layer.weight.uniform_(-bound, bound, generator=generator)
                    layer.bias.uniform_(-bound, bound, generator=generator)
            self.first.weight.mul_(self.gain)
            self.first.bias.mul_(self.gain)
        if self.silent:
            self.silence()

    def silence(self) -> None:
        """Set the output layer to zero."""
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> Tensor:
        rows = features.reshape(-1, features.shape[-1])  # the backward pass is faster on matrices
        h = self.activation(self.first(rows))
        for layer in self.hidden:
            h = h + self.activation(layer(h))
        value: Tensor = self.last(h)
        return value.reshape(*features.shape[:-1], value.shape[-1])


class GatedMLP(nn.Module):
    """A `ResidualMLP` whose layers are gated by signals s: h ← h + (1 + G s) silu(Wh), and at last (1 + G s) h.

    Gates start at zero.  With the time as the signal, what is learned at one time disturbs other times less.

    Args:
        inputs, signals, outputs, width: sizes.
        depth: hidden layers.
        gain: as a `ResidualMLP`'s.
    """

    def __init__(self, inputs: int, signals: int, outputs: int, width: int, depth: int, gain: float) -> None:
        super().__init__()
        self.body = ResidualMLP(inputs, outputs, width, depth, gain=gain)
        with torch.random.fork_rng(devices=[]):
            self.gates = nn.ModuleList(nn.Linear(signals, width, bias=False) for _ in range(depth))
        for weight in self.gates.parameters():
            nn.init.zeros_(weight)

    def forward(self, features: Tensor, signals: Tensor) -> Tensor:
        """Outputs (..., outputs) for features (..., inputs), and signals whose leading sizes broadcast to those."""
        *sizes, inputs = features.shape
        width = self.body.last.in_features
        *gates, last = ((1 + gate(signals)).expand(*sizes, -1).reshape(-1, width) for gate in self.gates)
        h = self.body.activation(self.body.first(features.reshape(-1, inputs)))
        for layer, gate in zip(self.body.hidden, gates, strict=True):
            h = h + gate * self.body.activation(layer(h))
        value: Tensor = self.body.last(last * h)
        return value.reshape(*sizes, value.shape[-1])


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
        logarithms: whether it sees log t and log(1 − t) (`time_features`).
    """

    def __init__(
        self,
        dim: int,
        spread0: float,
        spread1: float,
        epsilon: float,
        width: int = 128,
        depth: int = 6,
        logarithms: bool = True,
    ) -> None:
        super().__init__()
        self.dim, self.width, self.depth, self.logarithms = dim, width, depth, logarithms
        self.spread0, self.spread1, self.epsilon = spread0, spread1, epsilon
        times = time_features(torch.zeros(1), logarithms=logarithms).numel()
        self.network = GatedMLP(dim + times, times, 2 * dim, width, depth, _GAIN)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        r = 1 - t
        spread = (r**2 * self.spread0**2 + t**2 * self.spread1**2 + 2 * self.epsilon * t * r).sqrt()
        times = time_features(t.reshape(t.shape or (1,)), logarithms=self.logarithms)
        features = torch.cat([x / spread, times.expand(*x.shape[:-1], -1)], dim=-1)
        value: Tensor = max(self.spread0, self.spread1) * self.network(features, times)
        return value

    def silence(self) -> None:
        """Make both drifts zero by the output layer; training starts from there."""
        self.network.body.silence()


@dataclass(frozen=True)
class ResidualNetwork(Checked):
    """The factory of the default network, a `DriftPair`.

    Args:
        width: units of a hidden layer.
        depth: hidden layers.
        logarithms: whether it sees log t and log(1 − t), too.  Without them it is less drawn to targets next to the
            ends, which is better where a method does not weigh these down.
    """

    width: Count = 128
    depth: Count = 6
    logarithms: bool = True

    def __call__(self, dim: int, spread0: float, spread1: float, epsilon: float) -> DriftPair:
        return DriftPair(dim, spread0, spread1, epsilon, self.width, self.depth, self.logarithms)


class OwnDrifts(Drifts):
    """Both drifts by any torch module, times a gain that is trained with it.

    A bridge's file holds the weights of the module, not the module: `Bridge.load(path, like=module)`.

    Args:
        module: (t, x) ↦ both drifts side by side, (..., d) → (..., 2d).
        dim: dimension d of the points.
    """

    def __init__(self, module: nn.Module, dim: int) -> None:
        super().__init__()
        self.module, self.dim = module, dim
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        value: Tensor = self.module(t.expand(*x.shape[:-1], 1), x)
        return self.gain * value

    def silence(self) -> None:
        """Make both drifts zero by the gain; training starts from there."""
        nn.init.zeros_(self.gain)


@dataclass(frozen=True)
class Shaped(Checked):
    """The factory of a network that sees points in a shape of their own, such as images (channels, height, width).

    Args:
        shape: of a point; its product is the dimension d.
        make: makes the module, called as `module(t, x)` with t (n, 1) and x (n, *shape).  It answers (n, 2, *shape), or
            with the two drifts one after the other along the channels, (n, 2·channels, height, width).

    Raises:
        InputError: (when the network is built) the points have another dimension.
    """

    shape: Annotated[tuple[Count, ...], MinLen(1)]
    make: Callable[[], nn.Module]

    def __call__(self, dim: int, spread0: float, spread1: float, epsilon: float) -> nn.Module:
        if prod(self.shape) != dim:
            count = prod(self.shape)
            raise InputError(f"points of shape {self.shape} have {count} values, but the data have {dim} columns")
        flat = _Flat(self.make())
        flat.shape = self.shape
        return flat


class _Flat(Storable):
    """A module on points of a `shape`, seen from flat ones."""

    kept: ClassVar[Mapping[str, Any]] = {"shape": list[int]}
    shape: tuple[int, ...]

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        points = x.reshape(-1, *self.shape)
        value: Tensor = self.module(t.reshape(-1, 1), points)
        return value.reshape(*x.shape[:-1], 2 * x.shape[-1])


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of every network inside `module` from `generator` (on the CPU, like the weights)."""
    for part in module.modules():
        if isinstance(part, ResidualMLP):
            part.initialise(generator)


def build_network(
    factory: NetworkFactory, dim: int, spreads: tuple[float, float], epsilon: float, seed: int
) -> DriftPair | OwnDrifts:
    """The factory's network, its weights decided by the seed.

    Modules draw their weights from torch's global generator, whose state is put back afterwards.

    Raises:
        InputError: the module does not answer (..., 2d).
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not those of other devices, which would not be put back
        module = factory(dim, *spreads, epsilon)
    drifts = module if isinstance(module, DriftPair) else OwnDrifts(module, dim)
    initialise(drifts, torch.Generator().manual_seed(seed))
    _check_answer(drifts)
    return drifts


def _check_answer(drifts: DriftPair | OwnDrifts) -> None:
    x = torch.zeros(2, 3, drifts.dim)
    with torch.no_grad():
        found = drifts(torch.full((2, 1, 1), 0.5), x).shape
    if found != (2, 3, 2 * drifts.dim):
        raise InputError(
            f"the network answers points {tuple(x.shape)} with {tuple(found)}; both drifts side by side are "
            f"{(2, 3, 2 * drifts.dim)}"
        )
