"""What a contest tried, what each contender was worth, and what it kept: a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sbridge.estimates import Estimate
from sbridge.tables import html, text

__all__ = ["Account", "Tried"]


@dataclass(frozen=True)
class Tried:
    """A contender of a contest.

    Args:
        name: of the contender; "its time reversal" is that of the contender above.
        forward, backward: by how many nats of path divergence it is behind the answer on held-out points, for each
            direction; None where it was not compared.
        seconds: of its fit, those of the contenders that it shares its fit with included.
        kept: what the answer has from it, such as "forward and 40 % of backward", or "".
    """

    name: str
    forward: Estimate | None
    backward: Estimate | None
    seconds: float
    kept: str

    def numbers(self) -> Mapping[str, str | float | None]:
        """A row of a file: the behinds with their standard errors in nats."""
        row: dict[str, str | float | None] = {"name": self.name}
        for way, behind in (("forward", self.forward), ("backward", self.backward)):
            row[way], row[f"{way}_se"] = (behind.value, behind.standard_error) if behind else (None, None)
        return {**row, "seconds": self.seconds, "kept": self.kept}

    def row(self) -> Mapping[str, str]:
        """A row of a table."""
        return {
            "tried": self.name,
            "nats behind, forward": "" if self.forward is None else str(self.forward),
            "nats behind, backward": "" if self.backward is None else str(self.backward),
            "seconds": f"{self.seconds:.1f}",
            "kept": self.kept,
        }


@dataclass(frozen=True)
class Account:
    """All contenders of a contest, and why it ended; printed as a table."""

    tried: Sequence[Tried]
    ended: str

    def rows(self) -> list[Mapping[str, str]]:
        """The table's rows."""
        return [one.row() for one in self.tried]

    def __str__(self) -> str:
        return f"{text(self.rows())}{self.ended}"

    def _repr_html_(self) -> str:
        return html(self.rows(), self.ended)
