"""The page of a search or a sweep, search.html: what was asked, what was found and on which machines, in one file."""

from __future__ import annotations

import json
import shlex
import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from sbridge.files import write_bytes, write_text
from sbridge.io.settings import environment
from sbridge.report.content import Exhibit
from sbridge.report.page import Shown
from sbridge.report.style import png

__all__ = ["Part", "write"]


class Part(Protocol):
    """A figure of the page with its caption and, below it, its table."""

    @property
    def slug(self) -> str:
        """Name of the figure's file."""

    @property
    def title(self) -> str:
        """Heading."""

    def applies(self) -> bool:
        """Whether there is something to show."""

    def exhibit(self) -> Exhibit:
        """The figure and all that belongs to it."""


def write(
    folder: Path, title: str, paragraphs: Sequence[str], parts: Sequence[Part], settings: Mapping[str, Any]
) -> None:
    """Write figures/ and search.html, which looks like the report of a run.

    Args:
        folder: where to.
        title: heading of the page.
        paragraphs: its text.
        parts: its figures, of which those that apply are shown.
        settings: all that was asked for, in terms of JSON; numbers and words are listed, the rest is printed.
    """
    (folder / "figures").mkdir(exist_ok=True)
    shown = [_show(part, folder / "figures") for part in parts if part.applies()]
    pages = Environment(loader=PackageLoader("sbridge.report", ""), autoescape=True, undefined=StrictUndefined)
    html = pages.get_template("template.html.j2").render(
        problem={"name": title},
        question=paragraphs,
        comparison=None,
        sections=shown,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        environment=environment(),
        facts={name: value for name, value in settings.items() if not isinstance(value, dict | list)},
        settings=json.dumps(settings, indent=2, ensure_ascii=False),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
    write_text(folder / "search.html", html)


def _show(part: Part, folder: Path) -> Shown:
    exhibit = part.exhibit()
    image = png(exhibit.figure)
    write_bytes(folder / f"{part.slug}.png", image)
    return Shown(part.slug, part.title, b64encode(image).decode(), exhibit)
