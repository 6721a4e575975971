"""How smooth a chain of bridges is where two of them meet."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sbridge.bridge import Bridge

__all__ = ["Joint", "joint_of"]


@dataclass(frozen=True)
class Joint:
    """How smooth a chain is at a snapshot: root mean squares over its points.

    Args:
        time: of the snapshot.
        velocity_jump, speed: of b before and after, their difference and their mean, in units of the data over time.
        score_gap, score: of ∇log ρ in the two legs, in the inverse units of the data.  The two legs of an exact chain
            have one score.
    """

    time: float
    velocity_jump: float
    speed: float
    score_gap: float
    score: float

    def __str__(self) -> str:
        jump, gap = self.velocity_jump / self.speed, self.score_gap / self.score
        return f"at time {self.time:g} the velocity jumps by {jump:.0%} of its size, and the scores differ by {gap:.0%}"


def joint_of(before: tuple[Bridge, float, float], after: tuple[Bridge, float, float], x: Tensor) -> Joint:
    (left, start, time), (right, _, stop) = before, after
    velocities = (left.velocity(1.0, x) / (time - start), right.velocity(0.0, x) / (stop - time))
    scores = (left.marginal_score(1.0, x), right.marginal_score(0.0, x))
    return Joint(time, *_gap(*velocities), *_gap(*scores))


def _gap(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Root mean squares of the difference and of the mean of vectors (n, d)."""
    difference, size = (v.square().sum(1).mean().sqrt() for v in (one - other, (one + other) / 2))
    return float(difference), float(size)
