"""Question: how near does the bridge between two days come to the cells of a day between them?

    python experiments/cells.py ../shared/data            # a folder with eb/ (embryoid bodies) and msci/ (CITE-seq)

The protocols of the literature: five principal components of the embryoid bodies (Moon et al. 2019), standardised, each
inner day left out, W1 of all cells; 50 and 100 components of MSCI, days 2→4 at 3 and 3→7 at 4, over the mean spread, at
2ε = 0.1 between the two days, energy distance in the data's units.  LightSB's energy distance is half of ours.  100
components of the embryoid bodies, over the mean spread, are judged by W1 too; nothing is published for them.  Bridges
move all cells of both neighbours to the day between.

Solver and ε of the embryoid bodies are chosen for each left-out day without its cells: by the smallest mean W1 where
one of the other four days is left out between its neighbours among them (eb_choice.csv, of 2,000 cells a day).

The published figures and what needs no bridge are in the same tables, eb.md, eb_100.md, msci_50.md and msci_100.md;
those of single days are beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import tyro
from common import RESULTS, Cell, Rows, mean_of
from torch import Tensor

from sbridge import FullMixturePotential, InputError, MixturePotential
from sbridge.snapshots import LeftOut, leave_one_out
from sbridge.solvers import Solver

SOLVERS: Mapping[str, Solver] = {"mixture potential": MixturePotential()}
EB_SOLVERS: Mapping[str, Solver] = {**SOLVERS, "full mixture potential": FullMixturePotential()}
EB_DAYS = (0.0, 1.0, 2.0, 3.0, 4.0)
EB_EPSILONS = (0.01, 0.02, 0.04)  # per day, in squared standard deviations
EB_CHOICE = 2000  # cells of a day, by which these are compared
CHOSEN = "chosen on the other days"
REFERENCE = "none"  # the seed of what needs no bridge
EB_PUBLISHED = {
    "OT-MFM": 0.711,
    "OT-ALI-CFM": 0.742,
    "OT-CFM": 0.790,
    "[SF]²M": 0.793,
    "DSB": 0.862,
    "[SF]²M-Sink": 1.198,
}
EB_100_EPSILON = 0.02  # per day, in squared mean spreads
MSCI_DAYS = ((2, 3, 4), (3, 4, 7))
MSCI_NOISE = 0.1  # 2ε between the two neighbours, in units of the mean spread
MSCI_MATCHED = 1000  # cells of a day for W1 and W2; the energy distance is that of all cells
MSCI_PUBLISHED = {
    50: {"LightSB": 2.31, "LightSB-M": 2.33, "DSBM": 2.46, "[SF]²M": 2.66, "Sinkhorn": 2.34},
    100: {"LightSB": 2.16, "LightSB-M": 2.17, "DSBM": 2.35, "[SF]²M": 2.52, "Sinkhorn": 2.24},
}


def main(
    data: Path,
    /,
    tasks: tuple[str, ...] = ("eb", "msci", "eb_100"),
    seeds: tuple[int, ...] = (0, 1, 2),
    matched: int = 8000,
    out: Path = RESULTS / "cells",
) -> None:
    """Compare on both data sets; matched: cells of a day at most for the W1 and W2 of embryoid bodies."""
    chosen = {
        "eb": lambda: embryoid_bodies(data / "eb", seeds, matched, out),
        "eb_100": lambda: embryoid_bodies_100(data / "eb", seeds, out),
        "msci": lambda: msci(data / "msci", seeds, out),
    }
    for task in tasks:
        chosen[task]()


def embryoid_bodies(folder: Path, seeds: tuple[int, ...], matched: int, out: Path) -> None:
    """The mean W1 over the three left-out days, of the solver and the ε that are chosen on the other days."""
    stored = loaded(folder / "eb_5pcs.npz")
    values = stored["pcs"].astype(np.float64)
    values = (values - values.mean(0)) / values.std(0)
    days = [torch.as_tensor(values[stored["label"] == day]) for day in range(5)]
    rows, choices = Rows(out, "eb_days"), Rows(out, "eb_choice")
    picks = {day: choice(choices, days, day) for day in EB_DAYS[1:-1]}
    for seed, (day, (solver, epsilon)) in product(seeds, picks.items()):
        compute = partial(left_out, days, EB_DAYS, epsilon, day, matched, seed, {CHOSEN: EB_SOLVERS[solver]})
        rows.once_all(compute, day=day, seed=seed, solver=solver, epsilon=epsilon)
    for day in picks:
        rows.once_all(partial(left_out, days, EB_DAYS, 1.0, day, matched, 0, {}), day=day, seed=REFERENCE)
    titles = {"day": "day", "seed": "seed", "method": "method", "solver": "solver", "epsilon": "ε a day"}
    rows.table({**titles, **SIZES, **DISTANCES})
    summary(rows, "W1", 1.0, EB_PUBLISHED, out / "eb")


def choice(rows: Rows, days: list[Tensor], test: float) -> tuple[str, float]:
    """The solver and the ε of the smallest mean W1 at inner days of all days but one."""
    known = [day for day in EB_DAYS if day != test]
    cells = [days[int(day)] for day in known]
    for epsilon, day in product(EB_EPSILONS, known[1:-1]):
        compute = partial(left_out, cells, tuple(known), epsilon, day, EB_CHOICE, 0, EB_SOLVERS)
        rows.once_all(compute, without=test, day=day, epsilon=epsilon)
    mean = {
        (solver, epsilon): np.mean(
            [float(row["W1"]) for row in rows.find(without=test, method=solver, epsilon=epsilon)]
        )
        for solver, epsilon in product(EB_SOLVERS, EB_EPSILONS)
    }
    return min(mean, key=lambda pair: mean[pair])


def embryoid_bodies_100(folder: Path, seeds: tuple[int, ...], out: Path) -> None:
    """The same with 100 components, of 2,000 cells a day, without a choice."""
    cells = [loaded(folder / f"pcs_label_{day}.npz")["pcs"].astype(np.float64) for day in range(5)]
    spread = float(np.concatenate(cells).std(0).mean())
    days = [torch.as_tensor(cell / spread) for cell in cells]
    rows = Rows(out, "eb_100_days")
    for seed, day in product(seeds, EB_DAYS[1:-1]):
        compute = partial(left_out, days, EB_DAYS, EB_100_EPSILON, day, EB_CHOICE, seed, SOLVERS)
        rows.once_all(compute, day=day, seed=seed, epsilon=EB_100_EPSILON)
    for day in EB_DAYS[1:-1]:
        rows.once_all(partial(left_out, days, EB_DAYS, 1.0, day, EB_CHOICE, 0, {}), day=day, seed=REFERENCE)
    rows.table({"day": "day", "seed": "seed", "method": "method", **SIZES, **DISTANCES})
    summary(rows, "W1", 1.0, {}, out / "eb_100")


def msci(folder: Path, seeds: tuple[int, ...], out: Path) -> None:
    """The mean energy distance of both pairs of days, in LightSB's convention."""
    for dim in (50, 100):
        days = {day: loaded(folder / f"full_cite_pcas_{dim}_day_{day}.npy").astype(np.float64) for day in (2, 3, 4, 7)}
        spread = float(np.concatenate(list(days.values())).std(0).mean())
        rows = Rows(out, f"msci_{dim}_days")
        for seed, triple in product((*seeds, REFERENCE), MSCI_DAYS):
            snapshots = [torch.as_tensor(days[day]) for day in triple]
            epsilon = MSCI_NOISE / 2 * spread**2 / (triple[2] - triple[0])
            own = (MSCI_MATCHED, 0, {}) if isinstance(seed, str) else (MSCI_MATCHED, seed, SOLVERS)
            compute = partial(left_out, snapshots, triple, epsilon, triple[1], *own)
            rows.once_all(compute, day=triple[1], seed=seed, epsilon=epsilon)
        rows.table({"day": "day", "seed": "seed", "method": "method", **SIZES, **DISTANCES})
        summary(rows, "energy distance", 0.5, MSCI_PUBLISHED[dim], out / f"msci_{dim}")


SIZES = {
    "points": "points",
    "true points": "true points",
    "matched": "matched",
    "split": "split",
    "seconds": "fit and distances (s)",
}
DISTANCES = {name: name for name in ("W1", "W2", "sliced W2", "energy distance")}


def left_out(
    snapshots: list[Tensor],
    times: tuple[float, ...],
    epsilon: float,
    day: float,
    matched: int,
    seed: int,
    solvers: Mapping[str, Solver],
) -> list[dict[str, Cell]]:
    """The rows of one left-out day, with the time that all of them took: the solvers', or without one the others."""
    start = perf_counter()
    found: LeftOut = leave_one_out(
        snapshots, times, epsilon, solvers, day, matched=matched, random_state=seed, references=not solvers
    )
    return [{**row, "seconds": perf_counter() - start} for row in found.rows]


def summary(rows: Rows, column: str, factor: float, published: Mapping[str, float], path: Path) -> None:
    """The mean over days for each method, with its error over seeds, beside what is published."""
    table = Rows(path.parent, path.name)
    methods = dict.fromkeys(row["method"] for row in rows.rows)
    own: list[dict[str, Cell]] = []
    for method in methods:
        seeds = dict.fromkeys(row["seed"] for row in rows.find(method=method))
        means = [mean_over(rows, method, seed, column) * factor for seed in seeds]
        own.append({"method": method, column: mean_of(means) if len(means) > 1 else means[0], "source": "this run"})
    table.replace(
        [*own, *({"method": name, column: value, "source": "published"} for name, value in published.items())]
    )
    table.table({"method": "method", column: column, "source": "source"})


def mean_over(rows: Rows, method: str, seed: str, column: str) -> float:
    """Over the left-out days."""
    return float(np.mean([float(row[column]) for row in rows.find(method=method, seed=seed)]))


def loaded(path: Path) -> np.ndarray:
    """The array or arrays of a file."""
    if not path.exists():
        raise InputError(f"{path} is missing; give the folder that holds eb/ and msci/")
    return np.load(path)


if __name__ == "__main__":
    tyro.cli(main)
