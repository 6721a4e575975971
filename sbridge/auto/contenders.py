"""Contenders of a contest: both directions of a fit, compared on held-out points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import hypot
from time import perf_counter

from sbridge.auto.closed import FitClosed, turned
from sbridge.auto.held_out import HeldOut
from sbridge.bridge import Bridge
from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.duality import Dual
from sbridge.evaluation.certificate.known import WithPotential
from sbridge.fields import Field
from sbridge.potentials.bridge import PotentialBridge

__all__ = ["Contender", "Sides", "Way", "best_in", "bridge_of", "fitted", "trained"]

_SURE = 2.0  # standard errors

Sides = tuple[HeldOut, HeldOut]
"""The points as the forward process sees them, and as the backward process does."""


@dataclass(frozen=True)
class Way:
    """One direction of a contender.

    Args:
        field: its drift in the time of that direction.
        side: the points as this direction sees them.
        potential: of a closed form; None for a network.
        closed: for a network, the best closed form.
    """

    field: Field
    side: HeldOut
    potential: WithPotential | None = None
    closed: Way | None = None

    @cached_property
    def dual(self) -> Dual | None:
        """The value of a closed form; that of a time reversal takes long, so it is computed when asked for."""
        return None if self.potential is None else self.side.dual(self.potential)

    @property
    def compared(self) -> bool:
        """Whether the dual value was asked for."""
        return "dual" in vars(self)

    @cached_property
    def glimpse(self) -> Dual | None:
        """The dual value on a tenth of the points."""
        return None if self.potential is None else self.side.few().dual(self.potential)

    def promises_more_than(self, other: Way) -> bool:
        """Whether a glimpse leaves it possible that a closed form is ahead of another."""
        assert self.glimpse is not None and other.glimpse is not None
        lead = self.glimpse.minus(other.glimpse).value
        return lead.value > -_SURE * lead.standard_error

    @cached_property
    def lead(self) -> Estimate:
        """By how many nats a network is nearer to the bridge of the data than the best closed form."""
        assert self.closed is not None
        return self.side.lead(self.field, self.closed.field)

    def ahead_of(self, other: Way) -> Estimate:
        """By how many nats it is nearer to the bridge of the data.

        Closed forms are compared by their duals, and a network with the others through the best of them.
        """
        if self is other:
            return Estimate(0.0, 0.0)
        if self.closed is not None:
            between = self.closed.ahead_of(other)
            return Estimate(self.lead.value + between.value, hypot(self.lead.standard_error, between.standard_error))
        if other.closed is not None:
            behind = other.ahead_of(self)
            return Estimate(-behind.value, behind.standard_error)
        assert self.dual is not None and other.dual is not None
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
        there, back = (Way(one.field, side, one.potential) for side, one in zip(sides, both, strict=True))
        source = found.reversals.get(name, "")
        contenders.append(Contender(name, (there, back), seconds, source, found.fitted))
    return contenders


def trained(name: str, bridge: Bridge, seconds: float, closed: tuple[Way, Way]) -> Contender:
    """A network, to be compared with the best closed form of each direction."""
    fields = bridge.forward_field, turned(bridge.backward_field)
    there, back = (Way(field, best.side, closed=best) for field, best in zip(fields, closed, strict=True))
    return Contender(name, (there, back), seconds, bridge=bridge)


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
        if _looked_at(one, way, best, good) and _certainly(one.ways[way], best.ways[way]):
            best = one
    return best


def _looked_at(one: Contender, way: int, best: Contender, good: set[str]) -> bool:
    if not one.reversal_of:
        return one.bridge is not None or not one.fitted
    if one.reversal_of not in good or best.bridge is not None:
        return False
    return one.ways[way].compared or one.ways[way].promises_more_than(best.ways[way])


def _highest(way: int, contenders: Sequence[Contender]) -> Contender:
    """The closed form of the highest dual value."""
    return max(contenders, key=lambda one: one.ways[way].ahead_of(contenders[0].ways[way]).value)


def _certainly(one: Way, other: Way) -> bool:
    """Whether it is ahead of the other by more than the noise."""
    gain = one.ahead_of(other)
    return gain.value > _SURE * gain.standard_error


def bridge_of(there: Contender, back: Contender) -> Bridge:
    """The bridge with the forward drift of one contender and the backward drift of another."""
    if there.bridge is not None and there is back:
        return there.bridge
    first, second = there.ways[0], back.ways[1]
    backward, own = turned(second.field), first.potential
    if isinstance(own, PotentialBridge) and back.bridge is None:
        return PotentialBridge(own.forward_field, backward, own.epsilon, own.starts, own.dual, own.dual_error)
    return Bridge(first.field, backward, first.side.fitted.epsilon)
