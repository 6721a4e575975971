"""The figures of a search: every trial across its hyperparameters, its curve, and which hyperparameter matters.

Importance is the share of the variance of the trials' ranks that a hyperparameter explains, by functional analysis of
variance of a random forest (Hutter, Hoos, Leyton-Brown, ICML 2014; Optuna's).  Ranks, because a few bad trials would
dominate the variance of the criterion itself; and after the longest share of the training that all trials reached.
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
from matplotlib.figure import Figure

from sbridge.estimates import rounded
from sbridge.report.material import Exhibit
from sbridge.report.style import BLUE, GREY, ORANGE, WIDTH, canvas, plain_powers, styled
from sbridge.tuning.space import Choice, Domain, Space, Value, own_settings
from sbridge.tuning.study import Study, Trial
from sbridge.tuning.trial import REPORTS

__all__ = ["importance_bars", "importances", "parallel", "trial_curves"]

_FEWEST_TRIALS = 4  # for importances


def parallel(study: Study, space: Space) -> list[Exhibit]:
    """A line for each trial, a scale for each hyperparameter, the criterion last; the best trial as a table."""
    if study.best is None:
        return []
    caption = (
        f"A line for each trial that has a criterion, {study.criterion}, darker for a better rank; the best is orange. "
        "The scales of numbers are logarithmic. The last scale is the criterion, on points that no trial trained on; "
        f"trials stopped early are included. Trials: {study.counted()}."
    )
    own = own_settings()
    best = [
        {"hyperparameter": name, "best trial": _setting(value), "solver's own": _setting(own[name])}
        for name, value in study.best.settings.items()
    ]
    return [Exhibit("trials", "All trials", caption, [_parallel_figure(study, space.varied())], best)]


def trial_curves(study: Study) -> list[Exhibit]:
    """The criterion of every trial against the share of its training."""
    if study.best is None:
        return []
    caption = (
        f"The criterion ({study.criterion}) of each trial after equal shares of its training; the best trial is "
        "orange. A line that ends early was stopped by the scheduler or by a failure."
    )
    return [Exhibit("curves", "Criterion during the training", caption, [_curve_figure(study)])]


def importance_bars(study: Study, space: Space) -> list[Exhibit]:
    """How much of the variance between trials each hyperparameter explains."""
    found = importances(study, space)
    if not found:
        return []
    caption = (
        "Share of the variance of the trials' ranks that each hyperparameter explains within this space (functional "
        "analysis of variance of a random forest). With few trials this is a rough estimate."
    )
    table = [{"hyperparameter": name, "share": f"{share:.2f}"} for name, share in found.items()]
    return [Exhibit("importances", "Which hyperparameter matters", caption, [_bar_figure(found)], table)]


def importances(study: Study, space: Space) -> dict[str, float]:
    """Each varied hyperparameter's share, the largest first; empty if there are fewer than four trials."""
    lines = [trial.curve for trial in study.trials if trial.curve]
    share = min((max(line) for line in lines), default=0)
    trials = [trial for trial in study.trials if share in trial.curve]
    varied = space.varied()
    if len(trials) < _FEWEST_TRIALS or not varied:
        return {}
    ranks = np.argsort(np.argsort([trial.curve[share] for trial in trials]))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    ranked = _as_optuna(trials, ranks.tolist(), varied)
    return dict(optuna.importance.get_param_importances(ranked, evaluator=evaluator))


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


@dataclass(frozen=True)
class _Scale:
    """A vertical scale: the height of each trial between 0 and 1, and label → height of its marks."""

    heights: Sequence[float]
    marks: Mapping[str, float]


def _scale(values: Sequence[Value], domain: Domain) -> _Scale:
    if isinstance(domain, Choice):
        places = {value: k / max(1, len(domain.values) - 1) for k, value in enumerate(domain.values)}
        return _Scale([places[value] for value in values], {_short(value): at for value, at in places.items()})
    low, span = log(domain.low), log(domain.high) - log(domain.low)
    numbers = [(log(value) - low) / span for value in values if isinstance(value, float | int)]
    return _Scale(numbers, {f"{domain.at(share):.2g}": share for share in (0.0, 0.5, 1.0)})


def _criterion_scale(values: Sequence[float]) -> _Scale:
    low, high = min(values), max(values)
    span = high - low or 1.0
    return _Scale([(value - low) / span for value in values], {f"{low:.3g}": 0.0, f"{high:.3g}": (high - low) / span})


def _short(value: Value) -> str:
    """A setting beside a scale."""
    return _setting(value).replace("Online", "").replace("Mixture", "")


def _setting(value: Value) -> str:
    words: dict[Any, str] = {None: "none", False: "no", True: "yes"}
    named = value is None or isinstance(value, bool)
    return words[value] if named else rounded(value) if isinstance(value, float) else str(value)


@styled
def _parallel_figure(study: Study, varied: Mapping[str, Domain]) -> Figure:
    pairs = sorted(study.valued, key=lambda pair: -pair[1].value)  # the best is drawn last, on top
    scales = {name: _scale([trial.settings[name] for trial, _ in pairs], domain) for name, domain in varied.items()}
    scales[study.criterion] = _criterion_scale([value.value for _, value in pairs])
    figure, axes = canvas(1, 1, (WIDTH, 0.4 * WIDTH))
    ax = axes[0, 0]
    for k in range(len(pairs)):
        best = k == len(pairs) - 1
        shade = colormaps["Greys"](0.15 + 0.7 * k / max(1, len(pairs) - 1))
        heights = [scale.heights[k] for scale in scales.values()]
        ax.plot(range(len(scales)), heights, color=ORANGE if best else shade, linewidth=2 if best else 1)
    for place, scale in enumerate(scales.values()):
        _mark(ax, place, scale)
    ax.set(xticks=range(len(scales)), xticklabels=[name.replace(" ", "\n", 1) for name in scales], yticks=[])
    ax.tick_params(axis="x", length=0)
    ax.spines[:].set_visible(False)
    return figure


def _mark(ax: Axes, place: int, scale: _Scale) -> None:
    ax.axvline(place, color=GREY, linewidth=0.7, zorder=0)
    for word, height in scale.marks.items():
        ax.annotate(word, (place, height), (3, 2), textcoords="offset points", fontsize=7)


@styled
def _curve_figure(study: Study) -> Figure:
    figure, axes = canvas(1, 1, (0.6 * WIDTH, 0.36 * WIDTH))
    ax = axes[0, 0]
    for trial in study.trials:
        best = trial is study.best
        shares = [share / REPORTS for share in trial.curve]
        ax.plot(shares, list(trial.curve.values()), color=ORANGE if best else GREY, zorder=3 if best else 2)
    if all(value > 0 for trial in study.trials for value in trial.curve.values()):
        ax.set_yscale("log")
        plain_powers(ax.yaxis)
    ax.set(xlabel="share of the training", ylabel=study.criterion)
    return figure


@styled
def _bar_figure(found: Mapping[str, float]) -> Figure:
    figure, axes = canvas(1, 1, (0.6 * WIDTH, 0.3 + 0.28 * len(found)))
    ax = axes[0, 0]
    ax.set_yticks(range(len(found)), list(found))
    ax.barh(range(len(found)), list(found.values()), color=BLUE)
    ax.invert_yaxis()
    ax.set(xlabel="share of the variance explained")
    return figure
