"""Schrödinger bridges between two datasets, found by optimising the interpolant.

Convention everywhere: dX = u dt + √(2ε) dW on t ∈ [0, 1].

Names are imported when they are first used (PEP 562), so `import sbridge` costs little.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sbridge.auto import Auto
    from sbridge.baselines.sinkhorn import BlockwiseSinkhorn, GeomlossSinkhorn, PotSinkhorn
    from sbridge.bridge import Bridge, ExactBridge
    from sbridge.couplings import Independent, MinibatchSinkhorn, OnlineSinkhorn, SelfConsistent, WholePlan
    from sbridge.errors import DataWarning, DivergenceError, InputError, SpreadWarning
    from sbridge.estimator import SchrodingerBridge
    from sbridge.evaluation import compare
    from sbridge.evaluation.certificate.statement import Certificate
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
    from sbridge.movement import what_moves
    from sbridge.networks import ResidualNetwork, Shaped
    from sbridge.points import points_of
    from sbridge.potentials.solver import FullMixturePotential, MixturePotential
    from sbridge.problem import Problem
    from sbridge.report.written import write_report
    from sbridge.sampling import EULER, HEUN, RK4, Adaptive, Simulation
    from sbridge.snapshots import Chain, Snapshots
    from sbridge.solvers.maxmin import MaxMin
    from sbridge.solvers.regression import Regression
    from sbridge.times import Arcsine, GammaMatched, LossVariance, Uniform
    from sbridge.tuning import tune

__all__ = [
    "EULER",
    "HEUN",
    "RK4",
    "Adaptive",
    "Arcsine",
    "Auto",
    "BlockwiseSinkhorn",
    "Bridge",
    "Brownian",
    "Certificate",
    "Chain",
    "DataWarning",
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
    "OnlineSinkhorn",
    "Parabolic",
    "PotSinkhorn",
    "Problem",
    "Regression",
    "ResidualNetwork",
    "SchrodingerBridge",
    "SelfConsistent",
    "Shaped",
    "Simulation",
    "SineSquared",
    "Snapshots",
    "SpreadWarning",
    "Trigonometric",
    "Uniform",
    "VariancePreserving",
    "WholePlan",
    "compare",
    "points_of",
    "tune",
    "what_moves",
    "write_report",
]
__version__ = "0.2.0"

_MODULES = {
    "auto": "Auto",
    "baselines.sinkhorn": "BlockwiseSinkhorn GeomlossSinkhorn PotSinkhorn",
    "bridge": "Bridge ExactBridge",
    "couplings": "Independent MinibatchSinkhorn OnlineSinkhorn SelfConsistent WholePlan",
    "errors": "DataWarning DivergenceError InputError SpreadWarning",
    "estimator": "SchrodingerBridge",
    "evaluation": "compare",
    "evaluation.certificate.statement": "Certificate",
    "interpolants": "Brownian EncoderDecoder Linear Mirror OneSidedLinear OneSidedTrigonometric Parabolic SineSquared "
    "Trigonometric VariancePreserving",
    "movement": "what_moves",
    "networks": "ResidualNetwork Shaped",
    "points": "points_of",
    "potentials.solver": "FullMixturePotential MixturePotential",
    "problem": "Problem",
    "report.written": "write_report",
    "sampling": "EULER HEUN RK4 Adaptive Simulation",
    "snapshots": "Chain Snapshots",
    "solvers.maxmin": "MaxMin",
    "solvers.regression": "Regression",
    "times": "Arcsine GammaMatched LossVariance Uniform",
    "tuning": "tune",  # needs the extra `tune`
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'sbridge' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"sbridge.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
