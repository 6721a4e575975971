"""A training whose networks are evaluated by several processes, each on its share of the points.

Every process runs the same training with the same random numbers.  Where a network is evaluated on n points, each
process takes n/N of them, and all get all values: with S cutting a share out of a tensor that all hold, and G putting
shares together, a network f becomes G∘f∘S.  Losses and all else are then those of a single process.

Gradients follow from two rules that are each other's transpose, so derivatives of any order come out right: a tensor
that all hold has its true gradient everywhere; a share has N times its own, so that the weights' gradients are true
once they are averaged over the processes.  G* = N S and S* = G/N.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.optim import Optimizer

from sbridge.networks import ResidualMLP
from sbridge.solvers.training import Training

__all__ = ["share"]


class _Cut(Function):
    """S: this process's share of the rows of a tensor that all hold."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor) -> Tensor:
        return whole.chunk(dist.get_world_size())[dist.get_rank()].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Join.apply(gradients[0]) / dist.get_world_size()  # type: ignore[no-untyped-call]


class _Join(Function):
    """G: the rows of all processes, for all of them."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        mine = mine.contiguous()  # and so are the parts, which NCCL insists on
        parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, mine)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Cut.apply(gradients[0]) * dist.get_world_size()  # type: ignore[no-untyped-call]


def share(training: Training) -> None:
    """Divide the training's work among the processes of the default process group, which all have to call this.

    What is checked, the average, is evaluated by every process.  `Training.bridge` is not to be called here: its copies
    of networks would wait for the other processes.
    """
    bodies = [body for part in (training.pair, training.interpolant) for body in part.modules()]
    for body in bodies:
        if isinstance(body, ResidualMLP):
            _divide(body)
    for part in vars(training).values():
        if isinstance(part, Optimizer):
            part.register_step_pre_hook(_average)


def _divide(body: ResidualMLP) -> None:
    """Evaluate the network by shares, where the points can be divided evenly; elsewhere by everybody."""
    whole = body.forward

    def forward(features: Tensor) -> Tensor:
        rows = features.reshape(-1, features.shape[-1])
        if len(rows) % dist.get_world_size():
            return whole(features)
        values: Tensor = _Join.apply(whole(_Cut.apply(rows)))  # type: ignore[no-untyped-call]
        return values.reshape(*features.shape[:-1], values.shape[-1])

    body.forward = forward  # type: ignore[method-assign]


def _average(optimiser: Optimizer, *_: Any) -> None:
    """Replace all gradients by their mean over the processes, in one message."""
    gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
