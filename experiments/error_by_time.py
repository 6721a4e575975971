"""Claim: what max–min misses lies near t = 0 where ε is small, and near t = 1 where it is large.

    .venv/bin/python experiments/error_by_time.py

Mixtures; the path KL of each fifth of [0, .99], in nats, after 3,000 steps.  "True coupling" is no method: it shows
what the networks and their optimiser miss.
"""

from collections.abc import Iterator

import torch
from bench import RESULTS
from figures import Rows
from solver import TrueCoupling

from sbridge import Independent, MaxMin
from sbridge.bridge import Bridge
from sbridge.estimates import Estimate
from sbridge.evidence.metrics import HORIZON
from sbridge.problem import Problem
from sbridge.problems.mixture import Mixture
from sbridge.solvers import Solver

PROBLEMS = [(2, 0.5), (16, 0.05), (16, 0.5), (16, 5.0)]  # dimension, ε
STEPS = 3000
SOLVERS: dict[str, Solver] = {
    "max–min": MaxMin(steps=STEPS),
    "max–min, product coupling": MaxMin(coupling=Independent, steps=STEPS),
    "true coupling (no method)": TrueCoupling(steps=STEPS),
}
PARTS = 5
STARTS = 4000
TIMES = 8  # in each part


def parts(bridge: Bridge, problem: Problem) -> Iterator[Estimate]:
    """The path KL in each of equal parts of time."""
    truth, generator = problem.truth, torch.Generator().manual_seed(0)
    assert truth is not None
    x0 = problem.test0[:STARTS]
    x1 = truth.endpoints(x0, generator)
    for part in range(PARTS):
        total = torch.zeros(len(x0), dtype=torch.float64)
        for _ in range(TIMES):
            t = HORIZON * (part + torch.rand(len(x0), 1, generator=generator, dtype=x0.dtype)) / PARTS
            x = truth.between(t, x0, x1, generator)
            total += (truth.forward_drift(t, x) - bridge.forward_drift(t, x)).double().square().sum(-1)
        yield Estimate.of(HORIZON / (4 * problem.epsilon * PARTS * TIMES) * total)


def main() -> None:
    torch.set_num_threads(1)
    ends = [f"{HORIZON * part / PARTS:.1f}" for part in range(PARTS + 1)]
    titles = {f"part{part}": f"{ends[part]} to {ends[part + 1]}" for part in range(PARTS)}
    table = Rows(RESULTS / "error_by_time", "parts", {"problem": "problem", "method": "method", **titles})
    for dim, epsilon in PROBLEMS:
        case = f"mixture d={dim} ε={epsilon:g}"
        problem = Mixture(dim=dim, epsilon=epsilon).build()
        for name, solver in SOLVERS.items():
            if table.missing(problem=case, method=name):
                found = parts(solver.solve(problem), problem)
                table.add(problem=case, method=name, **{f"part{part}": value for part, value in enumerate(found)})
    table.write(f"Path KL in nats, by time. {STEPS:,} steps of each solver, one seed.")


if __name__ == "__main__":
    main()
