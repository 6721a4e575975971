"""What the fit tried, and by how many nats each was behind the answer."""

from __future__ import annotations

from sbridge.estimates import rounded, with_error
from sbridge.report.material import Exhibit, Material

__all__ = ["tried"]

_CAPTION = (
    "How far each method is behind the answer, in nats of path divergence, on points that none of them was fitted to: "
    "between closed forms by their dual values, and for a network by the errors of the drifts on pairs of held-out "
    "points. The last column says what the answer has of it: a share of a drift means a weighted mean of two."
)


def tried(material: Material) -> Exhibit | None:
    """A table of the methods; None where the fit did not choose."""
    found = material.run.tried()
    if found is None:
        return None
    table = [
        {
            "method": row["name"],
            **{f"{way}, nats behind": _cell(row[way], row[f"{way}_se"]) for way in ("forward", "backward")},
            "seconds": rounded(row["seconds"]),
            "kept": row["kept"] or "",
        }
        for row in found.iter_rows(named=True)
    ]
    return Exhibit("tried", "What was tried", _CAPTION, (), table)


def _cell(value: float | None, error: float | None) -> str:
    return "" if value is None or error is None else with_error(value, error)
