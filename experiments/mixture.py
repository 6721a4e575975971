"""Claim: on exact non-Gaussian bridges, in two minutes of one thread, which method comes how close (EOT benchmark).

    .venv/bin/python experiments/mixture.py

The same as `sbridge bench mixture` with these methods and options; seeds after the first are done up to dimension 16.
Published figures: Gushchin et al., arXiv 2306.10161; Korotin et al., arXiv 2310.01174.
"""

from pathlib import Path

import tyro
from bench import RESULTS

from sbridge.bench import Mixtures, bench, cells_of, chosen

KEYS = ("maxmin", "potential", "maxmin-potential", "imf", "sf2m", "torchcfm", "pot", "geomloss")
SEVERAL_SEEDS = 16  # dimensions at most


def main(
    budget: float = 120.0,
    seeds: tuple[int, ...] = (0, 1, 2),
    dims: tuple[int, ...] = Mixtures.dims,
    epsilons: tuple[float, ...] = Mixtures.epsilons,
    methods: tuple[str, ...] = KEYS,
    jobs: int = 1,
    out: Path = RESULTS / "mixture",
) -> None:
    cells = cells_of(Mixtures(dims, epsilons).cases(), chosen(methods), [budget], seeds)
    first = [cell for cell in cells if cell.seed == seeds[0]]
    again = [cell for cell in cells if cell.seed != seeds[0] and cell.case.dim <= SEVERAL_SEEDS]
    bench([*first, *again], out, jobs)


if __name__ == "__main__":  # every cell's process imports this script
    tyro.cli(main)
