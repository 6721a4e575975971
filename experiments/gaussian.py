"""Claim: between Gaussians (DSBM's, d = 5, 20, 50) marginals and plan come to the floor of 10,000 points.

    .venv/bin/python experiments/gaussian.py

Published mean diagonal KL ×1e-3 at d = 5/20/50, for DSBM-IPF: 1.23/4.42/8.75, where the floor is d/10,000: 0.5/2/5
(Shi et al., arXiv 2303.16852).  The same as `sbridge bench gaussian --seeds 0,1,2`.
"""

from pathlib import Path

import tyro
from bench import RESULTS

from sbridge.bench import ENTRIES, Gaussians, bench, cells_of, chosen


def main(
    budget: float = 120.0,
    seeds: tuple[int, ...] = (0, 1, 2),
    dims: tuple[int, ...] = Gaussians.dims,
    methods: tuple[str, ...] = tuple(ENTRIES),
    jobs: int = 1,
    out: Path = RESULTS / "gaussian",
) -> None:
    bench(cells_of(Gaussians(dims).cases(), chosen(methods), [budget], seeds), out, jobs)


if __name__ == "__main__":  # every cell's process imports this script
    tyro.cli(main)
