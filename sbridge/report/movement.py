"""What moves, by the user's own columns: as a picture, and as a section of the page."""

from __future__ import annotations

from matplotlib.figure import Figure

from sbridge.movement import Movement, what_moves
from sbridge.report.material import Exhibit, Material
from sbridge.report.style import BLUE, GREY, WIDTH, canvas, styled

__all__ = ["movement", "movement_figure"]

_POINTS, _SHOWN = 2000, 20
_CAPTION = (
    "Mean displacement from t = 0 to 1 of held-out points of x0 in each column, over the column's spread in x0, with "
    "two standard errors; the largest first. The table has it in the units of the column, and how much of the energy "
    "½E∫|u|²dt is spent in it."
)


def movement(material: Material) -> Exhibit | None:
    """The columns that move most under the fitted bridge."""
    if not material.bridges:
        return None
    problem = material.run.problem
    found = what_moves(material.bridges[material.fitted], problem.test0[:_POINTS]).top(_SHOWN)
    return Exhibit("movement", "What moves", movement_figure(found), _CAPTION, found.rows())


@styled
def movement_figure(found: Movement) -> Figure:
    """A bar for each mover, the first on top."""
    movers = found.movers[::-1]
    figure, axes = canvas(1, 1, (WIDTH, 0.6 + 0.22 * len(movers)))
    errors = [2 * mover.displacement.standard_error / (mover.spread or 1) for mover in movers]
    names, sizes = [mover.name for mover in movers], [mover.spreads for mover in movers]
    axes[0, 0].barh(range(len(movers)), sizes, xerr=errors, color=BLUE, tick_label=names)
    axes[0, 0].axvline(0, color=GREY, linewidth=0.7)
    axes[0, 0].set(xlabel="mean displacement (spreads of x0)")
    return figure
