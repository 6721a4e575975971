"""Write the README's tables from results/.

    .venv/bin/python experiments/readme_table.py
"""

import re

import polars as pl
from bench import RESULTS

from sbridge.bench.table import shown
from sbridge.evidence import COLUMNS, FLOOR, TRUTH, Comparison

README = RESULTS.parent / "README.md"
NAMES = ("path_kl", "cbw_uvp", "bw_uvp", "fit_seconds")
PROBLEMS = {
    "recover_gaussian": "Gaussian, d = 2, ε = 0.5",
    "recover_mixture_d2_eps0.5": "mixture, d = 2, ε = 0.5",
    "recover_mixture_d16_eps0.5": "mixture, d = 16, ε = 0.5",
    "recover_mixture_d16_eps0.05": "mixture, d = 16, ε = 0.05",
}


def recovered() -> list[str]:
    """One line for every method on every problem."""
    found = []
    for folder, problem in PROBLEMS.items():
        table = Comparison.read(RESULTS / folder / "comparison.json")
        columns = [column for column in table.columns if column.name in NAMES]
        if not found:
            found += _head(["problem", "method"], [column.heading for column in columns])
        for name, row in table.rows.items():
            if name != TRUTH:
                found.append(_line([problem, "floor" if name == FLOOR else name], [c.cell(row) for c in columns]))
    return found


def compared() -> list[str]:
    """Path KL of every method, a column for each case of the mixture benchmark."""
    table = pl.read_csv(RESULTS / "mixture" / "table.csv", infer_schema_length=None)
    column = next(column for column in COLUMNS if column.name == "path_kl")
    cases = table["case"].unique(maintain_order=True).to_list()
    found = _head(["path KL (nats)"], [case.removeprefix("mixture ").replace("=", " = ") for case in cases])
    for method in table.filter(~pl.col("method").is_in([FLOOR, TRUTH]))["method"].unique(maintain_order=True):
        rows = {row["case"]: row for row in table.filter(pl.col("method") == method).to_dicts()}
        found.append(_line([method], [shown(rows[case], column) if case in rows else "" for case in cases]))
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
