"""Solvers: Problem → Bridge."""

from sbridge.solvers.base import Solver

__all__ = ["Solver"]
