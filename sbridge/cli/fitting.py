"""The fit, with checkpoints: stopped anywhere, it goes on to the same bridge."""

from __future__ import annotations

import pickle
import shutil
from time import perf_counter

import torch

from sbridge.cli.signals import Stopped, postponed
from sbridge.display import note, training_display
from sbridge.errors import DivergenceError, InputError
from sbridge.io import Run
from sbridge.problem import Problem
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.solvers.training import Training
from sbridge.storage import replace_atomically

__all__ = ["fit", "fit_divided"]

_DAMAGE = (OSError, EOFError, pickle.UnpicklingError, AttributeError, KeyError, RuntimeError, TypeError, ValueError)


def fit(run: Run, solver: NetworkSolver, problem: Problem, seed: int, checkpoint_seconds: float) -> None:
    """Train from the start or from the run's checkpoint; write bridge and history.

    Raises:
        InputError: the checkpoint is damaged.
        DivergenceError: the training became unstable; the bridge of its last good state is written.
        Stopped: by a signal, after the step that was running and a checkpoint.
    """
    checkpoint = Checkpoint(run, solver.start(problem, seed))
    checkpoint.restore()
    try:
        _train(checkpoint, solver, checkpoint_seconds)
    except DivergenceError as error:
        checkpoint.write_result()
        path = run.path("bridge.safetensors")
        raise DivergenceError(f"{error} The bridge of that state is in {path}; nothing was compared.") from error
    checkpoint.write_result()
    run.record(solver.name, fit_seconds=checkpoint.seconds())
    run.path("checkpoint.pt").unlink(missing_ok=True)


def _train(checkpoint: Checkpoint, solver: NetworkSolver, checkpoint_seconds: float) -> None:
    last = perf_counter()
    with postponed() as signals, training_display(solver.name, checkpoint.training.step) as show:
        for progress in checkpoint.training:
            show(progress)
            if signals:
                break
            if perf_counter() - last >= checkpoint_seconds:
                checkpoint.save()
                last = perf_counter()
    if signals:
        checkpoint.save()
        raise Stopped(signals[0])


def fit_divided(run: Run, solver: NetworkSolver, problem: Problem, seed: int, workers: int) -> None:
    """Train by several processes, from the start or from their last checkpoint; write bridge and history.

    Raises:
        InputError: without Ray, what to install; or there are not as many CPUs or GPUs.
        DivergenceError: the training became unstable.
    """
    from sbridge import tuning  # not at the head: everything else works without Ray

    begin = perf_counter()
    placement = tuning.Placement(gpus_per_trial=float(problem.x0.device.type == "cuda"))
    training = tuning.fit(solver, problem, tuning.Team(workers, placement), run.folder.absolute(), seed)
    Checkpoint(run, training).write_result()
    run.record(solver.name, fit_seconds=perf_counter() - begin)
    shutil.rmtree(run.path("workers"))


class Checkpoint:
    """A training and its place in a run folder."""

    def __init__(self, run: Run, training: Training) -> None:
        self.run, self.training, self.path = run, training, run.path("checkpoint.pt")
        self._begin = perf_counter()

    def seconds(self) -> float:
        """Time spent on the training, before interruptions too."""
        return perf_counter() - self._begin

    def save(self) -> None:
        """Replace the checkpoint."""
        state = {"training": self.training.state_dict(), "seconds": self.seconds()}
        replace_atomically(self.path, lambda temporary: torch.save(state, temporary))

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            InputError: it is damaged.
        """
        if not self.path.exists():
            return
        try:
            state = torch.load(self.path, weights_only=True)
            self.training.load_state_dict(state["training"])
            self._begin -= state["seconds"]
        except _DAMAGE as error:
            raise InputError(f"{self.path} is damaged; delete it to fit from the start ({error})") from error
        note(f"going on from step {self.training.step}")

    def write_result(self) -> None:
        """Write history and bridge."""
        self.run.write_history(self.training.history)
        self.training.bridge().save(self.run.path("bridge.safetensors"))
