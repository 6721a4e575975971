"""Tables.  A table is a sequence of rows; a row is a mapping from the column's heading to its cell.

Columns stand in the order in which their headings first appear.  A cell that is absent or None is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sbridge.files import replace_atomically

__all__ = ["markdown", "write_csv"]

_NUMBER = re.compile(r"[(-]?\.?\d")  # how a number begins


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


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    headings = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in headings}


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).replace("\n", " ")


def _alignment(cells: Sequence[str]) -> str:
    filled = [cell for cell in cells if cell]
    return "---:" if filled and all(map(_NUMBER.match, filled)) else "---"
