"""What a search may vary: the hyperparameters of max–min, each with the values it may take.

ε is not among them.  It is part of the problem: fits for different ε answer different questions, and no criterion can
choose between them (`sbridge epsilon` shows the effect of ε).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from sbridge.checks import check_content
from sbridge.couplings import Independent, MinibatchSinkhorn, OnlineSinkhorn
from sbridge.errors import InputError
from sbridge.networks import ResidualNetwork
from sbridge.potentials.solver import MixturePotential
from sbridge.solvers.maxmin import MaxMin

__all__ = ["Choice", "Domain", "LogUniform", "Settings", "Space", "Value", "own_settings", "read_space", "solver_of"]

Value = float | int | bool | str | None
Settings = Mapping[str, Value]
"""One value for each hyperparameter; a coupling or a prior by its name."""

_COUPLINGS = {kind.__name__: kind for kind in (Independent, MinibatchSinkhorn, OnlineSinkhorn)}
_PRIORS: dict[Value, MixturePotential | None] = {None: None, MixturePotential.__name__: MixturePotential()}


class _Ends(TypedDict):
    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """One of the values, all equally likely.

    Raises:
        InputError: there is no value.
    """

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError("a hyperparameter needs at least one value")

    def __contains__(self, value: Value) -> bool:
        return value in self.values

    @property
    def extremes(self) -> tuple[Value, ...]:
        """If a solver takes these values, it takes all."""
        return self.values

    def described(self) -> Any:
        """As JSON."""
        return list(self.values)


@dataclass(frozen=True)
class LogUniform:
    """Any number from `low` to `high`, uniform in its logarithm.

    Raises:
        InputError: not 0 < low < high.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise InputError(f"a range needs 0 < low < high, not {self.low} and {self.high}")

    def __contains__(self, value: Value) -> bool:
        return isinstance(value, float | int) and self.low <= value <= self.high

    @property
    def extremes(self) -> tuple[Value, ...]:
        """As of `Choice`."""
        return self.low, self.high

    def described(self) -> Any:
        """As JSON."""
        return {"low": self.low, "high": self.high}

    def at(self, share: float) -> float:
        """The value below which this share of the range lies."""
        return exp(log(self.low) + share * (log(self.high) - log(self.low)))


Domain = Choice | LogUniform


@dataclass(frozen=True)
class Space:
    """The values each hyperparameter of `MaxMin` may take; a fixed one is a `Choice` of one.

    The number of steps is not a hyperparameter but the budget: all trials see the same number of points
    (`solver_of`), so a smaller batch has more steps.
    """

    rate: Domain = LogUniform(3e-3, 4e-2)
    """Rate of the drifts: below this range short trainings do not converge, above it single fits diverge."""
    outer_rate: Domain = LogUniform(3e-4, 1e-2)
    """Rate of the interpolant, which must change more slowly than the drifts."""
    round_steps: Domain = Choice((2, 3, 5, 8))
    """Drift steps for each step of the interpolant: its force is right only if the drifts have followed it."""
    width: Domain = Choice((64, 128, 256))
    """Width of the drift network; twice the width costs up to four times as much and overfits sooner."""
    depth: Domain = Choice((3, 6, 9))
    """Its hidden layers; a network of few layers blurs sharp borders between points that move to different places."""
    outer_width: Domain = Choice((32, 64, 128))
    """Width of the interpolant's network."""
    outer_depth: Domain = Choice((3,))
    """Its hidden layers; not varied."""
    learn_gamma: Domain = Choice((False, True))
    """Whether γ is learned too; the bridge's own γ follows from I, but the search may be easier with both."""
    coupling: Domain = Choice(("Independent", "OnlineSinkhorn"))
    """Plans between samples start close to the bridge but are biased; independent pairs are unbiased but start far."""
    prior: Domain = Choice((None, "MixturePotential"))
    """Networks alone, or as a correction of a mixture potential, for data that a few Gaussians describe."""
    batch: Domain = Choice((256, 512, 1024))
    """Points in a step; the number of steps is such that all trials see as many points."""
    memory: Domain = LogUniform(0.02, 0.3)
    """The share of the training so far over which the weights are averaged: longer has less noise but more lag."""

    def __post_init__(self) -> None:
        for label, known in (("coupling", _COUPLINGS), ("prior", _PRIORS)):
            wrong = [name for name in self.domains()[label].extremes if name not in known]
            if wrong:
                raise InputError(f"there is no {label} {wrong[0]!r}; choose from {', '.join(map(str, known))}")
        own = own_settings()
        for name, domain in self.domains().items():
            for value in domain.extremes:
                solver_of({**own, name: value}, MaxMin.steps)  # which refuses it, if it is wrong

    def domains(self) -> dict[str, Domain]:
        """Every hyperparameter's values, by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def varied(self) -> dict[str, Domain]:
        """Those with more than one value."""
        return {name: one for name, one in self.domains().items() if len(one.described()) > 1}

    def described(self) -> dict[str, Any]:
        """As JSON, in the form that `read_space` reads."""
        return {name: domain.described() for name, domain in self.domains().items()}

    def defaults(self) -> list[Settings]:
        """The solver's own settings if they lie in this space, otherwise an empty list."""
        own = own_settings()
        return [own] if all(own[name] in domain for name, domain in self.domains().items()) else []

    def draw(self, generator: np.random.Generator) -> Settings:
        """Settings drawn at random, each hyperparameter independently."""
        return {name: _draw(domain, generator) for name, domain in self.domains().items()}


def own_settings() -> Settings:
    """The solver's own value for each hyperparameter."""
    known = {**vars(MaxMin()), **vars(ResidualNetwork())}
    values = {field.name: known[field.name] for field in fields(Space)}
    return {name: value.__name__ if isinstance(value, type) else value for name, value in values.items()}


def _draw(domain: Domain, generator: np.random.Generator) -> Value:
    if isinstance(domain, LogUniform):
        return domain.at(generator.random())
    return domain.values[generator.integers(len(domain.values))]


def solver_of(settings: Settings, steps: int) -> MaxMin:
    """The solver with these settings, with as many steps as see the points of `steps` steps of the default batch."""
    named = {"coupling": _COUPLINGS[str(settings["coupling"])], "prior": _PRIORS[settings["prior"]]}
    values: dict[str, Any] = {**settings, **named}
    values["network"] = ResidualNetwork(values.pop("width"), values.pop("depth"))
    batch = int(values["batch"])
    return MaxMin(**values, steps=max(1, round(steps * MaxMin.batch / batch)), group=min(MaxMin.group, batch))


def read_space(path: Path) -> Space:
    """The space in a JSON file: hyperparameter → a list of values, {"low": …, "high": …} or one fixed value.

    Hyperparameters that are not named keep their default values; a folder's study.json holds such a space.

    Raises:
        InputError: the file cannot be read, a name in it is not a hyperparameter, or the solver does not take a value.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(given, dict):
        raise InputError(f'{path} must hold an object such as {{"rate": {{"low": 0.005, "high": 0.02}}}}')
    return _space(given)


def _space(given: Mapping[str, Any]) -> Space:
    known = [field.name for field in fields(Space)]
    for name in given:
        if name not in known:
            advice = " ε is part of the problem; see sbridge epsilon." if name == "epsilon" else ""
            raise InputError(f"{name!r} is not a hyperparameter; choose from {', '.join(known)}.{advice}")
    return replace(Space(), **{name: _domain(name, value) for name, value in given.items()})


def _domain(name: str, value: Any) -> Domain:
    if isinstance(value, dict):
        check_content(name, _Ends, value)
        if more := value.keys() - _Ends.__annotations__.keys():
            raise InputError(f"{name} has {', '.join(sorted(more))}; a range has low and high")
        return LogUniform(**value)
    values = value if isinstance(value, list) else [value]
    check_content(name, list[Value], values)
    return Choice(tuple(values))
