"""Data files, run folders, finished work and checkpoints."""

from sbridge.io.checkpoint import load_training, read_training, save_training
from sbridge.io.file_problem import FileProblem
from sbridge.io.lock import owned
from sbridge.io.readers import read_points
from sbridge.io.reading import Reading
from sbridge.io.runs import CHAIN, Run, check_vacant
from sbridge.io.store import Store, check_same
from sbridge.io.writers import Answer, check_writable, write_answer

__all__ = ["CHAIN", "Answer", "FileProblem", "Reading", "Run", "Store", "check_same", "check_vacant"]
__all__ += ["check_writable", "load_training", "owned", "read_points", "read_training", "save_training", "write_answer"]
