"""`sbridge sample`, `likelihood`, `compare` and `report`: the commands for a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from sbridge.bridge import Bridge
from sbridge.checks import Count, NotNegative
from sbridge.cli.options import Options, PointsOfRun, fitted_bridge
from sbridge.cli.tables import print_comparison
from sbridge.densities import Density, as_density
from sbridge.display import note, tracked
from sbridge.errors import InputError
from sbridge.evaluation import FLOOR, TRUTH, Comparison, merge
from sbridge.evaluation.by_column import DATA
from sbridge.io import CHAIN, Answer, Run, check_writable, write_answer
from sbridge.likelihood import LogDensity, bits_per_dimension, cross_entropy
from sbridge.points import Points
from sbridge.sampling import Diffusion, Simulation, through
from sbridge.snapshots import Chain
from sbridge.tables import text

__all__ = ["Compare", "Likelihood", "Report", "Sample"]


T = TypeVar("T")

_POINTS_PER_BAR_STEP = 50
_OWN = "(default: the run's ε, whose paths are the bridge's)"


@dataclass(frozen=True, kw_only=True)
class Sample(PointsOfRun):
    """Move new points with a run's bridge or chain, to the other end or to times between."""

    out: Path
    """File to write, of any of these kinds."""
    direction: Literal["forward", "backward"] = "forward"
    """forward: the points stand at t = 0 and move to 1; backward: from t = 1 to 0.  In a folder of sbridge snapshots
    these are the first and the last time."""
    times: tuple[float, ...] = ()
    """Times at which to write the points, in the order of the direction; by default only the end."""
    start: Annotated[float | None, tyro.conf.arg(metavar="TIME", help_behavior_hint="(default: the first time)")] = None
    """Time at which the points stand, if it is another than the direction says."""
    ode: bool = False
    """Move without noise, along the probability flow."""
    diffusion: Annotated[tuple[NotNegative, ...], tyro.conf.arg(help_behavior_hint=_OWN)] = ()
    """D ≥ 0 of the noise √(2D) dW, in squared units of the data: one number, or several that D(t) goes through at
    equally spaced times, such as 0,0.5,0.  The law at every time is the same for all D."""
    steps: Annotated[Count | None, tyro.conf.arg(help_behavior_hint="(default: 100, more for a large ε)")] = None
    """Steps from one end to the other, shorter near both."""

    def run(self, command: str) -> None:
        """Move the points and write them.

        Raises:
            InputError: the run has no bridge yet, or a file, the times or another option cannot be used.
        """
        if self.ode and self.diffusion:
            raise InputError("--ode means --diffusion 0; give one of them")
        check_writable(self.out)
        process, dim = self._process()
        points = self.asked(process.columns, dim)
        states, end = self._move(process, points.values.numpy())
        values = states if self.times else states[-1]
        write_answer(self.out, Answer(values, _names(points, process), self.times or None, points, f"t{end:g}"))
        print(f"{len(points.values)} points written to {self.out}")

    def _process(self) -> tuple[Bridge | Chain, int | None]:
        """What the folder holds, and the dimension of its data."""
        if (self.folder / CHAIN).is_file():
            chain = Chain.load(self.folder / CHAIN)
            return chain, chain.legs[0].forward_field.dim
        run = Run.open(self.folder)
        return fitted_bridge(run), run.problem.dim

    def _move(self, process: Bridge | Chain, x: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """The states at the times asked for, (len(times), n, d), and the last of these times."""
        first, last = (process.times[0], process.times[-1]) if isinstance(process, Chain) else (0.0, 1.0)
        start, end = (first, last) if self.direction == "forward" else (last, first)
        start, times = start if self.start is None else self.start, self.times or (end,)
        if times == (start,):
            raise InputError(f"the points stand at t = {start:g} already: give other --times, or another --direction")
        simulation = Simulation(self.steps, 0.0 if self.ode else _spread(through(self.diffusion), first, last))
        return process.trajectories(x, times, simulation, self.seed, start), end


@dataclass(frozen=True, kw_only=True)
class Likelihood(PointsOfRun):
    """Log-densities of points under a run's bridge, and their cross-entropy."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """File to write, of any of these kinds: the log-density of each point and its standard error, in nats."""
    at: Literal["x1", "x0"] = "x1"
    """The end at which the density is computed.  The other end's law is a Gaussian mixture fitted to the run's data."""
    method: Literal["ode", "sde", "feynman-kac", "tilted-bound"] = "ode"
    """ode: the probability flow; sde: importance-weighted paths of the noisy process; feynman-kac: its plain average;
    tilted-bound: a lower bound on its log-density."""

    def run(self, command: str) -> None:
        """Compute the log-densities, write them and print their cross-entropy.

        Raises:
            InputError: the run has no bridge yet, or the file or the dimension cannot be used.
        """
        if self.out:
            check_writable(self.out)
        run = Run.open(self.folder)
        bridge = fitted_bridge(run)
        points = self.asked(bridge.columns, run.problem.dim)
        base = run.problem.equal_points()[0 if self.at == "x1" else 1]
        found = self._log_density(bridge, points.values, as_density(base, points.values))
        if self.out:
            answer = torch.stack([found.value, found.standard_error], dim=1)
            write_answer(self.out, Answer(answer.numpy(), ("log_density", "standard_error"), origin=points))
        print(_summary(found, run.problem.dim, points.weights))

    def _log_density(self, bridge: Bridge, x: Tensor, base: Density) -> LogDensity[Tensor]:
        parts = [
            bridge.log_prob(part, self.at, base=base, method=self.method, random_state=self.seed + k)
            for k, part in enumerate(tracked("log-density", x.split(_POINTS_PER_BAR_STEP)))
        ]
        values, errors = (torch.cat([getattr(part, name) for part in parts]) for name in ("value", "standard_error"))
        return LogDensity(values, errors, base.name)


def _summary(found: LogDensity[Tensor], dim: int, weights: Tensor | None) -> str:
    nats = cross_entropy(found, weights)
    bits = bits_per_dimension(nats, dim)
    return f"cross-entropy: {nats} nats, {bits} bits per dimension ({len(found.value)} points; base: {found.base})"


@dataclass(frozen=True)
class Compare(Options):
    """Print the comparison of one or several runs."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folders of the runs; runs of the same problem, seed and sizes share one table."""
    by_column: bool = False
    """Show every column of the data too: mean and standard deviation of each method's ends beside the data's."""

    def run(self, command: str) -> None:
        """Print the tables.

        Raises:
            InputError: no run is named, or one has no comparison yet.
        """
        if not self.folders:
            raise InputError("name at least one run folder")
        for comparison in _merged([_comparison(folder, len(self.folders) > 1) for folder in self.folders]):
            print_comparison(comparison)
            if self.by_column:
                print(text(comparison.by_column().rows()))


@dataclass(frozen=True)
class Report(Options):
    """Rebuild the page of a run."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""

    def run(self, command: str) -> None:
        """Write the page again.

        Raises:
            InputError: there is no run, or a file of it is damaged.
        """
        from sbridge.report.page import build  # here, because matplotlib takes long to import

        run = Run.open(self.folder)
        if run.stages.folder.exists() and not run.path("history.csv").exists():
            note(f"{run.path('history.csv')} is missing: the report has no curves of the training")
        print(f"report: {build(run)}")


def _spread(diffusion: Diffusion | None, first: float, last: float) -> Diffusion | None:
    """D(t) between two times, of one between 0 and 1."""
    if not callable(diffusion):
        return diffusion
    return lambda t: diffusion((t - first) / (last - first))


def _names(points: Points, process: Bridge | Chain) -> Sequence[str]:
    return points.columns or process.columns or [f"c{place}" for place in range(points.values.shape[1])]


def _comparison(folder: Path, several: bool) -> Comparison:
    """A run's comparison; where there are several, its methods are named after it."""
    comparison = Run.open(folder).comparison()
    if comparison is None:
        raise InputError(f"{folder} has no comparison yet; continue its run with --resume")
    if not several:
        return comparison

    def named(found: Mapping[str, T]) -> dict[str, T]:
        shared = (FLOOR, TRUTH, DATA)
        return {name if name in shared else f"{folder.name}: {name}": value for name, value in found.items()}

    rows, duals, ends = named(comparison.rows), named(comparison.duals), named(comparison.ends)
    return replace(comparison, rows=rows, duals=duals, ends=ends)


def _merged(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons of the same problem, seed and sizes become one."""
    groups: dict[tuple[object, ...], list[Comparison]] = {}
    for one in comparisons:
        groups.setdefault((one.problem, one.epsilon, one.dim, one.random_state, one.effort), []).append(one)
    return [merge(group) for group in groups.values()]
