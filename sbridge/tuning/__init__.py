"""Searches over hyperparameters by Ray, on two cores or on a cluster of GPUs."""

from importlib.util import find_spec

from sbridge.errors import InputError

if any(find_spec(name) is None for name in ("ray", "optuna")):
    raise InputError("tuning needs Ray and Optuna: pip install 'ray[tune]' optuna")

from sbridge.tuning.cluster import Placement, connected
from sbridge.tuning.search import tune
from sbridge.tuning.space import Choice, LogUniform, Space, read_space
from sbridge.tuning.study import Study, Trial

__all__ = ["Choice", "LogUniform", "Placement", "Space", "Study", "Trial", "connected", "read_space", "tune"]
