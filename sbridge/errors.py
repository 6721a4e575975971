"""The two errors that a user can correct, and the warning about data that are likely to give a wrong answer."""

__all__ = ["DataWarning", "DivergenceError", "InputError"]


class InputError(ValueError):
    """The request cannot be carried out; the message says what to change."""


class DivergenceError(RuntimeError):
    """A fit became non-finite or ran away; the last good state is kept by the training that raised this."""


class DataWarning(UserWarning):
    """The data or ε are likely to give a wrong or useless answer; the message says what to change."""
