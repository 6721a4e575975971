"""The problem that a command line asks for: ε in any unit, or chosen from the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, make_dataclass, replace
from typing import Annotated, Any, Literal

import tyro

from sbridge.checks import Positive
from sbridge.display import note
from sbridge.epsilon import AUTO, with_epsilon
from sbridge.io import FileProblem
from sbridge.problem import Problem
from sbridge.problems import Family
from sbridge.standardise import Standardise
from sbridge.units import epsilon_named

__all__ = ["Files", "built", "in_our_epsilon"]

_HELP = (
    "ε of dX = u dt + √(2ε) dW, in squared units of the data: over unit time, the noise spreads a point by √(2ε). "
    "auto chooses it from the data; reg=…, blur=… and sigma=… are the parameters of POT, GeomLoss and torchcfm."
)
Files: Any = make_dataclass(
    FileProblem.__name__,
    [("epsilon", Annotated[Positive | Literal["auto"], tyro.conf.arg(help=_HELP)], field(kw_only=True))],
    bases=(FileProblem,),
    frozen=True,
    namespace={"__doc__": FileProblem.__doc__},
)
"""`FileProblem` whose ε may be "auto"."""


def built(source: Family, kind: Standardise | None = None) -> Problem:
    """The problem of a family.  An ε of "auto" is chosen for the standardised data, and stated."""
    if getattr(source, "epsilon", None) != AUTO:
        return source.build()
    unset: Any = source
    problem, choice = with_epsilon(replace(unset, epsilon=1.0).build(), AUTO, kind)
    note(choice)
    return problem


def in_our_epsilon(words: Sequence[str]) -> list[str]:
    """The words, with `--epsilon reg=0.4` and the like in our unit.

    Raises:
        InputError: there is no such parameter, or its value is no number.
    """
    spread = [part for word in words for part in (word.split("=", 1) if word.startswith("--epsilon=") else [word])]
    return [
        str(epsilon_named(word)) if before == "--epsilon" and "=" in word else word
        for before, word in zip(["", *spread], spread, strict=False)
    ]
