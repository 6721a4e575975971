"""Laws on a line: orders of convergence, mass and sign, closed forms, exact fields of mixtures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import exp, log, pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sbridge.errors import InputError
from sbridge.interpolants import Brownian, Linear
from sbridge.sampling import EULER, HEUN, RK4, Stepper
from sbridge.theory.line import Line, average, diffusion_law, flow_law, kl
from sbridge.theory.oracle import MixtureOracle

FLOAT = torch.float64
LINE = Line(-7, 7, 400)


def _tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=FLOAT)


ZERO, ONE = _tensor(0.0), _tensor(1.0)
ORACLE = MixtureOracle(
    Linear(Brownian(0.3)),
    *(_tensor([0.4, 0.6]), _tensor([[-1.0], [1.5]]), _tensor([[[0.3]], [[0.2]]])),
    *(_tensor([0.7, 0.3]), _tensor([[2.0], [-2.0]]), _tensor([[[0.1]], [[0.5]]])),
)
START, END = partial(ORACLE.log_density, ZERO), ORACLE.log_density(ONE, LINE.centres)


def _normal(x: Tensor, mean: float, variance: float) -> Tensor:
    return -(x[..., 0] - mean).square() / (2 * variance) - log(2 * pi * variance) / 2


def _start(x: Tensor) -> Tensor:
    return _normal(x, 0.8, 0.4)


def _return_drift(t: Tensor, x: Tensor) -> Tensor:
    """−1.3x: an Ornstein–Uhlenbeck process."""
    return -1.3 * x


def _returned(epsilon: float, line: Line) -> Tensor:
    """Its exact log density at t = 1 from N(0.8, 0.4)."""
    decay = exp(-1.3)
    return _normal(line.centres, 0.8 * decay, 0.4 * decay**2 + epsilon / 1.3 * (1 - decay**2))


def _restless_drift(t: Tensor, x: Tensor) -> Tensor:
    return 2 * torch.sin(5 * t + x) - x * t


def _order(error: Callable[[int], float], sizes: Sequence[int]) -> float:
    return -float(np.polyfit(np.log(sizes), [log(error(n)) for n in sizes], 1)[0])


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_order_in_space_is_two(epsilon: float) -> None:
    def error(cells: int) -> float:
        line = Line(-6, 6, cells)
        found = diffusion_law(_return_drift, _start, epsilon, line, 2)
        return float((found.exp() - _returned(epsilon, line).exp()).abs().sum() * line.width)

    assert _order(error, [200, 400, 800]) == pytest.approx(2, abs=0.1)
    assert error(800) < 3e-4


def test_order_in_time_is_two() -> None:
    """With drift and diffusion that change in time; a constant generator has no error at all."""
    line = Line(-7, 7, 100)

    def law(steps: int) -> Tensor:
        return diffusion_law(_restless_drift, _start, lambda t: 0.4 + 0.3 * torch.cos(4 * t), line, steps).exp()

    best = law(1024)
    assert _order(lambda steps: float((law(steps) - best).abs().sum()), [16, 32, 64]) == pytest.approx(2, abs=0.1)
    torch.testing.assert_close(*(diffusion_law(_return_drift, _start, 0.3, line, n) for n in (1, 50)))


def test_diffusion_may_depend_on_time() -> None:
    """Pure noise adds the variance 2∫ε dt."""
    found = diffusion_law(lambda t, x: 0 * x, _start, lambda t: 0.2 + 0.6 * t, LINE, 20)
    assert float(kl(_normal(LINE.centres, 0.8, 1.4), found, LINE)) == pytest.approx(0, abs=1e-6)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6), size=st.floats(0, 300), epsilon=st.floats(1e-3, 10), cells=st.integers(40, 90),
    steps=st.integers(1, 5),
)
def test_law_is_positive_and_keeps_its_mass(seed: int, size: float, epsilon: float, cells: int, steps: int) -> None:
    """For any drift, however rough, and any step and cell."""
    line = Line(-5, 5, cells)
    values = size * torch.randn(cells - 1, 1, dtype=FLOAT, generator=torch.Generator().manual_seed(seed))
    density = diffusion_law(lambda t, x: values, lambda x: _normal(x, 0, 0.3), epsilon, line, steps).exp()
    assert (density >= 0).all()
    assert float(density.sum() * line.width) == pytest.approx(1, abs=1e-9)


def test_law_is_positive_far_out_in_the_tails() -> None:
    """Where an implicit method of second order would have left rounding errors of either sign."""
    law = diffusion_law(_return_drift, lambda x: _normal(x, 0, 0.1), 0.05, LINE, 10)
    assert law.isfinite().all() and float(law[0]) < -200


@pytest.mark.parametrize("epsilon", [0.1, 0.3, 2.0])
def test_exact_drift_generates_the_exact_law(epsilon: float) -> None:
    found = diffusion_law(partial(ORACLE.drift, epsilon=epsilon), START, epsilon, LINE, 50)
    assert float(kl(END, found, LINE)) == pytest.approx(0, abs=2e-5)


def test_exact_drift_generates_the_exact_law_with_a_diffusion_that_changes() -> None:
    def epsilon(t: Tensor) -> Tensor:
        return 0.1 + t

    found = diffusion_law(lambda t, x: ORACLE.drift(t, x, float(epsilon(t))), START, epsilon, LINE, 50)
    assert float(kl(END, found, LINE)) == pytest.approx(0, abs=2e-5)


def test_exact_velocity_generates_the_exact_law() -> None:
    found = flow_law(ORACLE.velocity, START, LINE, 40)
    torch.testing.assert_close(found, END, atol=2e-3, rtol=1e-3)
    assert float(kl(END, found, LINE)) == pytest.approx(0, abs=5e-6)


@pytest.mark.parametrize(
    ("stepper", "order"), [(EULER, 1), (HEUN, 2), (RK4, 4)], ids=["euler", "heun", "rk4"]
)
def test_order_of_the_flow_is_that_of_its_stepper(stepper: Stepper, order: int) -> None:
    """ẋ = sin x has tan(x/2) ∝ eᵗ, so X_0 = 2 arctan(tan(x/2)/e) and dX_0/dx = 1/(e cos²(x/2) + sin²(x/2)/e)."""
    line = Line(-3, 3, 50)
    half = line.centres / 2
    start = 2 * torch.atan(torch.tan(half) / exp(1))
    exact = _start(start) - (exp(1) * half.cos().square() + half.sin().square() / exp(1)).log()[..., 0]

    def error(steps: int) -> float:
        found = flow_law(lambda t, x: torch.sin(x), _start, line, steps, stepper)
        return float((found - exact).abs().mean())

    assert _order(error, [16, 32, 64]) == pytest.approx(order, abs=0.25)


def test_constant_velocity_shifts_the_law() -> None:
    found = flow_law(lambda t, x: torch.full_like(x, 0.5), _start, LINE, 3)
    torch.testing.assert_close(found, _normal(LINE.centres, 1.3, 0.4))


def test_a_batch_of_fields_has_the_laws_of_its_members() -> None:
    rates = _tensor([0.3, 1.0, 2.5])

    def drift(t: Tensor, x: Tensor) -> Tensor:
        return -rates[:, None, None] * torch.sin(x + t)

    levels = _tensor([[0.1], [0.4], [0.2]])
    laws = diffusion_law(drift, _start, lambda t: levels, LINE, 10), flow_law(drift, _start, LINE, 20)
    for i, rate in enumerate(rates):
        member = partial(lambda t, x, rate: -rate * torch.sin(x + t), rate=rate)
        torch.testing.assert_close(laws[0][i], diffusion_law(member, _start, float(levels[i]), LINE, 10))
        torch.testing.assert_close(laws[1][i], flow_law(member, _start, LINE, 20))


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.7, 0.4), (-1.5, 2.0)])
def test_divergence_of_gaussians(mean: float, variance: float) -> None:
    line = Line(-14, 14, 300)
    p, q = _normal(line.centres, mean, variance), _normal(line.centres, 0, 1)
    assert float(kl(p, q, line)) == pytest.approx((variance + mean**2 - 1 - log(variance)) / 2, abs=1e-12)


def test_divergence_where_a_law_vanishes() -> None:
    line = Line(0, 1, 4)
    half = _tensor([log(2), log(2), -torch.inf, -torch.inf])
    assert float(kl(half, torch.zeros(4, dtype=FLOAT), line)) == pytest.approx(log(2))
    assert float(kl(torch.zeros(4, dtype=FLOAT), half, line)) == torch.inf


def test_average_over_space_and_time() -> None:
    """∫E[t x_t²]dt of N(t, 1 + t) is ∫t(1 + t + t²)dt = 13/12."""
    found = average(
        lambda t, x: t * x[..., 0].square(), lambda t, x: _normal(x, float(t), 1 + float(t)), Line(-12, 14, 200), 200
    )
    assert float(found) == pytest.approx(13 / 12, abs=1e-5)


@pytest.mark.parametrize("ends", [(1.0, 1.0, 10), (2.0, 1.0, 10), (0.0, 1.0, 1)])
def test_a_line_needs_length_and_cells(ends: tuple[float, float, int]) -> None:
    with pytest.raises(InputError, match="two cells"):
        Line(*ends)


def test_a_line_must_hold_the_start() -> None:
    with pytest.raises(InputError, match="lengthen"):
        diffusion_law(_return_drift, _start, 0.1, Line(-1, 1, 50))


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan")])
def test_a_diffusion_needs_noise(epsilon: float) -> None:
    with pytest.raises(InputError, match="positive"):
        diffusion_law(_return_drift, _start, epsilon, LINE)
