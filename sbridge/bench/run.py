"""A benchmark, from its cells to its tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import polars as pl
from rich.console import Console

from sbridge.bench.cells import Cell
from sbridge.bench.figures import figures
from sbridge.bench.folder import Done, Folder
from sbridge.bench.table import of_cells, write_table
from sbridge.checks import Count, Elsewhere, checked
from sbridge.estimates import rounded, with_error
from sbridge.evaluation.table import Row
from sbridge.files import made_folder, write_bytes
from sbridge.io import owned
from sbridge.report.style import png

__all__ = ["bench"]


@checked
def bench(
    cells: Annotated[Sequence[Cell], Elsewhere()], out: str | Path, jobs: Count = 1, retry: bool = False
) -> pl.DataFrame:
    """Compute the cells that are not finished, with a line for each on stderr; write the table and figures of all.

    The table is written again after each cell.

    Args:
        cells: from `cells_of`, or several such lists joined.
        out: the folder; cells that are finished there are kept.
        jobs: processes at a time; times are comparable if each has its own cores.
        retry: whether to try failed cells again.

    Returns:
        The table, with a row for each case, method and budget.

    Raises:
        InputError: `jobs` is not positive, or a finished cell was made with other settings or is damaged.
    """
    folder, console = Folder(made_folder(Path(out))), Console(stderr=True)
    with owned(folder.path):
        for done in folder.run(cells, jobs, retry):
            console.print(_line(done), markup=False, highlight=False, soft_wrap=True)
            _update_table(folder, cells)
        table = _update_table(folder, cells)
        for name, figure in figures(table).items():
            write_bytes(folder.path / f"{name}.png", png(figure))
    return table


def _update_table(folder: Folder, cells: Sequence[Cell]) -> pl.DataFrame:
    """Write the table of the finished cells, and return it."""
    table = of_cells({cell: rows for cell in cells if (rows := folder.rows(cell)) is not None})
    write_table(folder, table)
    return table


def _line(done: Done) -> str:
    results = "; ".join(filter(None, (_result(row) for row in done.rows.values())))
    return f"[{done.number}/{done.total}] {done.cell.title}: {results}  (about {_duration(done.seconds_left)} left)"


def _result(row: Row) -> str:
    """The most important figure and the seconds it took, or the remark where there is no figure."""
    for name in ("path_kl", "forward_wasserstein"):
        value, error = row.get(name), row.get(f"{name}_se")
        if isinstance(value, float):
            figure = with_error(value, error) if isinstance(error, float) else rounded(value)
            seconds = row.get("fit_seconds")
            time = f" in {seconds:.1f} s" if isinstance(seconds, float) else ""
            return f"{name.replace('_', ' ').replace('kl', 'KL')} {figure}{time}"
    return str(row.get("remark", ""))


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
