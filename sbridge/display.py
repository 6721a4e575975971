"""Progress of long computations: a bar on a terminal and in a notebook with ipywidgets, a few plain lines elsewhere."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from math import ceil
from time import perf_counter
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    track,
)
from rich.progress import Progress as Bar

from sbridge.solvers.base import Listener, Progress

__all__ = ["Stages", "note", "noted_warnings", "tracked", "training_display"]

T = TypeVar("T")

_SECONDS_BETWEEN_LINES = 10.0


def note(text: str) -> None:
    """Print a line to stderr; characters that control a terminal, which a file may hold, become �."""
    shown = "".join(mark if mark.isprintable() or mark in "\n\t" else "�" for mark in text)
    print(shown, file=sys.stderr, flush=True)


@contextmanager
def noted_warnings() -> Iterator[None]:
    """Within, each warning of this package is one line on stderr, without its place in the code."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"sbridge\.")
        warnings.showwarning = lambda message, *place: note(f"warning: {message}")
        yield


class Stages:
    """The stages of a long command: a numbered line for each, on a terminal with a clock while it runs.

    Args:
        titles: of all stages, in their order.
    """

    def __init__(self, titles: Sequence[str]) -> None:
        self.titles, self.seconds = list(titles), dict[str, float]()

    @contextmanager
    def stage(self, title: str, like: str = "", clock: bool = True, most: float | None = None) -> Iterator[None]:
        """Show a stage while it runs.

        Args:
            title: the stage.
            like: it is likely to take as long as the stage before with the same word.
            clock: whether it has a clock on a terminal.
            most: seconds that it takes at most.
        """
        likely = f", about {self.seconds[like]:.0f} s" if like in self.seconds else ""
        likely += f", at most about {ceil(most)} s" if most is not None else ""
        begin = perf_counter()
        with _shown(f"[{self.titles.index(title) + 1}/{len(self.titles)}] {title}{likely}", clock):
            yield
        if like:
            self.seconds[like] = perf_counter() - begin


@contextmanager
def _shown(line: str, clock: bool) -> Iterator[None]:
    console = Console(stderr=True)
    if not (clock and console.is_terminal):
        note(line)
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bar(*columns, console=console) as bar:
        bar.add_task(line, total=None)
        yield


def tracked(name: str, parts: Sequence[T]) -> Iterable[T]:
    """The parts one by one, with a bar on a terminal."""
    console = Console(stderr=True)
    return track(parts, name, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def training_display(name: str, done: int = 0) -> Iterator[Listener]:
    """A function that shows each `Progress` of a training which starts, or continues, after `done` steps."""
    console = Console(stderr=True)
    drawn = console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
    with _bar(console, name, done) if drawn else _lines(name, done) as update:
        yield update


@contextmanager
def _bar(console: Console, name: str, done: int) -> Iterator[Listener]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, TextColumn("{task.fields[values]}"), console=console) as bar:
        task = bar.add_task(name, total=None, completed=done, values="")

        def update(progress: Progress) -> None:
            values = _values(progress, ["reference_loss"])
            bar.update(task, total=progress.steps, completed=progress.step, values=values)

        yield update


@contextmanager
def _lines(name: str, done: int) -> Iterator[Listener]:
    begin = last = perf_counter()

    def update(progress: Progress) -> None:
        nonlocal last
        now = perf_counter()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last, rate = now, (now - begin) / (progress.step - done)
            left = rate * (progress.steps - progress.step)
            values = _values(progress, progress.values)
            note(f"{name}: step {progress.step}/{progress.steps}, about {left:.0f} s left  {values}")

    yield update


def _values(progress: Progress, names: Iterable[str]) -> str:
    """The named values of the last check, if there was one."""
    shown = [name for name in names if name in progress.values and name != "step"]
    return "  ".join(f"{name.replace('_', ' ')} {progress.values[name]:.4g}" for name in shown)
