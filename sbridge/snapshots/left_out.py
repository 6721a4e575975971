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
from sbridge.weights import SampleWeights, drawn_rows, shares_of, weighted, weights_of_each

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
    sample_weight: Sequence[SampleWeights] | None = None,
    references: bool = True,
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
        sample_weight: the weights (n_k,) of each sample, or None for equal ones, in the fit and in all distances.
        references: whether the table holds what needs no bridge.

    Raises:
        InputError: there are fewer than three snapshots, `left_out` is not a time between two others, or a sample
            cannot be used.
    """
    instants = check_times(range(len(snapshots)) if times is None else times, len(snapshots))
    inner = check_left_out(instants, left_out)
    weights = weights_of_each(snapshots, sample_weight)
    samples = [_Sample(*weighted(points_of(x).values, w)) for x, w in zip(snapshots, weights, strict=True)]
    chosen = range(1, len(inner) + 1) if left_out is None else [instants.index(left_out)]
    near = ((samples[k - 1 : k + 2], instants[k - 1 : k + 2]) for k in chosen)
    cases = (_Case.of(*three, held_out, matched, random_state) for three in near)
    found: list[Mapping[str, str | float]] = []
    for case in cases:
        found += case.rows(epsilon, solvers)
        found += case.references() if references else []
    return LeftOut(found)


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
class _Sample:
    """Points (n, d), and their weights (n,) or None."""

    x: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor | slice) -> _Sample:
        return _Sample(self.x[rows], None if self.weights is None else self.weights[rows])

    def halves(self) -> tuple[_Sample, _Sample]:
        middle = (len(self) + 1) // 2
        return self[:middle], self[middle:]


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
    fitted: tuple[_Sample, _Sample]
    moved: tuple[_Sample, _Sample]
    true: _Sample
    split: str
    matched: int
    random_state: int

    @staticmethod
    def of(
        samples: Sequence[_Sample], times: Sequence[float], held_out: float, matched: int, random_state: int
    ) -> _Case:
        generator = torch.Generator().manual_seed(random_state)
        parts = [_parts(sample, held_out, generator) for sample in samples]
        (fit0, move0), (_, true), (fit1, move1) = parts
        split = "all points" if held_out == 0 else f"{held_out:.0%} held out"
        return _Case(times, (fit0, fit1), (move0, move1), true, split, matched, random_state)

    @property
    def share(self) -> float:
        """The left-out time on the way from one neighbour to the other, in (0, 1)."""
        before, time, after = self.times
        return (time - before) / (after - before)

    def rows(self, epsilon: float, solvers: Mapping[str, Solver]) -> Iterator[dict[str, str | float]]:
        for name, solver in solvers.items():
            yield self._row(name, self._bridged(epsilon, solver))

    def references(self) -> Iterator[dict[str, str | float]]:
        """What needs no bridge."""
        plan = self._displaced()
        yield self._row("midpoint of the exact plan", plan, len(plan))
        yield self._row("independent straight lines", self._straight())
        yield self._row("neighbour before, as it is", self.moved[0])
        yield self._row("neighbour after, as it is", self.moved[1])
        half, other = self.true.halves()
        yield self._row(FLOOR_ROW, half, true=other)

    def _row(
        self, name: str, found: _Sample, matched: int | None = None, true: _Sample | None = None
    ) -> dict[str, str | float]:
        """The distances of points found to the true ones."""
        true = self.true if true is None else true
        generator = torch.Generator().manual_seed(self.random_state)
        few, true_few = found[: matched or self.matched], true[: self.matched]
        near, whole = (few.x, true_few.x), (found.x, true.x)
        weights, all_weights = (few.weights, true_few.weights), (found.weights, true.weights)
        return {
            "time": float(self.times[1]),
            "method": name,
            "points": str(len(found)),
            "true points": str(len(true)),
            "matched": f"{len(few)} and {len(true_few)}",
            "split": self.split,
            "W1": wasserstein(*near, 1, *weights),
            "W2": wasserstein(*near, 2, *weights),
            "sliced W2": sliced_wasserstein(*whole, _PROJECTIONS, generator, *all_weights),
            "energy distance": energy_distance(*whole, *all_weights),
        }

    def _bridged(self, epsilon: float, solver: Solver) -> _Sample:
        """The points of both neighbours, moved to the left-out time by the bridge between them, in random order."""
        (x0, w0), (x1, w1) = ((side.x, side.weights) for side in self.fitted)
        problem = Problem(x0, x1, epsilon * (self.times[2] - self.times[0]), x0, x1, weights0=w0, weights1=w1)
        bridge = solver.solve(problem, self.random_state)
        moved = [
            bridge.at(side.x, self.share, end, random_state=self.random_state)
            for side, end in zip(self.moved, (0.0, 1.0), strict=True)
        ]
        joined = _Sample(torch.cat(moved), _joined_weights(self.moved))
        generator = torch.Generator().manual_seed(self.random_state)
        return joined[torch.randperm(len(joined), generator=generator).to(joined.x.device)]

    def _displaced(self) -> _Sample:
        """Points on the lines of the exact plan between the neighbours, with its weights."""
        import ot  # here, because importing it takes long

        few0, few1 = (side[: self.matched] for side in self.moved)
        cost = torch.cdist(few0.x.double(), few1.x.double()).square().cpu().numpy()
        shares = (shares_of(few.x, few.weights).cpu().numpy() for few in (few0, few1))
        plan = torch.as_tensor(ot.emd(*shares, cost, numItermax=10_000_000))
        i, j = plan.nonzero(as_tuple=True)
        return _Sample(torch.lerp(few0.x[i], few1.x[j], self.share), plan[i, j])

    def _straight(self) -> _Sample:
        before, after = self.moved
        generator = torch.Generator(after.x.device).manual_seed(self.random_state)
        partners = drawn_rows(after.x, after.weights, len(before), generator)
        return _Sample(torch.lerp(before.x, after.x[partners], self.share), before.weights)


def _parts(sample: _Sample, held_out: float, generator: torch.Generator) -> tuple[_Sample, _Sample]:
    """Points to fit to and points to move, in random order; the same where nothing is held out."""
    order = torch.randperm(len(sample), generator=generator).to(sample.x.device)
    cut = round(held_out * len(sample))
    return (sample[order], sample[order]) if cut == 0 else (sample[order[cut:]], sample[order[:cut]])


def _joined_weights(sides: Sequence[_Sample]) -> Tensor | None:
    """The weights of both sides' points, each with the mean one; None where all are equal."""
    if all(side.weights is None for side in sides):
        return None
    return torch.cat([len(side) * shares_of(side.x, side.weights) for side in sides])


def _shown(cell: str | float) -> str:
    return cell if isinstance(cell, str) else rounded(cell)
