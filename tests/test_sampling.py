"""Orders of the steppers, with and without noise, in both directions of time, by exact recursions of moments."""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import exp, inf, log, nan, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from torch import Tensor

from sbridge.errors import InputError
from sbridge.problems.gaussian import GaussianBridge
from sbridge.sampling import EULER, HEUN, RK4, Adaptive, Diffusion, PiecewiseLinear, Stepper, even, graded, integrate

FLOAT = torch.float64
STEPPERS = pytest.mark.parametrize(
    ("stepper", "order"), [(EULER, 1), (HEUN, 2), (RK4, 4)], ids=["euler", "heun", "rk4"]
)
DIRECTIONS = pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0)], ids=["forward", "backward"])
RATE, DIFFUSION, MEAN, VARIANCE = 1.3, 0.7, 0.8, 0.4
DIFFUSIONS: dict[str, Diffusion] = {
    "constant": DIFFUSION,
    "wave": lambda t: 0.5 + 0.4 * torch.sin(5 * t),
    "piecewise linear": PiecewiseLinear((0.1, 0.9, 0.4)),
}
EVERY_DIFFUSION = pytest.mark.parametrize("diffusion", DIFFUSIONS.values(), ids=DIFFUSIONS.keys())


def _order(error: Callable[[int], float], steps: list[int]) -> float:
    """Slope of −log error over log steps."""
    return -float(np.polyfit(np.log(steps), [log(error(n)) for n in steps], 1)[0])


def _logistic(t: Tensor, x: Tensor) -> Tensor:
    """x' = 3t x(1−x), solved by 1/(1 + (1/x0 − 1) exp(−3t²/2))."""
    return 3 * t * x * (1 - x)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@DIRECTIONS
@STEPPERS
def test_order_without_noise(stepper: Stepper, order: int, times: tuple[float, float]) -> None:
    start = torch.tensor([[0.2, 0.5, 0.7]], dtype=FLOAT)
    ends = {0.0: start, 1.0: 1 / (1 + (1 / start - 1) * exp(-1.5))}

    def error(steps: int) -> float:
        *_, found = integrate(_logistic, ends[times[0]], times, 0.0, steps, stepper, _generator())
        return float((found - ends[times[1]]).abs().max())

    assert _order(error, [16, 32, 64]) == pytest.approx(order, abs=0.2)


def _response(stepper: Stepper, rate: float, step: float) -> tuple[float, float]:
    """Factors of the state and of the noise in one step of dX = −rate·X dt + noise."""

    def drift(t: Tensor, x: Tensor) -> Tensor:
        return -rate * x

    def image(x: float, noise: float) -> float:
        t, dt = torch.zeros((), dtype=FLOAT), torch.tensor(step, dtype=FLOAT)
        place, push = (torch.full((1, 1), value, dtype=FLOAT) for value in (x, noise))
        return stepper.step(drift, t, dt, place, push).item()

    return image(1.0, 0.0), image(0.0, 1.0)


def _level(diffusion: Diffusion, t: float) -> float:
    return float(diffusion(torch.tensor(t, dtype=FLOAT)).item()) if callable(diffusion) else diffusion


def _weak_error(stepper: Stepper, rate: float, diffusion: Diffusion, steps: int, sign: int) -> float:
    """Error of mean and variance at the end of unit time from N(MEAN, VARIANCE); sign −1 is time run backward."""
    state, noise = _response(stepper, rate, sign / steps)
    mean, variance = MEAN * state**steps, VARIANCE
    for i in range(steps):
        middle = (i + 0.5) / steps
        level = _level(diffusion, middle if sign > 0 else 1 - middle)
        variance = state**2 * variance + noise**2 * 2 * level / steps
    decay = exp(-sign * rate)

    def added(passed: float) -> float:
        return 2 * _level(diffusion, passed if sign > 0 else 1 - passed) * exp(-2 * sign * rate * (1 - passed))

    exact = decay**2 * VARIANCE + float(quad(added, 0, 1, points=[0.5])[0])
    return abs(mean - decay * MEAN) + abs(variance - exact)


@EVERY_DIFFUSION
@pytest.mark.parametrize("sign", [1, -1], ids=["forward", "backward"])
@pytest.mark.parametrize(("stepper", "order"), [(EULER, 1), (HEUN, 2)], ids=["euler", "heun"])
def test_weak_order(stepper: Stepper, order: int, sign: int, diffusion: Diffusion) -> None:
    found = _order(lambda n: _weak_error(stepper, RATE, diffusion, n, sign), [64, 128, 256])
    assert found == pytest.approx(order, abs=0.1)


def _strong_error(stepper: Stepper, rate: float, steps: int, sign: int) -> float:
    """√E|numerical − exact|² at the end, of both driven by one Brownian path: covariance of the pair, step by step."""
    state, noise = _response(stepper, rate, sign / steps)
    signed = sign * rate
    decay = exp(-signed / steps)
    cross = 2 * DIFFUSION * (1 - decay) / signed
    move = np.diag([state, decay])
    added = np.array(
        [
            [noise**2 * 2 * DIFFUSION / steps, noise * cross],
            [noise * cross, DIFFUSION * (1 - decay**2) / signed],
        ]
    )
    second: NDArray[np.float64] = np.full((2, 2), MEAN**2 + VARIANCE)
    for _ in range(steps):
        second = move @ second @ move.T + added
    difference = np.array([1.0, -1.0])
    return sqrt(difference @ second @ difference)


@pytest.mark.parametrize("sign", [1, -1], ids=["forward", "backward"])
@pytest.mark.parametrize("stepper", [EULER, HEUN], ids=["euler", "heun"])
def test_strong_order_with_additive_noise_is_one(stepper: Stepper, sign: int) -> None:
    assert _order(lambda n: _strong_error(stepper, RATE, n, sign), [64, 128, 256]) == pytest.approx(1, abs=0.1)


@EVERY_DIFFUSION
@DIRECTIONS
def test_recursion_is_what_integrate_does(times: tuple[float, float], diffusion: Diffusion) -> None:
    steps, start, sign = 7, torch.tensor([[1.0], [-2.0]], dtype=FLOAT), 1 if times[0] == 0 else -1
    *_, found = integrate(lambda t, x: -RATE * x, start, times, diffusion, steps, HEUN, _generator(3))
    state, noise = _response(HEUN, RATE, sign / steps)
    expected, generator = start, _generator(3)
    for i in range(steps):
        z = torch.randn(start.shape, dtype=FLOAT, generator=generator)
        level = _level(diffusion, times[0] + sign * (i + 0.5) / steps)
        expected = state * expected + noise * sqrt(2 * level / steps) * z
    torch.testing.assert_close(found, expected)


@DIRECTIONS
def test_noise_has_variance_two_diffusion_per_time(times: tuple[float, float]) -> None:
    *_, found = integrate(lambda t, x: 0 * x, torch.zeros(40_000, 1), times, DIFFUSION, 5, EULER, _generator())
    assert found.var().item() / (2 * DIFFUSION) == pytest.approx(1, abs=4 * sqrt(2 / 40_000))
    assert found.mean().item() == pytest.approx(0, abs=4 * sqrt(2 * DIFFUSION / 40_000))


@STEPPERS
def test_stages_see_the_time_at_which_they_stand(stepper: Stepper, order: int) -> None:
    """x' = (order) t^(order−1) is integrated exactly by a method of that order."""
    *_, found = integrate(
        lambda t, x: order * t ** (order - 1) + 0 * x, torch.zeros(1, 1), (0, 1), 0, 3, stepper, _generator()
    )
    assert found.item() == pytest.approx(1, abs=1e-6)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 100), min_size=2, max_size=6, unique=True), st.booleans(), st.integers(1, 40))
def test_states_stand_at_the_times_asked_for(hundredths: list[int], falling: bool, steps: int) -> None:
    times = [i / 100 for i in sorted(hundredths, reverse=falling)]
    start = torch.full((2, 1), times[0], dtype=FLOAT)
    states = list(integrate(lambda t, x: torch.ones_like(x), start, times, 0.0, steps, EULER, _generator()))
    torch.testing.assert_close(torch.stack(states)[:, 0, 0], torch.tensor(times, dtype=FLOAT))


def test_steps_are_counted_per_unit_of_time() -> None:
    seen: list[float] = []

    def drift(t: Tensor, x: Tensor) -> Tensor:
        seen.append(t.item())
        return 0 * x

    list(integrate(drift, torch.zeros(1, 1), (0.0, 0.5, 0.51), 0.0, 20, EULER, _generator()))
    assert seen == pytest.approx([i / 20 for i in range(10)] + [0.5])


def test_no_noise_is_drawn_without_diffusion() -> None:
    generator = _generator()
    before = generator.get_state()
    list(integrate(_logistic, torch.ones(2, 1), (0.0, 1.0), 0.0, 4, EULER, generator))
    assert torch.equal(generator.get_state(), before)


# Times


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 60))
def test_graded_times_go_one_way_from_start_to_stop(first: int, last: int, steps: int) -> None:
    times = graded(first / 100, last / 100, steps)
    assert (times[0], times[-1]) == (first / 100, last / 100)
    assert (times.diff() * (last - first) >= 0).all() and (first == last or (times.diff() != 0).all())


@given(st.integers(1, 200))
def test_graded_steps_are_short_at_both_ends_and_longest_in_the_middle(steps: int) -> None:
    lengths = graded(0.0, 1.0, steps).diff()
    assert len(lengths) == steps
    torch.testing.assert_close(lengths, lengths.flip(0))
    assert lengths.max() <= 2.11 / steps
    assert lengths[0] <= (1.78 * (1 / steps + 0.006)) ** 3  # 0.006 for the shortest step that single precision knows


def test_a_part_of_the_way_has_its_part_of_the_graded_steps() -> None:
    parts = [graded(0.0, 0.5, 20), graded(0.5, 1.0, 20)]
    torch.testing.assert_close(torch.cat([parts[0], parts[1][1:]]), graded(0.0, 1.0, 20))


def _spread_at_end(bridge: GaussianBridge, times: Tensor) -> float:
    """Standard deviation at t = 1 of the Euler–Maruyama process of a Gaussian bridge on a line, by its recursion."""
    variance, place = bridge.cov0.clone(), torch.ones(1, 1, dtype=FLOAT)
    for t, dt in zip(times, times.diff(), strict=False):
        variance = (1 + dt * bridge.forward_drift(t, place)) ** 2 * variance + 2 * bridge.epsilon * dt
    return variance.sqrt().item()


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 5.0])
@pytest.mark.parametrize(("spread0", "spread1"), [(1.0, 0.1), (0.1, 1.0), (1.0, 1.0), (2.0, 0.5)])
def test_graded_steps_are_better_where_even_ones_are_bad(spread0: float, spread1: float, epsilon: float) -> None:
    """They never err by much more, and by less wherever even ones err by more than two per cent."""
    zero, one = torch.zeros(1, dtype=FLOAT), torch.ones(1, 1, dtype=FLOAT)
    bridge = GaussianBridge(zero, spread0**2 * one, zero, spread1**2 * one, epsilon)
    worse, better = (abs(_spread_at_end(bridge, make(0.0, 1.0, 100)) / spread1 - 1) for make in (even, graded))
    assert better < (0.8 * worse if worse > 0.02 else worse + 2e-3)


# Adaptive steps


@DIRECTIONS
def test_adaptive_steps_reach_their_tolerance(times: tuple[float, float]) -> None:
    """The logistic equation, which damps errors forward and lets them grow at most e-fold."""
    start = torch.tensor([[0.2, 0.5, 0.7]], dtype=FLOAT)
    ends = {0.0: start, 1.0: 1 / (1 + (1 / start - 1) * exp(-1.5))}
    calls: list[int] = []
    for tolerance in (1e-3, 1e-6, 1e-9):
        calls.append(0)

        def drift(t: Tensor, x: Tensor) -> Tensor:
            calls[-1] += 1
            return _logistic(t, x)

        *_, found = integrate(
            drift, ends[times[0]], times, 0.0, 1, Adaptive(rtol=tolerance, atol=tolerance), _generator()
        )
        assert (found - ends[times[1]]).abs().max() < 5 * tolerance
    assert calls[0] < calls[1] < calls[2]


@pytest.mark.parametrize("stop", [0.3, 0.7, 1.0])
def test_adaptive_steps_stop_where_they_are_told(stop: float) -> None:
    drift, start = (lambda t, x: 2 * t * torch.ones_like(x)), torch.zeros(2, 1)
    states = list(integrate(drift, start, (0, stop, 0.1), 0, 1, Adaptive(), _generator()))
    torch.testing.assert_close(torch.stack(states)[:, 0, 0], torch.tensor([0, stop**2, 0.01]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("diffusion", [0.1, PiecewiseLinear((0.0, 0.1)), PiecewiseLinear((0.0,))], ids=str)
def test_adaptive_steps_are_for_equations_without_noise(diffusion: Diffusion) -> None:
    with pytest.raises(InputError, match="diffusion must be 0"):
        list(integrate(_logistic, torch.ones(2, 1), (0.0, 1.0), diffusion, 1, Adaptive(), _generator()))


def test_adaptive_steps_ask_for_the_package_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(InputError, match="pip install torchdiffeq"):
        list(integrate(_logistic, torch.ones(2, 1), (0.0, 1.0), 0, 1, Adaptive(), _generator()))


# Diffusions that are functions of time

LEVELS = st.lists(st.floats(0, 1e3), min_size=1, max_size=6)


@given(LEVELS, st.floats(0, 1))
def test_piecewise_linear_goes_through_its_values(values: list[float], t: float) -> None:
    knots = np.linspace(0, 1, len(values)) if len(values) > 1 else np.array([0.5])
    found = PiecewiseLinear(tuple(values))(torch.tensor([t, 0.0, 1.0], dtype=FLOAT))
    np.testing.assert_allclose(found.numpy(), np.interp([t, 0.0, 1.0], knots, values), atol=1e-9, rtol=1e-9)
    at_knots = PiecewiseLinear(tuple(values))(torch.from_numpy(knots))
    np.testing.assert_allclose(at_knots.numpy(), values, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("shape", [(), (5,), (5, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT], ids=str)
def test_piecewise_linear_keeps_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    value = PiecewiseLinear((0.2, 0.4))(torch.full(shape, 0.25, dtype=dtype))
    torch.testing.assert_close(value, torch.full(shape, 0.25, dtype=dtype))


@pytest.mark.parametrize("values", [(), (-0.1,), (0.3, nan), (0.3, inf)], ids=str)
def test_piecewise_linear_refuses_what_is_no_diffusion(values: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="diffusion"):
        PiecewiseLinear(values)
