"""Question: does a search over the hyperparameters of max–min find settings with a smaller path KL than the defaults,
from as many points and in equal time (entropic transport benchmark, d = 16, 2ε = 1)?

    .venv/bin/python experiments/tune.py     # 24 trials of 3,000 steps, two at a time, then 6 fits of 60 s: 15 minutes
    .venv/bin/python experiments/tune.py --trials 4 --steps 200 --seconds 5

The search is successive halving over the default space without the mixture potential: on this benchmark that is the
family of the answer, and would decide everything.  A trial sees as many points as any other and may take its time; the
solver's own settings are the first.  The best trial's settings and the solver's own are then fitted afresh to all
training points, with three seeds and as many steps as fit into the same time, and judged on test points that the search
has not seen.  An interrupted experiment goes on.
"""

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch
from bench import RESULTS
from figures import Rows

from sbridge import tuning
from sbridge.evaluation.metrics import path_kl
from sbridge.problem import Problem
from sbridge.problems.mixture import Mixture
from sbridge.solvers.maxmin import MaxMin
from sbridge.tuning.figures import importances
from sbridge.tuning.space import Settings, own_settings, solver_of

SEEDS = (1, 2, 3)
PACE_STEPS = 300  # that the time of a step is taken from
SPACE = replace(tuning.Space(), prior=tuning.Choice((None,)))
TITLES = {"settings": "settings", "seed": "seed", "path_kl": "path KL (nats)", "steps": "steps", "seconds": "fit (s)"}
TITLES |= {"values": "values"}


def asked(name: str, **numbers: int) -> argparse.Namespace:
    """The numbers that the command line asks for and `out`, the folder of tables, which is made; on one thread."""
    parser = argparse.ArgumentParser()
    for option, default in numbers.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=RESULTS / name)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    return options


def search(problem: Problem, trials: int, steps: int, out: Path) -> tuning.Study:
    """The trials; their tables, page and figures are copied to `out`."""
    work = RESULTS.parent / "runs" / f"tune-{trials}-{steps}"
    placement = tuning.Placement(concurrent=2)
    resume = (work / "study.json").exists()
    study = tuning.tune(problem, SPACE, out=work, trials=trials, steps=steps, placement=placement, resume=resume)
    for name in ("trials.csv", "curves.csv", "study.json", "search.html"):
        shutil.copy(work / name, out)
    shutil.copytree(work / "figures", out, dirs_exist_ok=True)
    return study


def lasting(solver: MaxMin, problem: Problem, seconds: float) -> MaxMin:
    """The solver with as many steps as take that long."""
    training, begin = solver.start(problem), perf_counter()
    step = next(progress.step for progress in training if progress.step >= PACE_STEPS)
    return replace(solver, steps=round(seconds * step / (perf_counter() - begin)))


def refit(problem: Problem, settings: Settings, seconds: float, seed: int) -> dict[str, object]:
    """A fit of that many seconds, judged."""
    assert problem.truth is not None
    solver, begin = lasting(solver_of(settings, MaxMin.steps), problem, seconds), perf_counter()
    bridge = solver.solve(problem, seed)
    taken = perf_counter() - begin
    figure = path_kl(bridge, problem.truth, problem.test0[:4000], torch.Generator().manual_seed(7))
    return {"path_kl": figure, "steps": float(solver.steps), "seconds": taken, "values": words(settings)}


def words(settings: Mapping[str, object]) -> str:
    """Settings in a cell."""
    cells = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in settings.items()}
    return ", ".join(f"{name} {cell}" for name, cell in cells.items())


def main() -> None:
    options = asked("tune", trials=24, steps=3000, seconds=60)
    problem = Mixture(dim=16, epsilon=0.5).build()
    study = search(problem, options.trials, options.steps, options.out)
    assert study.best is not None
    rows = Rows(options.out, "equal_time", TITLES)
    for seed in SEEDS:
        for name, settings in (("defaults", own_settings()), ("best trial", study.best.settings)):
            if rows.missing(settings=name, seed=str(seed)):
                rows.add(settings=name, seed=str(seed), **refit(problem, settings, options.seconds, seed))
    shares = Rows(options.out, "importances", {"hyperparameter": "hyperparameter", "share": "share of the spread"})
    shares.fill([{"hyperparameter": name, "share": share} for name, share in importances(study, SPACE).items()])
    rows.write(f"Trials: {study.counted()}; the best is number {study.best.number}.\n", shares.markdown())


if __name__ == "__main__":
    main()
