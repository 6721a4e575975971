"""How smooth a chain of bridges is where two of them meet."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sbridge.bridge import Bridge
from sbridge.weights import shares_of

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


def joint_of(
    before: tuple[Bridge, float, float], after: tuple[Bridge, float, float], x: Tensor, weights: Tensor | None = None
) -> Joint:
    """The joint of two legs, each with its times, by points x (n, d) and their weights (n,)."""
    (left, start, time), (right, _, stop) = before, after
    velocities = (left.velocity(1.0, x) / (time - start), right.velocity(0.0, x) / (stop - time))
    scores = (left.marginal_score(1.0, x), right.marginal_score(0.0, x))
    shares = shares_of(x, weights)
    return Joint(time, *_gap(*velocities, shares), *_gap(*scores, shares))


def _gap(one: Tensor, other: Tensor, shares: Tensor) -> tuple[float, float]:
    """Root mean squares of the difference and of the mean of vectors (n, d), whose shares (n,) sum to one."""
    difference, size = ((shares @ v.double().square().sum(1)).sqrt() for v in (one - other, (one + other) / 2))
    return float(difference), float(size)
