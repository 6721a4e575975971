"""Environment variables for a while: what libraries and new processes are told by them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["variables"]


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Within, the environment has these values too."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
