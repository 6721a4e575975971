"""Work in fresh processes, a few at a time.

Each process starts from nothing (it is spawned, not forked), so its memory is its own, and its libraries see the number
of threads before they are loaded.  A script that uses this must guard its own work with `if __name__ == "__main__":`,
as the processes import it again.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from sbridge.io.environ import variables

__all__ = ["finished"]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

T = TypeVar("T")


def finished(
    tasks: Sequence[T], work: Callable[[T], None], jobs: int, threads: int
) -> Generator[tuple[T, str], None, None]:
    """Call work(task) in a process for each, `jobs` at a time; gives each as it ends, and why it did if not well.

    Tasks and work are pickled.  Closing the generator ends the processes that run.
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
    process = get_context("spawn").Process(target=work, args=(task,))
    with variables({name: str(threads) for name in _THREADS}), _deaf():
        process.start()
    return process


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started within ignore Ctrl-C, which reaches all of them: the first one decides."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _reason(code: int) -> str:
    """Why a process ended with this exit code; empty where it ended well."""
    if code == -signal.SIGKILL:
        return "its process was killed, probably for want of memory"
    if code < 0:
        return f"its process was ended by signal {-code}"
    return f"its process ended with exit code {code}, after the error it printed" if code else ""
