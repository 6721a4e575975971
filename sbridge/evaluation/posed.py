"""The problem that held-out points pose to fitted bridges, when there are no training points to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sbridge.bridge import Bridge
from sbridge.errors import InputError
from sbridge.points import Points
from sbridge.problem import Problem
from sbridge.standardise import StandardisedBridge, as_fitted, places_as_fitted

__all__ = ["posed"]


def posed(bridges: Mapping[str, Bridge], x0: Any, x1: Any) -> tuple[dict[str, Bridge], Problem]:
    """The bridges in the coordinates of their fit, and the points in these, half of them for the floor.

    Args:
        bridges: of one ε and one standardisation.
        x0, x1: points of both ends, (n0, d), (n1, d), of any kind, in the user's units.

    Raises:
        InputError: the bridges were standardised differently, or the points cannot be used.
    """
    first = next(iter(bridges.values()))
    for name, bridge in bridges.items():
        if not _alike(first, bridge):
            raise InputError(f"{name} was standardised otherwise than {next(iter(bridges))}; compare them one by one")
    names = None if first.columns is None else tuple(first.columns)
    start, end = (Points(places_as_fitted(first, x), names) for x in (x0, x1))
    problem = Problem.of(start, end, first.epsilon).divided(0.5, torch.Generator().manual_seed(0))
    return {name: as_fitted(bridge) for name, bridge in bridges.items()}, problem


def _alike(first: Bridge, other: Bridge) -> bool:
    """Whether both were fitted in the same coordinates."""
    if not isinstance(first, StandardisedBridge) or not isinstance(other, StandardisedBridge):
        return isinstance(first, StandardisedBridge) == isinstance(other, StandardisedBridge)
    return torch.equal(first.centre, other.centre) and torch.equal(first.scale, other.scale)
