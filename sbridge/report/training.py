"""Curves of the fit: losses on training and on held-out points, and kinetic energy, against steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbridge.report.content import Exhibit, Material
from sbridge.report.style import WIDTH, canvas, colours, styled

__all__ = ["Panel", "Training", "training"]


@dataclass(frozen=True)
class Panel:
    """Values that share a scale.

    Args:
        title: heading.
        unit: axis label.
        lines: column of the history → what it was measured on.
        meaning: how to read it.
    """

    title: str
    unit: str
    lines: Mapping[str, str]
    meaning: str

    def shown(self, columns: Sequence[str]) -> dict[str, str]:
        """The lines that a history with these columns has."""
        return {column: where for column, where in self.lines.items() if column in columns}


_PANELS = (
    Panel(
        "loss on its own interpolant",
        "nats, up to a constant",
        {"held_out_loss": "held-out points", "training_loss": "training points"},
        "the regression loss of both drifts on the interpolant of that step, whose law moves as it is learned; where "
        "held-out and training points part, the fit has begun to memorise",
    ),
    Panel(
        "loss on fixed points",
        "nats, up to a constant",
        {"reference_loss": "held-out points"},
        "the same loss on held-out points that stay the same, for max–min those of a Sinkhorn bridge: up to a constant "
        "it is the path KL to that bridge, and it chooses the answer",
    ),
    Panel(
        "kinetic energy",
        "squared data units",
        {"kinetic_energy": "held-out points"},
        "½E∫|b|²dt of the forward drift b on held-out pairs; of all motions with these ends the bridge has the least",
    ),
)
_DASHES = {"held-out points": "-", "training points": (0, (3, 1.5))}


@dataclass(frozen=True)
class Training:
    """One panel for each monitored value."""

    slug = "training"
    title = "The fit"

    def applies(self, material: Material) -> bool:
        return material.history is not None and bool(_panels(material.history))

    def exhibit(self, material: Material) -> Exhibit:
        assert material.history is not None
        name = next(iter(material.methods), "the fit")
        meanings = (f"{panel.title.capitalize()}: {panel.meaning}." for panel in _panels(material.history))
        caption = " ".join([f"What was watched while {name} was fitted.", *meanings])
        return Exhibit(training(material.history, colours([name])[name]), caption)


def _panels(history: pl.DataFrame) -> list[Panel]:
    return [panel for panel in _PANELS if panel.shown(history.columns)]


@styled
def training(history: pl.DataFrame, colour: str) -> Figure:
    """A row of panels."""
    panels = _panels(history)
    width = WIDTH / max(len(panels), 2)
    figure, axes = canvas(1, len(panels), (width, 0.85 * width))
    for ax, panel in zip(axes[0], panels, strict=True):
        _draw(ax, panel, history, colour)
    return figure


def _draw(ax: Axes, panel: Panel, history: pl.DataFrame, colour: str) -> None:
    lines = panel.shown(history.columns)
    for column, where in lines.items():
        ax.plot(history["step"], history[column], color=colour, linestyle=_DASHES[where], label=where)
    ax.set(title=panel.title, xlabel="step", ylabel=panel.unit)
    if len(lines) > 1:
        ax.legend()
