"""Few points a side: every solver works from ten on, or says at once how many it needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import sbridge
from sbridge.baselines.markovian import MarkovianFitting
from sbridge.baselines.score_flow import ScoreFlowMatching
from sbridge.baselines.torchcfm import TorchCfm
from sbridge.errors import InputError
from sbridge.io import FileProblem
from sbridge.solvers import Solver

pytestmark = pytest.mark.filterwarnings("ignore::sbridge.DataWarning")  # small data at the default ε

NETWORK = sbridge.ResidualNetwork(16, 2)
SHORT = {"steps": 4, "network": NETWORK}
COUPLINGS = [sbridge.Independent, sbridge.MinibatchSinkhorn, sbridge.OnlineSinkhorn, sbridge.SelfConsistent]
SOLVERS: dict[str, Solver] = {
    "max–min": sbridge.MaxMin(**SHORT),
    "max–min, both": sbridge.MaxMin(**SHORT, learn_gamma=True),
    **{coupling.__name__: sbridge.Regression(**SHORT, coupling=coupling) for coupling in COUPLINGS},
    "whole plan": sbridge.Regression(**SHORT, coupling=sbridge.WholePlan),
    "potential": sbridge.MixturePotential(),
    "full potential": sbridge.FullMixturePotential(),
    "POT": sbridge.PotSinkhorn(),
    "GeomLoss": sbridge.GeomlossSinkhorn(),
    **{kind.__name__: kind(**SHORT) for kind in (MarkovianFitting, ScoreFlowMatching, TorchCfm)},
}


def cloud(n: int, shift: float = 0.0) -> NDArray[np.float64]:
    return np.random.default_rng(n).normal(size=(n, 2)) + shift


def fitted(solver: Solver, n0: int, n1: int) -> NDArray[np.float64]:
    return sbridge.SchrodingerBridge(solver=solver).fit(cloud(n0), cloud(n1, 1.0)).transport(cloud(5), random_state=0)


@pytest.mark.parametrize("sizes", [(10, 10), (11, 19), (10, 300)])
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_ten_points_are_enough(solver: Solver, sizes: tuple[int, int]) -> None:
    assert np.all(np.isfinite(fitted(solver, *sizes)))


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert np.all(np.isfinite(fitted(sbridge.MaxMin(steps=3, network=NETWORK, batch=8192), 150, 150)))


@pytest.mark.parametrize("sizes", [(9, 50), (50, 9)])
def test_fewer_than_ten_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="has 9 points; at least 10 are needed"):
        fitted(sbridge.MixturePotential(), *sizes)


def test_a_prior_says_how_many_points_it_needs() -> None:
    solver = sbridge.MaxMin(**SHORT, prior=sbridge.MixturePotential())
    with pytest.raises(InputError, match="needs at least 11 points a side"):
        fitted(solver, 10, 40)
    assert np.all(np.isfinite(fitted(solver, 11, 40)))


@pytest.mark.parametrize(("held_out", "needed"), [(0.2, 48), (0.5, 20), (0.05, 190), (0.9, 96)])
def test_two_files_say_how_many_points_they_need(tmp_path: Path, held_out: float, needed: int) -> None:
    def problem(n: int) -> FileProblem:
        np.save(tmp_path / "x.npy", cloud(n))
        return FileProblem(x0=str(tmp_path / "x.npy"), x1=str(tmp_path / "x.npy"), epsilon=1.0, held_out=held_out)

    with pytest.raises(InputError, match=f"x.npy has {needed - 1} points, .* give {needed} points"):
        problem(needed - 1).build()
    assert len(problem(needed).build().test0) >= 10
