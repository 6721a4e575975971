"""Couplings: how pairs (x0, x1) are drawn from two datasets.

The marginals are always the data's; what differs is the dependence, and with it how far a linear interpolant starts
from the Schrödinger bridge.
"""

from sbridge.couplings.base import Coupling, Independent
from sbridge.couplings.minibatch import MinibatchSinkhorn
from sbridge.couplings.online import OnlineSinkhorn
from sbridge.couplings.self_consistent import SelfConsistent
from sbridge.couplings.whole import WholePlan

__all__ = ["Coupling", "Independent", "MinibatchSinkhorn", "OnlineSinkhorn", "SelfConsistent", "WholePlan"]
