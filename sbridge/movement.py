"""What moves: the displacement of points and the drift along their paths, column by column.

For the point x0 of a path, X₁ − x0 is its displacement, and b_F(t, X_t) its drift at time t.  The drift of a bridge is
a martingale, so its mean is the mean displacement at all times; what it says in addition is how much of the energy
½E∫|b_F|²dt is spent in each column.  Both pass through linear *loadings* to other variables, such as genes behind
principal components: with y = Lx the displacement of y is L times that of x, whatever the centre of x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Annotated, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from sbridge.arrays import RandomState
from sbridge.bridge import Bridge
from sbridge.checks import Elsewhere, Several, checked, checked_value
from sbridge.errors import InputError
from sbridge.estimates import Estimate, rounded
from sbridge.points import Points, loadings_of, points_of
from sbridge.sampling import graded
from sbridge.standardise import StandardisedBridge
from sbridge.tables import html, markdown, write_csv
from sbridge.weights import thinned

__all__ = ["Movement", "Mover", "what_moves"]

_POINTS = 10_000
_TIMES = graded(0.0, 1.0, 50)


@dataclass(frozen=True)
class Mover:
    """One column, or one variable behind the columns.

    Args:
        name: its name.
        displacement: mean of X₁ − x0, in its own units.
        spread: standard deviation of its start.
        speed: root of E∫b_F²dt, in its own units: at least the size of the mean displacement.
        share: of the energy of all columns, which is that of standardised columns in a standardised fit.
    """

    name: str
    displacement: Estimate
    spread: float
    speed: float
    share: float

    @property
    def spreads(self) -> float:
        """The mean displacement over the spread of the start; 0 for a constant start."""
        return self.displacement.value / self.spread if self.spread else 0.0

    def row(self) -> dict[str, str]:
        """Its row in the table."""
        return {
            "name": self.name,
            "mean displacement": str(self.displacement),
            "in spreads": rounded(self.spreads),
            "drift (rms)": rounded(self.speed),
            "share of the energy": f"{100 * self.share:.1f} %",
        }

    def figures(self) -> dict[str, str | float]:
        """The same as numbers, for a file."""
        return {
            "name": self.name,
            "displacement": self.displacement.value,
            "displacement_se": self.displacement.standard_error,
            "spread": self.spread,
            "spreads": self.spreads,
            "drift_rms": self.speed,
            "energy_share": self.share,
        }


@dataclass(frozen=True)
class Movement:
    """The movers, the one with the largest mean displacement for its spread first."""

    movers: tuple[Mover, ...]

    def top(self, count: int) -> Movement:
        """The first `count` of them."""
        return Movement(self.movers[:count])

    def rows(self) -> list[dict[str, str]]:
        """The table, a row for each."""
        return [mover.row() for mover in self.movers]

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return markdown(self.rows())

    def to_csv(self, path: str | Path) -> None:
        """Write the table with all digits; standard errors have a column of their own."""
        write_csv(path, [mover.figures() for mover in self.movers])

    def _repr_html_(self) -> str:
        return html(self.rows(), "what moves")


@checked
def what_moves(
    bridge: Bridge,
    x0: Any,
    columns: Sequence[str] = (),
    loadings: Annotated[NDArray[Any] | Tensor | str | None, Elsewhere()] = None,
    random_state: RandomState = 0,
) -> Movement:
    """The displacement of the points x0 (n, d) from t = 0 to 1 and the drift along their paths.

    Args:
        bridge: moves the points.
        x0: points at t = 0, better not those of the fit; of more than 10,000 some are left out.
        columns: names of the columns, or of the rows of `loadings`; by default the bridge's names, or c0, c1, …
        loadings: L (k, d), variables behind the columns.  Where x0 is an AnnData (or `points_of` one), also a key of
            its varm, such as "PCs" for the genes behind components; the names are then those of the genes.
        random_state: seed of the paths.

    Raises:
        InputError: there are no such loadings, they have another number of columns, or there are not as many names as
            variables.
    """
    asked = bridge.question(x0)
    names, weights = _variables(bridge, asked, columns, loadings)
    points = bridge.tensor(asked).double()
    points = thinned(points, asked.weights, torch.Generator(points.device).manual_seed(0))
    checked_value("the number of points", Several, len(points))
    points = points[:: ceil(len(points) / _POINTS)]
    times = _TIMES.tolist()
    paths = bridge.trajectories(points, times, random_state=random_state)
    moments = [_second_moment(bridge.forward_drift(t, x)) for t, x in zip(times, paths, strict=True)]
    second = torch.trapezoid(torch.stack(moments), _TIMES, dim=0)
    displacements = (paths[-1] - paths[0]).cpu()
    means = weights @ displacements.mean(0)
    errors, spreads, speeds = (
        _sizes(weights, moment) for moment in (displacements.T.cov() / len(points), points.cpu().T.cov(), second)
    )
    columns_of = zip(names, means.tolist(), errors, spreads, speeds, _shares(bridge, weights, second), strict=True)
    found = [
        Mover(name, Estimate(mean, error), spread, speed, share)
        for name, mean, error, spread, speed, share in columns_of
    ]
    return Movement(tuple(sorted(found, key=lambda mover: -abs(mover.spreads))))


def _variables(
    bridge: Bridge, asked: Points, columns: Sequence[str], loadings: NDArray[Any] | Tensor | str | None
) -> tuple[Sequence[str], Tensor]:
    """The names (k) and loadings (k, d) of what moves."""
    dim, known = asked.values.shape[1], bridge.columns or ()
    if loadings is None:
        weights = torch.eye(dim).double()
    elif isinstance(loadings, str):
        known, weights = loadings_of(asked, loadings)
    else:
        known, weights = (), points_of(loadings, label="the loadings").values.double().cpu()
    names = columns or known or [f"c{k}" for k in range(len(weights))]
    _check(weights, dim, names)
    return names, weights


def _second_moment(u: Tensor) -> Tensor:
    return (u.T @ u).cpu() / len(u)


def _shares(bridge: Bridge, weights: Tensor, second: Tensor) -> list[float]:
    """Of the energy in the coordinates of the fit: in standardised ones, unlike columns have one unit."""
    inside = weights @ bridge.inverse.cpu() if isinstance(bridge, StandardisedBridge) else weights
    squares = [size**2 for size in _sizes(inside, second)]
    return [square / sum(squares) for square in squares]


def _check(loadings: Tensor, dim: int, names: Sequence[str]) -> None:
    if loadings.ndim != 2 or loadings.shape[1] != dim:
        raise InputError(f"loadings must have shape (k, {dim}), a row for each variable, not {tuple(loadings.shape)}")
    if len(names) != len(loadings):
        raise InputError(f"there are {len(names)} names for {len(loadings)} variables")


def _sizes(weights: Tensor, moment: Tensor) -> list[float]:
    """√(w·Mw) for each row w of the weights and a matrix M (d, d) of second moments."""
    matrix = moment.reshape(weights.shape[1], -1)  # the covariance of one column is a number
    return [sqrt(max(0.0, value)) for value in ((weights @ matrix) * weights).sum(1).tolist()]
