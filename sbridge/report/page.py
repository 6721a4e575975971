"""The page: everything a run found, in one file that needs no other."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sbridge.evaluation import FLOOR, TRUTH, Column, Comparison
from sbridge.files import write_bytes, write_text
from sbridge.io import Run
from sbridge.problems.datasets import Photos
from sbridge.report.certificate import Certified, certified
from sbridge.report.content import Exhibit, Material, Section
from sbridge.report.drift_error import DriftError
from sbridge.report.endpoints import Endpoints
from sbridge.report.interpolant import FittedInterpolant
from sbridge.report.paths import Trajectories
from sbridge.report.recolouring import Recolouring
from sbridge.report.style import colours, png
from sbridge.report.training import Training
from sbridge.report.words import methods_of, question, ties, verdict

__all__ = ["SECTIONS", "build"]

SECTIONS: Sequence[Section] = (
    Recolouring(Photos.pictures),
    Training(),
    Trajectories(),
    Endpoints("forward"),
    Endpoints("backward"),
    Certified(),
    FittedInterpolant(),
    DriftError(),
)


@dataclass(frozen=True)
class Shown:
    """A section as the template needs it: `image` is the png in base64."""

    slug: str
    title: str
    image: str
    exhibit: Exhibit


@dataclass(frozen=True)
class TableRow:
    """A measure: its column, and for each of the table's heads the cell and its class: best, tied or none."""

    column: Column
    cells: Sequence[tuple[str, str]]


def build(run: Run, sections: Sequence[Section] = SECTIONS) -> Path:
    """Write the figures and report.html of a run, and return the page's path.

    Raises:
        InputError: a file of the run is missing or damaged.
    """
    material = Material(run)
    run.path("figures").mkdir(exist_ok=True)
    shown = [_show(section, material) for section in sections if section.applies(material)]
    html = _template().render(_content(material, shown))
    path = run.path("report.html")
    write_text(path, html)
    return path


def _show(section: Section, material: Material) -> Shown:
    exhibit = section.exhibit(material)
    image = png(exhibit.figure)
    path = material.run.path("figures") / f"{section.slug}.png"
    write_bytes(path, image)
    return Shown(section.slug, section.title, b64encode(image).decode(), exhibit)


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("sbridge.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("template.html.j2")


def _content(material: Material, shown: Sequence[Shown]) -> Mapping[str, Any]:
    comparison, config = material.comparison, material.run.config
    return {
        "problem": material.problem,
        "question": question(material.problem),
        "comparison": comparison,
        "verdict": [*verdict(comparison), *certified(material.run)] if comparison else [],
        "heads": heads(comparison) if comparison else [],
        "table": table(comparison) if comparison else [],
        "colours": colours(list(material.methods)),
        "kinds": ["reference" if head in (TRUTH, FLOOR) else "" for head in heads(comparison)] if comparison else [],
        "sections": shown,
        "command": config["command"],
        "environment": config["environment"],
        "facts": {key: value for key, value in config["settings"].items() if not isinstance(value, dict | list)},
        "settings": json.dumps(config["settings"], indent=2, ensure_ascii=False),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def heads(comparison: Comparison) -> list[str]:
    """The methods, then the rows of reference."""
    return [*methods_of(comparison), *(name for name in (TRUTH, FLOOR) if name in comparison.rows)]


def table(comparison: Comparison) -> list[TableRow]:
    """The comparison with a row for each measure and a column for each method; remarks are not in it."""
    columns = [column for column in comparison.columns if column.name != "remark"]
    return [TableRow(column, _cells(comparison, column)) for column in columns]


def _cells(comparison: Comparison, column: Column) -> list[tuple[str, str]]:
    tied = ties(comparison, column)
    best = next(iter(tied), None)
    return [
        (column.cell(comparison.rows[name]), "best" if name == best else "tied" if name in tied else "")
        for name in heads(comparison)
    ]
