"""NumPy arrays and tensors at the door: what comes in as either goes out as the same."""

from __future__ import annotations

import numbers
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbridge.errors import InputError

__all__ = ["Array", "RandomState", "as_points", "in_kind", "seed_of", "seeded"]

Array = TypeVar("Array", NDArray[Any], Tensor)
RandomState = int | np.integer[Any] | np.random.RandomState | np.random.Generator | None
"""What may seed random numbers, as in scikit-learn; None takes a new seed from the operating system."""


def seed_of(random_state: RandomState) -> int:
    """A seed: the number itself, one drawn from a generator, or one from the operating system for None.

    Raises:
        InputError: it is none of these.
    """
    if random_state is None:
        return torch.Generator().seed()
    if isinstance(random_state, numbers.Integral):
        return int(random_state)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    raise InputError(f"random_state must be None, a whole number or a NumPy generator, not {random_state!r}")


def seeded(random_state: RandomState, device: torch.device) -> torch.Generator:
    """A generator on `device` with the seed of a random state (`seed_of`)."""
    return torch.Generator(device).manual_seed(seed_of(random_state))


def as_points(x: NDArray[Any] | Tensor) -> Tensor:
    """Numbers of any kind as a floating tensor.

    Raises:
        InputError: they are no numbers.
    """
    try:
        points = x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    except (TypeError, ValueError) as error:
        raise InputError(f"points must be an array of numbers of shape (n, d): {error}") from error
    return points if points.is_floating_point() else points.double()


def in_kind(value: Tensor, like: Array) -> Array:
    """The value as the kind, floating precision and place of what was asked with."""
    if isinstance(like, Tensor):
        return value.to(device=like.device, dtype=like.dtype if like.is_floating_point() else value.dtype)
    kind = np.asarray(like).dtype
    return value.cpu().numpy().astype(kind if np.issubdtype(kind, np.floating) else np.float64)
