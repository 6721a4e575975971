"""NumPy arrays and tensors at the door: what comes in as either goes out as the same."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbridge.errors import InputError

__all__ = ["Array", "as_points", "in_kind", "seeded"]

Array = TypeVar("Array", NDArray[Any], Tensor)


def seeded(random_state: int | None, device: torch.device) -> torch.Generator:
    """A generator on `device` with that seed, or with one from the operating system."""
    generator = torch.Generator(device)
    if random_state is None:
        generator.seed()
    else:
        generator.manual_seed(random_state)
    return generator


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
