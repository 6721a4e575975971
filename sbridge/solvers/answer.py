"""Answer rules: which of the weights that a training passes through it returns.

At every check a rule is offered the averaged weights with their losses on held-out points.  A fixed path of a training
ends with the best average as a rule, but a network with few data starts to memorise them, and then an earlier one is
better.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

__all__ = ["AnswerRule", "Last", "LatestNotWorse", "MakeRule", "Weights"]

Weights = dict[str, Any]
"""State dictionaries by the names of what they belong to."""


class AnswerRule(Protocol):
    """Keeps the weights that a training returns."""

    kept: Weights

    def offer(self, losses: Tensor, weights: Weights) -> None:
        """Consider new weights by their losses, one for each held-out point."""

    def state_dict(self) -> dict[str, Any]:
        """What is needed to resume."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a `state_dict`."""


MakeRule = Callable[[Weights], AnswerRule]
"""Makes a rule from the weights to return if training stops before the first check."""


class _Stateful:
    """The state is all attributes."""

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class LatestNotWorse(_Stateful):
    """The most recent weights whose held-out loss is not significantly worse than the best so far.

    Significant is a mean of paired differences of more than two standard errors.
    """

    def __init__(self, weights: Weights) -> None:
        self.kept = weights
        self.best: Tensor | None = None

    def offer(self, losses: Tensor, weights: Weights) -> None:
        excess = losses - losses if self.best is None else losses - self.best
        mean, error = excess.mean(), excess.std() / len(excess) ** 0.5
        if self.best is None or mean < 0:
            self.best = losses
        if mean <= 2 * error:
            self.kept = copy.deepcopy(weights)


class Last(_Stateful):
    """The weights of the last check, whatever their held-out loss."""

    def __init__(self, weights: Weights) -> None:
        self.kept = weights

    def offer(self, losses: Tensor, weights: Weights) -> None:
        self.kept = copy.deepcopy(weights)
