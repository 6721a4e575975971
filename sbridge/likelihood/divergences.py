"""Divergences of a field along a path, exact or by random probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sbridge.checks import Checked, Several
from sbridge.errors import InputError

__all__ = ["Divergence", "Exact", "Hutchinson", "axes", "traced"]

_MOST_EXACT_DIMENSIONS = 256


@runtime_checkable
class Divergence(Protocol):
    """∇·f as a function of v·(∇f)v for some directions v."""

    def directions(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The directions for each point of x (n, d): (m, n, d)."""

    def total(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """∫∇·f dt and its standard error, each (n,), from ∫v·(∇f)v dt (n, m)."""


@dataclass(frozen=True)
class Exact:
    """The trace: d vector–Jacobian products."""

    def directions(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return axes(x)

    def total(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        return parts.sum(-1), torch.zeros_like(parts[:, 0])


@dataclass(frozen=True)
class Hutchinson(Checked):
    """The mean over random signs v, fixed along each path (Hutchinson 1990; Grathwohl et al., arXiv 1810.01367).

    It is unbiased for the log-density of the probability flow.  It would be biased in the path methods, which average
    exponentials.

    Args:
        probes: vectors v for each point, at least two, so that there is a standard error.
    """

    probes: Several = 16

    def directions(self, x: Tensor, generator: torch.Generator) -> Tensor:
        shape = (self.probes, *x.shape)
        return 2 * torch.randint(2, shape, dtype=x.dtype, device=x.device, generator=generator) - 1

    def total(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        return parts.mean(-1), parts.std(-1) / sqrt(self.probes)


def axes(x: Tensor) -> Tensor:
    """The d unit vectors for each point of x (n, d): (d, n, d).

    Raises:
        InputError: d is above 256.
    """
    dim = x.shape[1]
    if dim > _MOST_EXACT_DIMENSIONS:
        raise InputError(
            f"an exact divergence takes d = {dim} vector–Jacobian products in every step; "
            f"above {_MOST_EXACT_DIMENSIONS} estimate it: ProbabilityFlow(divergence=Hutchinson(probes=16))"
        )
    return torch.eye(dim, dtype=x.dtype, device=x.device)[:, None].expand(-1, len(x), -1)


def traced(
    function: Callable[[Tensor, Tensor], tuple[Tensor, ...]], t: Tensor, x: Tensor, directions: Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Fields at x (n, d), and v·(∇f)v (n, m) of the first for the directions v (m, n, d); no graph is kept."""
    with torch.enable_grad():
        place = x.detach().requires_grad_()
        values = function(t, place)
        first = values[0] + 0 * place  # a field that does not depend on x has no graph of its own
    pulled = [(v * torch.autograd.grad(first, place, v, retain_graph=True)[0]).sum(-1) for v in directions]
    return tuple(value.detach() for value in values), torch.stack(pulled, dim=-1)
