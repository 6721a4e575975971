"""Claim: max–min recovers exact non-Gaussian bridges (EOT mixture benchmark) from either coupling in two minutes.

    .venv/bin/python experiments/recover_mixture.py 2 0.5 product
    .venv/bin/python experiments/recover_mixture.py 2 0.5 sinkhorn
    .venv/bin/python experiments/recover_mixture.py 16 0.5 product
    .venv/bin/python experiments/recover_mixture.py 16 0.05 sinkhorn

The arguments are the dimension, ε (the benchmark's own parameter is 2ε) and how pairs are drawn; both couplings of a
problem share a table.
"""

import sys

from bench import recover

from sbridge import Independent, MaxMin, Regression
from sbridge.problems.mixture import Mixture
from sbridge.solvers import Solver

dim, epsilon, coupling = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
methods: dict[str, dict[str, Solver]] = {
    "product": {
        "linear interpolant, product coupling": Regression(coupling=Independent),
        "max–min, product coupling": MaxMin(coupling=Independent, steps=16000 if dim == 2 else 18000),
    },
    "sinkhorn": {
        "linear interpolant, minibatch Sinkhorn": Regression(steps=13000),
        "max–min, minibatch Sinkhorn": MaxMin(steps=13000, outer_rate=5e-4),
    },
}
recover(f"recover_mixture_d{dim}_eps{epsilon:g}", Mixture(dim=dim, epsilon=epsilon).build(), methods[coupling])
