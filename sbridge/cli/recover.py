"""`sbridge recover`: read and split the data, fit, compute the baselines, evaluate all, write the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import torch
import tyro

from sbridge.auto import SOLVERS, Auto
from sbridge.baselines.sinkhorn import BlockwiseSinkhorn, GeomlossSinkhorn, PotSinkhorn, Sinkhorn
from sbridge.checks import Count, NotNegative, Seed, Threads, checked_value
from sbridge.cli import stages
from sbridge.cli.options import Options
from sbridge.cli.question import built
from sbridge.cli.settings import configuration
from sbridge.cli.signals import Stopped
from sbridge.cli.tables import print_comparison, show_data
from sbridge.couplings import COUPLINGS
from sbridge.errors import InputError
from sbridge.interpolants import GAMMAS, INTERPOLANTS, ClosedForm
from sbridge.io import Run, check_vacant, owned
from sbridge.potentials.solver import MixturePotential
from sbridge.problem import Frame, Problem
from sbridge.problems import Family
from sbridge.solvers import Solver
from sbridge.solvers.budget import Budget
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.regression import Regression
from sbridge.standardise import standardised

__all__ = ["Recover"]

_BASELINES: dict[str, Sinkhorn] = {
    "pot": PotSinkhorn(),
    "geomloss": GeomlossSinkhorn(),
    "blockwise": BlockwiseSinkhorn(),
}
_POTENTIALS: dict[str, Solver] = {name: SOLVERS[name] for name in ("potential", "full-potential")}
_OF_NETWORKS = ("budget", "steps", "learn", "interpolant", "gamma", "coupling", "prior")  # options
_PRIORS: dict[str, Solver | None] = {"none": None, "potential": MixturePotential()}

F = TypeVar("F", bound=Family)


@dataclass(frozen=True)
class Recover(Options, Generic[F]):
    """Find the bridge between two datasets, compare it with Sinkhorn's on held-out points, and write a run folder.

    Give a bundled problem's name, or your own files: sbridge recover --x0 FILE --x1 FILE --epsilon NUMBER
    """

    problem: F
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/PROBLEM)")] = None
    """Run folder to write."""
    resume: bool = False
    """Continue the run in the folder, if there is one: finished stages are kept."""
    method: Literal["auto", "potential", "full-potential", "maxmin", "fixed"] = "auto"
    """auto: several, from cheap to dear, and keep the best on held-out points; potential, full-potential: a mixture
    potential with diagonal or full covariances, in seconds; maxmin: a network with a learned interpolant; fixed: a
    network with a fixed one.  The options of the network, --steps to --prior, are also those of auto's."""
    budget: Annotated[str | None, tyro.conf.arg(metavar="TIME", help_behavior_hint="(optional)")] = None
    """Wall time for the fit, such as 90s, 2min or 1h, for auto, maxmin and fixed; networks train for as long."""
    steps: Count = Regression.steps
    """Gradient steps of the network."""
    learn: Literal["mean", "gamma", "both", "none"] = "mean"
    """Part of the interpolant x_t = I(t, x0, x1) + γ(t) z that is learned: its mean I, its noise γ, both or none."""
    interpolant: Literal[
        "linear",
        "trigonometric",
        "encoder-decoder",
        "mirror",
        "one-sided-linear",
        "one-sided-trigonometric",
        "variance-preserving",
    ] = "linear"
    """The interpolant to fit, or to start learning from.  One-sided ones (also variance-preserving) need Gaussian noise
    as x0; mirror needs two samples of one distribution."""
    gamma: Literal["brownian", "parabolic", "sine-squared"] = "brownian"
    """The shape of its noise: γ = √(2εt(1−t)), or ∝ t(1−t) or sin²(πt) with the same size at t = ½."""
    coupling: Literal["sinkhorn", "minibatch-sinkhorn", "independent", "whole-plan", "self-consistent"] = "sinkhorn"
    """How training pairs (x0, x1) are drawn: from an entropic plan that is kept up to date for fresh points, from plans
    between minibatches, independently, from one plan between all points (8,192 at most), or from simulated paths of the
    fit itself."""
    prior: Literal["none", "potential"] = "none"
    """Drifts that the network corrects: none, or those of a mixture potential, which is fitted in seconds."""
    baselines: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(default: pot,geomloss)")] = ()
    """Methods to compare with, of pot, geomloss and blockwise (Sinkhorn by POT, by GeomLoss and for many points), or
    none."""
    diffusion: Annotated[tuple[NotNegative, ...], tyro.conf.arg(help_behavior_hint="(default: ε)")] = ()
    """D ≥ 0 of the noise √(2D) dW in the simulation of held-out points, in squared units of the data: one number, or
    several values of D(t) at equally spaced times, such as 0,0.5,0."""
    standardise: Literal["none", "columns", "whiten"] = "none"
    """columns: divide each column by its standard deviation before the fit; whiten: remove the correlations too.
    Answers stay in the units of the data, but ε is then in squared standard deviations."""
    seed: Seed = 0
    """Seed of the fit, of the baselines and of the evaluation."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to compute."""
    threads: Threads = 1
    """CPU threads; results are equal to the last bit only for the same number."""
    checkpoint_seconds: NotNegative = 10.0
    """Seconds between two checkpoints of the fit; --resume continues an interrupted run from the last one."""

    def run(self, command: str) -> None:
        """Do all stages that are not finished, and print the comparison.

        Raises:
            InputError: the data or an option cannot be used.
            DivergenceError: the fit became unstable; its last good state is in the run folder.
            Stopped: a signal came; the message says how to continue.
        """
        self._check()
        folder = self.out or Path("runs") / self.problem.name
        if not self.resume:
            check_vacant(folder)
        torch.set_num_threads(self.threads)
        new = not (folder / "config.json").exists()
        try:
            run = self._start(folder, command)
            with run.withdrawn_if_refused(new), owned(run.folder):
                stages.work(run, self._solver(), self._baselines(), self.checkpoint_seconds, self._seconds())
        except Stopped as stop:
            again = command if self.resume else f"{command} --resume"
            raise Stopped(stop.signal, f"go on with: {again}") from None
        _show(run)

    def _check(self) -> None:
        self._baselines()
        self._seconds()
        if self.method in _POTENTIALS:
            _refuse_options(self)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: PyTorch finds no GPU here; use --device cpu")

    def _start(self, folder: Path, command: str) -> Run:
        kind = None if self.standardise == "none" else self.standardise
        problem = built(self.problem, kind)
        inside, _ = standardised(problem, kind)
        if self.method not in _POTENTIALS:
            _refuse(inside, INTERPOLANTS[self.interpolant])
        execution = {
            "standardise": kind,
            "seed": self.seed,
            "device": self.device,
            "threads": self.threads,
            "budget": self._seconds(),
            "diffusion": list(self.diffusion),
        }
        config = configuration(problem, self.problem, self._solver(), self._baselines(), execution, command)
        if self.resume and (folder / "config.json").exists():
            return Run.resume(folder, config)
        show_data(problem, inside)
        return Run.create(folder, config, problem)

    def _baselines(self) -> list[Sinkhorn]:
        names = [] if self.baselines == ("none",) else self.baselines or ("pot", "geomloss")
        unknown = [name for name in names if name not in _BASELINES]
        if unknown:
            raise InputError(f"--baselines: there is no {unknown[0]!r}; choose {', '.join(_BASELINES)}, or none")
        return [_BASELINES[name] for name in names]

    def _seconds(self) -> float | None:
        """Of the budget."""
        seconds: float | None = checked_value("--budget", Budget | None, self.budget)
        return seconds

    def _solver(self) -> Solver:
        if self.method == "auto":
            return Auto(self._network(), self._seconds())
        return _POTENTIALS[self.method] if self.method in _POTENTIALS else self._network()

    def _network(self) -> Regression | MaxMin:
        shared: dict[str, Any] = {
            "interpolant": INTERPOLANTS[self.interpolant],
            "gamma": GAMMAS[self.gamma],
            "coupling": COUPLINGS[self.coupling],
            "prior": _PRIORS[self.prior],
            "steps": self.steps,
        }
        if self.method == "fixed" or self.learn == "none":
            return Regression(**shared)
        return MaxMin(**shared, learn_mean=self.learn != "gamma", learn_gamma=self.learn != "mean")


def _refuse_options(asked: Recover[Any]) -> None:
    """Refuse options of a network where there is none."""
    given = [name for name in _OF_NETWORKS if getattr(asked, name) != getattr(Recover, name)]
    if given:
        raise InputError(f"--{given[0]} is for networks, and --method {asked.method} has none: leave it out")


def _refuse(problem: Problem, interpolant: type[ClosedForm]) -> None:
    """Refuse data without spread, and data that do not fit the interpolant, before a folder is made."""
    inside = Frame.of(problem).inside(problem)
    interpolant.admit(inside.x0, inside.x1)


def _show(run: Run) -> None:
    comparison = run.comparison()
    assert comparison is not None
    print(stages.verdict_of(run))
    print_comparison(comparison)
    print(f"report: {run.path('report.html')}")
