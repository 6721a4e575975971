"""`sbridge moves`: which columns, or genes behind them, a run's bridge moves most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sbridge.checks import Count
from sbridge.cli.options import PointsOfRun, fitted_bridge
from sbridge.errors import InputError
from sbridge.io import Reading, Run
from sbridge.movement import what_moves
from sbridge.tables import text

__all__ = ["Moves"]


@dataclass(frozen=True, kw_only=True)
class Moves(PointsOfRun):
    """List what a run's bridge moves most: your columns, or the genes behind principal components."""

    input: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: held-out x0)")] = None  # type: ignore[assignment]
    """Points at t = 0: a .csv, .tsv (also .gz), .parquet, .npy, .npz or .h5ad file, or FILE.npz:key."""
    loadings: Annotated[str | None, tyro.conf.arg(metavar="KEY", help_behavior_hint="(optional)")] = None
    """Entry of varm of the .h5ad input, such as PCs: list the genes behind the components."""
    top: Count = 20
    """How many to list; --out has all."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv", help_behavior_hint="(optional)")] = None
    """File to write, with the numbers of all."""

    def run(self, command: str) -> None:
        """Move the points, print the table and write the file.

        Raises:
            InputError: the run has no bridge yet, or a file or an option cannot be used.
        """
        if self.out is not None and self.out.suffix != ".csv":
            raise InputError(f"--out must be a .csv file, not {self.out}")
        run = Run.open(self.folder)
        bridge = fitted_bridge(run)
        if self.input is None:
            self._refuse_options_of_input()
            found = what_moves(bridge, run.problem.test0, random_state=self.seed)
        else:
            points = self.asked(bridge.columns, run.problem.dim)
            found = what_moves(bridge, points, loadings=self.loadings, random_state=self.seed)
        print(text(found.top(self.top).rows()))
        if self.out:
            found.to_csv(self.out)
            print(f"all {len(found.movers)}: {self.out}")

    def _refuse_options_of_input(self) -> None:
        """Refuse options that say how a file is read, where there is none."""
        if self.loadings is not None:
            raise InputError("--loadings are an entry of the .h5ad file of --input; give that too")
        if self.group is not None or self.reading != Reading():
            raise InputError("--group and the options for data files are for the file of --input; give that too")
