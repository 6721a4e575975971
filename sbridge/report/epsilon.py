"""The page of `sbridge epsilon`: what changes with ε, and the recommended range."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sbridge.epsilon import EpsilonSweep
from sbridge.estimates import rounded
from sbridge.files import made_folder
from sbridge.io.settings import environment
from sbridge.report.material import Exhibit
from sbridge.report.page import Origin, write_page
from sbridge.report.style import BLUE, GREEN, GREY, ORANGE, panel, plain_powers, styled
from sbridge.tables import write_csv

__all__ = ["epsilon_figures", "write_epsilon_page"]

_CAPTION = (
    "What changes with ε. Partners: points of x1 that share a point of x0, with the limits of the recommended range "
    "(dotted) and all points (dashed). Energy ½E∫|u|²dt of a mixture potential, and the dual on held-out points, a "
    "lower bound of the bridge's energy; bars are two standard errors. Ends: energy distance of the fit's ends from "
    "held-out points, and between two halves of these (dashed). Straightness of the probability flow: 1 for straight "
    "lines. Shaded: recommended; the line is the ε that auto chooses."
)


def write_epsilon_page(folder: Path, name: str, found: EpsilonSweep, command: str) -> Path:
    """Write epsilon.csv, epsilon.html and the figure into a folder, and return the page's path."""
    made_folder(folder)
    write_csv(folder / "epsilon.csv", found.rows())
    exhibit = Exhibit("epsilon", "The effect of ε", _CAPTION, epsilon_figures(found), found.rows())
    question = ["Which ε? It is part of the question: no ε is the right one, but a sample cannot support all of them."]
    path, origin = (
        folder / "epsilon.html",
        Origin(command, environment(), {"spread": rounded(found.recommended.spread)}),
    )
    asked = [*question, f"The ε that auto chooses is {found.recommended}"]
    write_page(path, f"{name}: ε", asked, [exhibit], origin)
    return path


@styled
def epsilon_figures(found: EpsilonSweep) -> list[Figure]:
    """Partners, energy, ends and straightness against ε."""
    fits, range_ = found.fits, found.recommended
    epsilons = [fit.epsilon for fit in fits]
    drawn = [panel() for _ in range(4)]
    partners, energy, ends, straight = (ax for _, ax in drawn)
    partners.plot(epsilons, [fit.partners for fit in fits], "o-", color=BLUE)
    for level, style in ((range_.fewest, ":"), (range_.among / 2, ":"), (range_.among, "--")):
        partners.axhline(level, color=GREY, linestyle=style, linewidth=1)
    _bars(energy, epsilons, {"energy": ([fit.energy for fit in fits], BLUE), "dual": ([f.dual for f in fits], ORANGE)})
    ends.plot(epsilons, [fit.ends for fit in fits], "o-", color=BLUE)
    ends.axhline(found.floor, color=GREY, linestyle="--", linewidth=1)
    straight.plot(epsilons, [fit.straightness for fit in fits], "o-", color=BLUE)
    partners.set(ylabel="partners of a point", yscale="log")
    energy.set(ylabel="energy (squared units of the data)")
    ends.set(ylabel="energy distance of the ends")
    straight.set(ylabel="straightness of the flow", ylim=(0, 1.05))
    for _, ax in drawn:
        ax.set(xscale="log", xlabel="ε (squared units of the data)", xlim=(epsilons[0] / 1.2, epsilons[-1] * 1.2))
        plain_powers(ax.xaxis)
        ax.axvspan(range_.low, range_.high, color=GREEN, alpha=0.12)
        ax.axvline(range_.choice, color=GREEN, linewidth=1)
    plain_powers(partners.yaxis)
    return [figure for figure, _ in drawn]


def _bars(ax: Any, epsilons: list[float], curves: Mapping[str, Any]) -> None:
    for shift, (name, (values, colour)) in zip((0.97, 1.03), curves.items(), strict=True):  # side by side
        errors, places = [2 * value.standard_error for value in values], [shift * epsilon for epsilon in epsilons]
        ax.errorbar(places, [value.value for value in values], errors, fmt="o", color=colour, label=name)
    ax.legend()
