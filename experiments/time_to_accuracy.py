"""Claim: how long each method takes to a path KL of 0.3, 0.1 and 0.03 nats (mixture, D = 2 and 16, ε = ½).

    .venv/bin/python experiments/time_to_accuracy.py

Every budget is a training of its own with its whole schedule.  The time between two budgets is interpolated on
logarithmic axes; "< t" and "> t" are the shortest and the longest fit where the accuracy is met by all or by none.
"""

from collections.abc import Sequence
from math import exp, log
from pathlib import Path

import polars as pl
import tyro
from bench import RESULTS
from figures import Rows

from sbridge.bench import Mixtures, bench, chosen, plan
from sbridge.evidence import FLOOR, TRUTH

BUDGETS = (8.0, 15.0, 30.0, 60.0, 120.0)
GOALS = (0.3, 0.1, 0.03)  # nats


def main(budgets: tuple[float, ...] = BUDGETS, jobs: int = 1, out: Path = RESULTS / "time_to_accuracy") -> None:
    cases = Mixtures(dims=(2, 16), epsilons=(0.5,)).cases()
    write_times(bench(plan(cases, chosen([]), budgets, seeds=[0]), out, jobs), out)


def write_times(table: pl.DataFrame, out: Path) -> None:
    """The time of every method to every goal, in each case."""
    titles = {"case": "problem", "method": "method", **{f"to_{goal:g}": f"s to {goal:g} nats" for goal in GOALS}}
    times = Rows(out, "times", titles)
    methods = table.filter(~pl.col("method").is_in([FLOOR, TRUTH])).drop_nulls("path_kl")
    groups = methods.group_by("case", "method", maintain_order=True)
    curves = {key: sorted(part.select("fit_seconds", "path_kl").iter_rows()) for key, part in groups}
    times.fill(
        {"case": case, "method": method, **{f"to_{goal:g}": time_to(goal, curve) for goal in GOALS}}
        for (case, method), curve in curves.items()
    )
    times.write()


def time_to(goal: float, curve: Sequence[tuple[float, float]]) -> str:
    """When a curve of (seconds, nats) first falls to the goal."""
    first = next((k for k, (_, nats) in enumerate(curve) if nats <= goal), None)
    if first is None:
        return f"> {curve[-1][0]:.3g}"
    if first == 0:
        return f"< {curve[0][0]:.3g}"
    (before, above), (after, below) = curve[first - 1], curve[first]
    share = log(above / goal) / log(above / below)
    return f"{exp(log(before) + share * log(after / before)):.3g}"


if __name__ == "__main__":  # every cell's process imports this script
    tyro.cli(main)
