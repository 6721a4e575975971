"""The page of `sbridge snapshots`: the points at all times, and how good each leg is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sbridge.estimates import rounded
from sbridge.evaluation.certificate.statement import Certificate
from sbridge.io.settings import environment
from sbridge.report.animation import Animation, axes_of
from sbridge.report.coordinates import coordinates
from sbridge.report.headline import Headline, certified, few_points
from sbridge.report.material import Exhibit
from sbridge.report.page import Origin, Top, write_page
from sbridge.snapshots import Chain

__all__ = ["ChainTables", "write_chain_page"]

_MOVED_POINTS = 500
_FRAMES = 24  # on the whole way, at least one a leg
_LEAD = (
    "How do the points of the first time become those of the last, by way of all samples in between, by a random "
    "process that is as close as possible to diffusion?"
)
_LEGS = (
    "A leg is the bridge between two neighbouring times. Forward and backward: the energy distance of moved points "
    "from held-out points, in units of the data. It is an unbiased estimate: near zero, or below, is good."
)
_JOINTS = (
    "A joint is a time between the first and the last. There the velocity may jump, because the sample is all that "
    "past and future share. The score, which is the gradient of the log-density, should not: its gap should be small "
    "beside its size."
)
_LEFT_OUT = (
    "Times that were left out. Their points are compared with those that the bridge between the neighbouring times "
    "puts there, and with guesses that need no bridge."
)


@dataclass(frozen=True)
class ChainTables:
    """What was found; rows of `sbridge.tables`, empty where there are none."""

    legs: Sequence[Mapping[str, Any]]
    joints: Sequence[Mapping[str, Any]] = ()
    left_out: Sequence[Mapping[str, Any]] = ()
    certificates: Sequence[Certificate] = ()

    def exhibits(self) -> list[Exhibit]:
        """A section for each table."""
        found = [
            Exhibit("legs", "The legs", _LEGS, (), _texts(self.legs)),
            Exhibit("joints", "The joints", _JOINTS, (), _texts(self.joints)),
            Exhibit("left_out", "Times left out", _LEFT_OUT, (), _texts(self.left_out)),
        ]
        return [exhibit for exhibit in found if exhibit.table]

    @property
    def headline(self) -> Headline | None:
        """That of the worst leg."""
        if not self.certificates:
            return None
        return certified(max(self.certificates, key=lambda one: one.verdict.rank))


def write_chain_page(
    folder: Path,
    chain: Chain,
    samples: Sequence[Tensor],
    columns: Sequence[str] | None,
    tables: ChainTables,
    command: str,
) -> Path:
    """Write chain.html into a folder, and return its path.

    Args:
        folder: it exists.
        chain: the bridges.
        samples: held-out points (n, d) of each time.
        columns: names of the columns, where they have some.
        tables: what is shown below the points.
        command: as it was typed.
    """
    times, path = ", ".join(f"{t:g}" for t in chain.times), folder / "chain.html"
    counts = ", ".join(f"{len(x):,}" for x in samples)
    top = Top(
        _LEAD,
        f"Held-out points of the times {times}: {counts}.",
        few_points(min(map(len, samples))),
        headline=tables.headline,
        animation=_animation(chain, samples, columns).content(),
    )
    asked = [
        f"There are samples of the times {times}. Which process goes through all of them, and is as close as possible "
        f"to pure diffusion? It is dX = u dt + √(2ε) dW with ε = {rounded(chain.epsilon)} per unit of time, in squared "
        "units of the data. It is found one leg at a time, between neighbouring times."
    ]
    settings = {"epsilon": chain.epsilon, "times": list(chain.times)}
    write_page(path, f"Snapshots at {times}", asked, tables.exhibits(), Origin(command, environment(), settings), top)
    return path


def _animation(chain: Chain, samples: Sequence[Tensor], columns: Sequence[str] | None) -> Animation:
    """Held-out points of the first time moved forward, and of the last moved backward."""
    frames = -(-_FRAMES // len(chain.legs))
    joined = np.interp(np.arange(frames * len(chain.legs) + 1) / frames, range(len(chain.times)), chain.times)
    times = [*joined[:-1].tolist(), chain.times[-1]]
    forward = chain.trajectories(samples[0][:_MOVED_POINTS], times, random_state=0)
    backward = chain.trajectories(samples[-1][:_MOVED_POINTS], times[::-1], random_state=0).flip(0)
    listed = coordinates(samples[0].shape[1], columns)
    shown = {f"time {t:g}, held out": (t, x) for t, x in zip(chain.times, samples, strict=True)}
    axes = axes_of(samples, listed, listed)
    return Animation(times, axes, columns is None, shown, {"chain": forward}, {"chain": backward})


def _texts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [{name: cell if isinstance(cell, str) else rounded(cell) for name, cell in row.items()} for row in rows]
