"""The two ways things go wrong that a person can mend."""

__all__ = ["DivergenceError", "InputError"]


class InputError(ValueError):
    """What was asked for cannot be done; the message says what to change."""


class DivergenceError(RuntimeError):
    """A fit became non-finite or ran away; the last good state is kept by the training that raised this."""
