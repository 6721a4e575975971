"""What a value may be: annotations of settings, arguments and files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from sbridge.checks.words import as_shown

__all__ = ["Count", "Elsewhere", "Fraction", "Named", "NotNegative", "Positive", "Rule", "Seed", "Several", "Share"]
__all__ += ["Threads", "Time"]

Count = Annotated[int, Ge(1), Lt(2**31)]
"""A whole number of at least one, of a size that libraries take."""
Several = Annotated[Count, Ge(2)]
"""At least two, so that there is a standard error."""
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Threads = Annotated[int, Ge(1), Le(1024)]
Fraction = Annotated[float, Gt(0), Lt(1)]
"""Between 0 and 1, and neither of them."""
Share = Annotated[float, Gt(0), Le(1)]
"""Above 0 and at most 1."""
Time = Annotated[float, Ge(0), Le(1)]
Seed = Annotated[int, Ge(0), Lt(2**32)]
"""What NumPy, scikit-learn and torch all take."""


@dataclass(frozen=True, eq=False)
class Named:
    """An annotation: a text is the name of a member; a class must be of the members' family.

    Args:
        members: by their names, as on the command line.
        family: what every class must be derived from.
    """

    members: Mapping[str, Any]
    family: type | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.member, handler(source))

    def member(self, value: Any) -> Any:
        """The member of that name; any other value as it is."""
        if isinstance(value, str):
            if value not in self.members:
                raise ValueError(f"there is no {value!r}; choose {', '.join(self.members)}")
            return self.members[value]
        if isinstance(value, type) and self.family is not None and not issubclass(value, self.family):
            raise ValueError(f"{value.__name__} is no {self.family.__name__}; choose {', '.join(self.members)}")
        return value


@dataclass(frozen=True, eq=False)
class Rule:
    """An annotation: a test that a value must pass.

    Args:
        test: of the value.
        words: what the value must be.
    """

    test: Callable[[Any], bool]
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.passed, handler(source))

    def passed(self, value: Any) -> Any:
        """The value, if it passes."""
        if not self.test(value):
            raise ValueError(f"it must be {self.words}, not {as_shown(value)}")
        return value


class Elsewhere:
    """An annotation: the value is checked by what it is given to."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.any_schema()
