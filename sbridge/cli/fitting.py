"""The fit of a run, with checkpoints: after an interruption at any moment it continues to the same bridge."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

from sbridge.auto import Account, Auto
from sbridge.cli.signals import Stopped, postponed
from sbridge.display import note, training_display
from sbridge.errors import DivergenceError
from sbridge.io import Run, load_training, save_training
from sbridge.problem import Problem
from sbridge.solvers.base import Progress
from sbridge.solvers.budget import paced
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.spread import warn_of_ends

__all__ = ["fit"]


def fit(
    run: Run,
    solver: NetworkSolver | Auto,
    problem: Problem,
    seed: int,
    checkpoint_seconds: float,
    budget: float | None = None,
) -> dict[str, float]:
    """Train from the start or from the run's checkpoint, and write bridge and history.

    Args:
        budget: seconds that a network may train, interruptions not counted; None for all its steps.

    Returns:
        `fit_seconds`, the time before interruptions included.

    Raises:
        InputError: the checkpoint is damaged.
        DivergenceError: the training became unstable; the bridge of its last good state is written.
        Stopped: a signal came; the step in progress was finished and a checkpoint written.
    """
    fitting = _Fitting(run, solver, problem, seed, budget)
    try:
        fitting.train(checkpoint_seconds)
    except DivergenceError as error:
        fitting.write_result()
        path = run.path("bridge.safetensors")
        raise DivergenceError(f"{error} The bridge of that state is in {path}; nothing was compared.") from error
    fitting.write_result()
    return {"fit_seconds": fitting.seconds()}


class _Fitting:
    """A training in a run folder, and the time it took."""

    def __init__(
        self, run: Run, solver: NetworkSolver | Auto, problem: Problem, seed: int, budget: float | None
    ) -> None:
        self.begin = perf_counter()
        self.run, self.solver, self.problem = run, solver, problem
        self.training = solver.start(problem, seed)
        self.checkpoint, self.budget = run.path("checkpoint.pt"), budget
        if self.checkpoint.exists():
            self.begin = perf_counter() - load_training(self.checkpoint, self.training)["seconds"]
            note(f"going on from step {self.training.step}")

    def train(self, checkpoint_seconds: float) -> None:
        """To the end, with a checkpoint every so many seconds."""
        last = perf_counter()
        with postponed() as signals, training_display(self.solver.name, self.training.step) as show:
            for progress in self._paced():
                show(progress)
                if signals:
                    break
                if perf_counter() - last >= checkpoint_seconds:
                    self.save()
                    last = perf_counter()
        if signals:
            self.save()
            raise Stopped(signals[0])

    def _paced(self) -> Iterator[Progress]:
        return iter(self.training) if self.budget is None else paced(self.training, self.begin + self.budget)

    def save(self) -> None:
        """Replace the checkpoint."""
        save_training(self.checkpoint, self.training, seconds=self.seconds())

    def seconds(self) -> float:
        """Seconds of the training so far."""
        return perf_counter() - self.begin

    def write_result(self) -> None:
        """Write history and bridge."""
        bridge = self.training.bridge()
        if self.training.history:
            self.run.write_history(self.training.history)
        self.run.keep(self.solver.name, bridge)
        if isinstance(bridge.tried, Account):
            self.run.write_tried([one.numbers() for one in bridge.tried.tried])
            note(str(bridge.tried))
        warn_of_ends(bridge, self.problem)
