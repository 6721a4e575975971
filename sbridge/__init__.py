"""Schrödinger bridges between two datasets, found by optimising the interpolant.

Convention everywhere: dX = u dt + √(2ε) dW on t ∈ [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sbridge.baselines.sinkhorn import BlockwiseSinkhorn, GeomlossSinkhorn, PotSinkhorn
from sbridge.bridge import Bridge, ExactBridge
from sbridge.couplings import Independent, MinibatchSinkhorn, OnlineSinkhorn, SelfConsistent, WholePlan
from sbridge.errors import DivergenceError, InputError
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
from sbridge.networks import ResidualNetwork, Shaped
from sbridge.potentials.solver import FullMixturePotential, MixturePotential
from sbridge.problem import Problem
from sbridge.sampling import EULER, HEUN, RK4, Adaptive
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.regression import Regression
from sbridge.times import Arcsine, GammaMatched, LossVariance, Uniform

if TYPE_CHECKING:
    from sbridge.tuning import Placement, Space, Study

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
    "OnlineSinkhorn",
    "Parabolic",
    "PotSinkhorn",
    "Problem",
    "Regression",
    "ResidualNetwork",
    "SchrodingerBridge",
    "SelfConsistent",
    "Shaped",
    "SineSquared",
    "Trigonometric",
    "Uniform",
    "VariancePreserving",
    "WholePlan",
    "compare",
    "tune",
]
__version__ = "0.1.0"


def tune(
    problem: Problem,
    space: Space | None = None,
    *,
    out: str | Path,
    trials: int = 24,
    steps: int = MaxMin.steps,
    search: Literal["random", "optuna"] = "random",
    scheduler: Literal["asha", "none"] = "asha",
    placement: Placement | None = None,
    storage: str | None = None,
    resume: bool = False,
    random_state: int = 0,
    say: Callable[[str], None] = print,
) -> Study:
    """Search for the hyperparameters of max–min that do best on points kept apart, with Ray: here or on a cluster.

    The first trial has the solver's own settings, if the space holds them.  A tenth of the training points, 2,048 at
    most, is kept from all trials to compute the objective on; the problem's test points are not looked at.  Spaces and
    placements are in `sbridge.tuning`, which needs the extra `tune`, and so does calling this.

    Args:
        problem: with the exact bridge known, path KL to it is minimised; otherwise the certificate where its references
            are known well enough, and the ends' energy distance elsewhere (`sbridge.tuning.objectives`).
        space: what is varied; the default says why.
        out: folder for search.html, trials.csv, curves.csv, figures/ and the best trial's bridge.safetensors and
            history.csv.
        trials: how many.
        steps: the budget of each, in steps of the default batch.
        search: how settings are chosen: at random, or by Optuna from the trials before.
        scheduler: whether poor trials are stopped early.
        placement: what a trial gets, and on which machines; by default one CPU, on this one.
        storage: where Ray keeps the trials, a path or a URL (s3://…) that every machine reaches; `out` by default.
        resume: go on with the search in `out`: finished trials are kept, others go on from their checkpoints.
        random_state: seed of the search and of every trial.
        say: is told how the search goes.

    Raises:
        InputError: Ray or Optuna is not installed, the folder holds another search, or the cluster has no room for a
            trial.
        KeyboardInterrupt: Ctrl-C; the folder has what was found, and the search can be resumed.
    """
    from sbridge.tuning.search import tune as searched  # not at the head: everything else works without Ray

    return searched(
        problem,
        space,
        out=out,
        trials=trials,
        steps=steps,
        search=search,
        scheduler=scheduler,
        placement=placement,
        storage=storage,
        resume=resume,
        random_state=random_state,
        say=say,
    )
