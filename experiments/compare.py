"""Question: which method comes how close to the bridge, in equal training time, beside the published figures?

    python experiments/compare.py --jobs 2                                  # everything
    python experiments/compare.py --suites mixture --dims 16 --draws 0 1 2  # other draws of one benchmark

mixture   entropic transport benchmark, five clusters, 2ε = 0.1, 1, 10 (Gushchin et al., arXiv 2306.10161)
gaussian  N(−0.1·1, I) → N(0.1·1, I), d = 5, 20, 50 (Shi et al., arXiv 2303.16852)
shapes    rotated products of planar shapes, and photographs and digits under a known potential
planar    four pairs of shapes (Tong et al., arXiv 2307.03672)

Each suite gets the tables and figures of `sbridge bench`, in a folder of its own.  For `planar`, path_energies.md has
|KE/KE* − 1|: the bridges are not known, but their kinetic energy KE* is computed here to about 0.005 from entropic
plans.  `--dims` and `--epsilons` are those of `mixture`, and `--products` are the dimensions of `shapes`.
`--draws` are seeds of the mixture benchmark; on draw 0 the defaults were chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
import tyro
from common import RESULTS, Rows, mean_of
from torch import Tensor

from sbridge.bench import SUITES, AnyShape, Case, Mixtures, bench, cells_of, chosen
from sbridge.estimates import Estimate
from sbridge.evaluation import path_energy
from sbridge.plans import plan_energy
from sbridge.problems import planar
from sbridge.problems.mixture import Mixture

POINTS, REPEATS = 16_384, 16  # of the entropic plans that KE* is computed from
PUBLISHED = """
Published, for the same quantities:

- mixture, cBW-UVP (%) of LightSB for d = 16 at 2ε = 0.1, 1, 10: 0.067, 0.019, 0.046 (Korotin et al., arXiv 2310.01174);
- gaussian, mean diagonal KL ×1e-3 of DSBM-IPF for d = 5, 20, 50: 1.23, 4.42, 8.75, where the floor of 10,000 points is
  d/10,000 (Shi et al., arXiv 2303.16852);
- planar, [SF]²M: W2 0.275, 0.726, 0.124, 0.128 and path energy, of its flow against W2², 0.016, 0.045, 0.053, 0.034
  (Tong et al., arXiv 2307.03672).
"""
LOG_DENSITIES: dict[type[planar.Planar], Callable[[Tensor], Tensor]] = {
    planar.NormalToEightGaussians: planar.eight_gaussians_log_density,
    planar.MoonsToEightGaussians: planar.eight_gaussians_log_density,
    planar.NormalToMoons: planar.moons_log_density,
    planar.NormalToSCurve: planar.s_curve_log_density,
}


def main(
    suites: tuple[str, ...] = ("mixture", "gaussian", "shapes", "planar"),
    dims: tuple[int, ...] = Mixtures.dims,
    products: tuple[int, ...] = AnyShape.dims,
    epsilons: tuple[float, ...] = Mixtures.epsilons,
    draws: tuple[int, ...] = (0,),
    budget: float = 60.0,
    seeds: tuple[int, ...] = (0, 1, 2),
    methods: tuple[str, ...] = (),
    jobs: int = 1,
    out: Path = RESULTS / "compare",
) -> None:
    for suite in suites:
        known = {"mixture": drawn(Mixtures(dims, epsilons).cases(), draws), "shapes": AnyShape(products).cases()}
        cases = known[suite] if suite in known else SUITES[suite]().cases()
        table = bench(cells_of(cases, chosen(methods), [budget], seeds), out / suite, jobs)
        if suite == "planar":
            write_path_energies(table, out / suite)


def drawn(cases: Sequence[Case], draws: Sequence[int]) -> list[Case]:
    """The mixtures, drawn with each of these seeds."""
    return [case if not draw else _draw(case, draw) for draw in draws for case in cases]


def _draw(case: Case, draw: int) -> Case:
    assert isinstance(case.source, Mixture)
    return replace(case, name=f"{case.name}, draw {draw}", source=replace(case.source, seed=draw))


def exact_energy(kind: type[planar.Planar], points: int) -> dict[str, Estimate]:
    """KE* = ½E∫|u*|²dt at the problem's default ε, extrapolated in 1/n from independent pairs of samples."""
    torch.set_num_threads(1)
    problems = [kind(samples=points, test_samples=10, seed=seed).build() for seed in range(REPEATS)]
    return {"energy": mean_of([plan_energy(p.x0, p.x1, LOG_DENSITIES[kind], p.epsilon) for p in problems])}


def write_path_energies(table: pl.DataFrame, out: Path) -> None:
    """|KE/KE* − 1| of every method; a quarter of the points shows how much bias is left in KE*."""
    exact = Rows(out, "exact_energies")
    for kind in LOG_DENSITIES:
        for points in (POINTS // 4, POINTS):
            exact.once(lambda kind=kind, points=points: exact_energy(kind, points), problem=kind.name, points=points)
    energies = {row["problem"]: float(row["energy"]) for row in exact.find(points=POINTS)}
    found = Rows(out, "path_energies")
    found.replace(
        {
            **{name: row[name] for name in ("case", "method", "seeds")},
            "path_energy": path_energy(Estimate(row["kinetic_energy"], error_of(row)), energies[row["case"]]),
        }
        for row in table.drop_nulls("kinetic_energy").to_dicts()
    )
    titles = {"case": "problem", "method": "method", "seeds": "seeds", "path_energy": "normalised path energy"}
    found.table(titles, PUBLISHED)


def error_of(row: Mapping[str, Any]) -> float:
    """The spread of the kinetic energy over seeds, or its standard error where there is one seed."""
    spread = row["kinetic_energy_spread"]
    return float(row["kinetic_energy_se"] if spread is None else spread)


if __name__ == "__main__":  # every process of a benchmark imports this script
    tyro.cli(main)
