"""Runs of closed forms, with all files that a run has, for the tests of its page."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import torch
from torch import Tensor

from sbridge.baselines.sinkhorn import PotSinkhorn
from sbridge.bridge import Bridge, ExactBridge
from sbridge.estimates import Estimate
from sbridge.evaluation import Effort, Evaluator
from sbridge.evaluation.certificate.columns import ColumnGap
from sbridge.evaluation.certificate.statement import (
    Certificate,
    Distance,
    EndCheck,
    Meeting,
    Passage,
    Residual,
)
from sbridge.fields import Field
from sbridge.interpolants import Brownian, Interpolant, LearnedMean, Linear
from sbridge.io import Run
from sbridge.problem import Problem
from sbridge.problems.gaussian import GaussianBridge

SMALL = Effort(points=60, matched=60, projections=8, steps=5, times=2, starts=5, per_start=5)
NASTY = '<script>alert("x")</script> & $x_1$ ’ß'


class Constant(Field):
    """A drift that is the same everywhere."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.value.expand_as(x)


class Shifted(Field):
    """A drift plus a constant."""

    value: Tensor

    def __init__(self, inner: Field, value: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("value", value)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.inner(t, x) + self.value


def gaussian(dim: int, epsilon: float = 0.2) -> GaussianBridge:
    generator = torch.Generator().manual_seed(dim)
    root = torch.randn(dim, dim, generator=generator) / sqrt(dim)
    return GaussianBridge(
        torch.zeros(dim), torch.eye(dim) / 4, torch.ones(dim) / 2, root @ root.T / 4 + torch.eye(dim) / 9, epsilon
    )


def problem_of(dim: int, name: str, truth: ExactBridge | None = None) -> Problem:
    exact, generator = gaussian(dim), torch.Generator().manual_seed(0)
    starts = [torch.randn(n, dim, generator=generator) / 2 for n in (80, 60, 80, 60)]
    x0, test0, x1, test1 = starts[0], starts[1], *(exact.endpoints(x, generator) for x in starts[2:])
    return Problem(x0, x1, exact.epsilon, test0, test1, name, truth)


def learned(dim: int, epsilon: float) -> Interpolant:
    interpolant = LearnedMean(Linear(Brownian(epsilon)), dim, 1.0, 1.0, width=8, depth=1)
    with torch.no_grad():
        interpolant.body.last.bias.fill_(0.5)
    return interpolant


def pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 4, (2, 9, 12, 3), generator=generator) / 3  # so that colours repeat
    return coarse[0], coarse[1]


KINDS = {
    "planar": (2, NASTY, False),
    "line": (1, "line", False),
    "gaussian": (5, "gaussian", True),
    "photos": (3, "photos", False),
}
COLUMNS = ("age [years]", "body weight (kg)", "glucose, fasting", "a < b & d", "pulse")
ALWAYS = ["movement", "ends", "training", "interpolant"]
EXPECTED = {
    "planar": [*ALWAYS[:2], "certificate", *ALWAYS[2:]],
    "line": ALWAYS,
    "gaussian": [*ALWAYS, "drift_error"],
    "photos": ["recolouring", *ALWAYS],
}


def make_run(folder: Path, kind: str) -> Run:
    """A run of a closed-form bridge with a learned interpolant and a Sinkhorn that did not converge."""
    dim, name, known = KINDS[kind]
    exact = gaussian(dim)
    problem = problem_of(dim, name, exact if known else None)
    fitted = Bridge(exact.forward_field, exact.backward_field, exact.epsilon, learned(dim, exact.epsilon))
    methods: dict[str, Bridge] = {
        NASTY: fitted,
        "POT Sinkhorn": PotSinkhorn(points=40, iterations=1, tolerance=1e-9).solve(problem),
    }
    files = {method: f"{k}.safetensors" for k, method in enumerate(methods)}
    source = {"class": kind.capitalize(), "samples": 80}
    settings = {"name": name, "epsilon": exact.epsilon, "seed": 7, "threads": 1, "problem": source}
    settings["columns"] = COLUMNS if kind == "gaussian" else None
    config = {"settings": settings, "methods": files, "environment": {"torch": "2.x"}, "command": f"sbridge {NASTY}"}
    run = Run.create(folder / kind, config, problem)
    for method, file in files.items():
        methods[method].save(run.path(file))
    values = {"held_out_loss": -1.0, "training_loss": -2.0, "reference_loss": 0.5, "kinetic_energy": 3.0}
    run.write_history(
        [{"step": float(step), **{key: value / (1 + step) for key, value in values.items()}} for step in range(5)]
    )
    run.write_certificate(CERTIFICATE if kind == "planar" else "x0 has 60 held-out points; a certificate needs 100")
    judge = Evaluator.of(problem, effort=SMALL)
    rows = {method: judge.row(bridge) for method, bridge in methods.items()}
    judge.table({**rows, **judge.references()}).to_json(run.path("comparison.json"))
    return run


def passage(distance: float, end: float) -> Passage:
    some, none = Estimate(0.5, 0.1), Estimate(0.0, 0.001)
    ends = EndCheck(3700, Estimate(end, 0.02), 0.03, 0.005 if end > 0.03 else 0.4, 0.01, 0.1, 2)
    return Passage(
        starts=256,
        paths=64,
        distance=Estimate(distance, 0.002),
        fewer_paths=none,
        fewer_steps=none,
        residual=Residual(0.61, 0.62),
        dual=Estimate(12.5, 0.1),
        behind=Estimate(-1.0, 0.1),
        end_error=none,
        ends=ends,
        smooth=Estimate(0.001, 0.0005),
        column=ColumnGap("c1", 0.01, 0.02, 0.03, 0.05, 0.4),
        hjb=some,
        curl=Estimate(0.02, 0.001),
        turning=Estimate(9.0, 0.1),
    )


CERTIFICATE = Certificate(
    0.2, passage(0.317, -0.004), passage(0.5, 2.25), Meeting(*(Distance(k / 10, 0.01) for k in range(3)))
)
