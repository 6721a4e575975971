"""Write the tables of results into the documentation, from results/.

    python docs/results.py      # those of README.md and of "Judge a fit"; the benchmarks page when the site is built

A table stands between `<!-- table: NAME -->` and `<!-- /table -->`; NAME is one of `TABLES`.  Nothing there is typed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import polars as pl

from sbridge.bench.table import shown
from sbridge.evaluation import COLUMNS, FLOOR, column_named
from sbridge.tables import markdown

__all__ = ["FILLED", "RESULTS", "filled"]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
FILLED = ("README.md", "docs/how-to/judge.md")  # the documents that people read as they are
_PLACE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- /table -->)", flags=re.DOTALL)
_METHODS = ("auto", "max–min", "torchcfm [SF]²M", "DSBM-IMF (own)", "POT Sinkhorn", FLOOR)
_CASES = {
    "known bridge, clusters (d = 16)": ("mixture d=16 ε=0.5", "path_kl"),
    "known bridge, shapes (d = 4)": ("shapes d=4 ε=0.05", "path_kl"),
    "digits 3 → 8 (d = 64)": ("digits", "forward_wasserstein"),
}
"""The columns of the README's table: the case of a benchmark, and the figure of it."""


def filled(text: str) -> str:
    """The text with every table made anew.

    Raises:
        KeyError: there is no table of that name.
    """
    return _PLACE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def _few() -> str:
    """A row for each of six methods, on three problems."""
    paths = sorted(RESULTS.rglob("table.csv"))
    if not paths:
        return "There are no results of this version yet; `make results` measures them and fills in this table.\n"
    rows = [row for path in paths for row in pl.read_csv(path, infer_schema_length=None).to_dicts()]
    found = {(row["case"], row["method"]): row for row in rows}
    lines = []
    for method in _METHODS:
        cells = {title: _cell(found.get((case, method)), figure) for title, (case, figure) in _CASES.items()}
        lines += [{"method": method, **cells}] * any(cells.values())
    return f"{markdown(lines)}\n{_meanings()}\n"


def _cell(row: dict[str, object] | None, figure: str) -> str:
    return "" if row is None else shown(row, column_named(figure))


def _meanings() -> str:
    columns = dict.fromkeys(column_named(figure) for _, figure in _CASES.values())
    return " ".join(f"{column.heading}: {column.meaning}" for column in columns)


def _all() -> str:
    """Every table and figure of results/, by experiment."""
    folders = sorted(path for path in RESULTS.iterdir() if path.is_dir() and any(path.rglob("*.md")))
    if not folders:
        return "There are no results of this version yet; `make results` measures them.\n"
    return "\n".join(part for folder in folders for part in _experiment(folder))


def _experiment(folder: Path) -> Iterator[str]:
    """The question of the experiment that wrote to this folder, its command, tables and figures."""
    script = ROOT / "experiments" / f"{folder.name}.py"
    question = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    yield f"## {folder.name.replace('_', ' ')}\n\n{question}\n\n```sh\npython experiments/{script.name}\n```\n"
    for path in sorted(folder.rglob("*.md")):
        title = " · ".join(path.relative_to(folder).with_suffix("").parts)
        yield f"### {title.replace('_', ' ')}\n\n{path.read_text(encoding='utf-8')}"
    for path in sorted(folder.rglob("*.png")):
        yield f"![{path.stem.replace('_', ' ')}](results/{path.relative_to(RESULTS)})\n"


def _columns() -> str:
    """What each column of a comparison means."""
    return markdown([{"column": column.heading, "meaning": column.meaning} for column in COLUMNS])


def _shares(folder: str) -> str:
    """How often figures that do not know the bridge are right, where it is known."""
    path = RESULTS / folder / "shares.md"
    return path.read_text(encoding="utf-8") if path.exists() else "`make results` measures this.\n"


TABLES: dict[str, Callable[[], str]] = {
    "results": _few,
    "all": _all,
    "columns": _columns,
    "certificates": partial(_shares, "certificate"),
    "ranking": partial(_shares, "ranking"),
}


if __name__ == "__main__":
    for path in (ROOT / name for name in FILLED):
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
