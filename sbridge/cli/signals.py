"""Ctrl-C and SIGTERM: they stop the program at once, or after the step in progress where its state can be saved."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stopped", "postponed", "stoppable"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The program was asked to stop.  Like KeyboardInterrupt, it is no Exception, so `except Exception` lets it pass.

    Args:
        signal: the number of the signal.
        advice: how to continue.
    """

    def __init__(self, signal: int, advice: str = "") -> None:
        super().__init__(f"stopped{advice and '; '}{advice}")
        self.signal = signal


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, either signal raises `Stopped`."""
    with _handled(_stop):
        yield


@contextmanager
def postponed() -> Iterator[list[int]]:
    """Within, signals do not interrupt: they are appended to the list that this yields."""
    received: list[int] = []
    with _handled(lambda number, frame: received.append(number)):
        yield received


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
