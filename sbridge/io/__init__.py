"""Data files, run folders, finished work and checkpoints."""

from sbridge.io.checkpoint import load_training, read_training, save_training
from sbridge.io.data import FileProblem, Points, check_writable, read_points, write_points
from sbridge.io.runs import Run, check_vacant
from sbridge.io.store import Store, check_same

__all__ = ["FileProblem", "Points", "Run", "Store", "check_same", "check_vacant", "check_writable", "load_training"]
__all__ += ["read_points", "read_training", "save_training", "write_points"]
