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
from sbridge.checks import Count, Fraction, Positive, Seed
from sbridge.cli.options import Options
from sbridge.display import note
from sbridge.errors import InputError
from sbridge.estimates import rounded
from sbridge.evaluation.certificate.statement import Certificate
from sbridge.files import made_folder
from sbridge.io import CHAIN, Reading
from sbridge.io.snapshots import read_snapshots
from sbridge.points import Points
from sbridge.problem import shuffled_and_cut
from sbridge.snapshots import Snapshots, leave_one_out
from sbridge.snapshots.left_out import check_left_out
from sbridge.solvers import Solver
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.regression import Regression
from sbridge.tables import markdown, write_csv

__all__ = ["SnapshotsCommand"]


@dataclass(frozen=True)
class SnapshotsCommand(Options):
    """Find the bridge through samples of several times, and say how good each leg of it is."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A file of points for each time, as in `sbridge recover`; or one table or .h5ad file with --time-column."""
    epsilon: Positive | Literal["auto"]
    """ε per unit of time, in squared units of the data: over a time T the noise spreads a point by √(2εT).

    A number, or reg=…, blur=… or sigma=… of POT, GeomLoss or torchcfm; auto chooses it from the data.
    """
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Folder to write: chain.safetensors, chain.html, legs.csv, joints.csv, left_out.csv.  sbridge sample moves points
    with it."""
    time_column: Annotated[str | None, tyro.conf.arg(aliases=["--time-key"], help_behavior_hint="(optional)")] = None
    """Column of the table, or of obs of the .h5ad file, that has the time of each row."""
    times: Annotated[tuple[float, ...], tyro.conf.arg(help_behavior_hint="(default: 0,1,2,…)")] = ()
    """Times of the files, rising."""
    method: Literal["auto", "potential", "full-potential", "maxmin", "fixed"] = "auto"
    """Solver of each leg: the best of several on held-out points, a mixture potential with diagonal or full
    covariances, a network by max–min, or a network by regression on a fixed interpolant."""
    one_network: bool = False
    """Train one network for all legs, with time as an input; with --method fixed."""
    steps: Count = 6000
    """Most steps of each network."""
    growth: Annotated[Positive | None, tyro.conf.arg(help_behavior_hint="(optional)")] = None
    """ρ in squared units of the data: give the points weights by unbalanced transport to the next time."""
    leave_out: Annotated[str | None, tyro.conf.arg(metavar="TIME|each", help_behavior_hint="(optional)")] = None
    """Leave a time out, or each in turn, and compare the bridge between its neighbours with the points there."""
    held_out: Fraction = 0.2
    """Fraction of each sample that is held out of the fit, to evaluate the legs on."""
    seed: Seed = 0
    """Seed of everything."""
    reading: Reading = Reading()

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
        files = [str(file) for file in self.files]
        if self.one_network and self.method != "fixed":
            raise InputError(f"--one-network needs --method fixed; --method {self.method} fits each leg by itself")
        if self.reading.groupby is not None:
            raise InputError("--groupby is for two groups; the times are those of --time-column")
        from sbridge.report.chain import ChainTables, write_chain_page  # here, because matplotlib takes long to import

        times, points = read_snapshots(files, self.time_column, self.times, self.reading)
        for remark in dict.fromkeys(remark for one in points for remark in one.remarks):
            note(remark)
        names = points[0].columns
        left_out = self._left_out(times)
        generator = torch.Generator().manual_seed(self.seed)
        fitted, tests = zip(*(_split(one, self.held_out, generator) for one in points), strict=True)
        model = Snapshots(
            self.epsilon, self._solver(), self.seed, verbose=True, growth=self.growth, one_network=self.one_network
        )
        model.fit(fitted, times, sample_weight=[one.weights for one in fitted])
        made_folder(self.out)
        model.save(self.out / CHAIN)
        certificates = _certificates(model, tests, self.seed)
        legs = self._show("legs", _legs(model, tests, certificates, self.seed, names or ()))
        joints = self._show("joints", [_joint_row(joint) for joint in model.joints(tests)])
        solvers = {self._solver().name: self._solver()}
        samples, weights = [one.values for one in points], [one.weights for one in points]
        tables = [
            leave_one_out(samples, times, model.epsilon_, solvers, time, random_state=self.seed, sample_weight=weights)
            for time in left_out
        ]
        left = self._show("left_out", [dict(row) for table in tables for row in table.rows])
        found = ChainTables(legs, joints, left, certificates)
        page = write_chain_page(self.out, model.chain_, tests, names, found, command)
        print(f"chain: {self.out / CHAIN}\npage: {page}")

    def _solver(self) -> Solver:
        network = MaxMin(steps=self.steps)
        return {**SOLVERS, "auto": Auto(network), "maxmin": network, "fixed": Regression(steps=self.steps)}[self.method]

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

    def _show(self, name: str, rows: list[dict[str, float | str]]) -> list[dict[str, float | str]]:
        """Write and print a table, if it has rows, and return them."""
        if rows:
            write_csv(self.out / f"{name}.csv", rows)
            print(markdown([{key: _text(cell) for key, cell in row.items()} for row in rows]))
        return rows


def _certificates(model: Snapshots, tests: Sequence[Tensor], seed: int) -> list[Certificate]:
    """The certificate of each leg; none where the held-out points do not allow it."""
    try:
        return model.certificates(tests, seed)
    except InputError as error:
        note(f"no certificate: {error}")
        return []


def _legs(
    model: Snapshots, tests: Sequence[Tensor], certificates: Sequence[Certificate], seed: int, names: Sequence[str]
) -> list[dict[str, float | str]]:
    """Both ends of each leg by energy distance, the effective sizes of its samples, and its certificate.

    Beside it is by how many nats a mixture potential, fitted to half of the held-out points, is ahead on the others.
    """
    rows: list[dict[str, float | str]] = [{**row} for row in model.ends(tests, seed)]
    for row, leg in zip(rows, model.legs_, strict=True):
        row["points from"], row["points to"] = leg.effective_sizes_
    for row, found in zip(rows, certificates, strict=False):  # one for each leg, or none
        row["behind a mixture potential (nats)"] = str(found.forward.behind)
        row["certificate"] = str(found.verdict)
    return rows


def _joint_row(joint: object) -> dict[str, float | str]:
    return {name.replace("_", " "): float(value) for name, value in vars(joint).items()}


def _split(one: Points, held_out: float, generator: torch.Generator) -> tuple[Points, Tensor]:
    """Points to fit to, with names and weights, and held-out ones of equal weight."""
    x, w, test = shuffled_and_cut(one.values, one.weights, held_out, generator)
    return Points(x, one.columns, weights=w), test


def _text(cell: float | str) -> str:
    return cell if isinstance(cell, str) else rounded(cell)
