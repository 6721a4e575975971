"""Snapshots of a process at several times.

chain      the bridges between neighbouring times, as one process
fit        the estimator
"""

from sbridge.snapshots.chain import Chain, Joint
from sbridge.snapshots.fit import Snapshots

__all__ = ["Chain", "Joint", "Snapshots"]
