"""The two errors that a user can correct."""

__all__ = ["DivergenceError", "InputError"]


class InputError(ValueError):
    """The request cannot be carried out; the message says what to change."""


class DivergenceError(RuntimeError):
    """A fit became non-finite or ran away; the last good state is kept by the training that raised this."""
