"""The certificate: how far the fitted bridge is from the Schrödinger bridge of the data, without knowing that one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbridge.estimates import Estimate, rounded
from sbridge.evaluation.certificate.statement import Certificate, Passage
from sbridge.report.material import Exhibit, Material
from sbridge.report.style import GREY, colours, panel, styled

__all__ = ["certificate"]


def certificate(material: Material) -> Exhibit | None:
    """Divergences in nats, and the checks of the ends beside their floors."""
    found = material.run.certificate()
    if not isinstance(found, Certificate):
        return None
    figures = _figures(found, colours([material.fitted])[material.fitted])
    caption = " ".join([*_both(found), _READING])
    return Exhibit("certificate", "How far from the Schrödinger bridge", caption, figures, _rows(found))


_READING = (
    "How it is measured: a potential is learned from the fit's own paths, unless it has one, and a mixture potential "
    "is fitted to their ends. Both define exact Schrödinger bridges, and the distance to the nearer one is known. But "
    "the fit may have another end than your data, so its end is checked too, by nearest neighbours, and by means and "
    "covariances, whose errors cost paths more than ends. And a mixture potential fitted to half of your held-out "
    "points may be nearer to the bridge of your data, as the other half tells. Bars are two standard errors on each "
    "side. A dashed line is the floor: 19 of 20 pairs of samples of one law stay below."
)


def _both(found: Certificate) -> list[str]:
    both = {"Forward": found.forward, "Backward": found.backward}
    return [f"{name}: {one.verdict} The check of its end: {one.ends.power}." for name, one in both.items()]


def _rows(found: Certificate) -> list[dict[str, str]]:
    both = (found.forward, found.backward)
    lines: dict[str, list[str]] = {
        "verdict": [one.verdict.word for one in both],
        "distance from the bridge of your data": [one.stated for one in both],
        "distance from an exact bridge to its own end (nats)": [str(one.distance) for one in both],
        "change of that with half of the paths": [str(one.fewer_paths) for one in both],
        "change of that with half of the steps": [str(one.fewer_steps) for one in both],
        "residual of the regression, on its paths and on others (nats)": [_residual(one) for one in both],
        "dual value of the potential (nats)": [str(one.dual) for one in both],
        "by how much a mixture potential is nearer to the bridge of your data (nats)": [
            str(one.behind) for one in both
        ],
        "potential at its end, less that at your data (nats)": [str(one.end_error) for one in both],
        "its end from your data, by nearest neighbours": [str(one.ends) for one in both],
        "its means and covariances from those of your data, in nats of paths": [str(one.smooth) for one in both],
        "what that check would have seen": [one.ends.power for one in both],
        "the column that is most wrong at the end": [_column(one) for one in both],
        "predictable part of the drift's change, 0 for a bridge": [_share(one.hjb, one.turning) for one in both],
        "curl of the drift, 0 for a bridge": [_share(one.curl, one.turning) for one in both],
    }
    return [{"measure": name, "forward": cells[0], "backward": cells[1]} for name, cells in lines.items()]


def _residual(one: Passage) -> str:
    if one.residual.held_out == 0:
        return "none: the potential is its own"
    return f"{rounded(one.residual.fitted)}, {rounded(one.residual.held_out)}"


def _column(one: Passage) -> str:
    return f"{one.column}; from {rounded(one.column.seen)} of its spreads on, a difference is certain"


def _share(part: Estimate, whole: Estimate) -> str:
    return f"{part} of {rounded(whole.value)}"


@styled
def _figures(found: Certificate, colour: str) -> list[Figure]:
    """Distances in nats, and the checks of the ends with their floors."""
    nats: dict[str, Estimate] = {}
    ends: dict[str, Estimate] = {}
    for name, one in {"forward": found.forward, "backward": found.backward}.items():
        nats |= {f"{name}, of your data": one.divergence, f"{name}, to its own end": one.distance}
        ends[name] = one.ends.divergence
    distances, left = panel()
    _dots(left, nats, colour)
    left.set(title="distance from the Schrödinger bridge", xlabel="nats")
    checks, right = panel()
    _dots(right, ends, colour)
    floors = [found.forward.ends.floor, found.backward.ends.floor]
    right.vlines(floors, [-0.4, 0.6], [0.4, 1.4], color=GREY, linestyle="--", linewidth=1)
    right.set(title="distance of the end from your data", xlabel="nats")
    return [distances, checks]


def _dots(ax: Axes, values: Mapping[str, Estimate], colour: str) -> None:
    """A value in each row, the first on top, and a line at zero; linear near zero, then logarithmic."""
    found, errors = [one.value for one in values.values()], [2 * one.standard_error for one in values.values()]
    ax.set_xscale("symlog", linthresh=_linear(found))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.errorbar(found, range(len(values)), xerr=errors, fmt="o", markersize=4, color=colour, elinewidth=1)
    ax.axvline(0, color=GREY, linewidth=0.7)
    ax.set_yticks(range(len(values)), list(values))
    ax.set_ylim(len(values) - 0.5, -0.5)


def _linear(values: Sequence[float]) -> float:
    """Up to where an axis of these values is linear: a power of ten below the largest."""
    return float(10 ** floor(log10(max(max(map(abs, values)), 1e-6) / 30)))
