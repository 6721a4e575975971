"""The state of a training in a file, from which it continues to the last bit.

The file begins with its format, the version of this package and a checksum of what follows, so that damage is found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from typing_extensions import TypedDict

from sbridge.checks import check_content
from sbridge.errors import InputError
from sbridge.files import FORMAT, check_format, write_bytes
from sbridge.sizes import check_stored
from sbridge.solvers.budget import Resumable

__all__ = ["load_training", "read_training", "save_training"]

_LONGEST_HEAD = 1000  # bytes


class _Head(TypedDict):
    format: int
    sbridge: str
    sha256: str


def save_training(path: Path, training: Resumable, **notes: Any) -> None:
    """Write the state of a training, and with it notes: numbers, words and containers of them."""
    buffer = BytesIO()
    torch.save({"training": training.state_dict(), "notes": notes}, buffer)
    state = buffer.getvalue()
    head = {"format": FORMAT, "sbridge": version("sbridge"), "sha256": hashlib.sha256(state).hexdigest()}
    write_bytes(path, json.dumps(head).encode() + b"\n" + state)


def load_training(path: Path, training: Resumable) -> dict[str, Any]:
    """Bring a new training to the saved state; returns the notes.

    Args:
        path: a file of `save_training`.
        training: made with the same settings and problem.

    Raises:
        InputError: the file is damaged, is of another training, or a newer version has written it.
    """
    with _refused_if_damaged(path):
        state = _state(path, training.generator.device)
        training.load_state_dict(state["training"])
        notes: dict[str, Any] = state["notes"]
        return notes


def read_training(path: Path) -> dict[str, Any]:
    """The saved `Training.state_dict`, on the CPU.

    Raises:
        InputError: the file is damaged, or a newer version has written it.
    """
    with _refused_if_damaged(path):
        state: dict[str, Any] = _state(path, torch.device("cpu"))["training"]
        return state


def _state(path: Path, device: torch.device) -> dict[str, Any]:
    with open(path, "rb") as file:
        head = json.loads(file.readline(_LONGEST_HEAD))
        state = file.read()
    check_content("its head", _Head, head)
    check_format(head["format"], head["sbridge"])
    if hashlib.sha256(state).hexdigest() != head["sha256"]:
        raise InputError("its checksum does not fit")
    check_stored("it", BytesIO(state), len(state))
    found: dict[str, Any] = torch.load(BytesIO(state), weights_only=True, map_location=device)
    return found


@contextmanager
def _refused_if_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever torch makes of nonsense
        raise InputError(f"{path} is damaged; delete it to train from the start ({error})") from error
