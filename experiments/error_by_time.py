"""Claim: what max–min misses lies near t = 0 where ε is small, and near t = 1 where it is large.

    .venv/bin/python experiments/error_by_time.py

Mixtures; the path KL of each fifth of [0, .99], in nats, after 3,000 steps.  "True coupling" is no method: it shows
what the networks and their optimiser miss.
"""

import torch
from bench import RESULTS
from figures import Rows
from solver import TrueCoupling

from sbridge import Independent, MaxMin
from sbridge.evaluation.metrics import HORIZON, path_kl_by_time
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


def main() -> None:
    torch.set_num_threads(1)
    ends = [f"{HORIZON * part / PARTS:.1f}" for part in range(PARTS + 1)]
    titles = {f"part{part}": f"{ends[part]} to {ends[part + 1]}" for part in range(PARTS)}
    table = Rows(RESULTS / "error_by_time", "parts", {"problem": "problem", "method": "method", **titles})
    for dim, epsilon in PROBLEMS:
        case = f"mixture d={dim} ε={epsilon:g}"
        problem = Mixture(dim=dim, epsilon=epsilon).build()
        truth = problem.truth
        assert truth is not None
        for name, solver in SOLVERS.items():
            if table.missing(problem=case, method=name):
                bridge, generator = solver.solve(problem), torch.Generator().manual_seed(0)
                found = path_kl_by_time(bridge, truth, problem.test0[:STARTS], generator, PARTS, TIMES)
                table.add(problem=case, method=name, **{f"part{part}": value for part, value in enumerate(found)})
    table.write(f"Path KL in nats, by time. {STEPS:,} steps of each solver, one seed.")


if __name__ == "__main__":
    main()
