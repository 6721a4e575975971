"""Claim: the plug-in drift of a converged plan has a cBW-UVP within twice its sampling floor (Gaussians, n = 4,000).

    .venv/bin/python experiments/plug_in.py
"""

import csv

import torch
from bench import RESULTS

from sbridge import PotSinkhorn
from sbridge.evaluation import cbw_uvp
from sbridge.evaluation.metrics import cbw_uvp_floor
from sbridge.problems.gaussian import Gaussian

STARTS, PER_START = 40, 300

torch.set_num_threads(1)
problem = Gaussian(dim=2, epsilon=0.5, samples=4000).build()
truth = problem.truth
assert truth is not None
bridge = PotSinkhorn(points=4000).solve(problem)
starts = problem.test0[:STARTS]
plug_in = cbw_uvp(bridge, truth, starts, PER_START, torch.Generator().manual_seed(1))
floor = cbw_uvp_floor(truth, starts, PER_START, torch.Generator().manual_seed(2))
(RESULTS / "plug_in").mkdir(parents=True, exist_ok=True)
with open(RESULTS / "plug_in" / "cbw_uvp.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["row", "cBW-UVP (%)", "standard error", "remark"])
    table.writerow(["plug-in of POT's plan", f"{plug_in.value:.3f}", f"{plug_in.standard_error:.3f}", bridge.remark])
    table.writerow(["floor", f"{floor.value:.3f}", f"{floor.standard_error:.3f}", ""])
for name, estimate in (("plug-in", plug_in), ("floor", floor)):
    print(f"{name}: {estimate.value:.3f} ± {estimate.standard_error:.3f} %")
