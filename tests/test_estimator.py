"""The estimator: scikit-learn's conventions, fits by callbacks, scores, densities, and the other interpolants."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, ClassVar

import joblib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils import estimator_checks
from torch.distributions import MultivariateNormal

import sbridge
from sbridge import display
from sbridge.bridge import Bridge
from sbridge.errors import InputError
from sbridge.interpolants import ClosedForm
from sbridge.likelihood import End
from sbridge.problems.gaussian import GaussianBridge
from sbridge.solvers.base import Listener, Progress

NETWORK = sbridge.ResidualNetwork(16, 2)
SHORT = {"steps": 30, "network": NETWORK, "batch": 128, "group": 32, "coupling": sbridge.Independent}


def cloud(n: int, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> NDArray[np.float64]:
    """N(shift, scale² I) in the plane."""
    return shift + scale * np.random.default_rng(seed).normal(size=(n, 2))


@dataclass(frozen=True)
class Given:
    """A solver that knows the answer."""

    bridge: Bridge
    name: ClassVar[str] = "given"

    def solve(self, problem: sbridge.Problem, random_state: int = 0, listeners: Sequence[Listener] = ()) -> Bridge:
        return self.bridge


def pickled(value: object) -> object:
    return pickle.loads(pickle.dumps(value))


def joblibbed(value: object) -> object:
    file = BytesIO()
    joblib.dump(value, file)
    file.seek(0)
    return joblib.load(file)


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
    fitted: sbridge.SchrodingerBridge, at: End, points: int
) -> None:
    x = cloud(12, 1.0, seed=2)
    found = fitted.log_prob(x, at)
    assert found.base == f"Gaussian mixture of 1 component fitted to {points} points"
    own = fitted.bridge_.log_prob(x, at, base=cloud(500) if at == "x1" else cloud(400, 2.0, 0.5, 1))
    np.testing.assert_allclose(found.value, own.value, rtol=1e-5)
    given = fitted.log_prob(x, at, base=MultivariateNormal(torch.zeros(2), torch.eye(2)))
    assert given.base == "MultivariateNormal"
    assert not np.allclose(found.value, given.value)


def test_a_watched_fit_is_the_same_and_shows_its_progress(
    fitted: sbridge.SchrodingerBridge, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "_SECONDS_BETWEEN_LINES", 0.0)
    x0, x1, x = cloud(500), cloud(400, 2.0, 0.5, 1), cloud(9, seed=2)
    heard: list[Progress] = []
    model = sbridge.SchrodingerBridge(epsilon=0.5, solver=sbridge.Regression(**SHORT), verbose=True)
    watched = model.fit(x0, x1, callbacks=[heard.append])
    assert "fixed interpolant: step 30/30" in capsys.readouterr().err
    np.testing.assert_array_equal(watched.forward_drift(0.5, x), fitted.forward_drift(0.5, x))
    assert [progress.step for progress in heard] == list(range(3, 31, 3))
    assert watched.history_ == [progress.values for progress in heard] == fitted.history_


@pytest.mark.parametrize("solver", ["auto", "potential", "full-potential", "maxmin"])
def test_the_arrays_stay_the_callers(solver: str) -> None:
    """Nothing writes into them, though their memory is shared; what the caller does with them later changes nothing."""
    x0, x1 = cloud(300), cloud(300, 2.0, seed=1)
    model = sbridge.SchrodingerBridge(0.5, solver)
    if solver == "maxmin":
        model.set_params(**{f"solver__{name}": value for name, value in SHORT.items()})
    model.fit(x0, x1, budget="2s" if solver == "auto" else None)
    model.score(x0, x1)
    model.transport(x0), model.log_prob(x1[:20])
    np.testing.assert_array_equal(x0, cloud(300))
    np.testing.assert_array_equal(x1, cloud(300, 2.0, seed=1))
    x0[:] = np.nan
    np.testing.assert_array_equal(model.sample("x0").numpy(), cloud(300))


def test_a_solver_without_steps_has_no_history() -> None:
    model = sbridge.SchrodingerBridge(solver=sbridge.PotSinkhorn(points=50), verbose=True)
    assert model.fit(cloud(60), cloud(50, 1.0, 1.0, 1)).history_ == []


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
        ({"at": "x2"}, "at must be 'x1' or 'x0'"),
        ({"method": "guess"}, "method must be one of ode, sde"),
        ({"base": cloud(100)[:, :1]}, r"samples of the base must have shape \(m, 2\)"),
        ({"base": np.full((100, 2), np.nan)}, "NaN"),
    ],
)
def test_bad_questions_are_refused(fitted: sbridge.SchrodingerBridge, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fitted.log_prob(cloud(5), **options)


def test_nothing_is_known_before_the_fit() -> None:
    with pytest.raises(NotFittedError):
        sbridge.SchrodingerBridge().log_prob(cloud(5))


# scikit-learn's conventions


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
def test_it_passes_the_checks_of_scikit_learn(check: Callable[[str, object], None]) -> None:
    check("SchrodingerBridge", sbridge.SchrodingerBridge())


def test_settings_survive_a_clone() -> None:
    solver = sbridge.Regression(interpolant=sbridge.Mirror, gamma=sbridge.Parabolic, times=sbridge.Arcsine)
    settings = {"epsilon": 0.2, "solver": solver, "random_state": 3, "device": "cpu", "verbose": True}
    settings["standardise"] = "whiten"
    copied = clone(sbridge.SchrodingerBridge(**settings))
    assert copied.get_params(deep=False) == settings
    assert copied.get_params() == sbridge.SchrodingerBridge(**settings).get_params()


def test_settings_of_the_solver_are_parameters() -> None:
    model = sbridge.SchrodingerBridge(solver=sbridge.MaxMin())
    assert model.set_params(solver__steps=50, solver__network__width=7, epsilon=0.1) is model
    assert model.epsilon == 0.1
    assert model.solver == sbridge.MaxMin(steps=50, network=replace(sbridge.MaxMin().network, width=7))
    assert (model.get_params()["solver__steps"], model.get_params()["solver__network__width"]) == (50, 7)
    model.set_params(solver=sbridge.Regression(), solver__batch=64)
    assert model.solver == sbridge.Regression(batch=64)
    model.set_params(solver="auto", solver__network__steps=50)
    assert model.solver == sbridge.Auto(network=sbridge.MaxMin(steps=50))
    assert sbridge.SchrodingerBridge().solver == sbridge.Auto()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"solver__setps": 3}, "MaxMin has no setting 'setps'; it has .*steps"),
        ({"solver__network__widht": 3}, "ResidualNetwork has no setting 'widht'"),
        ({"solver__steps__more": 3}, "int has no setting 'more'; it has none"),
        ({"epsilno": 3}, "Invalid parameter 'epsilno'"),
    ],
)
def test_unknown_parameters_are_refused(params: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sbridge.SchrodingerBridge(solver="maxmin").set_params(**params)


@pytest.mark.filterwarnings("ignore::sbridge.DataWarning")
@pytest.mark.usefixtures("little_care")
def test_a_grid_search_chooses_by_the_score() -> None:
    """The best setting is fitted again on all points."""
    x0, x1 = cloud(200), cloud(200, 2.0, 0.5, 1)
    folds = [(np.arange(150), np.arange(150, 200))]
    model = sbridge.SchrodingerBridge(solver=sbridge.Regression(**SHORT))
    grid = {"epsilon": [0.5, 50.0], "solver__steps": [20, 30]}
    search = GridSearchCV(model, grid, cv=folds, error_score="raise").fit(x0, x1)
    tried = search.cv_results_["params"]
    wanted = clone(model).set_params(**tried[0]).fit(x0[:150], x1[:150]).score(x0[150:], x1[150:])
    assert search.cv_results_["mean_test_score"][0] == pytest.approx(wanted)
    assert search.score(x0, x1) == search.best_estimator_.score(x0, x1)
    assert len(tried) == 4 and len(search.best_estimator_.sample("x0")) == 200
    assert search.n_features_in_ == search.best_estimator_.n_features_in_ == 2


def test_the_score_is_a_dual_value() -> None:
    """Two exact bridges whose ends differ by one in each of two coordinates: 2/4εr nats, r the slope of x1 on x0."""
    zero, one = torch.zeros(2), torch.eye(2)
    models = [
        sbridge.SchrodingerBridge(solver=Given(GaussianBridge(zero, one, end, one, 0.5))).fit(cloud(200), cloud(200))
        for end in (zero, zero + 1)
    ]
    x0, x1 = cloud(1000, seed=3), cloud(1000, seed=4)
    right, wrong = (model.score(x0, x1) for model in models)
    slope = (1 + 0.5**2) ** 0.5 - 0.5
    assert right - wrong == pytest.approx(1 / slope, rel=0.15)


@pytest.mark.parametrize("dump", [pickled, joblibbed])
def test_a_fit_survives_pickle_and_joblib(fitted: sbridge.SchrodingerBridge, dump: Callable[[object], Any]) -> None:
    copied, x = dump(fitted), cloud(5)
    np.testing.assert_array_equal(copied.velocity(0.5, x), fitted.velocity(0.5, x))
    assert copied.history_ == fitted.history_


@pytest.mark.parametrize("make", [int, np.int64, np.random.default_rng, np.random.RandomState])
def test_equal_random_states_give_equal_fits(make: Callable[[int], Any]) -> None:
    x0, x1, solver = cloud(100), cloud(100, 1.0, 1.0, 1), sbridge.Regression(**{**SHORT, "steps": 3})
    first, again, other = (
        sbridge.SchrodingerBridge(solver=solver, random_state=make(seed)).fit(x0, x1).velocity(0.5, x0)
        for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


# Other interpolants


@pytest.mark.parametrize("interpolant", [sbridge.OneSidedLinear, sbridge.VariancePreserving, sbridge.Mirror])
def test_generation_and_noising_go_through_the_same_fit(interpolant: type[ClosedForm]) -> None:
    """The mean and the spread of the data, from noise or from the data themselves."""
    data = cloud(1000, 2.0, 0.5, 1)
    start = data if interpolant is sbridge.Mirror else cloud(1000)
    settings = {**SHORT, "steps": 300, "network": sbridge.ResidualNetwork(32, 2)}
    solver = sbridge.Regression(interpolant=interpolant, **settings)
    model = sbridge.SchrodingerBridge(epsilon=0.1, solver=solver).fit(start, data)
    made = model.transport(start, diffusion=lambda t: 0.1 * t * (1 - t), random_state=0)
    np.testing.assert_allclose(made.mean(0), [2, 2], atol=0.15)
    np.testing.assert_allclose(made.std(0), [0.5, 0.5], atol=0.12)


@pytest.mark.parametrize(
    ("interpolant", "message"), [(sbridge.OneSidedLinear, "Gaussian noise"), (sbridge.Mirror, "different laws")]
)
def test_data_that_an_interpolant_cannot_join_are_refused(interpolant: type[ClosedForm], message: str) -> None:
    squares = np.random.default_rng(0).uniform(size=(1000, 2))
    solver = sbridge.Regression(interpolant=interpolant, **SHORT)
    with pytest.raises(InputError, match=message):
        sbridge.SchrodingerBridge(epsilon=0.02, solver=solver).fit(squares, cloud(1000))
