"""On a GPU: every solver, every answer, checkpoints, the command line and Ray, beside what the CPU says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from members import members
from numpy.typing import NDArray

import sbridge
from sbridge import couplings, times
from sbridge.baselines.markovian import MarkovianFitting
from sbridge.baselines.score_flow import ScoreFlowMatching
from sbridge.bridge import Bridge
from sbridge.cli import main
from sbridge.couplings import Coupling
from sbridge.evaluation import Effort
from sbridge.evaluation.metrics import path_kl
from sbridge.io import Run
from sbridge.networks import ResidualNetwork
from sbridge.plans import entropic_plan
from sbridge.problem import Problem
from sbridge.problems.gaussian import Gaussian
from sbridge.problems.mixture import Mixture
from sbridge.solvers import Solver
from sbridge.times import TimeDensity

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

NETWORK: dict[str, Any] = {"steps": 60, "batch": 64, "network": ResidualNetwork(16, 2)}
SMALL: dict[str, Any] = {**NETWORK, "group": 16}

SOLVERS: dict[str, Solver] = {
    "all learned": sbridge.MaxMin(learn_gamma=True, coupling=sbridge.Independent, **SMALL),
    "on the potential": sbridge.MaxMin(prior=sbridge.MixturePotential(components=2), **SMALL),
    "noising": sbridge.Regression(interpolant=sbridge.Trigonometric, gamma=sbridge.SineSquared, **SMALL),
    "IMF": MarkovianFitting(**NETWORK, iterations=2),
    "SF2M": ScoreFlowMatching(**NETWORK),
    "potential": sbridge.MixturePotential(),
    "full potential": sbridge.FullMixturePotential(),
    "POT": sbridge.PotSinkhorn(points=200),
    "GeomLoss": sbridge.GeomlossSinkhorn(points=200),
    "blockwise": sbridge.BlockwiseSinkhorn(points=200),
    **{
        kind.__name__: sbridge.Regression(coupling=kind, **SMALL)
        for kind in members(couplings, Coupling)
    },
    **{
        kind.__name__: sbridge.Regression(times=kind, coupling=sbridge.Independent, **SMALL)
        for kind in members(times, TimeDensity)
    },
}


def _cloud(n: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n, 2)) * [1.0, 0.5 + seed] + seed


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Gaussian(dim=2, epsilon=0.5, samples=4000, test_samples=1000).build().to("cuda")


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=list(SOLVERS))
def test_a_fit_answers_there_and_is_the_same_bridge_on_the_cpu(solver: Solver, tmp_path: Path) -> None:
    fitted = sbridge.SchrodingerBridge(epsilon=0.5, solver=solver, device="cuda").fit(_cloud(600, 0), _cloud(500, 1))
    assert {tensor.device.type for tensor in fitted.bridge_.state_dict().values()} == {"cuda"}
    x = _cloud(50, 2)
    for direction in ("forward", "backward"):
        moved = fitted.transport(x, direction, random_state=0)
        assert isinstance(moved, np.ndarray)
        assert np.isfinite(moved).all()
    fitted.save(tmp_path / "bridge.safetensors")
    again = Bridge.load(tmp_path / "bridge.safetensors")
    for field in ("forward_drift", "backward_drift"):
        there, here = (getattr(bridge, field)(0.4, x) for bridge in (fitted, again))
        np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-3)


def test_what_a_fit_is_asked_afterwards_is_computed_there(tmp_path: Path) -> None:
    x0, x1 = _cloud(600, 0), _cloud(600, 1)
    fitted = sbridge.SchrodingerBridge(epsilon=0.5, solver=sbridge.MixturePotential(), device="cuda").fit(x0, x1)
    new0, new1 = _cloud(500, 0) + 0.01, _cloud(500, 1) + 0.01
    assert fitted.certificate(new0, new1, random_state=0).forward.distance.value < 0.1
    fitted.save(tmp_path / "bridge.safetensors")
    here = Bridge.load(tmp_path / "bridge.safetensors")
    assert np.isfinite(fitted.log_prob(new1[:50]).value).all()
    assert np.isfinite(fitted.cross_entropy(new1[:50], method="sde", random_state=0).value)
    flows = [bridge.transport(new0, diffusion=0) for bridge in (fitted, here)]
    np.testing.assert_allclose(*flows, atol=1e-3)


def test_max_min_recovers_the_bridge(problem: Problem) -> None:
    solver = sbridge.MaxMin(steps=1500)
    assert problem.truth is not None
    bridge = solver.solve(problem)
    found = path_kl(bridge, problem.truth, problem.test0, torch.Generator("cuda").manual_seed(0))
    assert found.value < 0.02


def test_a_training_goes_on_from_its_checkpoint(problem: Problem, tmp_path: Path) -> None:
    solver = replace(sbridge.MaxMin(**SMALL), learn_gamma=True)
    straight, stopped = solver.start(problem), solver.start(problem)
    for _ in straight:
        pass
    for progress in stopped:
        if progress.step >= 30:
            break
    torch.save(stopped.state_dict(), tmp_path / "training.pt")
    again = solver.start(problem)
    again.load_state_dict(torch.load(tmp_path / "training.pt", weights_only=True, map_location="cuda"))
    for _ in again:
        pass
    x = problem.test0
    torch.testing.assert_close(
        again.bridge().forward_drift(0.3, x), straight.bridge().forward_drift(0.3, x), rtol=1e-3, atol=1e-3
    )


def test_plans_are_those_of_the_cpu() -> None:
    x0, x1 = (torch.as_tensor(_cloud(3000, seed)) for seed in (0, 1))
    here, there = (entropic_plan(x0.to(place), x1.to(place), 0.3, tolerance=1e-9) for place in ("cpu", "cuda"))
    torch.testing.assert_close(there.g.cpu(), here.g, rtol=0, atol=1e-7)


@pytest.mark.parametrize("source", [Gaussian(dim=2, samples=1000, test_samples=200), Mixture(dim=2, samples=1000)])
def test_methods_are_judged_there(source: Any) -> None:
    problem, methods = source.build().to("cuda"), {"POT": sbridge.PotSinkhorn(points=100)}
    effort = Effort(points=100, matched=50, starts=10, per_start=50, steps=10, times=4)
    here, there = (sbridge.compare(methods, where, effort=effort).rows for where in (problem.to("cpu"), problem))
    assert there.keys() == here.keys()
    for name, row in there.items():
        assert row.keys() == here[name].keys()
        assert row["remark"] == here[name]["remark"]


def test_the_command_line_fits_there(tmp_path: Path) -> None:
    words = ["recover", "gaussian", "--dim", "2", "--samples", "2000", "--steps", "100", "--device", "cuda", "--out"]
    assert main([*words, str(tmp_path / "run")]) == 0
    assert Run.open(tmp_path / "run").config["settings"]["device"] == "cuda"
    assert (tmp_path / "run" / "report.html").exists()
    np.save(tmp_path / "points.npy", _cloud(20, 0))
    words = ["sample", str(tmp_path / "run"), "--input", str(tmp_path / "points.npy")]
    assert main([*words, "--out", str(tmp_path / "moved.npy")]) == 0
    assert np.isfinite(np.load(tmp_path / "moved.npy")).all()


RAY_LEAVES = [
    pytest.mark.filterwarnings(f"ignore::{name}")
    for name in ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning", "DeprecationWarning")
]


class TestRay:
    """Trials on quarters of a GPU."""

    pytestmark = RAY_LEAVES

    def test_four_trials_share_a_gpu(self, tmp_path: Path) -> None:
        pytest.importorskip("ray")
        from sbridge import tuning

        problem = Gaussian(dim=2, epsilon=0.5, samples=2000, test_samples=500).build()
        study = sbridge.tune(
            problem, out=tmp_path, trials=4, steps=200, placement=tuning.Placement(gpus_per_trial=0.25), say=str
        )
        assert [trial.status for trial in study.trials].count("failed") == 0
        assert (tmp_path / "bridge.safetensors").exists()
