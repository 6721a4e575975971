"""Method: what one way of training drifts does differently from another.

`Training` (solvers.training) is the loop that all methods share: gradient steps, the average of the weights, checks on
held-out points, the answer, the state.  A method gives it batches with their losses, and may act after every round.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sbridge.couplings import Coupling, MakeCoupling
from sbridge.fields import Drifts
from sbridge.interpolants import Interpolant, Path
from sbridge.solvers.data import Data
from sbridge.solvers.draws import Draw, draw
from sbridge.solvers.held_out import POINTS, antithetic_path, drift_losses, drift_targets
from sbridge.times import TimeDensity

__all__ = ["CHECK_BATCHES", "Batch", "Draws", "MakeCoupling", "Method", "TrainingState", "drift_batches"]
__all__ += ["target_batches"]

CHECK_BATCHES = 8  # held-out points of a check, in batches
_POWER = 0.25  # of the time left, in the weight of the losses


class TrainingState(Protocol):
    """What a method sees of the training it belongs to.

    Attributes:
        data: the points and ε.
        drifts: the network that is trained, (t, x) ↦ (b_F, b_B) side by side.
        generator: of all random numbers.
        step, steps: gradient steps done and in all.
    """

    data: Data
    drifts: Drifts
    generator: torch.Generator
    step: int
    steps: int

    @property
    def averaged(self) -> Drifts:
        """The drifts of the averaged weights."""


class Batch(NamedTuple):
    """Points of one gradient step.

    Args:
        t, x: times (..., 1), which broadcast, and points (..., d).
        losses: the drifts at them, (..., 2d) ↦ losses of any shape, whose mean is minimised.
    """

    t: Tensor
    x: Tensor
    losses: Callable[[Tensor], Tensor]


def drift_batches(
    path: Path, epsilon: float, groups: int, losses: Callable[..., Tensor] = drift_losses
) -> Iterator[Batch]:
    """Batches of `groups` groups of a path, with losses(drifts, target=…, epsilon=…); by default the quadratic one."""
    return target_batches(path.t, path.x, drift_targets(path, epsilon), epsilon, groups, losses)


def target_batches(
    t: Tensor,
    x: Tensor,
    target: Tensor,
    epsilon: float,
    groups: int,
    losses: Callable[..., Tensor] = drift_losses,
    power: float = _POWER,
) -> Iterator[Batch]:
    """The same of times (n, 1, 1), points (n, points, d) and targets of both drifts (n, points, 2d).

    The forward drift's loss has the weight ∝ (1−t)^power and the backward drift's ∝ t^power.  The variance of the
    targets grows like 1/(1−t) and 1/t, and with equal weights the noise of the last times disturbs the fit at all
    others.
    """
    for one, place, aim in zip(*(part.split(groups) for part in (t, x, target)), strict=True):
        root = _root_weight(one, aim, power)
        yield Batch(one, place, partial(_weighted, losses, root=root, target=aim, epsilon=epsilon))


def _root_weight(t: Tensor, target: Tensor, power: float) -> Tensor:
    """Square roots of the weights, whose means over t are one: (groups, 1, 2d)."""
    half = target.shape[-1] // 2
    forward, backward = (((1 + power) * share**power).sqrt() for share in (1 - t, t))
    return torch.cat([forward.expand(-1, -1, half), backward.expand(-1, -1, half)], dim=-1)


def _weighted(losses: Callable[..., Tensor], drifts: Tensor, root: Tensor, target: Tensor, epsilon: float) -> Tensor:
    """Losses that are quadratic in drifts and targets together, with the weight root²."""
    return losses(root * drifts, target=root * target, epsilon=epsilon)


class Draws:
    """Times, pairs and noises for a method's batches.

    Args:
        data: training and held-out points.
        coupling: makes the rule that draws pairs, once for the training and once for the held-out points.
        times: the law of the times.
        groups: groups of points of a batch; a group shares one time.
        pairs: pairs of a group.
    """

    def __init__(self, data: Data, coupling: MakeCoupling, times: TimeDensity, groups: int, pairs: int) -> None:
        self.coupling = coupling(data.x0, data.x1, data.epsilon)
        self.check_coupling = coupling(data.check0, data.check1, data.epsilon)
        self.times, self.groups, self.pairs = times.to(data.x0), groups, pairs

    def training(self, training: TrainingState, batches: int) -> Draw:
        """Ingredients of so many batches, from training points."""
        return self._draw(self.coupling, training, batches)

    def held_out(self, training: TrainingState, batches: int = CHECK_BATCHES) -> Draw:
        """Ingredients of so many batches, from held-out points."""
        return self._draw(self.check_coupling, training, batches)

    def _draw(self, coupling: Coupling, training: TrainingState, batches: int) -> Draw:
        coupling.follow(training.averaged, training.generator)
        return draw(coupling, self.times, batches, self.groups, self.pairs, training.generator)


class Method(ABC):
    """One way of training drifts: subclasses set the attributes and define `batches`.

    Attributes:
        past_plans: whether its pairs come from plans no longer.  Then the plan between held-out points does not tell
            which weights are better, and the last ones are the answer.
        interpolant: the interpolant whose process the drifts learn.
        draws: what its batches are made of.
        brownian: whether that process is, or becomes, a mixture of Brownian bridges between data.  Then x + (1−t) b_F
            and x − t b_B are means of data, and the answer is kept where the data are (`fields.Confined`).
    """

    interpolant: Interpolant
    draws: Draws
    brownian: bool = True
    past_plans: bool = False

    @abstractmethod
    def batches(self, training: TrainingState) -> Iterable[Batch]:
        """The batches of one round: a few gradient steps, after which the average of the weights is updated."""

    def after_round(self, training: TrainingState) -> None:  # noqa: B027
        """Act between two rounds, which most methods do not."""

    def known_drifts(self, data: Data) -> Drifts | None:
        """Drifts that the network corrects; none by default."""
        return None

    def trial(self) -> Method | None:
        """A cheaper method, to try whether the network should correct the known drifts; None where it surely should."""
        return None

    def with_half_batches(self) -> Method:
        """The same method with batches of half as many groups."""
        half = copy(self)
        half.draws = copy(self.draws)
        half.draws.groups = max(1, self.draws.groups // 2)
        return half

    def learn(self, t: Tensor, losses: Tensor) -> None:
        """Adapt the law of the times to the losses (groups, points) of a batch at times t (groups, 1, 1)."""
        self.draws.times.learn(t, losses)

    def per_time(self, t: Tensor) -> Tensor:
        """1/p(t) of the law of the times: averaged with this weight, values at them give their integral over time."""
        return self.draws.times.per_time(t)

    def check_path(self, training: TrainingState) -> Path:
        """Fresh points of the process between held-out data, in groups, (groups, points, d), for a check."""
        with torch.no_grad():
            return self.interpolant.path(*self.draws.held_out(training))

    def reference_path(self, data: Data) -> Path:
        """Fixed held-out points, in groups, (groups, points, d), by which the answer is chosen."""
        pairs = self.draws.check_coupling.reference(POINTS, data.generator)
        return antithetic_path(self.interpolant, *pairs, data.generator)

    def parts(self) -> dict[str, Any]:
        """Everything that has a state, by name, with `state_dict` and `load_state_dict`."""
        couplings = {"coupling": self.draws.coupling, "check_coupling": self.draws.check_coupling}
        return {"interpolant": self.interpolant, "times": self.draws.times, **couplings}
