"""`sbridge snapshots`: the bridge through samples of several times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

from sbridge.auto import SOLVERS, Auto
from sbridge.display import note
from sbridge.errors import InputError
from sbridge.estimates import rounded
from sbridge.io.snapshots import read_snapshots
from sbridge.snapshots import Snapshots, leave_one_out
from sbridge.snapshots.left_out import check_left_out
from sbridge.solvers import Solver
from sbridge.solvers.maxmin import MaxMin
from sbridge.tables import markdown, write_csv

__all__ = ["SnapshotsCommand"]

_LEAST_FOR_CERTIFICATE = 100  # points


@dataclass(frozen=True)
class SnapshotsCommand:
    """Find the bridge through samples of several times, and say how good each leg of it is."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A file of points for each time, .npy, .npz, .csv or .parquet; or one table with --time-column."""
    epsilon: float
    """ε per unit of time, in squared units of the data: over a time T the noise spreads a point by √(2εT)."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Folder to write: chain.safetensors (for sbridge.Chain.load), legs.csv, joints.csv, left_out.csv."""
    time_column: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(optional)")] = None
    """Column of the table that has the time of each row."""
    times: Annotated[tuple[float, ...], tyro.conf.arg(help_behavior_hint="(default: 0,1,2,…)")] = ()
    """Times of the files, rising."""
    columns: tuple[str, ...] = ()
    """Columns to take from .csv and .parquet files (all by default)."""
    method: Literal["auto", "potential", "full-potential", "maxmin"] = "auto"
    """Solver of each leg: the best of several on held-out points, a mixture potential with diagonal or full
    covariances, or a network by max–min."""
    steps: int = 6000
    """Most steps of each network."""
    growth: Annotated[float | None, tyro.conf.arg(help_behavior_hint="(optional)")] = None
    """ρ in squared units of the data: give the points weights by unbalanced transport to the next time."""
    leave_out: Annotated[str | None, tyro.conf.arg(metavar="TIME|each", help_behavior_hint="(optional)")] = None
    """Leave a time out, or each in turn, and compare the bridge between its neighbours with the points there."""
    held_out: float = 0.2
    """Fraction of each sample that is held out of the fit, to evaluate the legs on."""
    seed: int = 0
    """Seed of everything."""

    def run(self, command: str) -> None:
        """Fit, evaluate and write.

        Raises:
            InputError: the files, times or options cannot be used, or the folder is not empty.
            DivergenceError: a training became unstable.
        """
        if self.out.exists() and any(self.out.iterdir()):
            raise InputError(f"{self.out} is not empty; choose another folder")
        if self.growth is not None and self.leave_out is not None:
            raise InputError("--leave-out compares bridges without growth; leave out --growth")
        if not 0 < self.held_out < 1:
            raise InputError(f"--held-out must lie between 0 and 1, not {self.held_out}")
        files = [str(file) for file in self.files]
        times, samples = read_snapshots(files, self.time_column, self.times, self.columns)
        left_out = self._left_out(times)
        generator = torch.Generator().manual_seed(self.seed)
        fitted, tests = zip(*(_split(x, self.held_out, generator) for x in samples), strict=True)
        model = Snapshots(self.epsilon, self._solver(), self.seed, verbose=True, growth=self.growth)
        model.fit(fitted, times)
        self.out.mkdir(parents=True, exist_ok=True)
        model.save(self.out / "chain.safetensors")
        self._show("legs", _legs(model, tests, self.seed))
        self._show("joints", [_joint_row(joint) for joint in model.joints(tests)])
        if left_out:
            solvers = {self._solver().name: self._solver()}
            tables = [
                leave_one_out(samples, times, self.epsilon, solvers, time, random_state=self.seed) for time in left_out
            ]
            self._show("left_out", [dict(row) for table in tables for row in table.rows])
        print(f"chain: {self.out / 'chain.safetensors'}")

    def _solver(self) -> Solver:
        network = MaxMin(steps=self.steps)
        return {**SOLVERS, "auto": Auto(network), "maxmin": network}[self.method]

    def _left_out(self, times: Sequence[float]) -> list[float]:
        """The times to leave out."""
        if self.leave_out is None:
            return []
        inner = check_left_out(times, None)
        if self.leave_out == "each":
            return list(inner)
        try:
            time = float(self.leave_out)
        except ValueError as error:
            raise InputError(f"--leave-out must be a time or each, not {self.leave_out}") from error
        check_left_out(times, time)
        return [time]

    def _show(self, name: str, rows: Sequence[dict[str, float | str]]) -> None:
        if rows:
            write_csv(self.out / f"{name}.csv", rows)
            print(markdown([{key: _text(cell) for key, cell in row.items()} for row in rows]))


def _legs(model: Snapshots, tests: Sequence[Tensor], seed: int) -> list[dict[str, float | str]]:
    """Both ends of each leg by energy distance, its certificate in nats, and the effective sizes of its samples."""
    rows: list[dict[str, float | str]] = [{**row} for row in model.ends(tests, seed)]
    for row, leg in zip(rows, model.legs_, strict=True):
        row["points from"], row["points to"] = leg.effective_sizes_
    if min(map(len, tests)) < _LEAST_FOR_CERTIFICATE or model.growth is not None:
        note(f"no certificate: it needs {_LEAST_FOR_CERTIFICATE} held-out points of every time, and no growth")
        return rows
    for row, found in zip(rows, model.certificates(tests, seed), strict=True):
        row["certificate"] = found.sentence
    return rows


def _joint_row(joint: object) -> dict[str, float | str]:
    return {name.replace("_", " "): float(value) for name, value in vars(joint).items()}


def _split(x: Tensor, held_out: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    order, cut = torch.randperm(len(x), generator=generator), round(held_out * len(x))
    return x[order[cut:]], x[order[:cut]]


def _text(cell: float | str) -> str:
    return cell if isinstance(cell, str) else rounded(cell)
