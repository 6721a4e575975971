"""The fit of a run, with checkpoints: after an interruption at any moment it continues to the same bridge."""

from __future__ import annotations

from time import perf_counter

from sbridge.cli.signals import Stopped, postponed
from sbridge.display import note, training_display
from sbridge.errors import DivergenceError
from sbridge.io import Run, load_training, save_training
from sbridge.problem import Problem
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.spread import warn_of_ends

__all__ = ["fit"]


def fit(run: Run, solver: NetworkSolver, problem: Problem, seed: int, checkpoint_seconds: float) -> dict[str, float]:
    """Train from the start or from the run's checkpoint, and write bridge and history.

    Returns:
        `fit_seconds`, the time before interruptions included.

    Raises:
        InputError: the checkpoint is damaged.
        DivergenceError: the training became unstable; the bridge of its last good state is written.
        Stopped: a signal came; the step in progress was finished and a checkpoint written.
    """
    fitting = _Fitting(run, solver, problem, seed)
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

    def __init__(self, run: Run, solver: NetworkSolver, problem: Problem, seed: int) -> None:
        self.run, self.solver, self.problem, self.training = run, solver, problem, solver.start(problem, seed)
        self.checkpoint, self.begin = run.path("checkpoint.pt"), perf_counter()
        if self.checkpoint.exists():
            self.begin -= load_training(self.checkpoint, self.training)["seconds"]
            note(f"going on from step {self.training.step}")

    def train(self, checkpoint_seconds: float) -> None:
        """To the end, with a checkpoint every so many seconds."""
        last = perf_counter()
        with postponed() as signals, training_display(self.solver.name, self.training.step) as show:
            for progress in self.training:
                show(progress)
                if signals:
                    break
                if perf_counter() - last >= checkpoint_seconds:
                    self.save()
                    last = perf_counter()
        if signals:
            self.save()
            raise Stopped(signals[0])

    def save(self) -> None:
        """Replace the checkpoint."""
        save_training(self.checkpoint, self.training, seconds=self.seconds())

    def seconds(self) -> float:
        """Seconds of the training so far."""
        return perf_counter() - self.begin

    def write_result(self) -> None:
        """Write history and bridge."""
        bridge = self.training.bridge()
        self.run.write_history(self.training.history)
        self.run.keep(self.solver.name, bridge)
        warn_of_ends(bridge, self.problem)
