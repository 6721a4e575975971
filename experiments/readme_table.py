"""Write the README's tables from results/.

    .venv/bin/python experiments/readme_table.py
"""

import re

import polars as pl
from bench import RESULTS

from sbridge.bench.table import shown
from sbridge.evaluation import COLUMNS, FLOOR, TRUTH, Comparison, column_named

README = RESULTS.parent / "README.md"
FIGURES = [column for column in COLUMNS if column.name in ("path_kl", "cbw_uvp", "bw_uvp", "fit_seconds")]
BUDGET = 120.0  # seconds of the solvers' fits
METHODS = ("fixed interpolant, product coupling", "max–min, product coupling", "fixed interpolant", "max–min", FLOOR)
"""Of the solver experiment, in the order of the table."""


def recovered() -> list[str]:
    """One line for every method on every problem."""
    found = _head(["problem", "method"], [column.heading for column in FIGURES])
    gaussian = Comparison.read(RESULTS / "recover_gaussian" / "comparison.json")
    for name, row in gaussian.rows.items():
        if name != TRUTH:
            found.append(_line(["Gaussian, d = 2, ε = 0.5", _named(name)], [column.cell(row) for column in FIGURES]))
    table = pl.read_csv(RESULTS / "solver" / "table.csv", infer_schema_length=None)
    table = table.filter(pl.col("budget").is_null() | (pl.col("budget") == BUDGET))
    for case in table["case"].unique(maintain_order=True):
        rows = {row["method"]: row for row in table.filter(pl.col("case") == case).to_dicts()}
        problem = case.replace("=", " = ").replace("mixture ", "mixture, ").replace(" ε", ", ε")
        for name in (name for name in METHODS if name in rows):
            found.append(_line([problem, _named(name)], [shown(rows[name], column) for column in FIGURES]))
    return found


def _named(method: str) -> str:
    return "floor" if method == FLOOR else method


def compared() -> list[str]:
    """Path KL on every case of the mixture benchmark, a column for each method."""
    table = pl.read_csv(RESULTS / "mixture" / "table.csv", infer_schema_length=None)
    table = table.filter(~pl.col("method").is_in([FLOOR, TRUTH]))
    column = column_named("path_kl")
    methods = table["method"].unique(maintain_order=True).to_list()
    found = _head(["path KL (nats)"], methods)
    for case in table["case"].unique(maintain_order=True):
        rows = {row["method"]: row for row in table.filter(pl.col("case") == case).to_dicts()}
        named = case.removeprefix("mixture ").replace("=", " = ").replace(" ε", ", ε")
        found.append(_line([named], [shown(rows[method], column) if method in rows else "" for method in methods]))
    return found


def _head(words: list[str], figures: list[str]) -> list[str]:
    return [_line(words, figures), "|" + " --- |" * len(words) + " ---: |" * len(figures)]


def _line(words: list[str], figures: list[str]) -> str:
    return "| " + " | ".join([*words, *figures]) + " |"


def replaced(text: str, name: str, lines: list[str]) -> str:
    """The text with these lines between its marks."""
    block = f"<!-- {name} -->\n" + "\n".join(lines) + f"\n<!-- end of {name} -->"
    return re.sub(rf"<!-- {name} -->.*<!-- end of {name} -->", lambda _: block, text, flags=re.DOTALL)


text = README.read_text(encoding="utf-8")
for name, lines in (("results", recovered()), ("methods", compared())):
    text = replaced(text, name, lines)
README.write_text(text, encoding="utf-8")
