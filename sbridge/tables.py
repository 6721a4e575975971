"""Tables.  A table is a sequence of rows; a row is a mapping from the column's heading to its cell.

Columns stand in the order in which their headings first appear.  A cell that is absent or None is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sbridge.files import replace_atomically

if TYPE_CHECKING:
    import polars as pl

__all__ = ["html", "markdown", "read_csv", "text", "write_csv"]

_NUMBER = re.compile(r"[(-]?\.?\d")  # how a number begins


def read_csv(content: bytes, **options: Any) -> pl.DataFrame:
    """The table in a text; options as of `polars.read_csv`.

    The text gets a line before it, which is skipped: polars takes what begins with `x^`, as in `x^2`, for packed bytes.
    """
    import polars as pl  # loaded late

    return pl.read_csv(BytesIO(b"-\n" + content), skip_rows=1, **options)


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table as CSV, all of it or nothing."""
    import polars as pl  # loaded late: `import sbridge` does without it

    frame = pl.DataFrame(_columns(rows), strict=False)
    replace_atomically(Path(path), frame.write_csv)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown, columns of numbers aligned to the right."""
    columns = {name: [_text(cell) for cell in cells] for name, cells in _columns(rows).items()}
    lines = [list(columns), [_alignment(cells) for cells in columns.values()], *zip(*columns.values(), strict=True)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as plain text, columns of numbers aligned to the right."""
    lines: list[tuple[str, ...]] = list(zip(*map(_padded, _columns(rows).items()), strict=True))
    return "".join("  ".join(cells).rstrip() + "\n" for cells in lines)


def _padded(column: tuple[str, list[Any]]) -> list[str]:
    cells = [column[0], *map(_text, column[1])]
    width, right = max(map(len, cells)), _alignment(cells[1:]) == "---:"
    return [cell.rjust(width) if right else cell.ljust(width) for cell in cells]


def html(rows: Sequence[Mapping[str, Any]], caption: str = "") -> str:
    """The table in HTML, for a notebook."""
    columns = {name: list(map(_text, cells)) for name, cells in _columns(rows).items()}
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in cells) for cells in zip(*columns.values(), strict=True))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    headings = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in headings}


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).replace("\n", " ")


def _alignment(cells: Sequence[str]) -> str:
    filled = [cell for cell in cells if cell]
    return "---:" if filled and all(map(_NUMBER.match, filled)) else "---"
