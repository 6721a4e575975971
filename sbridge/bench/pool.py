"""Work in fresh processes, a few at a time.

Each process is spawned, not forked.  So its memory is its own, and the number of threads is set before its libraries
are loaded.  A script that uses this must guard its own work with `if __name__ == "__main__":`, because the processes
import the script again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import TypeVar

from sbridge.io.environ import variables

__all__ = ["finished"]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

T = TypeVar("T")


def finished(
    tasks: Sequence[T], work: Callable[[T], None], jobs: int, threads: int
) -> Generator[tuple[T, str], None, None]:
    """Call `work(task)` for each task in a process of its own, `jobs` at a time.

    Yields each task when its process has ended, with the reason of a failure (empty if there was none).  Tasks and work
    are pickled.  Closing the generator kills the processes that are running.
    """
    waiting, running = list(tasks), dict[int, tuple[T, BaseProcess]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = waiting.pop(0)
                process = _started(work, task, threads)
                running[process.sentinel] = (task, process)
            for sentinel in wait(list(running)):
                assert isinstance(sentinel, int)
                task, process = running.pop(sentinel)
                process.join()
                yield task, _reason(process.exitcode or 0)
    finally:
        for _, process in running.values():
            process.kill()
            process.join()


def _started(work: Callable[[T], None], task: T, threads: int) -> BaseProcess:
    process = get_context("spawn").Process(target=_with_parent, args=(work, task))
    with variables({name: str(threads) for name in _THREADS}), _ignoring_interrupts():
        process.start()
    return process


def _with_parent(work: Callable[[T], None], task: T) -> None:
    """The work of a process, which ends with its parent, even if that is killed."""
    parent = parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    Thread(target=end_with_parent, daemon=True).start()
    work(task)


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Processes started within ignore Ctrl-C, which reaches all processes: the first one stops the others."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _reason(code: int) -> str:
    """Why a process failed, by its exit code; empty if it did not fail."""
    if code == -signal.SIGKILL:
        return "its process was killed, probably because memory ran out"
    if code < 0:
        return f"its process was ended by signal {-code}"
    return f"its process ended with exit code {code}, after the error it printed" if code else ""
