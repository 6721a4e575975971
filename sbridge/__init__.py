"""Schrödinger bridges between two datasets, found by optimising the interpolant.

Convention everywhere: dX = u dt + √(2ε) dW on t ∈ [0, 1].
"""

from sbridge.bridge import Bridge, ExactBridge
from sbridge.couplings import Independent, MinibatchSinkhorn
from sbridge.errors import DivergenceError, InputError
from sbridge.estimator import SchrodingerBridge
from sbridge.evidence import compare
from sbridge.interpolants import Linear, Trigonometric
from sbridge.problem import Problem
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.regression import Regression
from sbridge.solvers.sinkhorn import GeomlossSinkhorn, PotSinkhorn

__all__ = [
    "Bridge",
    "DivergenceError",
    "ExactBridge",
    "GeomlossSinkhorn",
    "Independent",
    "InputError",
    "Linear",
    "MaxMin",
    "MinibatchSinkhorn",
    "PotSinkhorn",
    "Problem",
    "Regression",
    "SchrodingerBridge",
    "Trigonometric",
    "compare",
]
__version__ = "0.1.0"
