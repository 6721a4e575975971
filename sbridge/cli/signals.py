"""Ctrl-C and SIGTERM: at once where work is repeated anyway, at the next safe point where it is kept."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stopped", "postponed", "stoppable"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The program was asked to stop; like KeyboardInterrupt, nothing that catches errors takes it for one.

    Args:
        signal: the number of the signal that asked.
        advice: how to go on.
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
    """Within, signals are only noted, in the list that this gives."""
    noted: list[int] = []
    with _handled(lambda number, frame: noted.append(number)):
        yield noted


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
