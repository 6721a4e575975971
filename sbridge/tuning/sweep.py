"""What ε does to one pair of datasets: the same solver, the same budget, one fit for each ε.

ε is part of the problem, so no fit is better than another for its ε.  What changes is how much energy the motion takes,
how well fits of this budget meet the ends, and how far they are from a Schrödinger bridge: the certificate, whose
references are fitted anew for each ε.  Where the latter two get worse, ε is too small (or too large) for this budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ray import tune as ray_tune
from ray.tune.schedulers import FIFOScheduler

from sbridge.errors import InputError
from sbridge.estimates import Estimate, alone
from sbridge.evaluation.certificate.estimate import SMALLEST
from sbridge.problem import Frame, Problem
from sbridge.report.material import Exhibit
from sbridge.report.style import WIDTH, canvas, styled
from sbridge.solvers.maxmin import MaxMin
from sbridge.tuning.cluster import Placement, connected
from sbridge.tuning.figures import Curves, plain_marks
from sbridge.tuning.objectives import EndpointEnergy
from sbridge.tuning.page import Part, write
from sbridge.tuning.search import Plan, Say, conduct, folder_of
from sbridge.tuning.space import own_settings
from sbridge.tuning.study import Study, Trial
from sbridge.tuning.trial import Work, apart

__all__ = ["Sweep", "sweep_epsilon"]

_BLUE = "#0072B2"
_RANGE = (0.003, 3.0)  # of ε over the data's variance
_ERRORS = 2.0  # standard errors of a difference that count as one
_FAR = 0.5  # nats from a Schrödinger bridge, whose laws may then differ by a half in total variation (Pinsker)


@dataclass(frozen=True)
class Sweep:
    """Fits for several ε.

    Args:
        study: the trials, one for each ε.
    """

    study: Study

    @property
    def fits(self) -> list[Trial]:
        """Those that came to a figure, by rising ε."""
        judged = [trial for trial in self.study.trials if trial.objective is not None]
        return sorted(judged, key=lambda trial: trial.epsilon or 0)

    @property
    def recommended(self) -> tuple[float, float] | None:
        """The smallest and the largest ε whose fit meets the ends as well as the best, and is not far from a bridge.

        As well is within two standard errors.  Far is more than half a nat by the certificate; one that is not tight
        says nothing, and the ends decide.  None where no fit is left.  Towards the smaller ε the motion is closer to
        optimal transport, towards the larger the fit is easier.
        """
        figures = [(trial, trial.objective) for trial in self.fits if trial.objective is not None]
        best = min((figure for _, figure in figures), key=lambda figure: figure.value, default=None)
        met = [trial for trial, figure in figures if best is not None and _ties(figure, best)]
        good = [trial.epsilon or 0 for trial in met if not _known_to_be_far(trial)]
        return (min(good), max(good)) if good else None


def _known_to_be_far(trial: Trial) -> bool:
    return trial.certificate is not None and not trial.doubt and trial.certificate.value > _FAR


def _ties(figure: Estimate, best: Estimate) -> bool:
    return figure.value - best.value <= _ERRORS * float(np.hypot(figure.standard_error, best.standard_error))


def epsilons_for(problem: Problem, count: int) -> list[float]:
    """Evenly spread in their logarithm, from 0.003 to 3 variances of the data."""
    variance = Frame.of(problem).scale ** 2
    return [variance * float(value) for value in np.geomspace(*_RANGE, count)]


def sweep_epsilon(
    problem: Problem,
    epsilons: Sequence[float] = (),
    *,
    out: str | Path,
    steps: int = MaxMin.steps,
    placement: Placement | None = None,
    storage: str | None = None,
    resume: bool = False,
    random_state: int = 0,
    say: Say = print,
) -> Sweep:
    """Fit the bridge between problem.x0 and problem.x1 for several ε by max–min with its own settings.

    Writes trials.csv (ε, kinetic energy, certificate, endpoint energy distance), search.html and figures/ into `out`.

    Args:
        problem: its own ε and its exact bridge are not used.
        epsilons: by default ten, from 0.003 to 3 variances of the data.
        out, steps, placement, storage, resume, random_state, say: as in `sbridge.tune`.

    Raises:
        InputError: an ε is not positive, the folder holds something else, or the cluster has no room for a trial.
    """
    placement, wanted = placement or Placement(), list(epsilons) or epsilons_for(problem, 10)
    if min(wanted) <= 0:
        raise InputError(f"every ε must be positive, not {min(wanted)}")
    question = {"epsilons": wanted, "steps": steps, "name": problem.name, "random_state": random_state}
    kept = replace(apart(problem, random_state), truth=None)
    certified = min(len(kept.test0), len(kept.test1)) >= SMALLEST
    work = Work(kept, EndpointEnergy(), steps, random_state, placement.threads, placement.device, certified=certified)
    plan = Plan({"settings": own_settings(), "epsilon": ray_tune.grid_search(wanted)}, 1)
    with connected(placement, problem):
        folder = folder_of(Path(out), question, resume)
        finish = partial(_finish, folder=folder, question={**question, "placement": str(placement)})
        return Sweep(conduct(plan, FIFOScheduler(), work, placement, storage or str(folder), finish, say))


def _finish(study: Study, folder: Path, question: Mapping[str, Any]) -> None:
    study.write(folder)
    sweep = Sweep(study)
    asked = (
        "What does ε do here? One fit for each ε by max–min with its own settings, with the same points and steps "
        f"({question['steps']}). No ε is the right one: it is part of the question that a bridge answers. "
        f"Placement: {question['placement']}."
    )
    parts: list[Part] = [EpsilonFigure(sweep), Curves(study)]
    write(folder, f"{question['name']}: ε", [asked, _advice(sweep), *study.failures()], parts, question)


def _advice(sweep: Sweep) -> str:
    if sweep.recommended is None:
        return "No ε is recommended: all fits that meet the ends as well as the best are far from a bridge."
    low, high = sweep.recommended
    return f"Recommended for this budget: ε from {alone(low)} to {alone(high)}. Fits: {sweep.study.counted()}."


@dataclass(frozen=True)
class EpsilonFigure:
    """Kinetic energy, certificate and endpoint distance against ε."""

    sweep: Sweep

    slug = "epsilon"
    title = "What ε does"

    def applies(self) -> bool:
        return bool(self.sweep.fits)

    def exhibit(self) -> Exhibit:
        caption = (
            "Kinetic energy, distance from a Schrödinger bridge (the certificate) and energy distance at the ends of a "
            "fit for each ε, on points kept apart, with two standard errors. Certificates with a doubt are hollow. "
            "Shaded: recommended, where the ends are met as well as by the best and no tight certificate is above "
            f"{_FAR} nats."
        )
        headings = ("ε (x²)", "kinetic energy (x²)", "certificate (nats)", "endpoint distance (x)", "doubt")
        return Exhibit(_figure(self.sweep), caption, headings, [_row(trial) for trial in self.sweep.fits])


def _row(trial: Trial) -> tuple[str, ...]:
    certificate = "" if trial.certificate is None else str(trial.certificate)
    return alone(trial.epsilon or 0), alone(trial.kinetic_energy), certificate, str(trial.objective), trial.doubt


@styled
def _figure(sweep: Sweep) -> Figure:
    figure, axes = canvas(1, 3, (WIDTH / 3, 0.36 * WIDTH))
    energy, certificate, ends = axes[0]
    epsilons = [trial.epsilon or 0 for trial in sweep.fits]
    energy.plot(epsilons, [trial.kinetic_energy for trial in sweep.fits], "o-", color=_BLUE)
    for trial in sweep.fits:
        if trial.certificate is not None:
            fill = "white" if trial.doubt else _BLUE
            _mark(certificate, [trial.epsilon or 0], [trial.certificate], markerfacecolor=fill)
    _mark(ends, epsilons, [trial.objective for trial in sweep.fits if trial.objective is not None], linestyle="-")
    energy.set(ylabel="kinetic energy (x²)")
    certificate.set(ylabel="certificate (nats)")
    ends.set(ylabel="endpoint energy distance (x)")
    for ax in axes.flat:
        ax.set(xscale="log", xlabel="ε (x²)", xlim=(epsilons[0] / 1.5, epsilons[-1] * 1.5))
        plain_marks(ax.xaxis)
        if sweep.recommended is not None:
            ax.axvspan(*sweep.recommended, color="#009E73", alpha=0.12, label="recommended")
    if sweep.recommended is not None:
        energy.legend()
    return figure


def _mark(ax: Axes, epsilons: Sequence[float], figures: Sequence[Estimate], **look: Any) -> None:
    values = [figure.value for figure in figures]
    errors = [_ERRORS * figure.standard_error for figure in figures]
    ax.errorbar(epsilons, values, yerr=errors, marker="o", color=_BLUE, **look)
