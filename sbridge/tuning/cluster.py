"""Where trials run: a private Ray on this machine, started and stopped here, or a cluster that is there already."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray._private import ray_constants

from sbridge.errors import InputError
from sbridge.io.environ import variables
from sbridge.problem import Problem

__all__ = ["Placement", "connected", "store_bytes"]

_STORE = 80_000_000  # bytes of the object store beside the data: Ray's own messages, and room for a checkpoint or two
_ENVIRONMENT = {
    "TUNE_GLOBAL_CHECKPOINT_S": "0",  # the state is written at every change, so that no kill loses a trial
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that diverged reports why, and no figure
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # the other one prints what it is told not to
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Placement:
    """What a trial gets, and of which cluster.

    Args:
        cpus_per_trial: CPUs, which are also the threads PyTorch computes with (at least one).
        gpus_per_trial: GPUs, or a fraction of one: with .25 four trials share a GPU and its memory.
        concurrent: trials at once; as many as fit by default.
        address: "auto" for the running cluster that RAY_ADDRESS or this machine knows of, or its address; None for a
            private Ray that serves this machine only and ends with the search.

    Raises:
        InputError: a number is negative, or of more than one GPU not whole.
    """

    cpus_per_trial: float = 1
    gpus_per_trial: float = 0
    concurrent: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.cpus_per_trial <= 0 or self.gpus_per_trial < 0 or (self.concurrent is not None and self.concurrent < 1):
            raise InputError("a trial needs CPUs, no negative number of GPUs, and at least one trial runs at a time")
        if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise InputError(f"a trial takes a fraction of one GPU or whole GPUs, not {self.gpus_per_trial}")

    @property
    def resources(self) -> dict[str, float]:
        """As Ray counts them."""
        return {"CPU": self.cpus_per_trial, "GPU": self.gpus_per_trial}

    @property
    def device(self) -> str:
        """Where a trial computes."""
        return "cuda" if self.gpus_per_trial else "cpu"

    @property
    def threads(self) -> int:
        """Of a trial."""
        return max(1, int(self.cpus_per_trial))

    def __str__(self) -> str:
        number = "as many trials at once as fit" if self.concurrent is None else f"at most {self.concurrent} at once"
        place = "by a private Ray on this machine" if self.address is None else f"on the cluster at {self.address}"
        return f"{_words(self.resources)} a trial, {number}, {place}"

    def check(self) -> None:
        """Refuse what would wait for ever.

        Raises:
            InputError: no machine of the cluster is large enough for a trial; the message says what there is.
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
    """Size of the object store of a private Ray: the data twice, and a margin."""
    points = (problem.x0, problem.x1, problem.test0, problem.test1)
    return _STORE + 2 * sum(x.numel() * x.element_size() for x in points)


@contextmanager
def connected(placement: Placement, problem: Problem) -> Iterator[None]:
    """Within, Ray runs: one that was connected before is used and left as it is.

    Raises:
        InputError: there is no cluster at the address, or no room in it for a trial.
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

    It resolves any address of this machine that it is given to one that others reach, unless it is told, as on macOS
    and Windows, that it will be no cluster.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
