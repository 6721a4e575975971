"""`sbridge epsilon`: what changes with ε, and which ε the data can support."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro

from sbridge.checks import Positive, Seed
from sbridge.cli.options import Options
from sbridge.cli.tables import show_data
from sbridge.display import note
from sbridge.epsilon import sweep_epsilon
from sbridge.problems import Family
from sbridge.standardise import standardised
from sbridge.tables import text

__all__ = ["Epsilon"]

F = TypeVar("F", bound=Family)


@dataclass(frozen=True)
class Epsilon(Options, Generic[F]):
    """Show the effect of ε on your data in seconds, and recommend a range.

    Give a bundled problem's name, or your own files: sbridge epsilon --x0 FILE --x1 FILE
    """

    problem: F
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/epsilon-NAME)")] = (
        None
    )
    """Folder to write the table, the figure and a page to."""
    values: tuple[Positive, ...] = ()
    """Values of ε to try; by default seven around the recommended range."""
    standardise: Literal["none", "columns", "whiten"] = "none"
    """As in `sbridge recover`: ε is then in squared standard deviations."""
    seed: Seed = 0
    """Seed of the fits."""

    def run(self, command: str) -> None:
        """Print the table and the recommendation, and write the page.

        Raises:
            InputError: the data or an option cannot be used.
        """
        from sbridge.report.epsilon import write_epsilon_page  # here, because matplotlib takes long to import

        source: Any = self.problem
        problem = replace(source, epsilon=1.0).build() if source.epsilon == "auto" else source.build()
        inside, _ = standardised(problem, None if self.standardise == "none" else self.standardise)
        note("fitting mixture potentials")
        found = sweep_epsilon(*inside.thinned_points(), self.values, self.seed)
        chosen = found.recommended.choice
        show_data(replace(problem, epsilon=chosen), replace(inside, epsilon=chosen))
        folder = self.out or Path("runs") / f"epsilon-{self.problem.name}"
        page = write_epsilon_page(folder, inside.name, found, command)
        print(f"{text(found.rows())}\n{found.recommended}\npage: {page}")
