"""One fit by several processes, on one machine or many, under Ray Train: one training, divided by `sharing.share`.

Every process holds the data and draws the same batches; the networks' work is divided.  So N processes find what one
finds, up to the order of sums, and the global batch is the solver's `batch` for every N.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import torch
from ray import train
from ray.train.torch import TorchConfig, TorchTrainer

from sbridge.errors import DivergenceError, InputError
from sbridge.problem import Problem
from sbridge.solvers.regression import Regression
from sbridge.solvers.training import Training
from sbridge.tuning.cluster import Placement, connected
from sbridge.tuning.sharing import share
from sbridge.tuning.trial import placed

__all__ = ["Team", "fit"]

_RETRIES = 3  # of the whole fit from its last checkpoint, when a process or its machine is lost
_STATE = "training.pt"


@dataclass(frozen=True)
class Team:
    """Who computes.

    Args:
        workers: processes, with one thread each; a power of two divides the default batch evenly.
        placement: what each gets, and of which cluster.  With GPUs (one each) they exchange by NCCL, else by Gloo.

    Raises:
        InputError: no workers, or a fraction of a GPU each, which NCCL does not share.
    """

    workers: int
    placement: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError(f"--workers must be at least 1, not {self.workers}")
        if self.placement.gpus_per_trial not in (0, 1):
            raise InputError("a worker takes a whole GPU or none")

    @property
    def backend(self) -> str:
        """How they exchange."""
        return "nccl" if self.placement.gpus_per_trial else "gloo"

    def check(self) -> None:
        """Refuse what would wait for ever.

        Raises:
            InputError: the cluster is too small; the message says what it has.
        """
        there = ray.cluster_resources()
        for name, each in self.placement.resources.items():
            if self.workers * each > there.get(name, 0):
                asked, has = f"{self.workers * each:g} {name}", f"{there.get(name, 0):g}"
                raise InputError(f"{self.workers} workers ask for {asked}; the cluster has {has}")


def fit(solver: Regression, problem: Problem, team: Team, storage: str | Path, random_state: int = 0) -> Training:
    """Train to the end, or go on with the training whose checkpoints are in `storage`.

    Args:
        solver: whose training it is.
        problem: to fit to.
        team: who computes.
        storage: a path or URL that all machines reach, for `storage`/workers.
        random_state: seed of all randomness.

    Returns:
        The training as it ended, in this process: `bridge()` is the answer, `history` what was watched.

    Raises:
        DivergenceError: the training became unstable.
        InputError: the cluster is too small.
    """
    with connected(team.placement, problem):
        team.check()
        work = {"problem": ray.put(problem), "solver": solver, "random_state": random_state, "team": team}
        result = _trainer(team, work, str(storage)).fit()
    training = solver.start(problem, random_state)
    _restore(training, result.checkpoint)
    if failure := result.metrics.get("failure"):
        raise DivergenceError(failure)
    return training


def _trainer(team: Team, work: dict[str, Any], storage: str) -> TorchTrainer:
    resources = {name: number for name, number in team.placement.resources.items() if number}
    gpus = bool(team.placement.gpus_per_trial)
    return TorchTrainer(
        _work,
        train_loop_config=work,
        torch_config=TorchConfig(backend=team.backend),
        scaling_config=train.ScalingConfig(num_workers=team.workers, use_gpu=gpus, resources_per_worker=resources),
        run_config=train.RunConfig(
            name="workers",
            storage_path=storage if "://" in storage else str(Path(storage).absolute()),
            failure_config=train.FailureConfig(max_failures=_RETRIES),
            checkpoint_config=train.CheckpointConfig(num_to_keep=2),
        ),
    )


def _work(config: dict[str, Any]) -> None:
    """What each process does."""
    team: Team = config["team"]
    torch.set_num_threads(team.placement.threads)
    problem = placed(ray.get(config["problem"]), team.placement.device)
    training: Training = config["solver"].start(problem, config["random_state"])
    _restore(training, train.get_checkpoint())
    share(training)
    try:
        checks = len(training.history)
        for _ in training:
            if len(training.history) > checks:
                checks = len(training.history)
                _report(training, {})
    except DivergenceError as error:
        _report(training, {"failure": str(error)})
        return
    _report(training, {})


def _report(training: Training, remark: dict[str, str]) -> None:
    """All processes meet here, and the first hands in the state, which is the same for all."""
    with TemporaryDirectory() as folder:
        checkpoint = None
        if train.get_context().get_world_rank() == 0:
            torch.save(training.state_dict(), Path(folder) / _STATE)
            checkpoint = train.Checkpoint.from_directory(folder)
        train.report({"step": training.step, **remark}, checkpoint=checkpoint)


def _restore(training: Training, checkpoint: Any) -> None:
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder:
        place = training.generator.device
        training.load_state_dict(torch.load(Path(folder) / _STATE, weights_only=True, map_location=place))
