"""Checks of arguments and files by their annotations: type, sign, range, finite, known name.

An annotation says what a value may be: `steps: Count`, `rate: Positive`, `direction: Literal["forward", "backward"]`,
`coupling: Annotated[MakeCoupling, Named(COUPLINGS)]`.  It is checked where the value enters:

    settings     a frozen dataclass that inherits from `Checked`; rules between fields go into its `validate`
    functions    the decorator `checked`
    files        `check_content` and `made_of` with the annotation of the file's content, and `check_memory`
    single       `checked_value`

pydantic does the checking, strictly: no text becomes a number, and no number is NaN or infinite.  NumPy's numbers and
tensors without axes count as plain numbers.
"""

from sbridge.checks.annotations import (
    Count,
    Elsewhere,
    Fraction,
    Named,
    NotNegative,
    Positive,
    Rule,
    Seed,
    Several,
    Share,
    Threads,
    Time,
)
from sbridge.checks.arguments import Checked, checked, checked_arguments
from sbridge.checks.files import check_content, check_memory, check_text, made_of
from sbridge.checks.values import checked_value

__all__ = ["Checked", "Count", "Elsewhere", "Fraction", "Named", "NotNegative", "Positive", "Rule", "Seed"]
__all__ += ["Several", "Share", "Threads", "Time", "check_content", "check_memory", "check_text", "checked"]
__all__ += ["checked_arguments", "checked_value", "made_of"]
