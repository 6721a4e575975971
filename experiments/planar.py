"""Claim: between shapes in the plane ([SF]²M's) the ends come to W2's floor, and the energy to the bridge's own.

    .venv/bin/python experiments/planar_energy.py    # first: the energy KE* of the bridges, which are not known
    .venv/bin/python experiments/planar.py

The same as `sbridge bench planar` with these methods and three seeds; then the normalised path energy |KE/KE* − 1|.
Published, normal → 8 Gaussians / moons → 8 Gaussians / normal → moons / normal → S-curve: W2 .275/.726/.124/.128, path
energy .016/.045/.053/.034 (Tong et al., arXiv 2307.03672; theirs is of the flow against W2²).
"""

import csv
from pathlib import Path

import polars as pl
import tyro
from bench import RESULTS
from figures import Rows

from sbridge.bench import Planar, bench, chosen, plan
from sbridge.estimates import Estimate
from sbridge.evidence.metrics import path_energy

KEYS = ("maxmin", "fixed", "potential", "maxmin-potential", "imf", "sf2m", "torchcfm", "pot", "blockwise")
ENERGIES = RESULTS / "planar" / "energies.csv"


def main(budget: float = 120.0, jobs: int = 1, out: Path = RESULTS / "planar") -> None:
    table = bench(plan(Planar().cases(), chosen(KEYS), [budget], seeds=[0, 1, 2]), out, jobs)
    write_path_energies(table, out)


def write_path_energies(table: pl.DataFrame, out: Path) -> None:
    """|KE/KE* − 1| of every method, KE* from the largest samples that planar_energy.py used."""
    with open(ENERGIES, newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["points"]))
    exact = {row["problem"]: float(row["energy"]) for row in rows}
    found = [
        {
            "problem": row["case"],
            "method": row["method"],
            "npe": path_energy(Estimate(row["kinetic_energy"], row["kinetic_energy_se"]), exact[row["case"]]),
        }
        for row in table.drop_nulls("kinetic_energy").to_dicts()
    ]
    energies = Rows(out, "path_energies", {"problem": "problem", "method": "method", "npe": "normalised path energy"})
    energies.fill(found)
    energies.write()


if __name__ == "__main__":  # every cell's process imports this script
    tyro.cli(main)
