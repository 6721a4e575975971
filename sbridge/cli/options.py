"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sbridge.bridge import Bridge
from sbridge.checks import Checked, Seed
from sbridge.display import note
from sbridge.errors import InputError
from sbridge.io import Reading, Run, read_points
from sbridge.points import Points

__all__ = ["Options", "PointsOfRun", "fitted_bridge"]


class Options(Checked):
    """The options of a command, in a frozen dataclass; they are checked as they are read.

    Messages call them as they are typed.
    """

    @classmethod
    def called(cls, field: str) -> str:
        return f"--{field.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True)
class PointsOfRun(Options):
    """A run and a file of points for its bridge."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    input: str
    """Points: a .csv, .tsv (also .gz), .parquet, .npy, .npz or .h5ad file, or FILE.npz:key."""
    group: str | None = None
    """Group of --groupby to take; all points by default."""
    seed: Seed = 0
    """Seed of the paths."""
    reading: Reading = Reading()

    def asked(self, columns: Sequence[str] | None, dim: int | None) -> Points:
        """The points of the file, with the columns of the run and as many of them, where that is known.

        Raises:
            InputError: the file cannot be read, or has other columns.
        """
        points = read_points(self.input, self.reading, columns, f"those of {self.folder}", self.group)
        for remark in (*points.remarks, *points.matched_by_position(columns, str(self.folder))):
            note(remark)
        if dim not in (None, points.values.shape[1]):
            raise InputError(
                f"{self.input} has {points.values.shape[1]} columns, the run's data {dim}; "
                "--columns picks some of a file with names"
            )
        return points


def fitted_bridge(run: Run) -> Bridge:
    """The bridge of a run.

    Raises:
        InputError: the run has none yet.
    """
    path = run.path("bridge.safetensors")
    if not path.exists():
        raise InputError(f"{run.folder} has no bridge yet; continue with: {run.config['command']} --resume")
    return Bridge.load(path)
