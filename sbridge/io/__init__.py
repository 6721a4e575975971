"""Data files in, run folders out."""

from sbridge.io.data import FileProblem, Points, check_writable, read_points, write_points
from sbridge.io.runs import Run, check_vacant

__all__ = ["FileProblem", "Points", "Run", "check_vacant", "check_writable", "read_points", "write_points"]
