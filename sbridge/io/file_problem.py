"""The problem between two data files, or between two groups of one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import ClassVar

import torch

from sbridge.checks import Checked, Fraction, Positive
from sbridge.display import note
from sbridge.errors import InputError
from sbridge.io.readers import read_points
from sbridge.io.reading import Reading
from sbridge.points import Points
from sbridge.problem import FEWEST_POINTS, Problem

__all__ = ["FileProblem"]


@dataclass(frozen=True, kw_only=True)
class FileProblem(Checked):
    """Your own data: two files of points, or two groups of one file (--groupby, --source, --target)."""

    name: ClassVar[str] = "files"

    x0: str
    """Points at t = 0: a .csv, .tsv (also .gz), .parquet, .npy, .npz or .h5ad file, or FILE.npz:key."""
    x1: str | None = None
    """Points at t = 1, with the same columns; by default x0's file, for its group --target."""
    epsilon: Positive
    """ε of dX = u dt + √(2ε) dW, in squared units of the data: over unit time, the noise spreads a point by √(2ε)."""
    source: str | None = None
    """Group of --groupby that is x0."""
    target: str | None = None
    """Group of --groupby that is x1."""
    reading: Reading = Reading()
    held_out: Fraction = 0.2
    """Fraction of each file that is held out of the fit, to evaluate the result on."""

    @classmethod
    def called(cls, field: str) -> str:
        return f"--{field.replace('_', '-')}"

    def build(self) -> Problem:
        """Read, check and split the points; which points are held out depends only on their number.

        Raises:
            InputError: as in `read_points` and `Problem`; the faults of both files in one message.
        """
        self._check_groups()
        x0, x1 = self._read()
        for remark in (*x0.remarks, *x1.remarks, *x1.matched_by_position(x0.columns, x0.label)):
            note(remark)
        names = (
            [Path(self.x0).stem, Path(self.x1 or self.x0).stem] if self.source is None else [self.source, self.target]
        )
        problem = Problem.of(x0, x1, self.epsilon, " → ".join(map(str, names)))
        return problem.divided(self.held_out, torch.Generator().manual_seed(0))

    def _check_groups(self) -> None:
        groups = (self.reading.groupby, self.source, self.target)
        if any(groups) and not all(groups):
            raise InputError("--groupby, --source and --target belong together: the column, and the groups x0 and x1")
        if self.x1 is None and not any(groups):
            raise InputError("give --x1 too, or two groups of the file with --groupby, --source and --target")

    def _read(self) -> tuple[Points, Points]:
        ends = ((self.x0, self.source), (self.x1 or self.x0, self.target))
        found = [self._end(file, group) for file, group in ends]
        faults = [str(one) for one in found if isinstance(one, InputError)]
        if faults:
            raise InputError("\n".join(dict.fromkeys(faults)))
        x0, x1 = (one for one in found if isinstance(one, Points))
        return x0, x1

    def _end(self, file: str, group: str | None) -> Points | InputError:
        """The points of one end, or what is wrong with them."""
        try:
            points = read_points(file, self.reading, group=group)
            self._check_size(points)
        except InputError as fault:
            return fault
        return points

    def _check_size(self, points: Points) -> None:
        if not self._enough(len(points)):
            needed = next(n for n in count(2 * FEWEST_POINTS) if self._enough(n))
            raise InputError(
                f"{points.label} has {len(points)} points, of which --held-out {self.held_out:g} keeps "
                f"{round(len(points) * self.held_out)} to evaluate; {FEWEST_POINTS} to evaluate and as many to fit are "
                f"the least: give {needed} points or more, or another --held-out"
            )

    def _enough(self, n: int) -> bool:
        held_out = round(n * self.held_out)
        return min(held_out, n - held_out) >= FEWEST_POINTS
