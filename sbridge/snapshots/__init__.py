"""Snapshots of a process at several times.

chain      the bridges between neighbouring times, as one process
fit        the estimator
growth     weights of points by unbalanced transport
left_out   the law at a time that was left out, beside what needs no bridge
"""

from sbridge.snapshots.chain import Chain
from sbridge.snapshots.fit import Snapshots
from sbridge.snapshots.growth import growth_weights
from sbridge.snapshots.joints import Joint
from sbridge.snapshots.left_out import LeftOut, leave_one_out

__all__ = ["Chain", "Joint", "LeftOut", "Snapshots", "growth_weights", "leave_one_out"]
