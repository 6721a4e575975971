"""Schrödinger bridges between two datasets, found by optimising the interpolant.

Convention everywhere: dX = u dt + √(2ε) dW on t ∈ [0, 1].
"""

from sbridge.bridge import Bridge, ExactBridge
from sbridge.certificates import Certificate
from sbridge.couplings import Independent, MinibatchSinkhorn, SelfConsistent, WholePlan
from sbridge.errors import DivergenceError, InputError
from sbridge.estimator import SchrodingerBridge
from sbridge.evidence import compare
from sbridge.interpolants import (
    Brownian,
    EncoderDecoder,
    Linear,
    Mirror,
    OneSidedLinear,
    OneSidedTrigonometric,
    Parabolic,
    SineSquared,
    Trigonometric,
    VariancePreserving,
)
from sbridge.problem import Problem
from sbridge.sampling import EULER, HEUN, RK4, Adaptive
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.potential import FullMixturePotential, MixturePotential
from sbridge.solvers.regression import Regression
from sbridge.solvers.sinkhorn import BlockwiseSinkhorn, GeomlossSinkhorn, PotSinkhorn
from sbridge.times import Arcsine, GammaMatched, LossVariance, Uniform

__all__ = [
    "EULER",
    "HEUN",
    "RK4",
    "Adaptive",
    "Arcsine",
    "BlockwiseSinkhorn",
    "Bridge",
    "Brownian",
    "Certificate",
    "DivergenceError",
    "EncoderDecoder",
    "ExactBridge",
    "FullMixturePotential",
    "GammaMatched",
    "GeomlossSinkhorn",
    "Independent",
    "InputError",
    "Linear",
    "LossVariance",
    "MaxMin",
    "MinibatchSinkhorn",
    "Mirror",
    "MixturePotential",
    "OneSidedLinear",
    "OneSidedTrigonometric",
    "Parabolic",
    "PotSinkhorn",
    "Problem",
    "Regression",
    "SchrodingerBridge",
    "SelfConsistent",
    "SineSquared",
    "Trigonometric",
    "Uniform",
    "VariancePreserving",
    "WholePlan",
    "compare",
]
__version__ = "0.1.0"
