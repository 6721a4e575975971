"""The column that a process's end misses most, and whether its values can be told from the data's.

The distance of two samples of one column is their mean distance quantile by quantile (W1), over the standard deviation
of the data.  Under one law all labellings of the joined rows are equally likely.  For every relabelling, W1 of each
column is divided by its mean over all of them; the largest of these ratios over the columns gives p-values that count
the choice among the columns (max-T; Westfall and Young, Resampling-Based Multiple Testing, 1993, chapter 2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sbridge.estimates import rounded

__all__ = ["ColumnGap", "Columns", "moment_gaps", "spreads_of"]

_RELABELLINGS, _LEVEL = 99, 0.99
_LARGEST = 5000  # points of either sample
_SPREADS = 0.2  # of a column, by which its values may be off
_TINY = 1e-30


@dataclass(frozen=True)
class ColumnGap:
    """What a process's end misses in one column, in spreads (standard deviations) of the data.

    Args:
        name: of the column.
        shift: of the mean.
        width: of the spread; −0.1 is 10 % too narrow.
        distance: mean distance of the values, quantile by quantile (W1).
        seen: the least distance that certainly differs from that of two samples of one law.
        spread: of the column in the data, in its own units.
    """

    name: str
    shift: float
    width: float
    distance: float
    seen: float
    spread: float

    @property
    def size(self) -> float:
        """The largest of distance, shift and width."""
        return max(self.distance, abs(self.shift), abs(self.width))

    @property
    def visible(self) -> bool:
        """Whether the column's values certainly differ from the data's."""
        return self.distance > self.seen

    @property
    def far(self) -> bool:
        """Whether they certainly differ, and by much."""
        return self.visible and self.size > _SPREADS

    def __str__(self) -> str:
        own, shift = (rounded(abs(part) * self.spread) for part in (self.distance, self.shift))
        return (
            f"column {self.name} is off by {own} on average ({rounded(self.distance)} of its spreads): its mean is "
            f"{shift} too {'high' if self.shift > 0 else 'low'}, its spread {rounded(100 * abs(self.width))} % too "
            f"{'wide' if self.width > 0 else 'narrow'}"
        )


def spreads_of(data: Tensor) -> Tensor:
    """Standard deviation of each column of points (n, d), (d,); of a constant one the root mean square of all."""
    spreads = data.std(0)
    return torch.where(spreads > 0, spreads, spreads.square().mean().sqrt().clamp_min(_TINY))


def moment_gaps(data: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """What the ends' (m, d) means and spreads miss, in spreads of the data (n, d); both (d,)."""
    spreads = spreads_of(data)
    return (ends.mean(0) - data.mean(0)) / spreads, (ends.std(0) - data.std(0)) / spreads


@dataclass(frozen=True)
class Columns:
    """The columns of the user's data.

    Args:
        names: c0, c1, … by default.
        units: from points (n, d) in a bridge's coordinates to the user's units, in double precision.
    """

    names: Sequence[str] = ()
    units: Callable[[Tensor], Tensor] = Tensor.double

    def widest_gap(self, data: Tensor, ends: Tensor) -> ColumnGap:
        """The column that is off by most of its spreads; of those that certainly differ, where there are some.

        Args:
            data, ends: points (n, d), (m, d), in the bridge's coordinates; at most 5,000 of each are used.
        """
        y, z = (self.units(x[:_LARGEST]) for x in (data, ends))
        spreads, (shift, width) = spreads_of(y), moment_gaps(y, z)
        found, relabelled = _distances(y / spreads, z / spreads)
        usual = relabelled.mean(0).clamp_min(_TINY)
        seen = usual * (relabelled / usual).amax(1).quantile(_LEVEL)
        certain = found > seen
        worst = int(torch.where(certain, found, found - found.max() - 1).argmax())
        figures = (float(part[worst]) for part in (shift, width, found, seen, spreads))
        return ColumnGap(self.names[worst] if self.names else f"c{worst}", *figures)


def _distances(y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """W1 of every column of y (n, d) and z (m, d), (d,), and of relabelled ones by a fixed seed, (relabellings, d)."""
    joined = torch.cat([y, z])
    values, order = joined.sort(0)
    gaps, generator = values.diff(dim=0), torch.Generator().manual_seed(0)
    shares = torch.cat([y.new_full((len(y),), 1 / len(y)), z.new_full((len(z),), -1 / len(z))])

    def distances(shares: Tensor) -> Tensor:
        return (shares[order].cumsum(0)[:-1].abs() * gaps).sum(0)

    orders = (torch.randperm(len(joined), generator=generator).to(y.device) for _ in range(_RELABELLINGS))
    return distances(shares), torch.stack([distances(shares[one]) for one in orders])
