"""Contenders of a contest: both directions of a fit, with their dual values on held-out points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter

from sbridge.auto.closed import FitClosed, turned
from sbridge.auto.held_out import HeldOut
from sbridge.bridge import Bridge
from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.duality import Dual
from sbridge.evaluation.certificate.estimate import WithPotential
from sbridge.fields import Field
from sbridge.potentials.bridge import PotentialBridge

__all__ = ["Contender", "Sides", "Way", "best_in", "bridge_of", "fitted", "judged"]

_SURE = 2.0  # standard errors

Sides = tuple[HeldOut, HeldOut]
"""The points as the forward process sees them, and as the backward process does."""


@dataclass(frozen=True)
class Way:
    """One direction of a contender.

    Args:
        field: its drift in the time of that direction.
        process: what gives its dual value: a bridge whose forward process it is, or the potential of a closed form.
        side: the points as this direction sees them.
    """

    field: Field
    process: Bridge | WithPotential
    side: HeldOut

    @cached_property
    def dual(self) -> Dual:
        """Its value on the held-out points; that of a time reversal takes long, so it is computed when asked for."""
        return self.side.dual(self.process)

    @property
    def compared(self) -> bool:
        """Whether the dual value was asked for."""
        return "dual" in vars(self)

    def ahead_of(self, other: Way) -> Estimate:
        """By how many nats it is nearer to the bridge of the data than another."""
        return self.dual.minus(other.dual).value


@dataclass(frozen=True)
class Contender:
    """A fit.

    Args:
        name: in tables.
        ways: forward, and backward in reversed time.
        seconds: of the fit.
        reversal_of: the name of the contender that it is the time reversal of.
        fitted: whether it is fitted to the shape of the data.
        bridge: of the network.
    """

    name: str
    ways: tuple[Way, Way]
    seconds: float
    reversal_of: str = ""
    fitted: bool = True
    bridge: Bridge | None = None


def fitted(family: FitClosed, sides: Sides, random_state: int) -> list[Contender]:
    """The closed forms of a family."""
    begin = perf_counter()
    found = family(sides[0].fitted, random_state)
    seconds = perf_counter() - begin
    contenders = []
    for name, both in found.contenders.items():
        there, back = (Way(one.field, one.potential, side) for side, one in zip(sides, both, strict=True))
        source = found.reversals.get(name, "")
        contenders.append(Contender(name, (there, back), seconds, source, found.fitted))
    return contenders


def judged(name: str, bridge: Bridge, sides: Sides, seconds: float) -> Contender:
    """A trained network; its dual values are estimated by its own paths.

    Raises:
        DivergenceError: a path is not finite.
    """
    processes = bridge, Bridge(turned(bridge.backward_field), turned(bridge.forward_field), bridge.epsilon)
    there, back = (Way(one.forward_field, one, side) for side, one in zip(sides, processes, strict=True))
    contender = Contender(name, (there, back), seconds, bridge=bridge)
    assert there.dual and back.dual  # computed now
    return contender


def best_in(way: int, contenders: Sequence[Contender]) -> Contender:
    """The best fit of a closed form to a direction, unless one that is not such a fit is certainly better.

    That is a time reversal, the network, or no drift.  The time reversal of a fit can be good only where that fit is.
    And a single held-out point where a fit has no mass can put the fit behind no drift, but not certainly.
    """
    closed = [one for one in contenders if one.bridge is None and not one.reversal_of]
    own = [one for one in closed if one.fitted] or closed
    opposite = _highest(1 - way, own)
    good = {one.name for one in own if not _certainly(opposite.ways[1 - way], one.ways[1 - way])}
    best = _highest(way, own)
    for one in contenders:
        looked_at = one.bridge is not None or not one.fitted or one.reversal_of in good
        if looked_at and _certainly(one.ways[way], best.ways[way]):
            best = one
    return best


def _highest(way: int, contenders: Sequence[Contender]) -> Contender:
    return max(contenders, key=lambda one: one.ways[way].dual.value.value)


def _certainly(one: Way, other: Way) -> bool:
    """Whether it is ahead of the other by more than the noise."""
    gain = one.ahead_of(other)
    return gain.value > _SURE * gain.standard_error


def bridge_of(there: Contender, back: Contender) -> Bridge:
    """The bridge with the forward drift of one contender and the backward drift of another."""
    if there.bridge is not None and there is back:
        return there.bridge
    first, second = there.ways[0], back.ways[1]
    backward, own = turned(second.field), first.process
    if isinstance(own, PotentialBridge) and back.bridge is None:
        return PotentialBridge(own.forward_field, backward, own.epsilon, own.starts, own.dual, own.dual_error)
    return Bridge(first.field, backward, own.epsilon)
