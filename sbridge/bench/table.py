"""One table of a whole benchmark, with the mean over seeds.

Each figure has two more columns: `…_spread`, its standard deviation over seeds (empty for one seed), and `…_se`, the
standard error of the mean by sampling within the n seeds, √(Σ se²)/n.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from sbridge.bench.cells import Cell
from sbridge.bench.folder import Folder
from sbridge.estimates import rounded, with_error
from sbridge.evaluation import COLUMNS, Column, column_named
from sbridge.evaluation.table import Row
from sbridge.files import replace_atomically, write_json, write_text
from sbridge.tables import markdown

__all__ = ["KEYS", "of_cells", "shown", "write_table"]

KEYS = ("case", "family", "dim", "epsilon", "points", "method", "budget")
_FIGURES = [column for column in COLUMNS if column.name != "remark"]
_SHOWN = ["path_kl", "cbw_uvp", "cbw_uvp_exact", "bw_uvp", "path_energy", "diagonal_kl", "endpoint_covariance_error"]
_SHOWN += ["forward_energy", "forward_p", "forward_wasserstein", "backward_wasserstein", "fit_seconds", "peak_memory"]
_WORDS = ("case", "family", "method", "remark")
_COUNTS = ("dim", "points")


def of_cells(results: Mapping[Cell, Mapping[str, Row]]) -> pl.DataFrame:
    """A row for each case, method and budget, in the order in which cases and methods first come."""
    names = [*KEYS, *(name for column in _FIGURES for name in column.names), "steps", "remark"]
    rows = [row for cell, found in results.items() for row in _rows(cell, found)]
    frame = pl.DataFrame(rows, schema={name: _type(name) for name in names})
    return frame.group_by(KEYS, maintain_order=True).agg(
        pl.len().alias("seeds"), *(part for column in _FIGURES for part in _aggregates(column)), *_rest()
    )


def _type(name: str) -> type[pl.DataType]:
    return pl.String if name in _WORDS else pl.Int64 if name in _COUNTS else pl.Float64


def _rows(cell: Cell, found: Mapping[str, Row]) -> Iterator[dict[str, Any]]:
    case = cell.case
    facts = {"case": case.name, "family": case.source.name, "dim": case.dim}
    facts |= {"epsilon": case.source.epsilon, "points": case.points}
    for method, row in found.items():
        yield {**facts, "method": method, "budget": cell.budget, **row}


def _aggregates(column: Column) -> Iterator[pl.Expr]:
    figure = pl.col(column.name)
    yield figure.mean()
    yield figure.std().alias(f"{column.name}_spread")
    if column.error:
        error = pl.col(column.error)
        yield error.pow(2).sum().sqrt().truediv(error.count()).fill_nan(None).alias(column.error)


def _rest() -> Iterator[pl.Expr]:
    yield pl.col("steps").mean()
    yield pl.col("remark").filter(pl.col("remark") != "").unique(maintain_order=True).str.join("; ")


def shown(row: Mapping[str, Any], column: Column) -> str:
    """A cell for people: the mean with its spread over seeds, or with its standard error where there is one seed."""
    value = row[column.name]
    if value is None:
        return ""
    spread = row[f"{column.name}_spread"]
    error = row[column.error] if spread is None and column.error else spread
    return rounded(value) if error is None else with_error(value, error)


def write_table(folder: Folder, table: pl.DataFrame) -> None:
    """table.csv with every figure, table.json with the columns' meanings too, and table.md for people."""
    replace_atomically(folder.path / "table.csv", table.write_csv)
    meanings = [asdict(column) for column in COLUMNS]
    write_json(folder.path / "table.json", {"rows": table.to_dicts(), "columns": meanings})
    write_text(folder.path / "table.md", _markdown(table))


def _markdown(table: pl.DataFrame) -> str:
    rows = table.to_dicts()
    columns = [column_named(name) for name in _SHOWN if table[name].count()]
    text = markdown([_line(row, columns) for row in rows])
    meanings = "".join(f"- {column.heading}: {column.meaning}\n" for column in columns)
    return f"{text}\nMean ± standard deviation over seeds; ± standard error where there is one seed.\n\n{meanings}"


def _line(row: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, str]:
    budget = "" if row["budget"] is None else f"{row['budget']:g}"
    steps = "" if row["steps"] is None else f"{row['steps']:.0f}"
    facts = {"case": row["case"], "method": row["method"], "budget (s)": budget, "seeds": str(row["seeds"])}
    figures = {column.heading: shown(row, column) for column in columns}
    return {**facts, "steps": steps, **figures, "remark": row["remark"]}
