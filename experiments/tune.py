"""Claim: a search over the hyperparameters of max–min finds settings with a smaller path KL than the defaults, at the
same budget of points (entropic transport benchmark, d = 16, 2ε = 1).

    .venv/bin/python experiments/tune.py                   # 24 trials of 6,000 steps, two at a time: about an hour
    .venv/bin/python experiments/tune.py --trials 4 --steps 200

The best trial's settings and the solver's own are then fitted afresh to all training points, with three seeds each, and
judged on test points that the search has not seen.  An interrupted run goes on.
"""

import argparse
import shutil
from collections.abc import Mapping

import torch
from bench import RESULTS
from figures import Rows, mean_of

from sbridge import tune
from sbridge.evidence.metrics import path_kl
from sbridge.problem import Problem
from sbridge.problems.mixture import Mixture
from sbridge.tune.figures import importances
from sbridge.tune.space import Settings, solver_of

FOLDER = RESULTS / "tune"
SEEDS = (1, 2, 3)
TITLES = {"method": "settings", "path_kl": "path KL (nats)", "values": "values"}


def search(problem: Problem, trials: int, steps: int) -> tune.Study:
    """The trials, and their tables and figures in results/tune."""
    work = RESULTS.parent / "runs" / f"tune-{trials}-{steps}"
    placement = tune.Placement(concurrent=2)
    resume = (work / "study.json").exists()
    study = tune.tune(problem, out=work, trials=trials, steps=steps, placement=placement, resume=resume)
    for name in ("trials.csv", "curves.csv", "study.json"):
        shutil.copy(work / name, FOLDER)
    shutil.copytree(work / "figures", FOLDER, dirs_exist_ok=True)
    return study


def judged(problem: Problem, settings: Settings, steps: int) -> tuple[float, ...]:
    """Path KL of a fit for each seed."""
    assert problem.truth is not None
    found = []
    for seed in SEEDS:
        bridge = solver_of(settings, steps).solve(problem, seed)
        found.append(path_kl(bridge, problem.truth, problem.test0[:4000], torch.Generator().manual_seed(7)).value)
    return tuple(found)


def words(settings: Mapping[str, object]) -> str:
    """Settings in a cell."""
    cells = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in settings.items()}
    return ", ".join(f"{name} {cell}" for name, cell in cells.items())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--steps", type=int, default=6000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    problem = Mixture(dim=16, epsilon=0.5).build()
    study = search(problem, options.trials, options.steps)
    assert study.best is not None
    rows = Rows(FOLDER, "equal_budget", TITLES)
    for method, settings in (("defaults", tune.Space().defaults()[0]), ("best trial", study.best.settings)):
        if rows.missing(method=method):
            rows.add(method=method, path_kl=mean_of(judged(problem, settings, options.steps)), values=words(settings))
    shares = Rows(FOLDER, "importances", {"hyperparameter": "hyperparameter", "share": "share of the spread"})
    shares.rows.clear()
    found = importances(study, tune.Space())
    shares.extend([{"hyperparameter": name, "share": share} for name, share in found.items()])
    print(study.counted())


if __name__ == "__main__":
    main()
