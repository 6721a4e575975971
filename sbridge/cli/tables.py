"""What a terminal shows of data and comparisons."""

from __future__ import annotations

import sys
import warnings

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sbridge.display import note
from sbridge.errors import DataWarning
from sbridge.evaluation import Comparison
from sbridge.inspection import inspect_points
from sbridge.problem import Problem
from sbridge.report.words import comparison_rows, heads

__all__ = ["print_comparison", "show_data"]

_STYLES = {"best": "bold green", "tied": "green", "": ""}
_PLAIN_WIDTH = 140  # characters, where the output goes to a file or a pipe


def show_data(problem: Problem, inside: Problem) -> None:
    """A table of the data before a fit, and what may go wrong with them, on stderr."""
    found = inspect_points(problem, inside)
    note(str(found))
    for warning in found.warnings:
        warnings.warn(warning, DataWarning, stacklevel=2)


def print_comparison(comparison: Comparison) -> None:
    """A line for each measure, a column for each method, remarks below; the best is bold, ties have its colour."""
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    names = heads(comparison)
    shown = Table("", *names, title=f"{comparison.problem}, d = {comparison.dim}, ε = {comparison.epsilon:.4g}")
    for row in comparison_rows(comparison):
        shown.add_row(row.column.heading, *(Text(cell, _STYLES[rank]) for cell, rank in row.cells.values()))
    for column in shown.columns[1:]:
        column.justify = "right"
    console.print(shown)
    for name in names:
        if remark := comparison.rows[name].get("remark"):
            console.print(f"{name}: {remark}", markup=False, highlight=False)
