"""Orders of the steppers, with and without noise, in both directions of time, by exact recursions of moments."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from sbridge.sampling import EULER, HEUN, RK4, Stepper, integrate

FLOAT = torch.float64
STEPPERS = pytest.mark.parametrize(
    ("stepper", "order"), [(EULER, 1), (HEUN, 2), (RK4, 4)], ids=["euler", "heun", "rk4"]
)
DIRECTIONS = pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0)], ids=["forward", "backward"])
RATE, DIFFUSION, MEAN, VARIANCE = 1.3, 0.7, 0.8, 0.4


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


def _weak_error(stepper: Stepper, rate: float, steps: int, sign: int) -> float:
    """Error of mean and variance at the end of unit time from N(MEAN, VARIANCE); sign −1 is time run backward."""
    state, noise = _response(stepper, rate, sign / steps)
    mean, variance = MEAN * state**steps, VARIANCE
    for _ in range(steps):
        variance = state**2 * variance + noise**2 * 2 * DIFFUSION / steps
    decay = exp(-sign * rate)
    exact = decay**2 * VARIANCE + sign * DIFFUSION / rate * (1 - decay**2)
    return abs(mean - decay * MEAN) + abs(variance - exact)


@pytest.mark.parametrize("sign", [1, -1], ids=["forward", "backward"])
@pytest.mark.parametrize(("stepper", "order"), [(EULER, 1), (HEUN, 2)], ids=["euler", "heun"])
def test_weak_order(stepper: Stepper, order: int, sign: int) -> None:
    assert _order(lambda n: _weak_error(stepper, RATE, n, sign), [64, 128, 256]) == pytest.approx(order, abs=0.1)


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


def test_recursion_is_what_integrate_does() -> None:
    steps, start = 7, torch.tensor([[1.0], [-2.0]], dtype=FLOAT)
    *_, found = integrate(lambda t, x: -RATE * x, start, (1.0, 0.0), DIFFUSION, steps, HEUN, _generator(3))
    state, noise = _response(HEUN, RATE, -1 / steps)
    expected, generator = start, _generator(3)
    for _ in range(steps):
        z = torch.randn(start.shape, dtype=FLOAT, generator=generator)
        expected = state * expected + noise * sqrt(2 * DIFFUSION / steps) * z
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
