"""The door: fit, move and judge, with arrays or tensors, and the theory's other interpolants through the same fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch.distributions import MultivariateNormal

import sbridge
from sbridge import display
from sbridge.errors import InputError
from sbridge.interpolants import ClosedForm
from sbridge.problems.gaussian import GaussianBridge

NETWORK = sbridge.ResidualNetwork(16, 2)
SHORT = {"steps": 30, "network": NETWORK, "batch": 128, "group": 32, "coupling": sbridge.Independent}


def cloud(n: int, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> NDArray[np.float64]:
    """N(shift, scale² I) in the plane."""
    return shift + scale * np.random.default_rng(seed).normal(size=(n, 2))


@pytest.fixture(scope="module")
def fitted() -> sbridge.SchrodingerBridge:
    solver = sbridge.Regression(**SHORT)
    return sbridge.SchrodingerBridge(epsilon=0.5, solver=solver).fit(cloud(500), cloud(400, 2.0, 0.5, 1))


def test_answers_are_of_the_kind_of_the_question(fitted: sbridge.SchrodingerBridge) -> None:
    x = cloud(12, seed=2)
    numbers = fitted.log_prob(x)
    tensors = fitted.log_prob(torch.from_numpy(x))
    assert isinstance(numbers.value, np.ndarray) and numbers.value.dtype == np.float64
    assert isinstance(tensors.standard_error, torch.Tensor) and tensors.standard_error.dtype == torch.float64
    np.testing.assert_array_equal(numbers.value, tensors.value.numpy())


@pytest.mark.parametrize(("at", "points"), [("x1", 500), ("x0", 400)])
def test_the_base_is_fitted_to_the_training_points_of_the_other_end(
    fitted: sbridge.SchrodingerBridge, at: sbridge.likelihood.End, points: int
) -> None:
    x = cloud(12, 1.0, seed=2)
    found = fitted.log_prob(x, at)
    assert found.base == f"Gaussian mixture of 1 component fitted to {points} points"
    own = fitted.bridge_.log_prob(x, at, base=cloud(500) if at == "x1" else cloud(400, 2.0, 0.5, 1))
    np.testing.assert_allclose(found.value, own.value, rtol=1e-5)
    given = fitted.log_prob(x, at, base=MultivariateNormal(torch.zeros(2), torch.eye(2)))
    assert given.base == "MultivariateNormal"
    assert not np.allclose(found.value, given.value)


def test_a_fit_that_is_watched_is_the_same_and_says_how_far_it_is(
    fitted: sbridge.SchrodingerBridge, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "_SECONDS_BETWEEN_LINES", 0.0)
    x0, x1, x = cloud(500), cloud(400, 2.0, 0.5, 1), cloud(9, seed=2)
    watched = sbridge.SchrodingerBridge(epsilon=0.5, solver=sbridge.Regression(**SHORT), verbose=True).fit(x0, x1)
    assert "fixed interpolant: step 30/30" in capsys.readouterr().err
    np.testing.assert_array_equal(watched.forward_drift(0.5, x), fitted.forward_drift(0.5, x))


@pytest.mark.parametrize("method", ["ode", "sde", "tilted-bound"])
def test_cross_entropy_exceeds_the_entropy_by_the_divergence(method: str) -> None:
    """N(0, 4I) where the bridge's end is N(0, I): entropy log 8πe, divergence ½(2·4 − 2 − 2 log 4)."""
    zero, one = torch.zeros(2), torch.eye(2)
    bridge = GaussianBridge(zero, one, zero, one, 0.5)
    found = bridge.cross_entropy(2 * cloud(2000), base=MultivariateNormal(zero, one), method=method, random_state=0)
    assert found.value == pytest.approx(np.log(2 * np.pi) + 4, abs=4 * found.standard_error)
    assert found.standard_error == pytest.approx(4 / np.sqrt(2000), rel=0.15)


def test_a_seed_repeats_the_paths(fitted: sbridge.SchrodingerBridge) -> None:
    x = cloud(5)
    first, same, other = (fitted.log_prob(x, method="sde", random_state=seed).value for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": "x2"}, "at must be x1 or x0"),
        ({"method": "guess"}, "method must be one of ode, sde"),
        ({"base": cloud(100)[:, :1]}, r"samples of the base must have shape \(m, 2\)"),
        ({"base": np.full((100, 2), np.nan)}, "NaN"),
    ],
)
def test_bad_questions_are_refused(
    fitted: sbridge.SchrodingerBridge, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fitted.log_prob(cloud(5), **options)


def test_nothing_is_known_before_the_fit() -> None:
    with pytest.raises(NotFittedError):
        sbridge.SchrodingerBridge().log_prob(cloud(5))


def test_settings_survive_a_clone() -> None:
    solver = sbridge.Regression(interpolant=sbridge.Mirror, gamma=sbridge.Parabolic, times=sbridge.Arcsine)
    settings = {"epsilon": 0.2, "solver": solver, "random_state": 3, "device": "cpu", "verbose": True}
    assert clone(sbridge.SchrodingerBridge(**settings)).get_params() == settings


@pytest.mark.parametrize("interpolant", [sbridge.OneSidedLinear, sbridge.VariancePreserving, sbridge.Mirror])
def test_generation_and_noising_go_through_the_same_fit(interpolant: type[ClosedForm]) -> None:
    """The mean and the spread of the data, from noise or from the data themselves."""
    data = cloud(1000, 2.0, 0.5, 1)
    start = data if interpolant is sbridge.Mirror else cloud(1000)
    settings = {**SHORT, "steps": 300, "network": sbridge.ResidualNetwork(32, 2)}
    solver = sbridge.Regression(interpolant=interpolant, **settings)
    model = sbridge.SchrodingerBridge(epsilon=0.3, solver=solver).fit(start, data)
    made = model.transport(start, diffusion=lambda t: 0.3 * t * (1 - t), random_state=0, quiet_end=True)
    np.testing.assert_allclose(made.mean(0), [2, 2], atol=0.15)
    np.testing.assert_allclose(made.std(0), [0.5, 0.5], atol=0.12)


@pytest.mark.parametrize(
    ("interpolant", "message"), [(sbridge.OneSidedLinear, "Gaussian noise"), (sbridge.Mirror, "different laws")]
)
def test_data_that_an_interpolant_cannot_join_are_refused(interpolant: type[ClosedForm], message: str) -> None:
    squares = np.random.default_rng(0).uniform(size=(1000, 2))
    solver = sbridge.Regression(interpolant=interpolant, **SHORT)
    with pytest.raises(InputError, match=message):
        sbridge.SchrodingerBridge(solver=solver).fit(squares, cloud(1000))
