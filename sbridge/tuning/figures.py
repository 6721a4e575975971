"""What a search looks like: every trial across its hyperparameters, its way down, and which hyperparameter matters.

Importance is the share of the spread of the trials' ranks that a hyperparameter explains, by functional analysis of
variance of a random forest (Hutter, Hoos, Leyton-Brown, ICML 2014; Optuna's).  Ranks, because a few bad trials would
make up all of the spread of the figures themselves; and after the share of the training that all of them did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import optuna
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from sbridge.estimates import alone
from sbridge.report.material import Exhibit
from sbridge.report.style import WIDTH, canvas, styled
from sbridge.tuning.space import Choice, Domain, Space, Value, own_settings
from sbridge.tuning.study import Study, Trial
from sbridge.tuning.trial import REPORTS

__all__ = ["Curves", "Importances", "Parallel", "importances", "plain_marks"]

_FEWEST = 4  # trials that importances are computed from
_BEST = "#D55E00"


@dataclass(frozen=True)
class Parallel:
    """A line for each trial, a vertical scale for each hyperparameter, the objective last; the winner as a table."""

    study: Study
    space: Space

    slug = "trials"
    title = "All trials"

    def applies(self) -> bool:
        return self.study.best is not None

    def exhibit(self) -> Exhibit:
        caption = (
            "A line for each trial that came to a figure, darker the better its rank; the best is orange. The scales "
            f"of numbers are logarithmic. The last scale is the objective, {self.study.objective}, on points that no "
            f"trial trained on; trials stopped early are among them. Trials: {self.study.counted()}."
        )
        figure = _parallel(_judged(self.study), self.space.varied(), self.study.objective)
        return Exhibit(figure, caption, ("hyperparameter", "best trial", "solver's own"), self._winner())

    def _winner(self) -> list[tuple[str, str, str]]:
        """The best trial's settings beside the solver's own."""
        assert self.study.best is not None
        settings, own = self.study.best.settings, own_settings()
        return [(name, _setting(value), _setting(own[name])) for name, value in settings.items()]


@dataclass(frozen=True)
class Curves:
    """The objective of every trial against the share of its training."""

    study: Study

    slug = "curves"
    title = "How the trials went"

    def applies(self) -> bool:
        return self.study.best is not None

    def exhibit(self) -> Exhibit:
        caption = (
            f"The objective ({self.study.objective}) of each trial after equal shares of its training; the best is "
            "orange. A line that ends early was stopped by the scheduler or by a failure."
        )
        return Exhibit(_curves(self.study), caption)


@dataclass(frozen=True)
class Importances:
    """How much of the spread of the trials each hyperparameter explains."""

    study: Study
    space: Space

    slug = "importances"
    title = "Which hyperparameter matters"

    def applies(self) -> bool:
        return bool(importances(self.study, self.space))

    def exhibit(self) -> Exhibit:
        found = importances(self.study, self.space)
        caption = (
            "Share of the spread of the trials' ranks that each hyperparameter explains within this space (functional "
            "analysis of variance of a random forest). With few trials it is a rough figure."
        )
        rows = [(name, f"{share:.2f}") for name, share in found.items()]
        return Exhibit(_bars(found), caption, ("hyperparameter", "share"), rows)


def importances(study: Study, space: Space) -> dict[str, float]:
    """Each varied hyperparameter's share, the largest first; nothing where there are fewer than four trials."""
    curves = [trial.curve for trial in study.trials if trial.curve]
    share = min((max(curve) for curve in curves), default=0)
    trials = [trial for trial in study.trials if share in trial.curve]
    varied = space.varied()
    if len(trials) < _FEWEST or not varied:
        return {}
    ranks = np.argsort(np.argsort([trial.curve[share] for trial in trials]))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    study = _as_optuna(trials, ranks.tolist(), varied)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _as_optuna(trials: Sequence[Trial], values: Sequence[float], varied: Mapping[str, Domain]) -> optuna.Study:
    distributions = {name: _distribution(domain) for name, domain in varied.items()}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for trial, value in zip(trials, values, strict=True):
        settings = {name: trial.settings[name] for name in varied}
        study.add_trial(optuna.trial.create_trial(params=settings, distributions=distributions, value=value))
    return study


def _distribution(domain: Domain) -> optuna.distributions.BaseDistribution:
    if isinstance(domain, Choice):
        return optuna.distributions.CategoricalDistribution(domain.values)
    return optuna.distributions.FloatDistribution(domain.low, domain.high, log=True)


def _judged(study: Study) -> list[Trial]:
    """Trials with a figure, the worst first, so that the best is drawn on top."""
    judged = [trial for trial in study.trials if trial.objective is not None]
    return sorted(judged, key=lambda trial: -_figure(trial))


def _figure(trial: Trial) -> float:
    assert trial.objective is not None
    return trial.objective.value


@dataclass(frozen=True)
class _Scale:
    """A vertical scale from 0 to 1 and its marks."""

    heights: Sequence[float]
    marks: Mapping[str, float]


def _scale(values: Sequence[Value], domain: Domain) -> _Scale:
    if isinstance(domain, Choice):
        places = {value: k / max(1, len(domain.values) - 1) for k, value in enumerate(domain.values)}
        return _Scale([places[value] for value in values], {_word(value): at for value, at in places.items()})
    low, span = log(domain.low), log(domain.high) - log(domain.low)
    numbers = [(log(value) - low) / span for value in values if isinstance(value, float | int)]
    return _Scale(numbers, {f"{domain.at(share):.2g}": share for share in (0.0, 0.5, 1.0)})


def _word(value: Value) -> str:
    """A setting on a scale."""
    return _setting(value).replace("Online", "").replace("Mixture", "")


def _setting(value: Value) -> str:
    words: dict[Any, str] = {None: "none", False: "no", True: "yes"}
    named = value is None or isinstance(value, bool)
    return words[value] if named else alone(value) if isinstance(value, float) else str(value)


def _objective_scale(values: Sequence[float]) -> _Scale:
    low, high = min(values), max(values)
    span = high - low or 1.0
    return _Scale([(value - low) / span for value in values], {f"{low:.3g}": 0.0, f"{high:.3g}": (high - low) / span})


@styled
def _parallel(trials: Sequence[Trial], varied: Mapping[str, Domain], objective: str) -> Figure:
    scales = {name: _scale([trial.settings[name] for trial in trials], domain) for name, domain in varied.items()}
    scales[objective] = _objective_scale([_figure(trial) for trial in trials])
    figure, axes = canvas(1, 1, (WIDTH, 0.4 * WIDTH))
    ax = axes[0, 0]
    for k, _ in enumerate(trials):
        best = k == len(trials) - 1
        shade = colormaps["Greys"](0.15 + 0.7 * k / max(1, len(trials) - 1))
        heights = [scale.heights[k] for scale in scales.values()]
        ax.plot(range(len(scales)), heights, color=_BEST if best else shade, linewidth=2 if best else 1)
    for place, scale in enumerate(scales.values()):
        _mark(ax, place, scale)
    ax.set(xticks=range(len(scales)), xticklabels=[name.replace(" ", "\n", 1) for name in scales], yticks=[])
    ax.tick_params(axis="x", length=0)
    ax.spines[:].set_visible(False)
    return figure


def _mark(ax: Axes, place: int, scale: _Scale) -> None:
    ax.axvline(place, color="#999999", linewidth=0.7, zorder=0)
    for word, height in scale.marks.items():
        ax.annotate(word, (place, height), (3, 2), textcoords="offset points", fontsize=7)


@styled
def _curves(study: Study) -> Figure:
    figure, axes = canvas(1, 1, (0.6 * WIDTH, 0.36 * WIDTH))
    ax = axes[0, 0]
    for trial in study.trials:
        best = trial is study.best
        shares = [share / REPORTS for share in trial.curve]
        ax.plot(shares, list(trial.curve.values()), color=_BEST if best else "#999999", zorder=3 if best else 2)
    if all(value > 0 for trial in study.trials for value in trial.curve.values()):
        ax.set_yscale("log")
        plain_marks(ax.yaxis, (1, 2, 5))
    ax.set(xlabel="share of the training", ylabel=study.objective)
    return figure


def plain_marks(axis: Axis, subs: Sequence[float] = (1,)) -> None:
    """0.1, 1, 10 and these multiples of them along a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


@styled
def _bars(found: Mapping[str, float]) -> Figure:
    figure, axes = canvas(1, 1, (0.6 * WIDTH, 0.3 + 0.28 * len(found)))
    ax = axes[0, 0]
    ax.set_yticks(range(len(found)), list(found))
    ax.barh(range(len(found)), list(found.values()), color="#0072B2")
    ax.invert_yaxis()
    ax.set(xlabel="share of the spread explained")
    return figure
