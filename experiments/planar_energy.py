"""Claim: the energy KE* = ½E∫|u|²dt of the planar bridges, which are not known, is known to about 0.005.

    .venv/bin/python experiments/planar_energy.py

By `sbridge.plans.kinetic_energy`, from independent pairs of samples.  A second size shows what bias is left after the
extrapolation in 1/n.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from bench import RESULTS
from figures import Rows, mean_of
from torch import Tensor

from sbridge.estimates import Estimate
from sbridge.plans import kinetic_energy
from sbridge.problems import planar

POINTS, REPEATS = 16_384, 16
LOG_DENSITIES: dict[type[planar.Planar], Callable[[Tensor], Tensor]] = {
    planar.NormalToEightGaussians: planar.eight_gaussians_log_density,
    planar.MoonsToEightGaussians: planar.eight_gaussians_log_density,
    planar.NormalToMoons: planar.moons_log_density,
    planar.NormalToSCurve: planar.s_curve_log_density,
}


def energy(kind: type[planar.Planar], points: int = POINTS, repeats: int = REPEATS) -> Estimate:
    """KE* of a planar problem at its default ε."""
    problems = [kind(samples=points, test_samples=10, seed=seed).build() for seed in range(repeats)]
    return mean_of([kinetic_energy(p.x0, p.x1, LOG_DENSITIES[kind], p.epsilon) for p in problems])


def main() -> None:
    torch.set_num_threads(1)
    titles = {"problem": "problem", "epsilon": "ε", "points": "points", "samples": "samples", "energy": "KE*"}
    rows = Rows(RESULTS / "planar", "energies", titles)
    for kind in LOG_DENSITIES:
        for points in (POINTS // 4, POINTS):
            if rows.missing(problem=kind.name, points=str(points)):
                found = energy(kind, points)
                rows.add(problem=kind.name, epsilon=kind.epsilon, points=points, samples=REPEATS, energy=found)
    rows.write()


if __name__ == "__main__":
    main()
