"""Question: how near does the bridge between two days come to the cells of a day between them?

    python experiments/cells.py ../shared/data            # a folder with eb/ (embryoid bodies) and msci/ (CITE-seq)

The protocols of the literature: five principal components of the embryoid bodies (Moon et al. 2019), standardised, each
inner day left out, W1 of all cells; 50 and 100 components of MSCI, days 2→4 at 3 and 3→7 at 4, over the mean spread, at
2ε = 0.1 between the two days, energy distance in the data's units.  LightSB's energy distance is half of ours.  Bridges
move as many cells of either neighbour to the day between.  The published figures and what needs no bridge are in the
same tables, eb.md, msci_50.md and msci_100.md; those of single days are beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
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

SOLVERS: Mapping[str, Solver] = {
    "mixture potential": MixturePotential(),
    "full mixture potential": FullMixturePotential(),
}
EB_EPSILON = 0.02  # per day
EB_PUBLISHED = {
    "OT-MFM": 0.711,
    "OT-ALI-CFM": 0.742,
    "OT-CFM": 0.790,
    "[SF]²M": 0.793,
    "DSB": 0.862,
    "[SF]²M-Sink": 1.198,
}
MSCI_DAYS = ((2, 3, 4), (3, 4, 7))
MSCI_NOISE = 0.1  # 2ε between the two neighbours, in units of the mean spread
MSCI_PUBLISHED = {
    50: {"LightSB": 2.31, "LightSB-M": 2.33, "DSBM": 2.46, "[SF]²M": 2.66, "Sinkhorn": 2.34},
    100: {"LightSB": 2.16, "LightSB-M": 2.17, "DSBM": 2.35, "[SF]²M": 2.52, "Sinkhorn": 2.24},
}


def main(
    data: Path,
    /,
    tasks: tuple[str, ...] = ("eb", "msci"),
    seeds: tuple[int, ...] = (0, 1, 2),
    matched: int = 5000,
    out: Path = RESULTS / "cells",
) -> None:
    """Compare on both data sets; matched: cells of a day at most for W1 and W2."""
    chosen = {"eb": embryoid_bodies, "msci": msci}
    for task in tasks:
        chosen[task](data / task, seeds, matched, out)


def embryoid_bodies(folder: Path, seeds: Iterable[int], matched: int, out: Path) -> None:
    """The mean W1 over the three left-out days."""
    stored = loaded(folder / "eb_5pcs.npz")
    values = stored["pcs"].astype(np.float64)
    values = (values - values.mean(0)) / values.std(0)
    days = [torch.as_tensor(values[stored["label"] == day]) for day in range(5)]
    rows = Rows(out, "eb_days")
    for seed in seeds:
        for day in (1.0, 2.0, 3.0):
            compute = partial(left_out, days, None, EB_EPSILON, day, matched, seed)
            rows.once_all(compute, day=day, seed=seed, epsilon=EB_EPSILON)
    rows.table({"day": "day", "seed": "seed", "method": "method", **SIZES, **DISTANCES})
    summary(rows, "W1", 1.0, EB_PUBLISHED, out / "eb")


def msci(folder: Path, seeds: Iterable[int], matched: int, out: Path) -> None:
    """The mean energy distance of both pairs of days, in LightSB's convention."""
    for dim in (50, 100):
        days = {day: loaded(folder / f"full_cite_pcas_{dim}_day_{day}.npy").astype(np.float64) for day in (2, 3, 4, 7)}
        spread = float(np.concatenate(list(days.values())).std(0).mean())
        rows = Rows(out, f"msci_{dim}_days")
        for seed in seeds:
            for triple in MSCI_DAYS:
                snapshots = [torch.as_tensor(days[day]) for day in triple]
                epsilon = MSCI_NOISE / 2 * spread**2 / (triple[2] - triple[0])
                compute = partial(left_out, snapshots, triple, epsilon, triple[1], matched, seed)
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
    snapshots: list[Tensor], times: tuple[float, ...] | None, epsilon: float, day: float, matched: int, seed: int
) -> list[dict[str, Cell]]:
    """The rows of one left-out day, with the time that all of them took."""
    start = perf_counter()
    found: LeftOut = leave_one_out(snapshots, times, epsilon, SOLVERS, day, matched=matched, random_state=seed)
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
    return float(np.mean([float(row[column]) for row in rows.find(method=method, seed=float(seed))]))


def loaded(path: Path) -> np.ndarray:
    """The array or arrays of a file."""
    if not path.exists():
        raise InputError(f"{path} is missing; give the folder that holds eb/ and msci/")
    return np.load(path)


if __name__ == "__main__":
    tyro.cli(main)
