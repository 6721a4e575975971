"""What the options of all commands share: they are checked as they are read, and messages call them as typed."""

from __future__ import annotations

from sbridge.checks import Checked

__all__ = ["Options"]


class Options(Checked):
    """The options of a command, in a frozen dataclass."""

    @classmethod
    def called(cls, field: str) -> str:
        return f"--{field.replace('_', '-')}"
