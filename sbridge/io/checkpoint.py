"""The state of a training in a file, from which it continues to the last bit."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sbridge.errors import InputError
from sbridge.files import replace_atomically
from sbridge.solvers.budget import Resumable

__all__ = ["load_training", "read_training", "save_training"]

_DAMAGE = (OSError, EOFError, pickle.UnpicklingError, AttributeError, KeyError, RuntimeError, TypeError, ValueError)


def save_training(path: Path, training: Resumable, **notes: Any) -> None:
    """Write the state of a training, and with it notes: numbers, words and containers of them."""
    state = {"training": training.state_dict(), "notes": notes}
    replace_atomically(path, lambda file: torch.save(state, file))


def load_training(path: Path, training: Resumable) -> dict[str, Any]:
    """Bring a new training to the saved state; returns the notes.

    Args:
        path: a file of `save_training`.
        training: made with the same settings and problem.

    Raises:
        InputError: the file is damaged, or is of another training.
    """
    with _refused_if_damaged(path):
        state = torch.load(path, weights_only=True, map_location=training.generator.device)
        training.load_state_dict(state["training"])
        notes: dict[str, Any] = state["notes"]
        return notes


def read_training(path: Path) -> dict[str, Any]:
    """The saved `Training.state_dict`, on the CPU.

    Raises:
        InputError: the file is damaged.
    """
    with _refused_if_damaged(path):
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")["training"]
        return state


@contextmanager
def _refused_if_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise InputError(f"{path} is damaged; delete it to train from the start ({error})") from error
