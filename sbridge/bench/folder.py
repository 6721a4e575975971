"""A benchmark's folder: the finished cells, and the computation of the others.

cells/*.json                 a record for each finished cell: its settings, its rows, versions and machine
table.csv, .json, .md        one row for each case, method and budget
*.png                        figures
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from sbridge.bench.cells import FAILED, Cell
from sbridge.bench.pool import finished
from sbridge.evaluation.table import Row
from sbridge.io import Store

__all__ = ["Done", "Folder"]


@dataclass(frozen=True)
class Done:
    """A cell that was just finished.

    Args:
        cell: the cell.
        rows: its rows.
        number: cells finished so far.
        total: all cells.
        seconds_left: an estimate for the others.
    """

    cell: Cell
    rows: dict[str, Row]
    number: int
    total: int
    seconds_left: float


@dataclass(frozen=True)
class Folder:
    """The folder of a benchmark.

    Args:
        path: the folder; it need not exist.
    """

    path: Path

    def rows(self, cell: Cell) -> dict[str, Row] | None:
        """The rows of a finished cell; None if it is not finished.

        Raises:
            InputError: it was made with other settings, or its file is damaged.
        """
        rows: dict[str, Row] | None = self._cells.get(cell.key, cell)
        return rows

    def keep(self, cell: Cell, rows: dict[str, Row]) -> None:
        """Keep the rows of a finished cell."""
        self._cells.put(cell.key, cell, rows)

    def run(self, cells: Sequence[Cell], jobs: int = 1, retry: bool = False) -> Generator[Done, None, None]:
        """Compute the cells that are not finished, each in its own process, `jobs` at a time.

        It can be stopped at any moment: finished cells are kept, and the next call continues after them.

        Args:
            cells: all cells.
            jobs: processes at a time.
            retry: whether to try failed cells again.

        Raises:
            InputError: a finished cell was made with other settings, or its file is damaged.
        """
        left = [cell for cell in cells if self._is_due(cell, retry)]
        begin = perf_counter()
        threads = max(cell.threads for cell in cells)
        with closing(finished(left, partial(_work, self), jobs, threads)) as results:
            for number, (cell, failure) in enumerate(results, 1):
                if failure:
                    self.keep(cell, cell.failed(failure))
                rows = self.rows(cell)
                assert rows is not None
                rest = len(left) - number
                yield Done(cell, rows, len(cells) - rest, len(cells), (perf_counter() - begin) / number * rest)

    @property
    def _cells(self) -> Store:
        return Store(self.path / "cells")

    def _is_due(self, cell: Cell, retry: bool) -> bool:
        rows = self.rows(cell)
        return rows is None or (retry and any(str(row.get("remark", "")).startswith(FAILED) for row in rows.values()))


def _work(folder: Folder, cell: Cell) -> None:
    """The work of a cell's process."""
    folder.keep(cell, cell.rows())
