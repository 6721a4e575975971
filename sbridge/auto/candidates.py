"""Candidates of a contest: both directions of a fit, with their dual values on held-out points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from sbridge.auto.closed import Components, Family, turned
from sbridge.auto.held_out import HeldOut
from sbridge.bridge import Bridge
from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.duality import Dual
from sbridge.evaluation.certificate.estimate import WithPotential
from sbridge.fields import Field
from sbridge.potentials.bridge import PotentialBridge

__all__ = ["Candidate", "Sides", "Way", "chosen", "fitted", "joined", "judged"]

_SURE = 2.0  # standard errors by which a network must be better than the best closed form

Sides = tuple[HeldOut, HeldOut]
"""The points as the forward process sees them, and as the backward process does."""


@dataclass(frozen=True)
class Way:
    """One direction of a candidate.

    Args:
        field: its drift in the time of that direction.
        dual: its value on the held-out points.
        potential: its λ, where it is a closed form.
    """

    field: Field
    dual: Dual
    potential: WithPotential | None = None

    def ahead_of(self, other: Way) -> Estimate:
        """By how many nats it is nearer to the bridge of the data than another."""
        return self.dual.minus(other.dual).value


@dataclass(frozen=True)
class Candidate:
    """A fit.

    Args:
        name: in tables.
        ways: forward, and backward in reversed time.
        seconds: of the fit.
        family, components: by which a closed form can be fitted again.
        bridge: of the network.
    """

    name: str
    ways: tuple[Way, Way]
    seconds: float
    family: Family | None = None
    components: Components = None
    bridge: Bridge | None = None


def fitted(family: Family, sides: Sides, random_state: int) -> list[Candidate]:
    """The closed forms of a family."""
    begin = perf_counter()
    found = family(sides[0].fitted, random_state, None)
    seconds = perf_counter() - begin
    candidates = []
    for name, both in found.candidates.items():
        pairs = zip(sides, both, strict=True)
        there, back = (Way(one.field, side.dual(one.potential), one.potential) for side, one in pairs)
        candidates.append(Candidate(name, (there, back), seconds, family, found.components))
    return candidates


def judged(name: str, bridge: Bridge, sides: Sides, seconds: float) -> Candidate:
    """A trained network; its dual values are estimated by its own paths.

    Raises:
        DivergenceError: a path is not finite.
    """
    processes = bridge, Bridge(turned(bridge.backward_field), turned(bridge.forward_field), bridge.epsilon)
    there, back = (Way(one.forward_field, side.dual(one)) for side, one in zip(sides, processes, strict=True))
    return Candidate(name, (there, back), seconds, bridge=bridge)


def chosen(way: int, candidates: Sequence[Candidate]) -> Candidate:
    """The best closed form of a direction, unless the network is certainly better."""
    closed = [one for one in candidates if one.bridge is None]
    best = max(closed, key=lambda one: one.ways[way].dual.value.value)
    for one in candidates:
        gain = one.ways[way].ahead_of(best.ways[way])
        if one.bridge is not None and gain.value > _SURE * gain.standard_error:
            return one
    return best


def joined(there: Candidate, back: Candidate) -> Bridge:
    """The bridge with the forward drift of one candidate and the backward drift of another."""
    if there.bridge is not None and there is back:
        return there.bridge
    first, second = there.ways[0], back.ways[1]
    backward, own = turned(second.field), first.potential
    if isinstance(own, PotentialBridge) and second.potential is not None:
        return PotentialBridge(own.forward_field, backward, own.epsilon, own.starts, own.dual, own.dual_error)
    epsilon = next(one.epsilon for one in (own, second.potential, there.bridge) if one is not None)
    return Bridge(first.field, backward, epsilon)
