"""Where trials run: a private Ray on this machine, started and stopped here, or an existing cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray._private import ray_constants

from sbridge.checks import Checked, Count, NotNegative, Positive
from sbridge.errors import InputError
from sbridge.io.environ import variables
from sbridge.problem import Problem

__all__ = ["Placement", "connected", "store_bytes"]

_STORE_MARGIN = 80_000_000  # bytes beside the data, for Ray's own messages and a few checkpoints
_ENVIRONMENT = {
    "TUNE_GLOBAL_CHECKPOINT_S": "0",  # write the state at every change, so that a kill loses no trial
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that diverged reports the reason instead of the criterion
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one ignores verbose=0
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Placement(Checked):
    """The resources of a trial, and the cluster they are on.

    Args:
        cpus_per_trial: CPUs, and PyTorch's threads (at least one).
        gpus_per_trial: GPUs, or a fraction of one: with .25 four trials share a GPU and its memory.
        concurrent: trials at the same time; by default as many as fit.
        address: of a running cluster, or "auto" for the one of RAY_ADDRESS or this machine; None for a private Ray,
            which is reached from this machine only and ends with the search.

    Raises:
        InputError: a number is negative, or the number of GPUs is above one and not whole.
    """

    cpus_per_trial: Positive = 1
    gpus_per_trial: NotNegative = 0
    concurrent: Count | None = None
    address: str | None = None

    def validate(self) -> None:
        if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise InputError(f"a trial takes a fraction of one GPU or whole GPUs, not {self.gpus_per_trial}")

    @property
    def resources(self) -> dict[str, float]:
        """By Ray's names."""
        return {"CPU": self.cpus_per_trial, "GPU": self.gpus_per_trial}

    @property
    def device(self) -> str:
        """The device of a trial."""
        return "cuda" if self.gpus_per_trial else "cpu"

    @property
    def threads(self) -> int:
        """PyTorch's threads in a trial."""
        return max(1, int(self.cpus_per_trial))

    def __str__(self) -> str:
        number = "as many trials at once as fit" if self.concurrent is None else f"at most {self.concurrent} at once"
        place = "by a private Ray on this machine" if self.address is None else f"on the cluster at {self.address}"
        return f"{_words(self.resources)} a trial, {number}, {place}"

    def check(self) -> None:
        """Refuse a placement for which Ray would wait for ever.

        Raises:
            InputError: no machine of the cluster is large enough for a trial; the message lists the machines.
        """
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(_fits(self.resources, machine) for machine in machines):
            has = "; ".join(_words(machine) for machine in machines)
            raise InputError(f"a trial asks for {_words(self.resources)}; no machine has that. The cluster has: {has}")


def _fits(asked: Mapping[str, float], there: Mapping[str, float]) -> bool:
    return all(there.get(name, 0) >= number for name, number in asked.items())


def _words(resources: Mapping[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPU and {resources.get('GPU', 0):g} GPU"


def store_bytes(problem: Problem) -> int:
    """Size of the object store of a private Ray: twice the data, and a margin."""
    points = (problem.x0, problem.x1, problem.test0, problem.test1)
    return _STORE_MARGIN + 2 * sum(x.numel() * x.element_size() for x in points)


@contextmanager
def connected(placement: Placement, problem: Problem) -> Iterator[None]:
    """Within, Ray runs; a Ray that was connected before is used and left running.

    Raises:
        InputError: there is no cluster at the address, or none of its machines has room for a trial.
    """
    with variables(_ENVIRONMENT):
        ours = not ray.is_initialized()
        if ours:
            _start(placement, store_bytes(problem))
        try:
            placement.check()
            yield
        finally:
            if ours:
                ray.shutdown()


def _start(placement: Placement, store: int) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if placement.address is None:
        with _loopback():
            ray.init(address="local", include_dashboard=False, object_store_memory=store, **quiet)
        return
    try:
        ray.init(address=placement.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"there is no Ray cluster at {placement.address!r}: {error}") from error


@contextmanager
def _loopback() -> Iterator[None]:
    """Within, Ray starts at 127.0.0.1.

    Ray replaces any address of this machine by one that other machines reach, unless clusters are switched off, as
    they are on macOS and Windows.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
