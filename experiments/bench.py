"""What the recovery experiments share: every method judged alike on one thread, finished rows kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from sbridge.bridge import Problem
from sbridge.cli.settings import environment
from sbridge.evidence import FLOOR, TRUTH, Comparison, Effort, Judge
from sbridge.solvers import Solver

RESULTS = Path(__file__).parent.parent / "results"
EFFORT = Effort(points=2000, matched=1000, starts=100, per_start=1000)


def recover(name: str, problem: Problem, methods: Mapping[str, Solver], effort: Effort = EFFORT) -> None:
    """Fill results/`name` with a table of all methods; rows that are there are not computed again."""
    torch.set_num_threads(1)
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    judge = Judge.of(problem, effort=effort)
    rows = dict(Comparison.read(folder / "comparison.json").rows) if (folder / "comparison.json").exists() else {}
    if not {TRUTH, FLOOR} <= rows.keys():
        rows |= judge.references()
    for method, solver in methods.items():
        if method not in rows:
            print(f"{name}: {method}", flush=True)
            rows[method] = judge.row(solver)
            rows |= {reference: rows.pop(reference) for reference in (TRUTH, FLOOR)}  # to the end
            write(judge.table(rows), folder)
    print((folder / "comparison.md").read_text(encoding="utf-8"))


def write(table: Comparison, folder: Path) -> None:
    """The table for machines and for people, and what it was made with."""
    table.to_json(folder / "comparison.json")
    table.to_csv(folder / "comparison.csv")
    versions = ", ".join(f"{name} {version}" for name, version in environment().items())
    (folder / "comparison.md").write_text(f"{table.to_markdown()}\nOne CPU thread; {versions}.\n", encoding="utf-8")
