"""Contenders of a contest: both directions of a fit, compared on held-out points, and the answer made of them."""

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
from sbridge.evaluation.pairs import Leads
from sbridge.fields import Blend, Field
from sbridge.potentials.bridge import PotentialBridge

__all__ = ["Contender", "Learned", "Network", "Sides", "Way", "answer_of", "best_in", "fitted", "trained"]

_SURE = 2.0  # standard errors

Sides = tuple[HeldOut, HeldOut]
"""The points as the forward process sees them, and as the backward process does."""


@dataclass(frozen=True)
class Way:
    """One direction of a closed form.

    Args:
        field: its drift in the time of that direction.
        side: the points as this direction sees them.
        potential: its λ.
    """

    field: Field
    side: HeldOut
    potential: WithPotential

    @cached_property
    def dual(self) -> Dual:
        """Its value; that of a time reversal takes long, so it is computed when asked for."""
        return self.side.dual(self.potential)

    @property
    def compared(self) -> bool:
        """Whether the dual value was asked for."""
        return "dual" in vars(self)

    @cached_property
    def glimpse(self) -> Dual:
        """The dual value on a tenth of the points."""
        return self.side.few().dual(self.potential)

    def promises_more_than(self, other: Way) -> bool:
        """Whether a glimpse leaves it possible that it is ahead of another."""
        lead = self.glimpse.minus(other.glimpse).value
        return lead.value > -_SURE * lead.standard_error

    def ahead_of(self, other: Way) -> Estimate:
        """By how many nats it is nearer to the bridge of the data."""
        return self.dual.minus(other.dual).value


@dataclass(frozen=True)
class Contender:
    """A closed form.

    Args:
        name: in tables.
        ways: forward, and backward in reversed time.
        seconds: of the fit.
        reversal_of: the name of the contender that it is the time reversal of.
        fitted: whether it is fitted to the shape of the data.
    """

    name: str
    ways: tuple[Way, Way]
    seconds: float
    reversal_of: str = ""
    fitted: bool = True


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


def best_in(way: int, contenders: Sequence[Contender]) -> Contender:
    """The best fit to a direction, unless one that is not such a fit is certainly better.

    That is a time reversal, or no drift.  The time reversal of a fit can be good only where that fit is.  And a single
    held-out point where a fit has no mass can put the fit behind no drift, but not certainly.
    """
    direct = [one for one in contenders if not one.reversal_of]
    own = [one for one in direct if one.fitted] or direct
    opposite = _highest(1 - way, own)
    good = {one.name for one in own if not _certainly(opposite.ways[1 - way], one.ways[1 - way])}
    best = _highest(way, own)
    for one in contenders:
        if _looked_at(one, way, best, good) and _certainly(one.ways[way], best.ways[way]):
            best = one
    return best


def _looked_at(one: Contender, way: int, best: Contender, good: set[str]) -> bool:
    if not one.reversal_of:
        return not one.fitted
    if one.reversal_of not in good:
        return False
    return one.ways[way].compared or one.ways[way].promises_more_than(best.ways[way])


def _highest(way: int, contenders: Sequence[Contender]) -> Contender:
    """The one of the highest dual value."""
    return max(contenders, key=lambda one: one.ways[way].ahead_of(contenders[0].ways[way]).value)


def _certainly(one: Way, other: Way) -> bool:
    """Whether it is ahead of the other by more than the noise."""
    gain = one.ahead_of(other)
    return gain.value > _SURE * gain.standard_error


@dataclass(frozen=True)
class Learned:
    """One direction of a network, beside the best closed form of that direction.

    With L the network's lead over the closed form and C how far the two are from each other, the blend w·û + (1 − w)·b
    of their drifts is ahead of b by wL + w(1 − w)C nats, because a squared error is quadratic.  That is most for
    w = ½(1 + L/C); then it is nearer to the bridge than either of them.  If b is the bridge of the data, L is −C.
    Where L + C is less than two standard errors, w is 0: a closed form is an exact bridge, and does not stop being one
    for what may be noise.

    Args:
        field: its drift in the time of that direction.
        closed: the closed form.
    """

    field: Field
    closed: Way

    @cached_property
    def _leads(self) -> Leads:
        return self.closed.side.leads(self.field, self.closed.field)

    @property
    def lead(self) -> Estimate:
        """L, in nats."""
        return Estimate.of(self._leads.ahead)

    @property
    def apart(self) -> float:
        """C, in nats."""
        return float(self._leads.apart.mean())

    @cached_property
    def share(self) -> float:
        """w, to the hundredth."""
        if self.apart == 0:
            return 0.0
        if self.lead.value + self.apart <= _SURE * self.lead.standard_error:
            return 0.0
        return round(min(1.0, (1 + self.lead.value / self.apart) / 2), 2)

    @property
    def gain(self) -> Estimate:
        """By how many nats the blend is ahead of the closed form."""
        lead, share = self.lead, self.share
        return Estimate(share * lead.value + share * (1 - share) * self.apart, share * lead.standard_error)

    @property
    def behind(self) -> Estimate:
        """By how many nats the network alone is behind the blend."""
        return Estimate(self.gain.value - self.lead.value, (1 - self.share) * self.lead.standard_error)

    def closed_behind(self, closed: Way) -> Estimate:
        """The same of any closed form."""
        first = self.closed.ahead_of(closed)
        return Estimate(first.value + self.gain.value, hypot(first.standard_error, self.gain.standard_error))

    @property
    def blend(self) -> Field:
        """The drift of the blend."""
        if self.share in (0, 1):
            return self.field if self.share else self.closed.field
        return Blend(self.field, self.closed.field, self.share)


@dataclass(frozen=True)
class Network:
    """A network.

    Args:
        bridge: of the network alone.
        ways: forward, and backward in reversed time.
    """

    bridge: Bridge
    ways: tuple[Learned, Learned]


def trained(bridge: Bridge, closed: tuple[Way, Way]) -> Network:
    """The network of a bridge, beside the best closed forms."""
    return Network(
        bridge, (Learned(bridge.forward_field, closed[0]), Learned(turned(bridge.backward_field), closed[1]))
    )


def answer_of(closed: tuple[Way, Way], network: Network | None) -> Bridge:
    """The bridge of the best closed forms, or of their blends with the network."""
    if network is None or network.ways[0].share == network.ways[1].share == 0:
        return _closed(*closed)
    there, back = network.ways
    if there.share == back.share == 1:
        return network.bridge
    epsilon = network.bridge.epsilon
    return Bridge(there.blend, turned(back.blend), epsilon, network.bridge.interpolant, network.bridge.remark)


def _closed(there: Way, back: Way) -> Bridge:
    """The bridge with the forward drift of one closed form and the backward drift of another."""
    backward, own = turned(back.field), there.potential
    if isinstance(own, PotentialBridge):
        return PotentialBridge(own.forward_field, backward, own.epsilon, own.starts, own.dual, own.dual_error)
    return Bridge(there.field, backward, there.side.fitted.epsilon)
