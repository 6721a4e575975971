"""Claim: max–min recovers exact non-Gaussian bridges (EOT mixture benchmark) from either coupling in two minutes.

    .venv/bin/python experiments/recover_mixture.py 2 0.5
    .venv/bin/python experiments/recover_mixture.py 16 0.5
    .venv/bin/python experiments/recover_mixture.py 16 0.05

The arguments are the dimension and ε (the benchmark's own parameter is 2ε).
"""

import sys

from bench import recover

from sbridge import Independent, MaxMin, Regression
from sbridge.problems.mixture import Mixture

dim, epsilon = int(sys.argv[1]), float(sys.argv[2])
recover(
    f"recover_mixture_d{dim}_eps{epsilon:g}",
    Mixture(dim=dim, epsilon=epsilon).build(),
    {
        "linear interpolant, minibatch Sinkhorn": Regression(steps=13000),
        "max–min, minibatch Sinkhorn": MaxMin(steps=13000, outer_rate=5e-4),
        "linear interpolant, product coupling": Regression(coupling=Independent),
        "max–min, product coupling": MaxMin(coupling=Independent, steps=22000 if dim == 2 else 16000),
    },
)
