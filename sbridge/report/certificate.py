"""The certificate: how far the fitted bridge is from the Schrödinger bridge of the data, without knowing that one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbridge.estimates import Estimate, rounded
from sbridge.evaluation.certificate.statement import Certificate, Passage
from sbridge.io import Run
from sbridge.report.material import Exhibit, Material
from sbridge.report.style import GREY, WIDTH, canvas, colours, styled

__all__ = ["certificate", "certified"]


def certified(run: Run) -> list[str]:
    """The verdict in one line, or the reason why there is none."""
    found = run.certificate()
    if isinstance(found, Certificate):
        return [str(found.verdict_for(run.problem.columns or ()))]
    return [f"No certificate: {found}."] if found else []


def certificate(material: Material) -> Exhibit | None:
    """Divergences in nats, and the checks of the ends beside their floors."""
    found = material.run.certificate()
    if not isinstance(found, Certificate):
        return None
    figure = _figure(found, colours([material.fitted])[material.fitted])
    caption = " ".join([*_both(found), _READING])
    return Exhibit("certificate", "How far from the Schrödinger bridge", figure, caption, _rows(found))


_READING = (
    "The true bridge is not needed. A potential is learned from the fit's own paths; it defines an exact Schrödinger "
    "bridge, and the distance to that one is known. That one may lead to another end than your data: this is checked "
    "by nearest neighbours, and by the dual value of a mixture potential fitted to half of the held-out points. Bars "
    "are ± 2 standard errors; the dashed lines are floors, which 19 of 20 pairs of samples of one law stay below."
)


def _both(found: Certificate) -> list[str]:
    both = {"Forward": found.forward, "Backward": found.backward}
    return [f"{name}: {one.verdict()} Power: {one.ends.power}." for name, one in both.items()]


def _rows(found: Certificate) -> list[dict[str, str]]:
    both = (found.forward, found.backward)
    lines: dict[str, list[str]] = {
        "verdict": [one.verdict().word for one in both],
        "from the bridge of the data (nats)": [str(one.divergence) for one in both],
        "from an exact bridge to its own end (nats)": [str(one.distance) for one in both],
        "half of the paths change it by": [str(one.fewer_paths) for one in both],
        "half of the steps change it by": [str(one.fewer_steps) for one in both],
        "regression: residual on its paths, on others (nats)": [_residual(one) for one in both],
        "dual value of the potential (nats)": [str(one.dual) for one in both],
        "behind a mixture potential's (nats)": [str(one.behind) for one in both],
        "potential at its end less at your data (nats)": [str(one.end_error) for one in both],
        "its end from your data, by nearest neighbours": [str(one.ends) for one in both],
        "power of that check": [one.ends.power for one in both],
        "most wrong at the end": [_column(one) for one in both],
        "predictable change of the drift": [_share(one.hjb, one.turning) for one in both],
        "curl of the drift": [_share(one.curl, one.turning) for one in both],
    }
    return [{"": name, "forward": cells[0], "backward": cells[1]} for name, cells in lines.items()]


def _residual(one: Passage) -> str:
    if one.residual.held_out == 0:
        return "none: its own potential"
    return f"{rounded(one.residual.fitted)}, {rounded(one.residual.held_out)}"


def _column(one: Passage) -> str:
    return f"{one.column.sentence()} ({rounded(one.column.seen)} would be certain)"


def _share(part: Estimate, whole: Estimate) -> str:
    return f"{part} of {rounded(whole.value)}"


@styled
def _figure(found: Certificate, colour: str) -> Figure:
    """Divergences in nats, and the checks of the ends with their floors."""
    figure, axes = canvas(1, 2, (WIDTH / 2, WIDTH / 3.2))
    nats: dict[str, Estimate] = {}
    ends: dict[str, Estimate] = {}
    floors: list[float] = []
    for arrow, one in {"→": found.forward, "←": found.backward}.items():
        nats |= {f"bridge of the data {arrow}": one.divergence, f"exact bridge {arrow}": one.distance}
        ends[f"ends {arrow}"] = one.ends.divergence
        floors.append(one.ends.floor)
    _dots(axes[0, 0], nats, colour)
    axes[0, 0].set(title="distance from", xlabel="nats")
    _dots(axes[0, 1], ends, colour)
    axes[0, 1].vlines(floors, [-0.4, 0.6], [0.4, 1.4], color=GREY, linestyle="--", linewidth=1)
    axes[0, 1].set(title="ends from the data", xlabel="nats")
    return figure


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
