"""The look of every figure: the one palette, fonts, and the size of the panels.

Figures are `Figure` objects and touch no global state of pyplot.  The colours are those of Okabe and Ito (2008), which
people with any common colour blindness can tell apart.  On a page every colour is a variable of page.css, which has a
second value for dark screens.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from functools import wraps
from io import BytesIO, StringIO
from itertools import cycle
from typing import Any, ParamSpec, TypeVar

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image

from sbridge.evaluation import TRUTH

__all__ = ["BLUE", "DATA0", "DATA1", "GREEN", "GREY", "ORANGE", "PALETTE", "PANEL", "VARIABLES", "WIDTH", "canvas"]
__all__ += ["colours", "dashes", "extent", "inline", "panel", "plain_powers", "png", "short"]
__all__ += ["styled", "svg", "time_axis"]

P = ParamSpec("P")
R = TypeVar("R")

DPI = 200
WIDTH = 8.0  # inches, of a full-width figure
PANEL = 3.9, 2.8  # inches, of one panel of a page; two stand side by side where there is room
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7A5C00", "#5B3A8C")
BLUE, ORANGE, GREEN = PALETTE[:3]
DATA0, DATA1 = "#E69F00", "#56B4E9"  # light orange and sky blue: the two datasets
GREY = "#888888"  # floors and other references
_LONG_AXIS = 2000  # ratio of its ends, from which 2 and 5 have no room between the powers of ten
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)))
_TRUTH = "#222222"
VARIABLES = {
    **{colour: f"--c{k}" for k, colour in enumerate(PALETTE)},
    DATA0: "--x0",
    DATA1: "--x1",
    GREY: "--grey",
    _TRUTH: "--ink",
    "#000000": "--ink",
    "#ffffff": "--paper",
}
"""The variable of page.css that stands for a colour."""
_LONGEST = 24  # letters of a name in a legend
_QUALITY = 85  # of a picture within a page
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "figure.labelsize": 9,
    "figure.titlesize": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "svg.fonttype": "none",  # letters stay letters
    "text.parse_math": False,  # names of methods and files may contain dollar signs
}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Make a function draw in this style."""

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return wrapped


@styled
def png(figure: Figure) -> bytes:
    """The figure as a png file."""
    target = BytesIO()
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()


@styled
def svg(figure: Figure, salt: str) -> str:
    """The figure as a svg file that is the same each time; its marks have names that begin with the salt's hash."""
    target = StringIO()
    with rc_context({"svg.hashsalt": salt}):
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    return target.getvalue()


def inline(drawing: str) -> str:
    """A svg file as a part of a page: no header, the page's colours, and photographs as JPEG."""
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing[drawing.index("<svg") :], flags=re.DOTALL)
    drawing = re.sub(r' xmlns(:xlink)?="[^"]*"| version="1.1"', "", drawing)
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)  # no two elements of a page may have one name
    for colour, variable in VARIABLES.items():
        drawing = drawing.replace(colour.lower(), f"var({variable})")
    return re.sub(r"data:image/png;base64,([^\"]*)", lambda found: _jpeg(b64decode(found[1])), drawing)


def _jpeg(picture: bytes) -> str:
    target = BytesIO()
    Image.open(BytesIO(picture)).convert("RGB").save(target, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{b64encode(target.getvalue()).decode()}"


def colours(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method, by its place in the run; the exact bridge is always black."""
    return dict(zip(methods, cycle(PALETTE), strict=False)) | {TRUTH: _TRUTH}


def dashes(methods: Sequence[str]) -> dict[str, Any]:
    """A line style for each method, so that lines also differ in a print without colour."""
    return dict(zip(methods, cycle(_DASHES), strict=False)) | {TRUTH: "-"}


def canvas(rows: int, columns: int, cell: tuple[float, float], **settings: Any) -> tuple[Figure, NDArray[Any]]:
    """A figure of rows × columns panels of `cell` inches (wide, high), and its axes as a 2-d array."""
    figure = Figure(figsize=(columns * cell[0], rows * cell[1]), dpi=DPI, layout="constrained")
    axes: NDArray[Any] = figure.subplots(rows, columns, squeeze=False, **settings)
    for ax in axes.flat:
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.yaxis.set_major_locator(MaxNLocator(4))
    return figure, axes


def panel(**settings: Any) -> tuple[Figure, Axes]:
    """A figure of one panel, as many of which stand side by side on a page as there is room for."""
    figure, axes = canvas(1, 1, PANEL, **settings)
    return figure, axes[0, 0]


def time_axis(ax: Axes) -> None:
    """Label the x axis as time from 0 to 1."""
    ax.set(xlabel="time t", xticks=(0, 0.25, 0.5, 0.75, 1), xticklabels=("0", "¼", "½", "¾", "1"))


def plain_powers(axis: Axis) -> None:
    """Write 0.01, 0.02, 0.05, 0.1 … along a logarithmic axis, or 0.01, 0.1 … if it is long.

    Matplotlib's default labels need its parser of mathematics, which the style switches off.
    """
    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if high < _LONG_AXIS * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def short(name: str) -> str:
    """A name that has room in a legend."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def extent(values: NDArray[Any], margin: float = 0.08) -> tuple[float, float]:
    """Axis limits that show all but the outermost thousandth of values, with a margin."""
    low, high = np.quantile(values, [0.0005, 0.9995])
    pad = margin * max(high - low, 1e-12)
    return float(low - pad), float(high + pad)
