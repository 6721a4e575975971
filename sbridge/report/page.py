"""report.html: everything that a run found, on one page that needs no other file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from sbridge.estimates import rounded
from sbridge.evaluation import Comparison
from sbridge.files import subfolder, write_text
from sbridge.inspection import inspect_points
from sbridge.io import Run
from sbridge.report.animation import animation
from sbridge.report.certificate import certificate
from sbridge.report.ends import ends
from sbridge.report.fit import drift_error, interpolant, training_curves
from sbridge.report.headline import Headline, caution, headline, sizes
from sbridge.report.material import Exhibit, Material, Section
from sbridge.report.movement import movement
from sbridge.report.recolouring import recolouring
from sbridge.report.style import VARIABLES, WIDTH, colours, inline, svg
from sbridge.report.tried import tried
from sbridge.report.words import LEAD, comparison_rows, heads, main_rows, question, verdict

__all__ = ["SECTIONS", "Origin", "Top", "build", "exhibits", "write_page"]

SECTIONS: Sequence[Section] = (
    recolouring,
    movement,
    ends,
    certificate,
    tried,
    training_curves,
    interpolant,
    drift_error,
)


@dataclass(frozen=True)
class Origin:
    """How to make a page again.

    Args:
        command: as it was typed.
        environment: versions and machine.
        settings: printed as JSON.
    """

    command: str
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Top:
    """What the page of a run has above its exhibits, and other pages do not.

    Args:
        lead: the question in a sentence.
        sizes: how many points there are.
        caution: a warning where they are few.
        headline: whether to trust the fit.
        animation: content for page.js.
        comparison: the methods, as the template needs them.
    """

    lead: str = ""
    sizes: str = ""
    caution: str = ""
    headline: Headline | None = None
    animation: Mapping[str, Any] | None = None
    comparison: Mapping[str, Any] | None = None


def build(run: Run, sections: Sequence[Section] = SECTIONS) -> Path:
    """Write the figures and report.html of a run, and return the page's path.

    Raises:
        InputError: a file of the run is missing or damaged.
    """
    material, path = Material(run), run.path("report.html")
    moving = animation(material)
    top = Top(
        LEAD,
        sizes(run.problem),
        caution(run.problem),
        headline(material),
        None if moving is None else moving.content(),
        None if material.comparison is None else _comparison(material.comparison, list(material.methods)),
    )
    origin = Origin(run.config["command"], run.config["environment"], run.config["settings"])
    asked = [*question(material.problem), *_units(run)]
    write_page(path, run.problem.name, asked, exhibits(material, sections), origin, top)
    return path


def _units(run: Run) -> list[str]:
    """What the units of a standardised run mean."""
    if run.standardise is None:
        return []
    how = "divided by its standard deviation" if run.standardise == "columns" else "whitened"
    columns = inspect_points(run.problem, run.fitted_problem).columns
    noise = ", ".join(f"{column.name} {rounded(column.noise)}" for column in columns)
    return [
        f"Before the fit every column was {how}. ε, distances and energies on this page are in these standardised "
        f"units; points and columns are in the units of the data. There the noise √(2ε) of each column is: {noise}."
    ]


def exhibits(material: Material, sections: Sequence[Section] = SECTIONS) -> list[Exhibit]:
    """The sections for which the run has something to show."""
    return [exhibit for section in sections if (exhibit := section(material)) is not None]


def _comparison(comparison: Comparison, methods: Sequence[str]) -> dict[str, Any]:
    measures = comparison_rows(comparison)
    return {
        "verdict": verdict(comparison),
        "heads": heads(comparison),
        "measures": measures,
        "main": main_rows(measures),
        "colours": {name: VARIABLES[colour] for name, colour in colours(methods).items()},
        "remarks": {name: row.get("remark") for name, row in comparison.rows.items()},
        "effort": comparison.effort,
    }


def write_page(
    path: Path, name: str, question: Sequence[str], exhibits: Sequence[Exhibit], origin: Origin, top: Top = Top()
) -> None:
    """Write a page, and its figures to the folder figures/ beside it.

    Args:
        path: of the page.
        name: its heading.
        question: paragraphs that say what was asked.
        exhibits: its sections.
        origin: how to make it again.
        top: what the page of a run has in addition.
    """
    folder = subfolder(path.parent, "figures")
    pages = Environment(
        loader=PackageLoader("sbridge.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = pages.get_template("page.html.j2").render(
        **vars(top),
        name=name,
        question=question,
        exhibits=exhibits,
        drawings={exhibit.slug: _drawings(exhibit, folder) for exhibit in exhibits if exhibit.figures},
        command=origin.command,
        facts={key: value for key, value in origin.settings.items() if not isinstance(value, dict | list)},
        environment=origin.environment,
        settings=json.dumps(origin.settings, indent=2, ensure_ascii=False),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        style=_asset("page.css"),
        script=_asset("page.js"),
    )
    write_text(path, html)


def _asset(name: str) -> Markup:
    return Markup(files("sbridge.report").joinpath(name).read_text(encoding="utf-8"))


def _drawings(exhibit: Exhibit, folder: Path) -> list[Markup]:
    """Write the figures as files, and return them as parts of the page."""
    several = len(exhibit.figures) > 1
    names = [f"{exhibit.slug}-{k}" if several else exhibit.slug for k in range(1, len(exhibit.figures) + 1)]
    return [_drawing(name, figure, exhibit.title, folder) for name, figure in zip(names, exhibit.figures, strict=True)]


def _drawing(name: str, figure: Figure, title: str, folder: Path) -> Markup:
    drawing = svg(figure, name)
    write_text(folder / f"{name}.svg", drawing)
    kind = "wide" if figure.get_figwidth() > 0.7 * WIDTH else "small"
    about = Markup('<svg class="{}" role="img" aria-label="{}"').format(kind, _description(figure, title))
    return about + Markup(inline(drawing).removeprefix("<svg"))


def _description(figure: Figure, title: str) -> str:
    """For readers who do not see the figure: what is drawn against what."""
    panels = [f"{ax.get_title()}: {ax.get_ylabel()} against {ax.get_xlabel()}" for ax in figure.axes if ax.get_xlabel()]
    return "; ".join([title, *panels])
