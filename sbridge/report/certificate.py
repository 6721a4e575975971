"""The certificate: how far the fitted bridge is from a Schrödinger bridge, without knowing the true one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbridge.estimates import Estimate, rounded
from sbridge.evaluation.certificate.statement import Certificate, Distance, Passage
from sbridge.io import Run
from sbridge.report.material import Exhibit, Material
from sbridge.report.style import GREY, WIDTH, canvas, colours, styled

__all__ = ["certificate", "certified"]


def certified(run: Run) -> list[str]:
    """The certificate in a sentence for the verdict, or the reason why there is none."""
    found = run.certificate()
    if isinstance(found, Certificate):
        return [f"Without knowing the true bridge: {found.sentence}"]
    return [f"No certificate: {found}."] if found else []


def certificate(material: Material) -> Exhibit | None:
    """Divergences in nats, and distances beside their floors."""
    found = material.run.certificate()
    if not isinstance(found, Certificate):
        return None
    caption = " ".join([*_both(found), _READING])
    figure = _figure(found, colours([material.fitted])[material.fitted])
    return Exhibit("certificate", "How far from a Schrödinger bridge", figure, caption, _rows(found))


_READING = (
    "The true bridge is not needed: the fit is compared with two exact bridges, mixture potentials fitted to halves of "
    "the held-out points. Left: its divergence from them, their own error from finite samples, and the dual gap, which "
    "is at least the divergence from the bridge of the data if the process ends at the data (and means nothing "
    "otherwise); bars are ± 2 standard errors. Right: energy distances in multiples of their floors, which 19 of 20 "
    "pairs of samples of one distribution stay below."
)


def _both(found: Certificate) -> list[str]:
    return [found.forward.sentence("The forward process"), found.backward.sentence("The backward process")]


def _rows(found: Certificate) -> list[dict[str, str]]:
    both = (found.forward, found.backward)
    lines = {
        "divergence from the reference (nats)": [str(one.kl) for one in both],
        "the reference's own error (nats)": [str(one.reference.own) for one in both],
        "its endpoint to the data": [str(one.reference.endpoint) for one in both],
        "its dual (squared data units)": [str(one.reference.dual) for one in both],
        "its components": [f"{one.reference.first_components}, {one.reference.second_components}" for one in both],
        "points each half was fitted to": [f"{one.reference.points0:,}, {one.reference.points1:,}" for one in both],
        "dual gap (nats)": [_gap(one) for one in both],
        "the process's endpoint to the data": [str(one.endpoint) for one in both],
        "predictable change of the drift": [_share(one.hjb, one.turning) for one in both],
        "curl of the drift": [_share(one.curl, one.turning) for one in both],
    }
    return [{"": name, "forward": forward, "backward": backward} for name, (forward, backward) in lines.items()]


def _gap(one: Passage) -> str:
    return f"{one.dual_gap}, no bound: the ends differ" if one.endpoint.visible else str(one.dual_gap)


def _share(part: Estimate, whole: Estimate) -> str:
    return f"{part} of {rounded(whole.value)}"


@styled
def _figure(found: Certificate, colour: str) -> Figure:
    """Two panels: nats, and distances in multiples of their floors."""
    figure, axes = canvas(1, 2, (WIDTH / 2, WIDTH / 3.2))
    both = {"→": found.forward, "←": found.backward}
    nats: dict[str, Estimate] = {}
    distances: dict[str, Distance] = {}
    for arrow, one in both.items():
        nats |= {f"divergence {arrow}": one.kl, f"reference's own {arrow}": one.reference.own}
        nats |= {f"dual gap {arrow}": one.dual_gap}
        distances |= {f"ends {arrow}": one.endpoint, f"reference's ends {arrow}": one.reference.endpoint}
    meeting = found.meeting
    distances |= {"→ and ← at t = ¼": meeting.quarter, "at ½": meeting.half, "at ¾": meeting.three_quarters}
    _nats(axes[0, 0], nats, colour)
    _distances(axes[0, 1], distances, colour)
    return figure


def _nats(ax: Axes, values: Mapping[str, Estimate], colour: str) -> None:
    found, errors = [one.value for one in values.values()], [2 * one.standard_error for one in values.values()]
    _scale(ax, 10 ** floor(log10(max(map(abs, found)) / 300)))
    _dots(ax, list(values), found, errors, colour)
    ax.set(title="divergence", xlabel="nats")


def _distances(ax: Axes, values: Mapping[str, Distance], colour: str) -> None:
    found = [one.value / one.floor for one in values.values()]
    _scale(ax, 1.0)
    _dots(ax, list(values), found, [0.0] * len(found), colour)
    ax.axvline(1, color=GREY, linestyle="--", linewidth=1)
    ax.set(title="energy distance", xlabel="multiples of its floor")


def _scale(ax: Axes, linear: float) -> None:
    """Linear up to that distance from zero, then logarithmic."""
    ax.set_xscale("symlog", linthresh=linear)
    ax.xaxis.set_major_formatter("{x:g}")


def _dots(ax: Axes, names: Sequence[str], values: Sequence[float], errors: Sequence[float], colour: str) -> None:
    """A value in each row, the first on top, and a line at zero."""
    ax.errorbar(values, range(len(names)), xerr=errors, fmt="o", markersize=4, color=colour, elinewidth=1)
    ax.axvline(0, color=GREY, linewidth=0.7)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
