"""Question: do values, which do not know the true bridge, put fits in the order of their divergence from it?

    python experiments/ranking.py

The problems and fits of `certificate.py`, from which a mixture potential or a Gaussian is taken as the reference.  The
*lead* of a fit is by how many nats it is nearer to the true bridge than the reference: as values on held-out points say
(`sbridge.evaluation.value`), and in truth, by KL(P*‖P_û) up to t = .99.  A lead is right if it is off by less than a
fifth or two standard errors.  Two fits of a problem whose true divergences differ by more than 20 % are a pair, and it
is in order if the nearer one has the higher value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import combinations
from pathlib import Path
from time import perf_counter

import torch
import tyro
from certificate import FITS, PATHS, Fit, chosen, problems
from common import RESULTS, Cell, Rows

from sbridge import Problem
from sbridge.estimates import Estimate
from sbridge.evaluation.metrics import path_kl
from sbridge.evaluation.value import reference_for, values
from sbridge.potentials.bridge import PotentialBridge

TITLES = {"problem": "problem", "fit": "fit", "path_kl": "KL(P*‖P_û)", "lead": "lead", "true_lead": "true lead"}
TITLES |= {"seconds": "s"}
SHARES = {"fits": "fits, other than the reference", "right": "leads right", "pairs": "pairs", "ordered": "in order"}
OFF, APART = 0.2, 1.2


def ranked(problem: Problem, fit: Fit, fitted: Callable[[], PotentialBridge]) -> Mapping[str, Cell]:
    """A row of a fit, compared with the reference that `fitted` gives."""
    truth, generator = problem.truth, torch.Generator().manual_seed(1)
    assert truth is not None
    bridge, reference = fit.bridge(problem), fitted()
    begin = perf_counter()
    own, other = (torch.tensor(values(one, reference, problem.test0, problem.test1, 0)) for one in (bridge, reference))
    seconds = perf_counter() - begin
    kl, kl_reference = (path_kl(one, truth, problem.test0[:PATHS], generator) for one in (bridge, reference))
    true_lead = kl_reference.value - kl.value
    return {"lead": Estimate.of(own - other), "true_lead": str(true_lead), "path_kl": kl, "seconds": seconds}


def right(row: Mapping[str, str]) -> bool:
    off = abs(float(row["lead"]) - float(row["true_lead"]))
    return off < OFF * abs(float(row["true_lead"])) or off < 2 * float(row["lead_se"])


def pairs(rows: list[dict[str, str]]) -> list[bool]:
    """Whether each pair of fits of one problem is in order."""
    found = []
    for one, other in combinations(rows, 2):
        true = [float(row["path_kl"]) for row in (one, other)]
        if one["problem"] == other["problem"] and max(true) > APART * min(true):
            found.append((true[0] < true[1]) == (float(one["lead"]) > float(other["lead"])))
    return found


def main(out: Path = RESULTS / "ranking") -> None:
    torch.set_num_threads(1)
    table = Rows(out, "ranking")
    for place, problem in enumerate(problems(0)):
        fitted = cache(partial(reference_for, problem, 0))
        for name in FITS:
            if name in chosen(place):
                key = {"problem": f"{problem.name} ε={problem.epsilon:g}", "fit": name}
                table.once(partial(ranked, problem, FITS[name], fitted), **key)
    counted, found = Rows(out, "shares"), pairs(table.rows)
    others = [row for row in table.rows if float(row["lead_se"])]  # than the reference itself
    counts = {"fits": len(others), "right": sum(map(right, others)), "pairs": len(found), "ordered": sum(found)}
    counted.replace([{name: str(count) for name, count in counts.items()}])
    counted.table(SHARES)
    table.table(TITLES)


if __name__ == "__main__":
    tyro.cli(main)
