"""Leave one time out: how well the bridge between the neighbours foretells the law at a time that it has not seen.

The table holds, next to the methods, what needs no bridge: the points of the left-out time against each other (the
floor), the exact plan between the neighbours (displacement interpolation; McCann, Adv. Math. 128, 1997), straight lines
between independent pairs, and both neighbours as they are.

W1 and W2 between samples depend on the number of points: in five dimensions more than on the method.  So the table says
how many points were compared, and which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sbridge.errors import InputError
from sbridge.estimates import rounded
from sbridge.evaluation.distances import energy_distance, sliced_wasserstein, wasserstein
from sbridge.points import points_of
from sbridge.problem import Problem
from sbridge.snapshots.chain import check_times
from sbridge.solvers.base import Solver
from sbridge.tables import markdown, write_csv

__all__ = ["LeftOut", "check_left_out", "leave_one_out"]

_PROJECTIONS = 256
FLOOR_ROW = "floor (halves of the day)"


@dataclass(frozen=True)
class LeftOut:
    """Distances from the points of a left-out time, in the units of the data, a row for each time and method.

    Attributes:
        rows: with the columns time, method, points and true points (compared by sliced W2 and energy distance), matched
            (compared by W1 and W2), split, W1, W2, sliced W2 and energy distance.
    """

    rows: Sequence[Mapping[str, str | float]]

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return markdown([{name: _shown(cell) for name, cell in row.items()} for row in self.rows])

    def to_csv(self, path: str | Path) -> None:
        """Write the rows."""
        write_csv(path, self.rows)


def leave_one_out(
    snapshots: Sequence[Any],
    times: Sequence[float] | None,
    epsilon: float,
    solvers: Mapping[str, Solver],
    left_out: float | None = None,
    held_out: float = 0.0,
    matched: int = 5000,
    random_state: int = 0,
) -> LeftOut:
    """Fit each solver to the two neighbours of a time, and compare its law at that time with the points there.

    Args:
        snapshots: samples (n_k, d) at rising times, at least three.
        times: of the snapshots; None means 0, 1, 2, …
        epsilon: ε per unit of time, in squared units of the data.
        solvers: by the names they have in the table.
        left_out: a time between the first and the last; None leaves out each of them in turn.
        held_out: 0 fits to all points of the neighbours and moves all of them.  A fraction is held out of the fit, and
            only these points are moved and compared with as large a fraction of the left-out time.
        matched: points of each sample at most for W1, W2 and the exact plan, which take time like their cube.
        random_state: seed of everything.

    Raises:
        InputError: there are fewer than three snapshots, `left_out` is not a time between two others, or a sample
            cannot be used.
    """
    instants = check_times(range(len(snapshots)) if times is None else times, len(snapshots))
    inner = check_left_out(instants, left_out)
    samples = [points_of(x).values for x in snapshots]
    chosen = range(1, len(inner) + 1) if left_out is None else [instants.index(left_out)]
    near = ((samples[k - 1 : k + 2], instants[k - 1 : k + 2]) for k in chosen)
    cases = (_Case.of(*three, held_out, matched, random_state) for three in near)
    return LeftOut([row for case in cases for row in case.rows(epsilon, solvers)])


def check_left_out(times: Sequence[float], left_out: float | None) -> Sequence[float]:
    """The times between two others.

    Raises:
        InputError: there is none, or the left-out time is none of them.
    """
    inner = times[1:-1]
    if not inner or (left_out is not None and left_out not in inner):
        raise InputError(f"there must be a time between two others to leave out, one of {list(inner)}")
    return inner


@dataclass(frozen=True)
class _Case:
    """One left-out time.

    Args:
        times: of the neighbour before, the left-out time, and the neighbour after.
        fitted: points of the two neighbours to fit to.
        moved: those that are moved.
        true: points of the left-out time.
        split: in words.
        matched: points of each sample at most for W1, W2 and the exact plan.
        random_state: seed.
    """

    times: Sequence[float]
    fitted: Sequence[Tensor]
    moved: Sequence[Tensor]
    true: Tensor
    split: str
    matched: int
    random_state: int

    @staticmethod
    def of(
        samples: Sequence[Tensor], times: Sequence[float], held_out: float, matched: int, random_state: int
    ) -> _Case:
        generator = torch.Generator().manual_seed(random_state)
        parts = [_parts(x, held_out, generator) for x in samples]
        (fit0, move0), (_, true), (fit1, move1) = parts
        split = "all points" if held_out == 0 else f"{held_out:.0%} held out"
        return _Case(times, (fit0, fit1), (move0, move1), true, split, matched, random_state)

    @property
    def share(self) -> float:
        """The left-out time on the way from one neighbour to the other, in (0, 1)."""
        before, time, after = self.times
        return (time - before) / (after - before)

    def rows(self, epsilon: float, solvers: Mapping[str, Solver]) -> Iterator[dict[str, str | float]]:
        half0, half1 = self.true.chunk(2)
        for name, solver in solvers.items():
            yield self._row(name, self._bridged(epsilon, solver))
        yield self._row("midpoint of the exact plan", *self._displaced())
        yield self._row("independent straight lines", self._straight())
        yield self._row("neighbour before, as it is", self.moved[0])
        yield self._row("neighbour after, as it is", self.moved[1])
        yield self._row(FLOOR_ROW, half0, true=half1)

    def _row(
        self, name: str, x: Tensor, weights: Tensor | None = None, true: Tensor | None = None
    ) -> dict[str, str | float]:
        y = self.true if true is None else true
        generator = torch.Generator().manual_seed(self.random_state)
        few, true_few = (x[: self.matched] if weights is None else x), y[: self.matched]
        return {
            "time": float(self.times[1]),
            "method": name,
            "points": str(len(x)),
            "true points": str(len(y)),
            "matched": f"{len(few)} and {len(true_few)}",
            "split": self.split,
            "W1": wasserstein(few, true_few, 1, weights),
            "W2": wasserstein(few, true_few, 2, weights),
            "sliced W2": sliced_wasserstein(x, y, _PROJECTIONS, generator, weights),
            "energy distance": energy_distance(x, y, weights),
        }

    def _bridged(self, epsilon: float, solver: Solver) -> Tensor:
        """As many points of either neighbour, moved to the left-out time by the bridge between them, in turn."""
        x0, x1 = self.fitted
        problem = Problem(x0, x1, epsilon * (self.times[2] - self.times[0]), x0, x1)
        bridge = solver.solve(problem, self.random_state)
        count = min(map(len, self.moved))
        before, after = (
            bridge.at(x[:count], self.share, end, random_state=self.random_state)
            for x, end in zip(self.moved, (0.0, 1.0), strict=True)
        )
        return torch.stack([before, after], dim=1).flatten(0, 1)

    def _displaced(self) -> tuple[Tensor, Tensor]:
        """Points on the lines of the exact plan between the neighbours, with its weights."""
        import ot  # here, because importing it takes long

        x0, x1 = (x[: self.matched] for x in self.moved)
        cost = torch.cdist(x0.double(), x1.double()).square().cpu().numpy()
        plan = torch.as_tensor(ot.emd([], [], cost, numItermax=10_000_000))
        i, j = plan.nonzero(as_tuple=True)
        return torch.lerp(x0[i], x1[j], self.share), plan[i, j]

    def _straight(self) -> Tensor:
        x0, x1 = self.moved
        partners = torch.randint(len(x1), (len(x0),), generator=torch.Generator().manual_seed(self.random_state))
        return torch.lerp(x0, x1[partners], self.share)


def _parts(x: Tensor, held_out: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points to fit to and points to move, in random order; the same where nothing is held out."""
    order = torch.randperm(len(x), generator=generator).to(x.device)
    cut = round(held_out * len(x))
    return (x[order], x[order]) if cut == 0 else (x[order[cut:]], x[order[:cut]])


def _shown(cell: str | float) -> str:
    return cell if isinstance(cell, str) else rounded(cell)
