"""Log-densities against closed forms, orders in the step, honest standard errors, and identities between methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp, log, pi, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from members import EPSILON, FLOAT, MIXTURE0, MIXTURE1, generator, normal, sample
from scipy.integrate import solve_ivp
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from sbridge.bridge import Bridge
from sbridge.densities import Density, as_density
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.fields import Field, Reversed
from sbridge.interpolants import Brownian, Linear
from sbridge.likelihood import (
    METHODS,
    DensityMethod,
    End,
    FeynmanKac,
    Hutchinson,
    LogDensity,
    PathMethod,
    ProbabilityFlow,
    Tilted,
    TiltedBound,
    base,
    bits_per_dimension,
    cross_entropy,
    density_method,
)
from sbridge.potentials.exact import MixtureBridge
from sbridge.problems.gaussian import Gaussian, GaussianBridge
from sbridge.problems.mixture import Mixture
from sbridge.sampling import EULER, HEUN, RK4, Adaptive, Integrator
from sbridge.theory.oracle import MixtureOracle

ENDS: tuple[End, End] = ("x1", "x0")
BOTH_ENDS = pytest.mark.parametrize("at", ENDS)
EVERY_METHOD = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
PATH_METHODS = [FeynmanKac(), Tilted(), TiltedBound()]
EVERY_PATH_METHOD = pytest.mark.parametrize("method", PATH_METHODS, ids=lambda method: type(method).__name__)
DENSITIES = pytest.mark.parametrize("method", [FeynmanKac(1000), Tilted(1000)], ids=["feynman-kac", "tilted"])


@dataclass(frozen=True)
class Case:
    """A model whose density at an end is known, and points there."""

    model: Bridge
    at: End
    base: Density
    x: Tensor
    log_density: Tensor

    def error(self, method: DensityMethod, seed: int = 0) -> tuple[Tensor, LogDensity[Tensor]]:
        """log ρ̂ less the truth, and log ρ̂ itself."""
        found = method.log_density(self.model, self.x, self.at, self.base, generator(seed))
        return found.value - self.log_density, found


def _normal_law(mean: Tensor, cov: Tensor) -> MultivariateNormal:
    return MultivariateNormal(mean, cov)


def gaussian(at: End, points: int = 60, dtype: torch.dtype = FLOAT) -> Case:
    """The exact Schrödinger bridge of the Gaussian problem, d = 2."""
    problem = Gaussian(dim=2, samples=10, test_samples=points).build()
    assert isinstance(problem.truth, GaussianBridge)
    exact = problem.truth
    mean0, cov0, mean1, cov1 = (part.double() for part in (exact.mean0, exact.cov0, exact.mean1, exact.cov1))
    truth = GaussianBridge(mean0, cov0, mean1, cov1, exact.epsilon).to(dtype)
    laws = {"x0": _normal_law(truth.mean0, truth.cov0), "x1": _normal_law(truth.mean1, truth.cov1)}
    x = (problem.test1 if at == "x1" else problem.test0).to(dtype)
    own, other = (laws["x1"], laws["x0"]) if at == "x1" else (laws["x0"], laws["x1"])
    return Case(truth, at, as_density(other, x), x, own.log_prob(x))


class Clusters(Field):
    """b + level·s of the linear interpolant with γ² = 2εt(1−t) between two mixtures of round clusters.

    The oracle's formulas for covariances v_i I, where they need no matrices: 30 times as fast.
    """

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level
        pairs = torch.cartesian_prod(torch.arange(len(SIZES0)), torch.arange(len(SIZES1)))
        self.i, self.j = pairs.unbind(1)

    def law(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means (K, d), variances (K, 1) and their rates of change (K, 1) at t (), for all pairs of clusters."""
        i, j = self.i, self.j
        variance = (1 - t) ** 2 * SIZES0[i] + t**2 * SIZES1[j] + 2 * EPSILON * t * (1 - t)
        rate = 2 * t * SIZES1[j] - 2 * (1 - t) * SIZES0[i] + 2 * EPSILON * (1 - 2 * t)
        return (1 - t) * MIXTURE0[1][i] + t * MIXTURE1[1][j], variance[:, None], rate[:, None]

    def log_terms(self, t: Tensor, x: Tensor) -> Tensor:
        """log of each pair's share of ρ_t(x), (n, K)."""
        mean, variance, _ = self.law(t)
        square = (x[:, None] - mean).square().sum(-1) / variance[:, 0]
        weight = MIXTURE0[0][self.i] * MIXTURE1[0][self.j]
        return weight.log() - square / 2 - torch.log(2 * pi * variance[:, 0])

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        mean, variance, rate = self.law(t)
        shift = MIXTURE1[1][self.j] - MIXTURE0[1][self.i]
        value = shift + (rate / 2 - self.level) / variance * (x[:, None] - mean)
        return (torch.softmax(self.log_terms(t, x), dim=-1)[..., None] * value).sum(1)


SIZES0, SIZES1 = torch.tensor([0.3, 0.5], dtype=FLOAT), torch.tensor([0.4, 0.2, 0.3], dtype=FLOAT)
FORWARD, BACKWARD = Clusters(EPSILON), Clusters(-EPSILON)


def mixture(at: End, points: int = 20) -> Case:
    """The exact drifts of a linear interpolant between two mixtures in the plane, and points of it."""
    ends = {"x0": torch.zeros((), dtype=FLOAT), "x1": torch.ones((), dtype=FLOAT)}
    here, there = (ends["x1"], ends["x0"]) if at == "x1" else (ends["x0"], ends["x1"])
    law = (MIXTURE1, SIZES1) if at == "x1" else (MIXTURE0, SIZES0)
    round_law = (*law[0][:2], torch.eye(2, dtype=FLOAT) * law[1][:, None, None])
    x = sample(round_law, points, source=generator(2))
    base = as_density(lambda x: FORWARD.log_terms(there, x).logsumexp(1), x)
    return Case(Bridge(FORWARD, BACKWARD, EPSILON), at, base, x, FORWARD.log_terms(here, x).logsumexp(1))


class Affine(Field):
    """(slope + t·turn) x + push."""

    slope: Tensor
    turn: Tensor
    push: Tensor

    def __init__(self, slope: Tensor, turn: Tensor, push: Tensor) -> None:
        super().__init__()
        for name, value in (("slope", slope), ("turn", turn), ("push", push)):
            self.register_buffer(name, value)

    @property
    def dim(self) -> int:
        return len(self.push)

    def matrix(self, t: Any) -> Any:
        return self.slope + t * self.turn

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        value: Tensor = x @ self.matrix(t).T + self.push
        return value


def _affine(seed: int, lean: float) -> Affine:
    draws = normal(5, 2, seed=seed) / 3
    return Affine(draws[:2] + lean * torch.eye(2, dtype=FLOAT), draws[2:4], draws[4])


def affine(at: End, points: int = 6) -> Case:
    """Two linear drifts that have nothing to do with each other: the law at `at` is that of the drift towards it.

    Its mean and covariance solve ṁ = Am + a and Σ̇ = AΣ + ΣAᵀ ± 2εI.
    """
    model = Bridge(_affine(3, -0.4), _affine(4, 0.5), EPSILON)
    own, start = (model.forward_field, 0.0) if at == "x1" else (model.backward_field, 1.0)
    assert isinstance(own, Affine)
    mean, cov = torch.tensor([0.3, -0.2], dtype=FLOAT), torch.tensor([[0.8, 0.2], [0.2, 0.5]], dtype=FLOAT)
    grown = 2 * EPSILON * np.eye(2) * (1 if at == "x1" else -1)
    push = own.push.numpy()

    def rate(t: float, state: Any) -> Any:
        matrix, square = own.matrix(t).numpy(), state[2:].reshape(2, 2)
        return np.concatenate([matrix @ state[:2] + push, (matrix @ square + square @ matrix.T + grown).ravel()])

    first = np.concatenate([mean.numpy(), cov.numpy().ravel()])
    last = torch.tensor(solve_ivp(rate, (start, 1 - start), first, rtol=1e-10, atol=1e-12).y[:, -1])
    law = _normal_law(last[:2], (last[2:].view(2, 2) + last[2:].view(2, 2).T) / 2)
    x = last[:2] + normal(points, 2, seed=7) @ torch.linalg.cholesky(last[2:].view(2, 2)).T
    return Case(model, at, as_density(_normal_law(mean, cov), x), x, law.log_prob(x))


class Waves(Field):
    """A drift of no meaning."""

    def __init__(self, height: float, frequency: float, phase: float) -> None:
        super().__init__()
        self.height, self.frequency, self.phase = height, frequency, phase

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.height * torch.sin(self.frequency * x + 3 * t + self.phase)


class Constant(Field):
    """The same drift everywhere."""

    push: Tensor

    def __init__(self, push: Tensor) -> None:
        super().__init__()
        self.register_buffer("push", push)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.push.expand(x.shape)


class Network(Field):
    """A layer with weights to train."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        value: Tensor = torch.tanh(self.layer(x))
        return value


def _slope(error: Callable[[int], float], steps: list[int]) -> float:
    """Slope of −log error over log steps."""
    return -float(np.polyfit(np.log(steps), [log(error(n)) for n in steps], 1)[0])


def test_clusters_are_the_oracles() -> None:
    round0, round1 = (torch.eye(2, dtype=FLOAT) * size[:, None, None] for size in (SIZES0, SIZES1))
    oracle = MixtureOracle(Linear(Brownian(EPSILON)), *MIXTURE0[:2], round0, *MIXTURE1[:2], round1)
    x, t = normal(9, 2), torch.tensor(0.3, dtype=FLOAT)
    torch.testing.assert_close(FORWARD(t, x), oracle.drift(t, x, EPSILON))
    torch.testing.assert_close(BACKWARD(t, x), oracle.drift(t, x, -EPSILON))
    torch.testing.assert_close(FORWARD.log_terms(t, x).logsumexp(1), oracle.log_density(t, x))


# Probability flow


@pytest.mark.parametrize(("at", "dtype"), [("x1", torch.float32), ("x0", FLOAT)], ids=["float32", "float64"])
def test_flow_is_right_to_a_thousandth(at: End, dtype: torch.dtype) -> None:
    error, found = gaussian(at, 500, dtype).error(ProbabilityFlow())
    assert error.abs().max() < 1e-3
    assert found.value.dtype == dtype and not found.standard_error.any()


@pytest.mark.parametrize(("at", "stepper"), [("x1", RK4), ("x0", Adaptive(1e-7, 1e-7))], ids=["rk4", "adaptive"])
def test_flow_is_exact_for_mixtures(at: End, stepper: Integrator) -> None:
    if isinstance(stepper, Adaptive):
        pytest.importorskip("torchdiffeq")
    assert mixture(at).error(ProbabilityFlow(steps=60, stepper=stepper))[0].abs().max() < 1e-4


ORDERS = [(EULER, 1, "x0"), (HEUN, 2, "x1"), (RK4, 4, "x0")]


@pytest.mark.parametrize(("stepper", "order", "at"), ORDERS, ids=["euler", "heun", "rk4"])
def test_order_of_the_flow(stepper: Integrator, order: int, at: End) -> None:
    case = gaussian(at)

    def error(steps: int) -> float:
        return float(case.error(ProbabilityFlow(steps=steps, stepper=stepper))[0].square().mean().sqrt())

    assert _slope(error, [24, 36, 48]) == pytest.approx(order, abs=0.25)


@settings(max_examples=8)
@given(st.tuples(*[st.floats(0.2, 1.0)] * 4), st.floats(0, 6), st.sampled_from(ENDS))
def test_density_of_any_flow_integrates_to_one(sizes: tuple[float, ...], phase: float, at: End) -> None:
    model = Bridge(Waves(sizes[0], 2 * sizes[1], phase), Waves(sizes[2], 2 * sizes[3], 0.0), EPSILON)
    x = torch.linspace(-8, 8, 801, dtype=FLOAT)[:, None]
    law = as_density(_normal_law(torch.zeros(1, dtype=FLOAT), torch.eye(1, dtype=FLOAT)), x)
    value = ProbabilityFlow(steps=60).log_density(model, x, at, law, generator()).value
    assert torch.trapezoid(value.exp(), x[:, 0]).item() == pytest.approx(1, abs=2e-3)


@BOTH_ENDS
def test_probes_are_unbiased_and_know_their_error(at: End) -> None:
    error, found = mixture(at, 150).error(ProbabilityFlow(Hutchinson(24), steps=40, stepper=RK4))
    z = error / found.standard_error
    assert abs(float(z.mean())) < 4 / sqrt(150)
    assert float(z.square().mean().sqrt()) == pytest.approx(1.04, abs=4 * 1.04 / sqrt(300))  # Student's t, 23 degrees


def test_probes_are_exact_where_coordinates_do_not_mix() -> None:
    x = normal(5, 300)
    law = as_density(lambda x: -x.square().sum(-1) / 2 - 150 * log(2 * pi), x)
    model = Bridge(Waves(0.4, 1.0, 0.0), Waves(0.2, 1.0, 0.0), EPSILON)
    found = ProbabilityFlow(Hutchinson(2), steps=10).log_density(model, x, "x1", law, generator())
    alone = as_density(_normal_law(torch.zeros(1, dtype=FLOAT), torch.eye(1, dtype=FLOAT)), x[:, :1])
    flat = ProbabilityFlow(steps=10).log_density(model, x.reshape(-1, 1), "x1", alone, generator())
    torch.testing.assert_close(found.value, flat.value.view(5, 300).sum(1))
    assert found.standard_error.max() < 1e-10


# Paths


@DENSITIES
@pytest.mark.parametrize(
    ("make", "at"), [(mixture, "x1"), (affine, "x0"), (affine, "x1")], ids=["mixture", "linear", "linear, other end"]
)
def test_weighted_paths_have_the_density_of_the_drift_towards_the_end(
    make: Callable[[End, int], Case], method: PathMethod, at: End
) -> None:
    """Tilted paths with a guide that is no score too: it is the drift towards the end that has the density."""
    error, found = make(at, 6).error(replace(method, steps=24))
    assert (error.abs() < 4 * found.standard_error + 2e-3).all()
    assert found.standard_error.min() > 0 and found.standard_error.max() < 0.15


@BOTH_ENDS
def test_tilted_weight_of_an_exact_score_is_the_density_on_every_path(at: End) -> None:
    case = mixture(at, 5)

    def spread(steps: int) -> float:
        weights = Tilted(paths=50, steps=steps).log_weights(case.model, case.x, at, case.base, generator())
        return float((weights - case.log_density[:, None]).square().mean().sqrt())

    assert _slope(spread, [10, 20, 40]) > 1.5
    assert spread(40) < 5e-3


@BOTH_ENDS
def test_bound_is_below_the_density_where_the_guide_is_no_score(at: End) -> None:
    error, found = affine(at).error(TiltedBound(paths=1000))
    assert (error < -4 * found.standard_error).all()


@BOTH_ENDS
def test_bound_is_the_density_where_the_score_is_exact(at: End) -> None:
    error, found = mixture(at).error(TiltedBound())
    assert error.abs().max() < 0.01 and found.standard_error.max() < 0.01


def test_jensen_is_loose_without_the_tilt() -> None:
    """One dimension, N(0, 1) to itself at ε = 0.1: with r = √(1 + ε²) − ε, by hand −1.229 against −1.164 at x = 0.7."""
    zero, one = torch.zeros(1, dtype=FLOAT), torch.eye(1, dtype=FLOAT)
    model, x = GaussianBridge(zero, one, zero, one, 0.1), torch.full((1, 1), 0.7, dtype=FLOAT)
    law = as_density(_normal_law(zero, one), x)
    weights = FeynmanKac(paths=20_000).log_weights(model, x, "x1", law, generator())
    jensen = Estimate.of(weights[0])
    assert jensen.value == pytest.approx(-1.229, abs=4 * jensen.standard_error + 5e-4)
    tilted = TiltedBound().log_density(model, x, "x1", law, generator()).value
    assert tilted.item() == pytest.approx(-log(2 * pi) / 2 - 0.7**2 / 2, abs=1e-5)


def test_error_of_few_steps_falls_at_least_like_their_square() -> None:
    """E w in one dimension, where the drift is linear; beyond four steps the error is lost in the paths' scatter."""
    zero, one = torch.zeros(1, dtype=FLOAT), torch.eye(1, dtype=FLOAT)
    model = Bridge(Affine(1.6 * one, 0 * one, zero), Affine(0 * one, 0 * one, zero), 0.4)
    variance = exp(3.2) + 0.8 * (exp(3.2) - 1) / 3.2
    x = torch.zeros(1, 1, dtype=FLOAT)
    case = Case(model, "x1", as_density(_normal_law(zero, one), x), x, torch.tensor([-log(2 * pi * variance) / 2]))

    def error(steps: int) -> float:
        gap, found = case.error(FeynmanKac(paths=200_000, steps=steps))
        assert gap.abs() > 5 * found.standard_error
        return float(gap.abs())

    assert error(2) > 4 * error(4)


@BOTH_ENDS
def test_stratonovich_weights_are_itos(at: End) -> None:
    """The mean of log w with left-point integrals and ∇·f, by Euler–Maruyama, for a guide that is no score."""
    case, sign, paths, steps = affine(at, 3), -1.0 if at == "x1" else 1.0, 2000, 400
    own = case.model.forward_field if at == "x1" else case.model.backward_field
    assert isinstance(own, Affine)
    x, weight, source = case.x.repeat_interleave(paths, 0), torch.zeros(3 * paths, dtype=FLOAT), generator(5)
    for i in range(steps):
        t = torch.tensor(i / steps if at == "x0" else 1 - i / steps, dtype=FLOAT)
        noise = sqrt(2 * EPSILON / steps) * torch.randn(x.shape, dtype=FLOAT, generator=source)
        score = (case.model.forward_field(t, x) - case.model.backward_field(t, x)) / (2 * EPSILON)
        weight += sign / steps * own.matrix(t).trace() - EPSILON / steps * score.square().sum(-1)
        weight -= (score * noise).sum(-1)
        x = x + sign / steps * (own(t, x) + sign * 2 * EPSILON * score) + noise
    ito = (case.base.log_prob(x) + weight).view(3, paths)
    found = TiltedBound(paths).log_density(case.model, case.x, at, case.base, generator())
    error = (ito.var(1) / paths + found.standard_error.square()).sqrt()
    assert ((ito.mean(1) - found.value).abs() < 4 * error + 5e-3).all()


@EVERY_METHOD
def test_the_ends_are_symmetric_in_time(method: DensityMethod) -> None:
    case = affine("x1")
    turned = Bridge(Reversed(case.model.backward_field), Reversed(case.model.forward_field), EPSILON)
    forward = method.log_density(case.model, case.x, "x1", case.base, generator())
    backward = method.log_density(turned, case.x, "x0", case.base, generator())
    torch.testing.assert_close(backward.value, forward.value)
    torch.testing.assert_close(backward.standard_error, forward.standard_error)


@EVERY_PATH_METHOD
def test_standard_error_is_the_scatter_of_the_answer(method: PathMethod) -> None:
    """300 answers with 64 paths each; a scatter is known to 4 %, and logarithms of skewed weights allow for more."""
    case = affine("x1", 1)
    many = replace(case, x=case.x.expand(300, -1), log_density=case.log_density.expand(300))
    found = many.error(replace(method, paths=64, steps=4))[1]
    ratio = found.value.std() / found.standard_error.square().mean().sqrt()
    assert ratio.item() == pytest.approx(1, abs=0.2)


# What all have in common


@EVERY_METHOD
def test_blocks_change_nothing(method: DensityMethod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly without noise; with it, another block is another draw."""
    case = affine("x1", 7)
    whole = case.error(method)[1]
    monkeypatch.setattr(base, "_MOST_ROWS", 3)
    if isinstance(method, PathMethod):
        method = replace(method, paths=8, steps=8)
    parts = case.error(method)[1]
    error = (whole.standard_error.square() + parts.standard_error.square()).sqrt()
    assert ((whole.value - parts.value).abs() <= 5 * error + 1e-10 + 0.01 * error.ceil()).all()


@EVERY_METHOD
def test_constant_drifts_carry_the_base_along(method: DensityMethod) -> None:
    """A field without a graph: log ρ̂1(x) is the base's log-density, widened by 2ε, at x less the displacement."""
    push = torch.tensor([1.0, -2.0], dtype=FLOAT)
    still = Constant(push)
    x = normal(3, 2)
    law = _normal_law(torch.zeros(2, dtype=FLOAT), torch.eye(2, dtype=FLOAT))
    found = method.log_density(Bridge(still, still, 1e-12), x, "x1", as_density(law, x), generator())
    torch.testing.assert_close(found.value, law.log_prob(x - push), rtol=0, atol=1e-4)


@EVERY_METHOD
def test_no_graph_is_left(method: DensityMethod) -> None:
    layer = torch.nn.Linear(2, 2).double()
    model = Bridge(Network(layer), Network(layer), EPSILON)
    case = affine("x1", 2)
    found = method.log_density(model, case.x.clone().requires_grad_(), "x1", case.base, generator())
    assert not found.value.requires_grad and not found.standard_error.requires_grad
    assert found.base == "MultivariateNormal"


@EVERY_METHOD
def test_paths_that_end_nowhere_are_refused(method: DensityMethod) -> None:
    case, wild = affine("x1"), Waves(1e300, 1e300, 0.0)
    with pytest.raises(InputError, match="paths end with infinite or NaN"):
        replace(case, model=Bridge(wild, wild, EPSILON)).error(method)


@EVERY_METHOD
def test_exact_divergences_of_high_dimensions_name_the_alternative(method: DensityMethod) -> None:
    x = normal(2, 257)
    law = as_density(lambda x: x.sum(-1), x)
    with pytest.raises(InputError, match="Hutchinson"):
        method.log_density(Bridge(Constant(x[0]), Constant(x[0]), 1.0), x, "x1", law, generator())


@EVERY_METHOD
def test_unknown_ends_are_refused(method: DensityMethod) -> None:
    case: Any = affine("x1")
    with pytest.raises(InputError, match="at must be x1 or x0"):
        replace(case, at="x2").error(method)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hutchinson(1), "probes must be at least 2"),
        (lambda: Tilted(paths=1), "paths must be at least 2"),
        (lambda: FeynmanKac(steps=0), "steps must be at least 1"),
        (lambda: ProbabilityFlow(steps=0), "steps must be at least 1"),
        (lambda: density_method("flow"), "method must be one of ode, sde, feynman-kac, tilted-bound"),
        (lambda: cross_entropy(LogDensity(torch.zeros(1), torch.zeros(1), "")), "number of points must be at least 2"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_methods_go_by_name_or_as_they_are() -> None:
    assert density_method("sde") == Tilted() and density_method("ode") == ProbabilityFlow()
    assert density_method(TiltedBound(3)) == TiltedBound(3)


@BOTH_ENDS
def test_cross_entropy_of_an_exact_model_is_the_entropy(at: End) -> None:
    case = gaussian(at, 3000)
    truth = case.model
    assert isinstance(truth, GaussianBridge)
    found = cross_entropy(case.error(ProbabilityFlow(steps=40))[1])
    cov = truth.cov1 if at == "x1" else truth.cov0
    assert abs(found.value - float(_normal_law(0 * cov[0], cov).entropy())) < 4 * found.standard_error + 1e-3
    assert found.standard_error == pytest.approx(1 / sqrt(3000), rel=0.1)  # −log ρ has variance d/2 = 1


def test_bits_are_nats_over_log_two() -> None:
    bits = bits_per_dimension(Estimate(8 * log(2), 2 * log(2)), 4)
    assert (bits.value, bits.standard_error) == pytest.approx((2.0, 0.5))


def test_the_benchmarks_bridge_has_the_density_of_its_end() -> None:
    """ρ1(y) = ∫ρ0(x) π(y|x) dx on a line; at large ε clusters are narrower than the noise: a stiff drift."""
    truth = Mixture(dim=1, epsilon=5.0, components=3, samples=10, test_samples=10).build().truth
    assert isinstance(truth, MixtureBridge)
    truth = truth.double()
    grid = torch.linspace(-5, 5, 2001, dtype=FLOAT)[:, None]
    shares = truth.forward_field.shares(grid)
    y = truth.endpoints(0.5 * normal(4, 1), generator(3))
    ends = truth.forward_field.means(grid)
    clusters = Normal(ends[..., 0], truth.forward_field.variances[:, 0].sqrt()).log_prob(y[:, None]).exp()
    start = Normal(torch.zeros(1, dtype=FLOAT), 0.5)
    density = torch.trapezoid((shares * clusters).sum(-1) * start.log_prob(grid)[:, 0].exp(), grid[:, 0], dim=-1)
    base = Independent(start, 1)
    for method, allowed in ((ProbabilityFlow(), 0.02), (Tilted(paths=6, steps=50), 0.05)):
        assert (truth.log_prob(y, base=base, method=method, random_state=0).value - density.log()).abs().max() < allowed
