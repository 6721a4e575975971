"""Solvers: Problem → Bridge.  All that train a network share one loop, `Training`, and differ in their `Method`."""

from sbridge.solvers.answer import AnswerRule, Last, LatestNotWorse
from sbridge.solvers.base import Listener, Progress, Solver
from sbridge.solvers.data import Data
from sbridge.solvers.method import Batch, Draws, Method, TrainingState, drift_batches
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.solvers.training import Training

__all__ = [
    "AnswerRule",
    "Batch",
    "Data",
    "Draws",
    "Last",
    "LatestNotWorse",
    "Listener",
    "Method",
    "NetworkSolver",
    "Progress",
    "Solver",
    "Training",
    "TrainingState",
    "drift_batches",
]
