"""Numbers of any kind as tensors, and random states as seeds: what every function with data takes."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from math import prod
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from annotated_types import Ge, Lt
from numpy.typing import NDArray
from torch import Tensor

from sbridge.checks import Elsewhere, check_memory, checked_value
from sbridge.errors import InputError

__all__ = ["Array", "RandomState", "all_finite", "as_tensor", "by_rows", "drawn_seed", "mean_of", "seed_of", "seeded"]

Array = TypeVar("Array")
"""Points in any kind that `sbridge.points.points_of` takes; an answer has the kind of its question."""
RandomState = Annotated[int | np.integer[Any] | np.random.RandomState | np.random.Generator | None, Elsewhere()]
"""What may seed random numbers, as in scikit-learn; None takes a new seed from the operating system."""

_OURS = 0x5B21D6E5  # a bit pattern for seeds; torch takes 32 bits of one on CPUs
_AnySeed = Annotated[int, Ge(0), Lt(2**63)]
_ROWS_AT_ONCE = 32_768
_REAL_NUMBERS = "biufO"  # NumPy's kinds: bool, integers, floats, objects


def drawn_seed(generator: torch.Generator) -> int:
    """A seed drawn from a generator."""
    return int(torch.randint(2**31, (), generator=generator, device=generator.device))


def seed_of(random_state: RandomState) -> int:
    """A seed: the number itself, one drawn from a generator, or one from the operating system for None.

    Raises:
        InputError: it is none of these.
    """
    if random_state is None:
        return torch.Generator().seed() % 2**32
    if isinstance(random_state, numbers.Integral):
        return int(checked_value("random_state", _AnySeed, random_state))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    raise InputError(f"random_state must be None, a whole number or a NumPy generator, not {random_state!r}")


def seeded(random_state: RandomState, device: torch.device) -> torch.Generator:
    """A generator on `device` with the seed of a random state (`seed_of`).

    Its numbers are not those of torch for this seed: points that were drawn with it would have their own noise.
    """
    return torch.Generator(device).manual_seed(seed_of(random_state) ^ _OURS)


def as_tensor(x: Any) -> Tensor:
    """Real numbers of any kind (array, nested list, tensor, sparse matrix) as a tensor of single or double precision.

    Single precision stays single; everything else becomes double.  An array that needs no change shares its memory with
    the tensor; any strides, byte order and read-only memory will do.

    Raises:
        InputError: they are no real numbers, or some are masked.
    """
    if isinstance(x, Tensor):
        return _plain(x)
    array = _dense(x)
    single = array.dtype.kind == "f" and array.dtype.itemsize == 4
    with np.errstate(over="ignore"):  # a value that is too large becomes infinite, which is refused where points are
        return torch.from_numpy(_numbers(array, np.float32 if single else np.float64))


def all_finite(x: Tensor) -> bool:
    """Whether all numbers (n, …) are finite, some rows at a time: to ask for all at once takes more memory than x."""
    return all(bool(part.isfinite().all()) for part in x.split(_ROWS_AT_ONCE))


def by_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x) for x (n, …), some rows at a time, so that what it needs in between stays small."""
    first, *others = x.split(_ROWS_AT_ONCE)
    found = function(first)
    if not others:
        return found
    whole = found.new_empty(len(x), *found.shape[1:])
    whole[: len(first)] = found
    for place, part in zip(whole[len(first) :].split(_ROWS_AT_ONCE), others, strict=True):
        place.copy_(function(part))
    return whole


def mean_of(x: Tensor) -> Tensor:
    """The mean of x (n, d) in double precision, (d,)."""
    return torch.stack([part.double().sum(0) for part in x.split(_ROWS_AT_ONCE)]).sum(0) / len(x)


def _plain(x: Tensor) -> Tensor:
    if x.is_complex():
        raise InputError(f"points must be real numbers, not {x.dtype}: take the real part, or both parts as columns")
    dense = x if x.layout == torch.strided else x.to_dense()
    return dense if dense.dtype in (torch.float32, torch.float64) else dense.double()


def _dense(x: Any) -> NDArray[Any]:
    masked = int(np.sum(x.mask)) if isinstance(x, np.ma.MaskedArray) else 0
    if masked:
        raise InputError(f"{masked} values of a masked array are masked: drop their rows, or fill them first")
    try:
        array = np.asarray(_with_zeros(x) if hasattr(x, "toarray") else x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"points must be an array of numbers of shape (n, d): {error}") from error
    if array.dtype.kind == "c":
        raise InputError("points must be real numbers, not complex: take the real part, or both parts as columns")
    if array.dtype.kind not in _REAL_NUMBERS:
        raise InputError(f"points must be an array of numbers of shape (n, d), and this holds {array.dtype}")
    return array


def _with_zeros(x: Any) -> Any:
    """A sparse array with its zeros."""
    check_memory("a sparse array with its zeros", prod(x.shape) * x.dtype.itemsize)
    return x.toarray()


def _numbers(array: NDArray[Any], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    try:
        found = np.asarray(array, dtype=dtype, order="C")
        return found if found.flags.writeable else found.copy()  # torch knows no read-only memory
    except (TypeError, ValueError) as error:
        raise InputError(f"points must be an array of numbers of shape (n, d): {error}") from error
