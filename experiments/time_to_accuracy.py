"""Claim: how long each method takes to a path KL of 0.3, 0.1 and 0.03 nats (mixture, D = 2 and 16, ε = ½).

    .venv/bin/python experiments/time_to_accuracy.py

Every budget is a training of its own with its whole schedule.  The time between two budgets is interpolated on
logarithmic axes; "< t" and "> t" are the shortest and the longest fit where the accuracy is met by all or by none.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from typing import NamedTuple

import polars as pl
import tyro
from bench import RESULTS
from figures import Rows

from sbridge.bench import ENTRIES, Mixtures, bench, cells_of, chosen
from sbridge.evaluation import FLOOR, TRUTH

KEYS = ("maxmin", "maxmin-product", "maxmin-potential", "fixed", "imf", "sf2m", "torchcfm", "potential", "pot")
BUDGETS = (8.0, 15.0, 30.0, 60.0, 120.0)
GOALS = (0.3, 0.1, 0.03)  # nats
RATIO = GOALS[0]
OWN = ENTRIES["maxmin"].title


def main(
    budgets: tuple[float, ...] = BUDGETS,
    seeds: tuple[int, ...] = (0,),
    dims: tuple[int, ...] = (2, 16),
    methods: tuple[str, ...] = KEYS,
    jobs: int = 1,
    out: Path = RESULTS / "time_to_accuracy",
) -> None:
    cases = Mixtures(dims, epsilons=(0.5,)).cases()
    table = bench(cells_of(cases, chosen(methods), budgets, seeds), out, jobs)
    write_times(table, out, f"Budgets of {', '.join(f'{b:g}' for b in budgets)} s; seeds: {len(seeds)}.")


class Time(NamedTuple):
    """Seconds, and whether they are a bound: "<", ">" or ""."""

    seconds: float
    bound: str = ""

    def __str__(self) -> str:
        return f"{self.bound} {self.seconds:.3g}".strip()

    def over(self, other: Time) -> str:
        """How many times the other's it is, or what is known of that."""
        bounds = {self.bound, {"<": ">", ">": "<", "": ""}[other.bound]} - {""}
        return "" if len(bounds) > 1 else f"{''.join(bounds)} {self.seconds / other.seconds:.2g}".strip()


def write_times(table: pl.DataFrame, out: Path, note: str) -> None:
    """The time of every method to every goal, in each case, and that to the first beside max–min's."""
    titles = {"case": "problem", "method": "method", **{f"to_{goal:g}": f"s to {goal:g} nats" for goal in GOALS}}
    times = Rows(out, "times", {**titles, "ratio": f"to {RATIO:g} nats, times {OWN}'s"})
    methods = table.filter(~pl.col("method").is_in([FLOOR, TRUTH])).drop_nulls("path_kl")
    groups = methods.group_by("case", "method", maintain_order=True)
    curves = {key: sorted(part.select("fit_seconds", "path_kl").iter_rows()) for key, part in groups}
    times.fill(
        {
            "case": case,
            "method": method,
            **{f"to_{goal:g}": str(time_to(goal, curve)) for goal in GOALS},
            "ratio": time_to(RATIO, curve).over(time_to(RATIO, curves[case, OWN])) if (case, OWN) in curves else "",
        }
        for (case, method), curve in curves.items()
    )
    times.write(note)


def time_to(goal: float, curve: Sequence[tuple[float, float]]) -> Time:
    """When a curve of (seconds, nats) first falls to the goal."""
    first = next((k for k, (_, nats) in enumerate(curve) if nats <= goal), None)
    if first is None:
        return Time(curve[-1][0], ">")
    if first == 0:
        return Time(curve[0][0], "<")
    (before, above), (after, below) = curve[first - 1], curve[first]
    share = log(above / goal) / log(above / below)
    return Time(exp(log(before) + share * log(after / before)))


if __name__ == "__main__":  # every cell's process imports this script
    tyro.cli(main)
