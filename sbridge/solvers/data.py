"""The data of one training: scaled, split into training and held-out points, on their device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn

from sbridge.bridge import Bridge
from sbridge.errors import InputError
from sbridge.fields import Drifts, Half
from sbridge.interpolants import Interpolant
from sbridge.networks import initialise
from sbridge.problem import Frame, Problem
from sbridge.solvers.held_out import set_aside

__all__ = ["Data", "check_epsilon"]

_SMALLEST_EPSILON = 1e-4  # in units of the data's variance; single precision ends a little below
_SMALLEST_SPREAD = 0.05  # of a dataset, by which networks scale: a dataset may be a single point
_MARGIN = 1.5  # on the largest distance of a training point from the origin

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Data:
    """Points and ε in the coordinates of the problem's `Frame`, in single precision.

    Args:
        frame: the coordinates.
        epsilon: ε there.
        x0, x1: training points, (n0, d) and (n1, d); points with weights are repeated in proportion to them.
        check0, check1: held-out points: a tenth of the problem's, 2,048 a side at most; repeated in the same way.
        random_state: seed of networks.
        generator: of all other random numbers, on the points' device.
    """

    frame: Frame
    epsilon: float
    x0: Tensor
    x1: Tensor
    check0: Tensor
    check1: Tensor
    random_state: int
    generator: torch.Generator

    @staticmethod
    def of(problem: Problem, random_state: int) -> Data:
        """Raises InputError where ε is too small for single precision."""
        frame = Frame.of(problem)
        check_epsilon(problem.epsilon, frame)
        generator = torch.Generator(problem.x0.device).manual_seed(random_state)
        points = (frame.points_inside(x, end, torch.float32) for end, x in enumerate((problem.x0, problem.x1)))
        sides = zip(points, problem.weights, strict=True)
        (x0, check0), (x1, check1) = (set_aside(x, generator, weights) for x, weights in sides)
        return Data(frame, problem.epsilon / frame.scale**2, x0, x1, check0, check1, random_state, generator)

    @property
    def dim(self) -> int:
        """Dimension d of the points."""
        return self.x0.shape[1]

    @cached_property
    def spreads(self) -> tuple[float, float]:
        """Standard deviations of both datasets (root mean square over coordinates), but at least 0.05."""
        first, second = (max(_SMALLEST_SPREAD, x.var(0).mean().sqrt().item()) for x in (self.x0, self.x1))
        return first, second

    @cached_property
    def reach(self) -> float:
        """The largest distance of a training point from the origin, and half as much again for points not seen."""
        return _MARGIN * max(float(x.norm(dim=1).max()) for x in (self.x0, self.x1))

    @property
    def problem(self) -> Problem:
        """The training points as a problem, for a prior to solve."""
        return Problem(self.x0, self.x1, self.epsilon, self.x0, self.x1)

    def seeded(self, module: M) -> M:
        """The module on the points' device, with the weights of its networks drawn from the seed."""
        initialise(module, torch.Generator().manual_seed(self.random_state))
        placed: M = module.to(self.x0)
        return placed

    def bridge(self, drifts: Drifts, interpolant: Interpolant, remark: str = "") -> Bridge:
        """The bridge of both drifts in these coordinates, in the problem's units, no longer to be trained."""
        inside = Bridge(Half(drifts, 0), Half(drifts, 1), self.epsilon, interpolant, remark)
        return self.frame.outside(inside).requires_grad_(False).eval()


def check_epsilon(epsilon: float, frame: Frame) -> None:
    """Raises InputError where ε is too small for single precision in a frame whose scale is the data's spread."""
    variance = frame.scale**2
    least = _SMALLEST_EPSILON * variance
    if epsilon < least:
        raise InputError(
            f"epsilon = {epsilon:g} is too small for data of variance {variance:.2g}: the bridge "
            f"is transport almost without noise. Standardise columns of unlike spreads, use at least {least:.1g}, or "
            "plain optimal transport."
        )
