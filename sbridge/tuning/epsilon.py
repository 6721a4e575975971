"""The effect of ε on one pair of datasets: the same solver and the same budget, one fit for each ε.

ε is part of the problem, so no fit is better than another because of its ε.  What changes is the kinetic energy, how
close the endpoints of a fit with this budget are to the data, and its certificate, with references fitted for each ε.
Where the latter two get worse, ε is too small (or too large) for this budget.
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
from sbridge.estimates import Estimate, rounded
from sbridge.evaluation.certificate.estimate import SMALLEST
from sbridge.problem import Frame, Problem
from sbridge.report.material import Exhibit
from sbridge.report.style import BLUE, GREEN, WIDTH, canvas, plain_powers, styled
from sbridge.solvers.maxmin import MaxMin
from sbridge.tuning.cluster import Placement, connected
from sbridge.tuning.criteria import EndpointEnergy
from sbridge.tuning.figures import trial_curves
from sbridge.tuning.search import Candidates, Say, conduct, folder_of, write_search
from sbridge.tuning.space import own_settings
from sbridge.tuning.study import Study, Trial
from sbridge.tuning.trial import Work, for_search

__all__ = ["EpsilonStudy", "sweep_epsilon"]

_RELATIVE_RANGE = (0.003, 3.0)  # of ε over the data's variance
_ERRORS = 2.0  # standard errors; smaller differences are not significant
_FAR = 0.5  # nats from a Schrödinger bridge: by Pinsker, the total variation is then at most a half


@dataclass(frozen=True)
class EpsilonStudy:
    """Fits for several ε.

    Args:
        study: the trials, one for each ε.
    """

    study: Study

    @property
    def fits(self) -> list[Trial]:
        """The trials that have a criterion, by increasing ε."""
        return sorted((trial for trial, _ in self.study.valued), key=lambda trial: trial.epsilon or 0)

    @property
    def recommended(self) -> tuple[float, float] | None:
        """The smallest and the largest ε whose fit has endpoints as good as the best fit and is not far from a bridge.

        As good: within two standard errors.  Far: a tight certificate above half a nat; certificates that are not
        tight are ignored.  None if there is no such fit.  A smaller ε is closer to optimal transport; a larger ε is
        easier to fit.
        """
        best = self.study.best
        if best is None or best.criterion is None:
            return None
        close = [trial for trial, value in self.study.valued if _ties(value, best.criterion)]
        good = [trial.epsilon or 0 for trial in close if not _known_to_be_far(trial)]
        return (min(good), max(good)) if good else None


def _known_to_be_far(trial: Trial) -> bool:
    return trial.certificate is not None and not trial.doubt and trial.certificate.value > _FAR


def _ties(value: Estimate, best: Estimate) -> bool:
    return value.value - best.value <= _ERRORS * float(np.hypot(value.standard_error, best.standard_error))


def epsilons_for(problem: Problem, count: int) -> list[float]:
    """Equally spaced in their logarithm, from 0.003 to 3 variances of the data."""
    variance = Frame.of(problem).scale ** 2
    return [variance * float(value) for value in np.geomspace(*_RELATIVE_RANGE, count)]


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
) -> EpsilonStudy:
    """Fit the bridge between problem.x0 and problem.x1 for several ε by max–min with its own settings.

    Writes trials.csv (ε, kinetic energy, certificate, endpoint energy distance), search.html and figures/ into `out`.

    Args:
        problem: its own ε and its exact bridge are not used.
        epsilons: by default ten, from 0.003 to 3 variances of the data.
        out, steps, placement, storage, resume, random_state, say: as in `sbridge.tune`.

    Raises:
        InputError: an ε is not positive, the folder holds another search, or the cluster has no room for a trial.
    """
    placement, wanted = placement or Placement(), list(epsilons) or epsilons_for(problem, 10)
    if min(wanted) <= 0:
        raise InputError(f"every ε must be positive, not {min(wanted)}")
    question = {"epsilons": wanted, "steps": steps, "name": problem.name, "random_state": random_state}
    kept = replace(for_search(problem, random_state), truth=None)
    certified = min(len(kept.test0), len(kept.test1)) >= SMALLEST
    work = Work(kept, EndpointEnergy(), steps, random_state, placement.threads, placement.device, certified=certified)
    candidates = Candidates({"settings": own_settings(), "epsilon": ray_tune.grid_search(wanted)}, 1)
    with connected(placement, problem):
        folder = folder_of(Path(out), question, resume)
        finish = partial(_finish, folder=folder, question={**question, "placement": str(placement)})
        return EpsilonStudy(conduct(candidates, FIFOScheduler(), work, placement, storage or str(folder), finish, say))


def _finish(study: Study, folder: Path, question: Mapping[str, Any]) -> None:
    study.write(folder)
    found = EpsilonStudy(study)
    asked = (
        "What is the effect of ε? One fit for each ε by max–min with its own settings, with the same points and steps "
        f"({question['steps']}). No ε is the right one: it is part of the problem. "
        f"Placement: {question['placement']}."
    )
    exhibits = [*epsilon_figure(found), *trial_curves(study)]
    write_search(folder, f"{question['name']}: ε", [asked, _advice(found), *study.failures()], exhibits, question)


def _advice(found: EpsilonStudy) -> str:
    if found.recommended is None:
        return "No ε is recommended: all fits whose endpoints are as good as the best are far from a bridge."
    low, high = found.recommended
    return f"Recommended for this budget: ε from {rounded(low)} to {rounded(high)}. Fits: {found.study.counted()}."


def epsilon_figure(found: EpsilonStudy) -> list[Exhibit]:
    """Kinetic energy, certificate and endpoint distance against ε."""
    if not found.fits:
        return []
    caption = (
        "Kinetic energy, distance from a Schrödinger bridge (the certificate) and energy distance at the ends of the "
        "fit for each ε, on held-out points, with two standard errors. Certificates that are not tight are hollow. "
        "Shaded: recommended, where the endpoints are as good as the best and no tight certificate is above "
        f"{_FAR} nats."
    )
    return [Exhibit("epsilon", "The effect of ε", _figure(found), caption, [_row(trial) for trial in found.fits])]


def _row(trial: Trial) -> dict[str, str]:
    return {
        "ε (x²)": rounded(trial.epsilon or 0),
        "kinetic energy (x²)": rounded(trial.kinetic_energy),
        "certificate (nats)": "" if trial.certificate is None else str(trial.certificate),
        "endpoint distance (x)": str(trial.criterion),
        "doubt": trial.doubt,
    }


@styled
def _figure(found: EpsilonStudy) -> Figure:
    figure, axes = canvas(1, 3, (WIDTH / 3, 0.36 * WIDTH))
    energy, certificate, ends = axes[0]
    for trial in found.fits:
        epsilon, fill = trial.epsilon or 0, "white" if trial.doubt else BLUE
        energy.plot(epsilon, trial.kinetic_energy, "o", color=BLUE)
        _mark(certificate, epsilon, trial.certificate, markerfacecolor=fill)
        _mark(ends, epsilon, trial.criterion)
    energy.set(ylabel="kinetic energy (x²)")
    certificate.set(ylabel="certificate (nats)")
    ends.set(ylabel="endpoint energy distance (x)")
    epsilons = [trial.epsilon or 0 for trial in found.fits]
    for ax in axes.flat:
        ax.set(xscale="log", xlabel="ε (x²)", xlim=(epsilons[0] / 1.5, epsilons[-1] * 1.5))
        plain_powers(ax.xaxis)
        if found.recommended is not None:
            ax.axvspan(*found.recommended, color=GREEN, alpha=0.12, label="recommended")
    if found.recommended is not None:
        energy.legend()
    return figure


def _mark(ax: Axes, epsilon: float, value: Estimate | None, **look: Any) -> None:
    if value is not None:
        ax.errorbar(epsilon, value.value, _ERRORS * value.standard_error, fmt="o", color=BLUE, **look)
