"""Certificate: the figures of `Bridge.certificate`, and the verdict that follows from them.

`estimate` states how each figure is computed, and the theory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil, hypot, inf
from typing import Any, Literal

from sbridge.checks import made_of
from sbridge.errors import InputError
from sbridge.estimates import Estimate, rounded
from sbridge.evaluation.certificate.columns import ColumnGap

__all__ = ["MOST_POINTS", "Certificate", "Distance", "EndCheck", "Meeting", "Passage", "Residual", "Verdict"]

MOST_POINTS = 10_000
"""Points a side that a certificate uses."""

Word = Literal["trust", "cannot tell", "do not trust"]

# Written into files; certificates without it are of an earlier kind.
_METHOD = "duality, pairs and moments, columns by quantiles, ends by dimension, hidden parts"
_WRONG = 0.5  # nats: from there on the probabilities of an event may differ by one half (Pinsker)
_SMALL = 0.1  # nats, below which nobody asks how exactly they are known
_SURE = 0.01  # largest p-value of a visible difference
_DOUBTFUL = 0.05  # and of one that cannot be left out of the error
_CLOSE = 4  # dimensions in which neighbours are near enough to measure a difference; in 8 a tenth of it was seen
_CLEAR = 3.0  # standard errors of a gap of moments that is visible
_MARGIN = 1.2  # on the number of points that is advised
_BRIDGE = "the Schrödinger bridge of your data"
_WELL_ABOVE = 2.0  # times the floor
_FAR_APART = 10.0  # times the floor: two directions that are not one process


@dataclass(frozen=True)
class Verdict:
    """What to make of a bridge.

    Args:
        word: trust, cannot tell, or do not trust.
        reason: why, and what would help.
    """

    word: Word
    reason: str

    def __str__(self) -> str:
        return f"{self.word[0].upper()}{self.word[1:]}: {self.reason}."

    @property
    def rank(self) -> int:
        """The higher, the worse."""
        return ("trust", "cannot tell", "do not trust").index(self.word)


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
class Residual:
    """Root mean square of L − ψ(X₁) + c(X₀), in nats, of the regression of ψ; both are 0 where ψ is known.

    Args:
        fitted: on the paths of the regression.
        held_out: on other paths.
    """

    fitted: float
    held_out: float

    @property
    def error(self) -> float:
        """By how many nats the regression's own error raises the distance: it is about ½ of the excess variance / 2."""
        return max(0.0, self.held_out**2 - self.fitted**2) / 4


@dataclass(frozen=True)
class EndCheck:
    """A two-sample check by nearest neighbours of a process's ends and the data.

    Args:
        points: of either sample.
        divergence: the mean of KL(data‖ends) and KL(ends‖data) at the scale of the distance between neighbours, in
            nats; finer differences add to it.
        floor: what 19 of 20 pairs of samples of one law stay below, by relabelling these points.
        p_value: of one law for both, by relabelling.
        grown: by how much it has grown from half of the points to all, in nats.
        blur: its power: the least normal noise on every point, in spreads of the columns, that it would have seen;
            none if it would not have seen even .8.
        dim: dimension of the points.
    """

    points: int
    divergence: Estimate
    floor: float
    p_value: float
    grown: float
    blur: float | None
    dim: int

    def __str__(self) -> str:
        return f"{self.divergence} nats (floor {rounded(self.floor)}, p {rounded(self.p_value)})"

    @property
    def visible(self) -> bool:
        """Whether the two laws certainly differ."""
        return self.p_value <= _SURE and self.divergence.value > self.floor

    @property
    def coarse(self) -> bool:
        """Whether there are so many dimensions that neighbours are far from each other.

        A difference that is finer than their distance is not measured.
        """
        return self.dim > _CLOSE

    @property
    def seen_in_part(self) -> bool:
        """Whether they differ, in too many dimensions to say by how much."""
        return self.visible and self.coarse

    @property
    def power(self) -> str:
        """In words."""
        if self.blur is None:
            return f"{self.points:,} points would miss even a blur of 0.8 spreads"
        return f"{self.points:,} points would have shown a blur of {rounded(self.blur)} spreads"


@dataclass(frozen=True)
class Passage:
    """One direction of a bridge: its process from the points of one end.

    Args:
        starts, paths: the points that the distance is measured from, and the paths from each.
        distance: KL divergence of the process from an exact Schrödinger bridge P_ψ near it, from the same start to an
            end of its own, in nats; extrapolated from 60, 30 and 15 steps to steps of no length.
        fewer_paths, fewer_steps: what half of the paths from each start, and half of the steps, would change.
        residual: of the regression of ψ; zero where ψ is in closed form.
        dual: D(ψ) on your points, in nats, less |s|²/2ε·½ for the mean displacement s.
        behind: by how many nats a mixture potential that is fitted to half of your points is nearer to their bridge, on
            the other half; negative where it is farther.  The process is at least so far from that bridge.
        end_error: E ψ at the process's ends less E ψ at your data, in nats.
        ends: whether the process ends like your data.
        smooth: what the means and covariances of its ends miss of those of your data, in nats of paths (`ends`).
        column: the column that it misses most.
        hjb, curl: the predictable part of the drift's increment along a path, and its curl; without units, and of the
            size of `turning` at most.  Both are 0 for every Schrödinger bridge:
            its drift solves the Hamilton–Jacobi–Bellman equation, and is a gradient.
        turning: the drift's change along a path in the same measure.
    """

    starts: int
    paths: int
    distance: Estimate
    fewer_paths: Estimate
    fewer_steps: Estimate
    residual: Residual
    dual: Estimate
    behind: Estimate
    end_error: Estimate
    ends: EndCheck
    smooth: Estimate
    column: ColumnGap
    hjb: Estimate
    curl: Estimate
    turning: Estimate

    @property
    def divergence(self) -> Estimate:
        """How far the process is from the Schrödinger bridge of your data, in nats, as far as these points can tell.

        It is the distance to its own exact bridge, and what its end misses: what the check of the end found, as much
        again as that gained from half of the points to all, and for the paths that lead there what its moments miss.
        Or it is what the process is behind a mixture
        potential, if that is more.  The error is that of the paths, of the regression, of the steps, of that gain, and
        half of what the end misses, or of what it is behind: these tell only a part of how far the process is off.  In
        more than four dimensions what its end hides is added, and is an error too (`hidden`).
        """
        errors = (self._scatter, self.missed.standard_error, self.unseen, self.missed.value / 2, self.hidden)
        error = hypot(*errors, self.misfit, self.fewer_steps.value / 3)
        if self.outdone:
            return Estimate(self.behind.value, hypot(error, self.behind.standard_error, self.behind.value / 2))
        return Estimate(self._own + self.hidden, error)

    @property
    def _own(self) -> float:
        """What its paths and their end tell."""
        return max(self.distance.value, 0.0) + self.missed.value + self.unseen

    @property
    def outdone(self) -> bool:
        """Whether a mixture potential is certainly nearer to the bridge of your data, by more than its paths tell."""
        return self.behind.value > max(self._own, 2 * self.behind.standard_error)

    @property
    def bounded(self) -> bool:
        """Whether only a bound is stated, because there may be more that is too fine for the points."""
        word = self.verdict.word
        return self.at_least > 0 and (word == "do not trust" or (word == "cannot tell" and self._open))

    @property
    def _open(self) -> bool:
        """Whether something is wrong with it of which the points may show a part only."""
        return self.ends.visible or self.outdone

    @property
    def stated(self) -> str:
        """The divergence in words."""
        return f"at least {rounded(self.at_least)} nats" if self.bounded else f"{self.divergence} nats"

    @property
    def at_least(self) -> float:
        """What the process is certainly away from the bridge of your data, in nats: what two standard errors leave."""
        own = max(self.distance.value, 0.0) - self.misfit - abs(self.fewer_steps.value) / 3
        found = max(own, 0.0) + self.missed.value - 2 * hypot(self._scatter, self.missed.standard_error)
        return max(found, self.behind.value - 2 * self.behind.standard_error)

    @property
    def misfit(self) -> float:
        """By how many nats the regression of ψ may have raised the distance.

        It is what more paths would mend, or what of the distance neither the predictable part of the drift's increments
        nor its curl shows: of a bridge both are zero, and the distance with a ψ too sharp for its network is not.
        """
        shown = self.hjb.value + 2 * self.hjb.standard_error + self.curl.value
        return max(self.residual.error, self.distance.value - shown, 0.0)

    @property
    def missed(self) -> Estimate:
        """By how many nats the end is off; 0 where nothing is certain, and what is found once in 20 is an error."""
        ends, smooth = self.ends.divergence, self.smooth
        seen = ends.value if self.ends.visible else 0.0
        doubt = ends.value if not seen and self.ends.p_value <= _DOUBTFUL else 0.0
        paths = smooth.value if smooth.value > _CLEAR * smooth.standard_error else 0.0
        return Estimate(seen + paths, max(ends.standard_error, doubt) + smooth.standard_error)

    @property
    def unseen(self) -> float:
        """What the check of the ends gained from half of the points to all, in nats, if it found something."""
        return max(self.ends.grown, 0.0) if self.ends.visible else 0.0

    @property
    def hidden(self) -> float:
        """What the end is expected to miss unseen, in nats.

        What a network gets wrong on the way it gets wrong at its end too.  In many dimensions no check of the end sees
        that.  It is between nothing and about as much again as the paths show, so half of that, with an error as large.
        """
        return max(self.distance.value, 0.0) / 2 if self.ends.coarse else 0.0

    @property
    def _scatter(self) -> float:
        return hypot(self.distance.standard_error, self.fewer_paths.value)

    @property
    def verdict(self) -> Verdict:
        """Whether to trust the process; it names the column that is off most, if that can be told from the data."""
        found = self.divergence
        most = found.value + 2 * found.standard_error
        if self.column.far:
            return Verdict("do not trust", f"at its end, {self.column}")
        if self.at_least > _WRONG:
            return Verdict(
                "do not trust", f"at least {rounded(self.at_least)} nats from {_BRIDGE}{self._share}{self._column}"
            )
        known = most <= _SMALL or (most <= _WRONG and 2 * found.standard_error <= found.value)
        if known and not self.ends.seen_in_part:
            return Verdict("trust", f"within {rounded(most)} nats of {_BRIDGE}{self._column}")
        bounded = self._open and self.at_least > 0
        size = f"at least {rounded(self.at_least)}" if bounded else f"about {found}"
        return Verdict("cannot tell", f"{size} nats from {_BRIDGE}; {self._help()}{self._column}")

    @property
    def _column(self) -> str:
        return f"; at its end, {self.column}" if self.column.visible else ""

    @property
    def _share(self) -> str:
        """Where most of what is wrong was seen."""
        if self.outdone:
            return f", because a mixture potential is nearer by {self.behind}"
        return ", most of them in the law of its end" if self.missed.value > self.distance.value else ""

    def _help(self) -> str:
        """What the largest part of the error is, and what would make it smaller."""
        parts = {
            "its end visibly differs from your data, and there may be more that cannot be seen; a longer or better fit "
            "would have no such difference": inf if self.ends.seen_in_part else self.missed.value / 2 + self.unseen,
            "a mixture potential is nearer, and there may be more that cannot be seen; keep that one, or fit longer": (
                self.behind.value / 2 if self.outdone else 0.0
            ),
            self._more_points(): self.missed.standard_error,
            "its potential is too sharp for the regression, which has more paths with more points": self.misfit,
            "its paths change with the length of the steps": abs(self.fewer_steps.value) / 3,
            "its paths scatter": self._scatter,
            f"in {self.ends.dim} dimensions no check sees all of its end; a better fit has less to hide": self.hidden,
        }
        return max(parts, key=lambda part: parts[part])

    def _more_points(self) -> str:
        """How many held-out points would leave an error that is small enough to trust a good fit."""
        error, points = self.missed.standard_error, self.ends.points
        needed = 1000 * ceil(_MARGIN * points * (2 * error / _SMALL) ** 2 / 1000)
        most = f"about {needed:,} would do" if needed <= MOST_POINTS else f"{MOST_POINTS:,} would not be enough"
        return f"{points:,} held-out points a side know the law of the end only to {rounded(2 * error)} nats; {most}"


@dataclass(frozen=True)
class Meeting:
    """Distances between the laws of the forward process from x0 and of the backward process from x1, at three times.

    Two drifts of one process give one law at every time.
    """

    quarter: Distance
    half: Distance
    three_quarters: Distance

    @property
    def apart(self) -> Distance | None:
        """The largest of the distances, if it is far above its floor."""
        worst = max((self.quarter, self.half, self.three_quarters), key=lambda one: one.value / one.floor)
        return worst if worst.value > _FAR_APART * worst.floor else None


@dataclass(frozen=True)
class Certificate:
    """How far a bridge is from the Schrödinger bridge of the data, both ways, without knowing that bridge.

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
    def divergence(self) -> Estimate:
        """Of the forward process, in nats."""
        return self.forward.divergence

    @property
    def verdict(self) -> Verdict:
        """The worse of both directions'."""
        both = {"forward": self.forward, "backward": self.backward}
        direction = max(both, key=lambda name: both[name].verdict.rank)
        worst, apart = both[direction].verdict, self.meeting.apart
        if worst.word != "trust":
            return Verdict(worst.word, f"{direction}, {worst.reason}")
        if apart is not None:
            return Verdict("cannot tell", f"the two directions are not one process: {apart} apart on the way")
        most = max(one.divergence.value + 2 * one.divergence.standard_error for one in both.values())
        return Verdict(
            "trust", f"both directions are within {rounded(most)} nats of the bridge of your data{self._column}"
        )

    @property
    def _column(self) -> str:
        """The column that is off most at either end, if that can be told from the data."""
        ends = {"forward": self.forward.column, "backward": self.backward.column}
        seen = {name: gap for name, gap in ends.items() if gap.visible}
        worst = max(seen, key=lambda name: seen[name].size, default="")
        return f"; at the end of {worst} paths, {seen[worst]}" if worst else ""

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        return str(self.verdict)

    def __str__(self) -> str:
        lines = [self.sentence]
        for name, one in (("forward", self.forward), ("backward", self.backward)):
            lines.append(
                f"{name}: {one.stated} from the bridge of the data; {one.distance} from an exact bridge to "
                f"its own end; that end {one.ends} from the data, where {one.ends.power}; its means and covariances "
                f"{one.smooth} nats of paths"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks: the verdict, and the figures below it."""
        first, *others = str(self).split("\n")
        return f"<p><b>{first}</b></p>" + "".join(f"<p>{line}</p>" for line in others)

    def content(self) -> dict[str, Any]:
        """Everything as JSON values, for `of`; the sentence is included for people."""
        return {"method": _METHOD, "sentence": self.sentence, **asdict(self)}

    @staticmethod
    def of(content: Mapping[str, Any]) -> Certificate:
        """From what `content` gave.

        Raises:
            InputError: it is something else, damaged, or of an earlier version of this package.
        """
        if "epsilon" in content and content.get("method") != _METHOD:
            raise InputError(
                "this certificate is of an earlier version of this package, which measured otherwise; delete the file "
                "and run the command again"
            )
        return made_of("the certificate", Certificate, content)
