"""Claim: max–min finds the Gaussian bridge (d = 2, ε = .5) from the product coupling; the linear one is 6 % off.

    .venv/bin/python experiments/recover_gaussian.py
"""

from bench import recover

from sbridge import GeomlossSinkhorn, Independent, MaxMin, MinibatchSinkhorn, PotSinkhorn, Regression
from sbridge.problems.gaussian import Gaussian

recover(
    "recover_gaussian",
    Gaussian(dim=2, epsilon=0.5).build(),
    {
        "linear interpolant, product coupling": Regression(coupling=Independent),
        "max–min, product coupling": MaxMin(coupling=Independent),
        "max–min, minibatch Sinkhorn": MaxMin(coupling=MinibatchSinkhorn),
        "POT Sinkhorn": PotSinkhorn(points=1024),
        "GeomLoss Sinkhorn": GeomlossSinkhorn(points=1024),
    },
)
