"""The two errors that a user can correct, and the warnings about data and fits that are likely to be wrong."""

__all__ = ["DataWarning", "DivergenceError", "InputError", "SpreadWarning"]


class InputError(ValueError):
    """The request cannot be carried out; the message says what to change."""


class DivergenceError(RuntimeError):
    """A fit became non-finite or ran away; the last good state is kept by the training that raised this."""


class DataWarning(UserWarning):
    """The data or ε are likely to give a wrong or useless answer; the message says what to change."""


class SpreadWarning(UserWarning):
    """The paths of a fit end with another spread than the data; the message says where and by how much."""
