"""A benchmark's folder: what is finished, and running what is not.

    cells/*.json                 a file for each finished cell: its settings, its rows and what it was made with
    table.csv, .json, .md        one row for each case, method and budget
    *.png                        figures
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from sbridge.bench.cells import FAILED, Cell
from sbridge.bench.pool import finished
from sbridge.errors import InputError
from sbridge.evaluation.table import Row
from sbridge.files import write_json
from sbridge.io.settings import differences, environment

__all__ = ["Done", "Folder"]


@dataclass(frozen=True)
class Done:
    """A cell that was just finished.

    Args:
        cell: the cell.
        rows: its rows.
        number, total: how many are finished of how many.
        seconds_left: an estimate for the others.
    """

    cell: Cell
    rows: dict[str, Row]
    number: int
    total: int
    seconds_left: float


@dataclass(frozen=True)
class Folder:
    """Where cells are kept.

    Args:
        path: the folder; it need not exist.
    """

    path: Path

    def rows(self, cell: Cell) -> dict[str, Row] | None:
        """The rows of a finished cell; None where it is not finished.

        Raises:
            InputError: it was made with other settings, or its file is damaged.
        """
        path = self._file(cell)
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            differing = differences(content["settings"], cell.settings)
            rows: dict[str, Row] = content["rows"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged; delete it to do its cell again ({error})") from error
        if differing:
            raise InputError(
                f"{path} was made with other settings: {'; '.join(differing)}; delete it or choose another folder"
            )
        return rows

    def run(self, cells: Sequence[Cell], jobs: int = 1, retry: bool = False) -> Generator[Done, None, None]:
        """Do the cells that are not finished, each in a process of its own, `jobs` at a time.

        Stopped at any moment it leaves all finished cells, and goes on after them.

        Args:
            retry: whether to do failed cells again.

        Raises:
            InputError: a finished cell was made with other settings, or its file is damaged.
        """
        left = [cell for cell in cells if self._is_due(cell, retry)]
        (self.path / "cells").mkdir(parents=True, exist_ok=True)
        begin = perf_counter()
        threads = max(cell.threads for cell in cells)
        with closing(finished(left, partial(_work, self), jobs, threads)) as results:
            for number, (cell, failure) in enumerate(results, 1):
                if failure:
                    self.write(cell, cell.failed(failure))
                rows = self.rows(cell)
                assert rows is not None
                rest = len(left) - number
                yield Done(cell, rows, len(cells) - rest, len(cells), (perf_counter() - begin) / number * rest)

    def write(self, cell: Cell, rows: dict[str, Row]) -> None:
        """Note that a cell is finished."""
        content = {"settings": cell.settings, "rows": rows, "environment": environment()}
        write_json(self._file(cell), content)

    def _is_due(self, cell: Cell, retry: bool) -> bool:
        rows = self.rows(cell)
        return rows is None or (retry and any(str(row.get("remark", "")).startswith(FAILED) for row in rows.values()))

    def _file(self, cell: Cell) -> Path:
        return self.path / "cells" / cell.file


def _work(folder: Folder, cell: Cell) -> None:
    """What a cell's process does."""
    folder.write(cell, cell.rows())
