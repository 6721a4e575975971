"""Claim: a mixture potential finds the benchmark's bridges in a second or a few, close to what the data allow.

    .venv/bin/python experiments/potential.py

EOT mixture benchmark, K = 5 given (five clusters), one thread, three draws of the data; the exact cBW-UVP takes both
plans' moments in closed form, so it has no floor.  Published for d = 16 at 2ε = 0.1/1/10: LightSB .067/.019/.046 % in
11–13 s (Korotin et al., arXiv 2310.01174).  A model of p parameters that holds the truth misses by about p/2n nats.
"""

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

import torch
from bench import RESULTS
from figures import Rows, mean_of

from sbridge import MixturePotential
from sbridge.evaluation import cbw_uvp_exact, path_kl
from sbridge.problem import Problem
from sbridge.problems.mixture import Mixture

POINTS = {2: 500_000, 16: 500_000, 64: 400_000, 128: 400_000}
EPSILONS, DRAWS, COMPONENTS = (0.05, 0.5, 5.0), 3, 5
TITLES = {"dim": "d", "epsilon": "ε", "points": "points per side", "seconds": "fit (s)", "path_kl": "path KL (nats)"}
TITLES |= {"expected": "p/2n (nats)", "cbw": "exact cBW-UVP (%)"}


def draws(dim: int, epsilon: float) -> Iterator[Problem]:
    """One problem with training points drawn afresh."""
    problem = Mixture(dim=dim, epsilon=epsilon, samples=10).build()
    assert problem.truth is not None
    for draw in range(DRAWS):
        generator = torch.Generator().manual_seed(1000 + draw)
        x0, other = (0.5 * torch.randn(POINTS[dim], dim, generator=generator) for _ in "01")
        yield replace(problem, x0=x0, x1=problem.truth.endpoints(other, generator))


def main() -> None:
    torch.set_num_threads(1)
    table = Rows(RESULTS / "potential", "potential", TITLES)
    for dim, points in POINTS.items():
        for epsilon in EPSILONS:
            if table.missing(dim=str(dim), epsilon=f"{epsilon:g}"):
                seconds, nats, errors = zip(*(measured(problem) for problem in draws(dim, epsilon)), strict=True)
                table.add(
                    dim=str(dim),
                    epsilon=f"{epsilon:g}",
                    points=str(points),
                    seconds=mean_of(seconds),
                    path_kl=mean_of(nats),
                    expected=(COMPONENTS * (2 * dim + 1) - 1) / (2 * points),
                    cbw=mean_of(errors),
                )
    table.write()


def measured(problem: Problem) -> tuple[float, float, float]:
    """Seconds of the fit, its path KL and exact cBW-UVP."""
    assert problem.truth is not None
    begin = perf_counter()
    bridge = MixturePotential(COMPONENTS).solve(problem)
    seconds = perf_counter() - begin
    nats = path_kl(bridge, problem.truth, problem.test0[:2000], torch.Generator().manual_seed(0))
    return seconds, nats.value, cbw_uvp_exact(bridge, problem.truth, problem.test0[:500]).value


if __name__ == "__main__":
    main()
