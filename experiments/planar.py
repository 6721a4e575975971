"""Claim: between shapes in the plane ([SF]²M's) the ends come to W2's floor, and the energy to the bridge's own.

    .venv/bin/python experiments/planar_energy.py    # first: the energy KE* of the bridges, which are not known
    .venv/bin/python experiments/planar.py

The same as `sbridge bench planar` with these methods and three seeds; then the normalised path energy |KE/KE* − 1|.
Published, normal → 8 Gaussians / moons → 8 Gaussians / normal → moons / normal → S-curve: W2 .275/.726/.124/.128, path
energy .016/.045/.053/.034 (Tong et al., arXiv 2307.03672; theirs is of the flow against W2²).
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import tyro
from bench import RESULTS
from figures import Rows

from sbridge.bench import Planar, bench, cells_of, chosen
from sbridge.estimates import Estimate
from sbridge.evaluation.metrics import path_energy

KEYS = ("maxmin", "fixed", "potential", "maxmin-potential", "imf", "sf2m", "torchcfm", "pot", "blockwise")
ENERGIES = RESULTS / "planar" / "energies.csv"


def main(
    budget: float = 120.0,
    seeds: tuple[int, ...] = (0, 1, 2),
    methods: tuple[str, ...] = KEYS,
    jobs: int = 1,
    out: Path = RESULTS / "planar",
) -> None:
    table = bench(cells_of(Planar().cases(), chosen(methods), [budget], seeds), out, jobs)
    write_path_energies(table, out)


def write_path_energies(table: pl.DataFrame, out: Path) -> None:
    """|KE/KE* − 1| of every method, KE* from the largest samples that planar_energy.py used.

    KE is a mean over seeds; beside it stands its standard deviation over seeds, or its standard error if there is one.
    """
    with open(ENERGIES, newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["points"]))
    exact = {row["problem"]: float(row["energy"]) for row in rows}
    found = [
        {
            "problem": row["case"],
            "method": row["method"],
            "budget": "" if row["budget"] is None else row["budget"],
            "seeds": row["seeds"],
            "npe": path_energy(Estimate(row["kinetic_energy"], error_of(row)), exact[row["case"]]),
        }
        for row in table.drop_nulls("kinetic_energy").to_dicts()
    ]
    titles = {"problem": "problem", "method": "method", "budget": "budget (s)", "seeds": "seeds"}
    energies = Rows(out, "path_energies", {**titles, "npe": "normalised path energy"})
    energies.fill(found)
    energies.write()


def error_of(row: Mapping[str, Any]) -> float:
    """The spread of the kinetic energy over seeds, or its standard error where there is one seed."""
    spread = row["kinetic_energy_spread"]
    return float(row["kinetic_energy_se"] if spread is None else spread)


if __name__ == "__main__":  # every cell's process imports this script
    tyro.cli(main)
