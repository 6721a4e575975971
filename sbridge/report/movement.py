"""What moves, by the user's own columns: as a picture, and as a section of the page."""

from __future__ import annotations

from matplotlib.figure import Figure

from sbridge.movement import Movement
from sbridge.report.material import Exhibit, Material
from sbridge.report.style import BLUE, GREY, WIDTH, canvas, styled

__all__ = ["movement", "movement_figure"]

_SHOWN = 20
_CAPTION = (
    "How far held-out points of x0 move in each column from t = 0 to t = 1, on average. Bars: in standard deviations "
    "(spreads) of the column in x0, with two standard errors. The table has the same in the units of the column, too. "
    "The share of the energy ½E∫|u|²dt says how much of the work of the drift is done in a column."
)


def movement(material: Material) -> Exhibit | None:
    """The columns that move most under the fitted bridge."""
    if material.movement is None:
        return None
    found = material.movement.top(_SHOWN)
    return Exhibit("movement", "What moves, column by column", _CAPTION, [movement_figure(found)], found.rows())


@styled
def movement_figure(found: Movement) -> Figure:
    """A bar for each mover, the first on top."""
    movers = found.movers[::-1]
    figure, axes = canvas(1, 1, (0.6 * WIDTH, 0.6 + 0.22 * len(movers)))
    errors = [2 * mover.displacement.standard_error / (mover.spread or 1) for mover in movers]
    names, sizes = [mover.name for mover in movers], [mover.spreads for mover in movers]
    axes[0, 0].barh(range(len(movers)), sizes, xerr=errors, color=BLUE, tick_label=names)
    axes[0, 0].axvline(0, color=GREY, linewidth=0.7)
    axes[0, 0].set(xlabel="mean move (standard deviations of the column in x0)")
    return figure
