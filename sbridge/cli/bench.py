"""`sbridge bench`: methods beside each other on problems with a known truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast

import tyro

from sbridge.bench import Quick, Suite, bench, chosen, plan

__all__ = ["Bench"]

_OUT = "(default: runs/bench-SUITE)"

S = TypeVar("S", bound=Suite)


@dataclass(frozen=True)
class Bench(Generic[S]):
    """Compare methods on a suite of problems, in equal time, and write one table with figures.

    Every method, budget and seed runs in a process of its own.  Finished ones are kept: the same command goes on after
    an interruption, and draws again what is complete.
    """

    suite: S = field(default_factory=cast(Any, Quick))
    """Problems to compare on."""
    methods: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(default: all)")] = ()
    """Keys of the methods, such as maxmin,potential,pot."""
    budget: Annotated[tuple[float, ...], tyro.conf.arg(help_behavior_hint="(default: 120, quick 8)")] = ()
    """Seconds of training for every method that trains; several give curves of accuracy against time."""
    threads: int = 1
    """CPU threads of each process."""
    jobs: int = 1
    """Processes at a time; times are fair where each has cores of its own."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the methods; the table has the mean over them."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint=_OUT)] = None
    """Folder to write, or to go on with."""
    retry: bool = False
    """Do failed ones again."""

    def run(self, command: str) -> None:
        """Do it.

        Raises:
            InputError: there is no such method, a number is not positive, or the folder holds other settings.
            Stopped: by a signal.
        """
        methods, budgets = chosen(self.methods), self.budget or (self.suite.budget,)
        cells = plan(self.suite.cases(), methods, budgets, self.seeds, self.threads)
        out = self.out or Path("runs") / f"bench-{self.suite.name}"
        bench(cells, out, self.jobs, self.retry)
        print(f"table and figures: {out / 'table.md'}")
