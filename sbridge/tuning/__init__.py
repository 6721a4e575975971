"""Searches over hyperparameters and fits over many workers, by Ray: on two cores or on a cluster of GPUs."""

from importlib.util import find_spec

from sbridge.errors import InputError

if any(find_spec(name) is None for name in ("ray", "optuna")):
    raise InputError("tuning needs Ray and Optuna: pip install 'sbridge[tune]'")

from sbridge.tuning.cluster import Placement, connected
from sbridge.tuning.epsilon import EpsilonStudy, sweep_epsilon
from sbridge.tuning.search import tune
from sbridge.tuning.space import Choice, LogUniform, Space, read_space
from sbridge.tuning.study import Study, Trial
from sbridge.tuning.workers import Team, fit

__all__ = ["Choice", "EpsilonStudy", "LogUniform", "Placement", "Space", "Study", "Team", "Trial", "connected", "fit"]
__all__ += ["read_space", "sweep_epsilon", "tune"]
