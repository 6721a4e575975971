"""`sbridge bench`: solvers compared on problems with a known truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast

import tyro
from annotated_types import MinLen

from sbridge.bench import Quick, Suite, bench, cells_of, chosen
from sbridge.checks import Count, Positive, Seed, Threads
from sbridge.cli.options import Options

__all__ = ["Bench"]

_OUT = "(default: runs/bench-SUITE)"

S = TypeVar("S", bound=Suite)


@dataclass(frozen=True)
class Bench(Options, Generic[S]):
    """Compare methods on a suite of problems, in equal time, and write one table with figures.

    Every method, budget and seed runs in its own process.  Finished ones are kept: after an interruption, the same
    command continues; when all are finished, it only draws the figures again.
    """

    suite: S = field(default_factory=cast(Any, Quick))
    """Problems to compare on."""
    methods: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(default: all)")] = ()
    """Keys of the methods, such as maxmin,potential,pot."""
    budget: Annotated[tuple[Positive, ...], tyro.conf.arg(help_behavior_hint="(default: 120, quick 8)")] = ()
    """Seconds of training for each method that trains; several give curves of accuracy against time."""
    threads: Threads = 1
    """CPU threads of each process."""
    jobs: Count = 1
    """Processes at a time; times are comparable if each has its own cores."""
    seeds: Annotated[tuple[Seed, ...], MinLen(1)] = (0,)
    """Seeds of the methods; the table has the mean over them."""
    plugin: tuple[str, ...] = ()
    """Modules with methods (ENTRIES) and suites (SUITES) of your own, such as mypackage.mymodule."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint=_OUT)] = None
    """Folder to write, or to continue."""
    retry: bool = False
    """Try failed ones again."""

    def run(self, command: str) -> None:
        """Compare, and say where the table is.

        Raises:
            InputError: a method is unknown, a number is not positive, or the folder was made with other settings.
            Stopped: a signal came.
        """
        entries, budgets = chosen(self.methods), self.budget or (self.suite.budget,)
        cells = cells_of(self.suite.cases(), entries, budgets, self.seeds, self.threads)
        out = self.out or Path("runs") / f"bench-{self.suite.name}"
        bench(cells, out, self.jobs, self.retry)
        print(f"table and figures: {out / 'table.md'}")
