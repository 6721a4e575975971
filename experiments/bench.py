"""What the recovery experiments share: every method judged alike on one thread, finished rows kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from sbridge.evaluation import FLOOR, TRUTH, Comparison, Effort, Evaluator
from sbridge.io.settings import environment
from sbridge.problem import Problem
from sbridge.solvers import Solver

RESULTS = Path(__file__).parent.parent / "results"
TITLES = {"path_kl": "path KL (nats)", "cbw_uvp": "cBW-UVP (%)"}
EFFORT = Effort(points=2000, matched=1000, starts=100, per_start=1000)


def recover(name: str, problem: Problem, methods: Mapping[str, Solver], effort: Effort = EFFORT) -> None:
    """Fill results/`name` with a table of all methods; rows that are there are not computed again."""
    torch.set_num_threads(1)
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    judge = Evaluator.of(problem, effort=effort)
    rows = dict(Comparison.read(folder / "comparison.json").rows) if (folder / "comparison.json").exists() else {}
    if not {TRUTH, FLOOR} <= rows.keys():
        rows |= judge.references()
    for method, solver in methods.items():
        if method not in rows:
            print(f"{name}: {method}", flush=True)
            rows[method] = judge.row(solver)
            rows |= {reference: rows.pop(reference) for reference in (TRUTH, FLOOR)}  # to the end
            write(judge.table(rows), folder)
    draw(judge.table(rows), folder / "comparison.png")
    print((folder / "comparison.md").read_text(encoding="utf-8"))


def draw(table: Comparison, path: Path) -> None:
    """Path KL and cBW-UVP of every method with their standard errors, the floor as a line."""
    figure = Figure(figsize=(9, 0.5 + 0.4 * len(table.rows)), layout="constrained")
    names = [name for name in table.rows if name not in (TRUTH, FLOOR)]
    for axes, column in zip(figure.subplots(1, 2, sharey=True), ("path_kl", "cbw_uvp"), strict=True):
        values, errors = ([table.rows[name].get(key, 0.0) for name in names] for key in (column, f"{column}_se"))
        axes.errorbar(values, names, xerr=errors, fmt="o", color="#0072B2")
        if floor := table.rows[FLOOR][column]:  # that of the path KL is zero
            axes.axvline(floor, color="#D55E00", linestyle="--", label="floor")
        axes.set(xscale="log", xlabel=TITLES[column])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="both", alpha=0.3)
    figure.axes[0].invert_yaxis()
    figure.axes[1].legend()
    figure.savefig(path, dpi=160)


def write(table: Comparison, folder: Path) -> None:
    """The table for machines and for people, and what it was made with."""
    table.to_json(folder / "comparison.json")
    table.to_csv(folder / "comparison.csv")
    versions = ", ".join(f"{name} {version}" for name, version in environment().items())
    (folder / "comparison.md").write_text(f"{table.to_markdown()}\nOne CPU thread; {versions}.\n", encoding="utf-8")
