"""Certificate: the figures and the sentence of `Bridge.certificate`.

`sbridge.evaluation.certificate.estimate` states how each figure is computed, and the theory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sbridge.errors import InputError
from sbridge.estimates import Estimate, rounded

__all__ = ["Certificate", "Distance", "Meeting", "Passage", "Reference"]

_WELL_ABOVE = 2.0  # times the floor
_COARSE = 0.1  # of the divergence, that halving the steps may change


@dataclass(frozen=True)
class Distance:
    """An energy distance between two samples, in units of the data.

    Args:
        value: unbiased, so about as often below zero as above where the two laws agree.
        floor: what 19 of 20 pairs of samples of one law stay below, by permutation of these two.
    """

    value: float
    floor: float

    def __str__(self) -> str:
        return f"{rounded(self.value)} (floor {rounded(self.floor)})"

    @property
    def visible(self) -> bool:
        """Whether the value is well above its floor."""
        return self.value > _WELL_ABOVE * self.floor


@dataclass(frozen=True)
class Reference:
    """The exact Schrödinger bridges a process was held against: two potentials, fitted to disjoint halves of the data.

    Args:
        first_components, second_components: K of either.
        points0, points1: that each was fitted to, at the process's start and at its end.
        own: by how many nats either of them misses, on average, for having seen no more points than these.
        endpoint: of its ends, from starts it has not seen, to your data.
        dual: D(λ) on points it has not seen, in squared units of the data; the higher, the closer to the bridge.
    """

    first_components: int
    second_components: int
    points0: int
    points1: int
    own: Estimate
    endpoint: Distance
    dual: Estimate


@dataclass(frozen=True)
class Passage:
    """One direction of a bridge: its process from the points of one end.

    Args:
        paths: simulated.
        kl: KL divergence of the process from its reference, in nats, up to t = .99, free of the reference's `own`.
            The standard error is over paths: references fitted to other halves would scatter it by a part of `own`.
        halving: by how much a halving of the steps has changed it, in nats.
        dual_gap: (½E∫|u|²dt − D(λ))/2ε, in nats, its error with that of the steps.  At least the divergence from the
            bridge of your data if the process ends like your data, and nothing otherwise: an end that is too near
            costs too little energy.
        endpoint: of the process's ends to your data.
        hjb, curl: the predictable part of the drift's increment along a path, and its curl; without units, and of the
            size of `turning` at most.  Both are 0 for every Schrödinger bridge:
            its drift solves the Hamilton–Jacobi–Bellman equation, and is a gradient.  No reference is needed.
        turning: the drift's change along a path in the same measure.
        reference: what it was held against.
    """

    paths: int
    kl: Estimate
    halving: Estimate
    dual_gap: Estimate
    endpoint: Distance
    hjb: Estimate
    curl: Estimate
    turning: Estimate
    reference: Reference

    @property
    def doubts(self) -> list[str]:
        """Why the divergence is not what it seems; empty where it is tight."""
        own, end = self.reference.own, self.reference.endpoint
        known = {
            f"the reference itself ends {rounded(end.value)} from your data where the floor is {rounded(end.floor)}, "
            "so it is the bridge of another problem and the fit may be better than this": end.visible,
            f"the reference's own error, {own} nats, is larger, so that this fit and an exact bridge cannot be told "
            "apart; more points would": own.value > self.kl.value,
            f"halving the steps changes it by {self.halving} nats": abs(self.halving.value)
            > max(_COARSE * (abs(self.kl.value) + own.value), 2 * self.kl.standard_error),
        }
        return [doubt for doubt, holds in known.items() if holds]

    @property
    def tight(self) -> bool:
        """Whether nothing speaks against taking `kl` for the divergence from the bridge of your data."""
        return not self.doubts

    def sentence(self, subject: str = "The process") -> str:
        """The divergence in plain words, and whether it is tight."""
        own, end = self.reference.own, self.reference.endpoint
        found = (
            f"{subject} is within {self.kl} nats of an exact Schrödinger bridge (itself known to {rounded(own.value)} "
            f"nats) whose endpoint differs from your data by {rounded(max(end.value, 0.0))} (energy distance; floor "
            f"{rounded(end.floor)})"
        )
        return f"{found}; this is not tight: {'; '.join(self.doubts)}." if self.doubts else f"{found}."


@dataclass(frozen=True)
class Meeting:
    """Distances between the laws of the forward process from x0 and of the backward process from x1, at three times.

    Two drifts of one process give one law at every time; no reference is needed to see it.
    """

    quarter: Distance
    half: Distance
    three_quarters: Distance


@dataclass(frozen=True)
class Certificate:
    """How far a bridge is from a Schrödinger bridge, both ways.

    The divergences are estimates, not bounds, and only as good as their references: read `Passage.doubts`.

    Args:
        epsilon: ε of the bridge.
        forward: its process from x0.
        backward: its process from x1.
        meeting: whether the two meet in between.
    """

    epsilon: float
    forward: Passage
    backward: Passage
    meeting: Meeting

    @property
    def kl(self) -> Estimate:
        """Of the forward process, in nats."""
        return self.forward.kl

    @property
    def sentence(self) -> str:
        """The forward process's divergence in plain words, and whether it is tight."""
        return self.forward.sentence("The forward process")

    def content(self) -> dict[str, Any]:
        """Everything as JSON values, for `of`; the sentence is included for people."""
        return {**asdict(self), "sentence": self.sentence}

    @staticmethod
    def of(content: Mapping[str, Any]) -> Certificate:
        """From what `content` gave.

        Raises:
            InputError: it is something else, or damaged.
        """
        try:
            found = _revived(content)
        except (KeyError, TypeError) as error:
            raise InputError(f"this is no certificate, or it is damaged: {error}") from error
        if not isinstance(found, Certificate):
            raise InputError(f"this is no certificate but a {type(found).__name__}")
        return found


_KINDS = {
    frozenset(field.name for field in fields(kind)): kind
    for kind in (Estimate, Distance, Reference, Passage, Meeting, Certificate)
}


def _revived(content: Any) -> Any:
    """The object with these fields, and so are their values; anything but a mapping as it is."""
    if not isinstance(content, Mapping):
        return content
    known = {name: _revived(value) for name, value in content.items() if name != "sentence"}
    return _KINDS[frozenset(known)](**known)
