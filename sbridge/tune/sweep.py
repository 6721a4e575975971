"""What ε does to one pair of datasets: the same solver, the same budget, one fit for each ε.

ε is part of the problem, so no fit is better than another for its ε.  What changes is how much energy the motion takes
and how well fits of this budget meet the ends; where the latter gets worse, ε is too small (or too large) for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from ray import tune as ray_tune
from ray.tune.schedulers import FIFOScheduler

from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.problem import Frame, Problem
from sbridge.report.style import WIDTH, canvas, png, styled
from sbridge.solvers.maxmin import MaxMin
from sbridge.storage import replace_atomically
from sbridge.tune.cluster import Placement, connected
from sbridge.tune.objectives import EndpointEnergy
from sbridge.tune.search import Plan, Say, conduct, folder_of
from sbridge.tune.space import Space
from sbridge.tune.study import Study, Trial
from sbridge.tune.trial import Work, apart

__all__ = ["Sweep", "sweep_epsilon"]

_RANGE = (0.003, 3.0)  # of ε over the data's variance
_ERRORS = 2.0  # standard errors of a difference that count as one


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
        """The smallest and the largest ε whose fit meets the ends as well as the best, within two standard errors.

        Towards the smaller the motion is closer to optimal transport, towards the larger the fit is easier.
        """
        figures = [(trial.epsilon or 0, trial.objective) for trial in self.fits if trial.objective is not None]
        if not figures:
            return None
        best = min((figure for _, figure in figures), key=lambda figure: figure.value)
        good = [epsilon for epsilon, figure in figures if _ties(figure, best)]
        return min(good), max(good)


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

    Writes trials.csv (ε, endpoint energy distance, kinetic energy), epsilon.png and each fit's curve into `out`.

    Args:
        problem: its own ε and its exact bridge are not used.
        epsilons: by default ten, from 0.003 to 3 variances of the data.
        out, steps, placement, storage, resume, random_state, say: as in `sbridge.tune.tune`.

    Raises:
        InputError: an ε is not positive, the folder holds something else, or the cluster has no room for a trial.
    """
    placement, wanted = placement or Placement(), list(epsilons) or epsilons_for(problem, 10)
    if min(wanted) <= 0:
        raise InputError(f"every ε must be positive, not {min(wanted)}")
    question = {"epsilons": wanted, "steps": steps, "name": problem.name, "random_state": random_state}
    kept = replace(apart(problem, random_state), truth=None)
    work = Work(kept, EndpointEnergy(), steps, random_state, placement.threads, placement.device)
    own = Space().defaults()[0]
    plan = Plan({"settings": own, "epsilon": ray_tune.grid_search(wanted)}, 1)
    with connected(placement, problem):
        folder = folder_of(Path(out), question, resume)
        finish = partial(_finish, folder=folder)
        return Sweep(conduct(plan, FIFOScheduler(), work, placement, storage or str(folder), finish, say))


def _finish(study: Study, folder: Path) -> None:
    study.write(folder)
    sweep = Sweep(study)
    if sweep.fits:
        image = png(_figure(sweep))
        replace_atomically(folder / "epsilon.png", lambda path: path.write_bytes(image))


@styled
def _figure(sweep: Sweep) -> Figure:
    figure, axes = canvas(1, 2, (WIDTH / 2, 0.4 * WIDTH))
    epsilons = [trial.epsilon for trial in sweep.fits]
    ends = [trial.objective for trial in sweep.fits if trial.objective is not None]
    errors = [_ERRORS * figure.standard_error for figure in ends]
    axes[0, 0].errorbar(epsilons, [figure.value for figure in ends], yerr=errors, fmt="o-", color="#0072B2")
    axes[0, 1].plot(epsilons, [trial.kinetic_energy for trial in sweep.fits], "o-", color="#0072B2")
    axes[0, 0].set(ylabel="endpoint energy distance (x)")
    axes[0, 1].set(ylabel="kinetic energy (x²)")
    for ax in axes.flat:
        ax.set(xscale="log", xlabel="ε (x²)")
        if sweep.recommended is not None:
            ax.axvspan(*sweep.recommended, color="#009E73", alpha=0.12, label="recommended")
    axes[0, 0].legend()
    return figure
