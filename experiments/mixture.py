"""Claim: on exact non-Gaussian bridges, in two minutes of one thread, which method comes how close (EOT benchmark).

    .venv/bin/python experiments/mixture.py

The same as `sbridge bench mixture` with these methods, but with three seeds up to dimension 16.  --budget, --jobs and
--out change it.  Published figures: Gushchin et al., arXiv 2306.10161; Korotin et al., arXiv 2310.01174.
"""

from pathlib import Path

import tyro
from bench import RESULTS

from sbridge.bench import Mixtures, bench, chosen, plan

KEYS = ("maxmin", "potential", "maxmin-potential", "imf", "sf2m", "torchcfm", "pot", "geomloss")


def main(budget: float = 120.0, jobs: int = 1, out: Path = RESULTS / "mixture") -> None:
    methods = chosen(KEYS)
    once = plan(Mixtures().cases(), methods, [budget], seeds=[0])
    again = plan(Mixtures(dims=(2, 16)).cases(), methods, [budget], seeds=[1, 2])
    bench([*once, *again], out, jobs)


if __name__ == "__main__":  # every cell's process imports this script
    tyro.cli(main)
