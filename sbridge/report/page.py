"""report.html: everything that a run found, on one page that needs no other file."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sbridge.estimates import rounded
from sbridge.files import write_bytes, write_text
from sbridge.inspection import inspect_points
from sbridge.io import Run
from sbridge.report.certificate import certificate, certified
from sbridge.report.fit import drift_error, interpolant, training_curves
from sbridge.report.material import Exhibit, Material, Section
from sbridge.report.movement import movement
from sbridge.report.points import endpoints, trajectories
from sbridge.report.recolouring import recolouring
from sbridge.report.style import colours, png
from sbridge.report.tried import tried
from sbridge.report.words import comparison_rows, heads, question, verdict

__all__ = ["SECTIONS", "build", "exhibits", "write_page"]

SECTIONS: Sequence[Section] = (
    recolouring,
    tried,
    training_curves,
    trajectories,
    partial(endpoints, direction="forward"),
    partial(endpoints, direction="backward"),
    movement,
    certificate,
    interpolant,
    drift_error,
)


def build(run: Run, sections: Sequence[Section] = SECTIONS) -> Path:
    """Write the figures and report.html of a run, and return the page's path.

    Raises:
        InputError: a file of the run is missing or damaged.
    """
    material, path = Material(run), run.path("report.html")
    config = {name: run.config[name] for name in ("command", "environment", "settings")}
    shown = exhibits(material, sections)
    asked = [*question(material.problem), *_units(run)]
    write_page(path, material.problem.name, asked, shown, **config, **_comparison(material))
    return path


def _units(run: Run) -> list[str]:
    """What the units of a standardised run mean."""
    if run.standardise is None:
        return []
    how = "divided by its standard deviation" if run.standardise == "columns" else "whitened"
    columns = inspect_points(run.problem, run.fitted_problem).columns
    noise = ", ".join(f"{column.name} {rounded(column.noise)}" for column in columns)
    return [
        f"Before the fit every column was {how}. ε and all figures on this page, other than those of single columns, "
        f"are in these standardised units. In the units of the data √(2ε) is: {noise}. The points that this bridge "
        "moves are in the units of the data."
    ]


def exhibits(material: Material, sections: Sequence[Section] = SECTIONS) -> list[Exhibit]:
    """The sections for which the run has something to show."""
    return [exhibit for section in sections if (exhibit := section(material)) is not None]


def _comparison(material: Material) -> dict[str, Any]:
    comparison = material.comparison
    if comparison is None:
        return {}
    return {
        "comparison": comparison,
        "verdict": [*certified(material.run), *verdict(comparison)],
        "heads": heads(comparison),
        "table": comparison_rows(comparison),
        "colours": colours(list(material.methods)),
    }


def write_page(
    path: Path,
    name: str,
    question: Sequence[str],
    exhibits: Sequence[Exhibit],
    *,
    command: str,
    environment: Mapping[str, Any],
    settings: Mapping[str, Any],
    **comparison: Any,
) -> None:
    """Write a page, and its figures to the folder figures/ beside it.

    Args:
        path: of the page.
        name: its heading.
        question: its first paragraphs.
        exhibits: its sections.
        command, environment, settings: how to reproduce what it shows; `settings` is printed as JSON.
        comparison: the table of a comparison and its verdict, as the template needs them.
    """
    (path.parent / "figures").mkdir(exist_ok=True)
    images = {exhibit.slug: _save(exhibit, path.parent / "figures") for exhibit in exhibits}
    pages = Environment(
        loader=PackageLoader("sbridge.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    html = pages.get_template("template.html.j2").render(
        name=name,
        question=question,
        exhibits=exhibits,
        images=images,
        command=command,
        facts={key: value for key, value in settings.items() if not isinstance(value, dict | list)},
        environment=environment,
        settings=json.dumps(settings, indent=2, ensure_ascii=False),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        **{"comparison": None, **comparison},
    )
    write_text(path, html)


def _save(exhibit: Exhibit, folder: Path) -> str:
    """Write the figure as a file, and return it in base64."""
    image = png(exhibit.figure)
    write_bytes(folder / f"{exhibit.slug}.png", image)
    return b64encode(image).decode()
