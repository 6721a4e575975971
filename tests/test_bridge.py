"""Problems, frames and bridges: what comes in goes out, and the processes of a bridge share their marginals."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from math import nan
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from members import normal
from safetensors import safe_open
from torch import Tensor

from sbridge.bridge import Bridge, Direction
from sbridge.errors import InputError
from sbridge.fields import Half
from sbridge.interpolants import Brownian, Linear
from sbridge.networks import DriftPair
from sbridge.potentials.solver import MixturePotential
from sbridge.problem import Frame, Problem
from sbridge.problems.gaussian import GaussianBridge
from sbridge.sampling import HEUN, RK4, Adaptive, Diffusion, PiecewiseLinear, Simulation, steps_for

FLOAT, EPSILON = torch.float64, 0.3
GAUSSIANS = (
    torch.tensor([0.5, -1.0], dtype=FLOAT),
    torch.tensor([[1.0, 0.4], [0.4, 0.7]], dtype=FLOAT),
    torch.tensor([-1.0, 1.5], dtype=FLOAT),
    torch.tensor([[0.6, -0.3], [-0.3, 1.2]], dtype=FLOAT),
)
EXACT = GaussianBridge(*GAUSSIANS, EPSILON)
X = torch.tensor([[0.1, -0.4], [1.2, 0.3], [-2.0, 0.5], [0.0, 0.0]], dtype=FLOAT)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _sample(mean: Tensor, cov: Tensor, n: int, seed: int = 0) -> Tensor:
    z = torch.randn(n, len(mean), generator=_generator(seed), dtype=FLOAT)
    return mean + z @ torch.linalg.cholesky(cov).T


def _problem(n: int = 40) -> Problem:
    x0, x1 = _sample(*GAUSSIANS[:2], n), _sample(*GAUSSIANS[2:], n, seed=1)
    return Problem(x0, x1, EPSILON, x0[:15], x1[:15])


# Problem


@pytest.mark.parametrize("epsilon", [0.0, -1.0, nan, float("inf")])
def test_epsilon_must_be_positive(epsilon: float) -> None:
    x = torch.zeros(20, 2)
    with pytest.raises(InputError, match=r"epsilon must be (above 0|a finite number)"):
        Problem(x, x, epsilon, x, x)


@pytest.mark.parametrize(
    ("which", "bad", "message"),
    [
        ("x0", torch.zeros(20), r"must have shape \(n, d\), not \(20,\)"),
        ("x1", torch.zeros(20, 1, 1), r"must have shape \(n, d\)"),
        ("test0", torch.zeros(9, 2), "has 9 points; at least 10 are needed"),
        ("test1", torch.full((20, 2), nan), "has 20 rows with NaN or infinite values"),
        ("x0", torch.zeros(20, 2).index_fill(0, torch.tensor([3]), torch.inf), "has 1 rows with NaN or infinite"),
    ],
    ids=["vector", "cube", "few", "nan", "infinite"],
)
def test_points_are_checked(which: str, bad: Tensor, message: str) -> None:
    points = dict.fromkeys(("x0", "x1", "test0", "test1"), torch.zeros(20, 2)) | {which: bad}
    with pytest.raises(InputError, match=f"{which} {message}"):
        Problem(epsilon=1.0, **points)


@pytest.mark.parametrize("which", ["x1", "test0", "test1"])
def test_columns_must_agree(which: str) -> None:
    points = dict.fromkeys(("x0", "x1", "test0", "test1"), torch.zeros(20, 2)) | {which: torch.zeros(20, 3)}
    with pytest.raises(InputError, match=f"{which} has 3 columns where x0 has 2"):
        Problem(epsilon=1.0, **points)


def test_split_keeps_every_point_once() -> None:
    x0, x1 = torch.arange(120.0).reshape(60, 2), torch.arange(200.0).reshape(100, 2)
    problem = Problem.split(x0, x1, 0.5, held_out=0.25, generator=_generator(), name="halves")
    assert (len(problem.x0), len(problem.test0), len(problem.x1), len(problem.test1)) == (45, 15, 75, 25)
    assert torch.equal(torch.cat([problem.x0, problem.test0]).sort(0).values, x0)
    assert torch.equal(torch.cat([problem.x1, problem.test1]).sort(0).values, x1)
    assert (problem.name, problem.dim, problem.truth) == ("halves", 2, None)


def test_split_follows_its_generator() -> None:
    x = torch.arange(120.0).reshape(60, 2)
    first, again, other = (Problem.split(x, x, 0.5, 0.25, _generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.x0, again.x0)
    assert not torch.equal(first.x0, other.x0)


# Frame


def test_inside_a_frame_the_data_are_centred_and_of_one_scale() -> None:
    inside = Frame.of(_problem()).inside(_problem())
    for x in (inside.x0, inside.x1):
        assert x.mean(0).abs().max() < 1e-12
    assert (inside.x0.var(0).mean() + inside.x1.var(0).mean()).item() / 2 == pytest.approx(1)


def test_frame_of_points_that_do_not_vary_is_refused() -> None:
    x = torch.ones(20, 2)
    with pytest.raises(InputError, match="do not vary at all"):
        Frame.of(Problem(x, x + 1, 1.0, x, x))


def _framed_exact(frame: Frame) -> Bridge:
    """The exact bridge of the Gaussians as the frame sees them, brought back to the user's units."""
    mean0, cov0, mean1, cov1 = GAUSSIANS
    inside = GaussianBridge(
        (mean0 - frame.shift0) / frame.scale,
        cov0 / frame.scale**2,
        (mean1 - frame.shift1) / frame.scale,
        cov1 / frame.scale**2,
        EPSILON / frame.scale**2,
    )
    return frame.outside(inside)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_bridges_are_equivariant_under_frames(t: float) -> None:
    bridge = _framed_exact(Frame(X[0], X[1], 2.7))
    assert bridge.epsilon == pytest.approx(EPSILON)
    for of in ("forward_drift", "backward_drift", "velocity", "marginal_score"):
        torch.testing.assert_close(getattr(bridge, of)(t, X), getattr(EXACT, of)(t, X))


def test_frames_carry_interpolant_and_remark() -> None:
    field = Half(DriftPair(2, 1.0, 1.0, 0.5, width=4, depth=1), 0)
    bridge = Frame(X[0], X[1], 2.0).outside(Bridge(field, field, 0.5, Linear(Brownian(0.5)), "stopped early"))
    assert bridge.remark == "stopped early"
    assert bridge.interpolant is not None
    t = torch.tensor(0.3, dtype=FLOAT)
    torch.testing.assert_close(bridge.interpolant.mean(t, X, X.flip(0)), 0.7 * X + 0.3 * X.flip(0))
    torch.testing.assert_close(bridge.interpolant.variance(t), Brownian(bridge.epsilon)(t))


# Bridge: what goes in and what comes out

METHODS = ["forward_drift", "backward_drift", "velocity", "marginal_score"]


SINGLE = GaussianBridge(*(v.float() for v in GAUSSIANS), EPSILON)


@pytest.mark.parametrize(("bridge", "dtype"), [(EXACT, np.float32), (SINGLE, np.float64)], ids=["32 in 64", "64 in 32"])
def test_arrays_come_back_as_arrays_and_tensors_as_tensors(bridge: Bridge, dtype: type) -> None:
    array = X.numpy().astype(dtype)
    for method in METHODS:
        found, same = getattr(bridge, method)(0.3, array), getattr(bridge, method)(0.3, torch.from_numpy(array))
        assert isinstance(found, np.ndarray) and found.dtype == dtype and found.shape == (4, 2)
        assert isinstance(same, Tensor) and same.dtype == torch.from_numpy(array).dtype
        np.testing.assert_array_equal(found, same.numpy())
    moved = bridge.transport(array, steps=3)
    path = bridge.trajectories(torch.from_numpy(array), (0.0, 0.5, 1.0), steps=3)
    assert isinstance(moved, np.ndarray) and moved.dtype == dtype and moved.shape == (4, 2)
    assert isinstance(path, Tensor) and path.dtype == torch.from_numpy(array).dtype and path.shape == (3, 4, 2)


def test_each_point_may_have_its_own_time() -> None:
    times = np.array([[0.1], [0.5], [0.7], [0.9]])
    found = EXACT.forward_drift(times, X.numpy())
    for i, t in enumerate(times[:, 0]):
        np.testing.assert_allclose(found[i], EXACT.forward_drift(float(t), X.numpy())[i])


def test_velocity_and_score_are_mean_and_difference_of_the_drifts() -> None:
    forward, backward = EXACT.forward_drift(0.4, X), EXACT.backward_drift(0.4, X)
    torch.testing.assert_close(EXACT.velocity(0.4, X), (forward + backward) / 2)
    torch.testing.assert_close(EXACT.marginal_score(0.4, X), (forward - backward) / (2 * EPSILON))


class Counted(DriftPair):
    """A network that counts its evaluations."""

    calls = 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        type(self).calls += 1
        return super().forward(t, x)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_network_of_both_drifts_is_evaluated_once(
    direction: Direction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For velocity, score and any diffusion, in the user's units, and again after the bridge was saved and loaded."""
    pair = Counted(2, 1.0, 1.0, 0.5, width=4, depth=1)
    fitted = Frame(X[0], X[1], 2.0).outside(Bridge(Half(pair, 0), Half(pair, 1), 0.5))
    fitted.save(tmp_path / "bridge")
    copies = Bridge(deepcopy(fitted.forward_field), deepcopy(fitted.backward_field), fitted.epsilon)
    calls: list[Callable[[Bridge], Tensor]] = [
        lambda bridge: bridge.velocity(0.3, X),
        lambda bridge: bridge.marginal_score(0.3, X),
        lambda bridge: bridge.transport(X, direction, steps=1, diffusion=0.1, random_state=0),
        lambda bridge: bridge.transport(X, direction, steps=1, random_state=0),
    ]
    for call in calls:
        for bridge in (fitted, Bridge.load(tmp_path / "bridge")):
            monkeypatch.setattr(Counted, "calls", 0)
            found = call(bridge)
            assert Counted.calls == 1
            torch.testing.assert_close(found, call(copies))


def test_a_shared_network_is_saved_once(tmp_path: Path) -> None:
    pair = DriftPair(2, 1.0, 1.0, 0.5, width=4, depth=1)
    Bridge(Half(pair, 0), Half(pair, 1), 0.5).save(tmp_path / "bridge")
    with safe_open(tmp_path / "bridge", framework="pt") as file:
        assert len(list(file.keys())) == len(pair.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"step": 3}, "no option 'step'; it has steps, diffusion, stepper, batch"),
    ],
)
def test_bad_simulations_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EXACT.transport(X, **options)


def test_options_change_a_simulation() -> None:
    wanted = EXACT.transport(X, "forward", Simulation(7, 0.2, HEUN), 1)
    found = EXACT.transport(X, simulation=Simulation(50, 0.2), random_state=1, steps=7, stepper=HEUN)
    assert torch.equal(found, wanted)


def test_no_gradient_is_kept() -> None:
    field = Half(DriftPair(2, 1.0, 1.0, 0.5, width=4, depth=1), 0)
    bridge = Bridge(field, field, 0.5)
    assert not bridge.velocity(0.3, X.float()).requires_grad
    assert not bridge.transport(X.float(), steps=2).requires_grad


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (X[0], r"must have shape \(n, d\), not \(2,\)"),
        (X[None], r"must have shape \(n, d\), not \(1, 4, 2\)"),
        (X[:, :1], r"must have shape \(n, 2\), not \(4, 1\)"),
        (X.repeat(1, 2), r"must have shape \(n, 2\), not \(4, 4\)"),
        (torch.full_like(X, nan), "NaN or infinite"),
        (torch.full_like(X, torch.inf), "NaN or infinite"),
        ([["one", "two"]], "array of numbers"),
    ],
    ids=range(7),
)
def test_points_must_be_finite_rows(bad: Tensor, message: str) -> None:
    for call in (EXACT.transport, lambda x: EXACT.velocity(0.5, x)):
        with pytest.raises(InputError, match=message):
            call(bad)


@pytest.mark.parametrize("t", [-0.1, 1.5, nan])
def test_times_must_lie_on_the_way(t: float) -> None:
    with pytest.raises(InputError, match="t must lie in"):
        EXACT.velocity(t, X)


def test_integers_and_lists_are_numbers_too() -> None:
    points = [[1, 2], [3, -4]]
    for same in (points, np.array(points), torch.tensor(points)):
        assert np.allclose(EXACT.velocity(0.5, same), EXACT.velocity(0.5, np.array(points, dtype=float)))


@pytest.mark.parametrize("times", [(0.0,), (), (0.0, 1.2), (-0.1, 1.0), (0.0, 0.5, 0.5), (0.0, 0.6, 0.4), (0.0, nan)])
def test_times_must_be_monotone_and_within_the_bridge(times: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="times"):
        EXACT.trajectories(X, times)


def test_a_path_that_begins_between_the_ends_says_where_its_points_stand() -> None:
    """From t = 0.3 they are moved from there, from an end they are moved to it first."""
    with pytest.raises(InputError, match=r"times begin at 0\.3, which is no end: .* start=0\.3 .*start=0"):
        EXACT.trajectories(X, (0.3, 0.6))
    with pytest.raises(InputError, match="t must be at most 1"):
        EXACT.at(X, 1.5)
    settings = Simulation(20, stepper=HEUN)
    whole = EXACT.trajectories(X, (0.0, 0.3, 0.6), settings, random_state=1)
    torch.testing.assert_close(EXACT.trajectories(X, (0.3, 0.6), settings, random_state=1, start=0), whole[1:])
    torch.testing.assert_close(EXACT.at(X, 0.3, 0, settings, 1), whole[1])
    torch.testing.assert_close(EXACT.transport(X, simulation=settings, random_state=1, until=0.3), whole[1])
    assert EXACT.trajectories(X, (0.3, 0.6), settings, start=0.3)[0].equal(X)
    assert EXACT.at(X, 0.3, start=0.3).equal(X)
    back = EXACT.transport(X, "backward", settings, 1, until=0.3)
    torch.testing.assert_close(back, EXACT.trajectories(X, (1.0, 0.3), settings, 1)[1])


def test_direction_must_be_one_of_two() -> None:
    with pytest.raises(InputError, match="direction must be"):
        EXACT.transport(X, cast(Direction, "sideways"))


@pytest.mark.parametrize(
    "diffusion",
    [-0.1, nan, torch.inf, lambda t: 0.5 - t, lambda t: 1 / t, lambda t: t * nan],
    ids=["negative", "nan", "infinite", "negative later", "infinite at first", "nan at all times"],
)
def test_diffusion_must_be_finite_and_not_negative(diffusion: Diffusion) -> None:
    with pytest.raises(InputError, match="diffusion must be"):
        EXACT.transport(X, diffusion=diffusion)


DIRECTIONS = pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0)], ids=["forward", "backward"])


@pytest.mark.parametrize(("direction", "level"), [("forward", 0.0), ("forward", 0.7), ("backward", 0.7)])
def test_a_constant_function_is_the_same_as_its_value(direction: Direction, level: float) -> None:
    number, constant, line = (
        EXACT.transport(X, direction, Simulation(8, diffusion, HEUN), random_state=1)
        for diffusion in (level, PiecewiseLinear((level,)), lambda t: level + 0 * t)
    )
    torch.testing.assert_close(constant, number)
    torch.testing.assert_close(line, number)


@DIRECTIONS
@pytest.mark.parametrize("early", [True, False], ids=["noise early", "noise late"])
def test_a_diffusion_is_that_of_its_time(times: tuple[float, float], early: bool) -> None:
    """Where D = 0, in one half of time, the paths are those of the flow; in the other they are not."""

    def level(t: Tensor) -> Tensor:
        return (0.5 - t if early else t - 0.5).clamp(min=0)

    for span in ((times[0], 0.5), (0.5, times[1])):
        noisy, flow = (EXACT.trajectories(X, span, Simulation(20, d), 1, span[0])[1] for d in (level, 0.0))
        still = (0.0 in span) != early
        assert ((noisy - flow).abs().max() < 1e-12) == still


def test_adaptive_steps_move_along_the_flow_only() -> None:
    there = EXACT.trajectories(X, (0.2, 0.9), start=0.2, diffusion=0, stepper=Adaptive())[1]
    torch.testing.assert_close(
        there, EXACT.trajectories(X, (0.2, 0.9), Simulation(100, 0, RK4), start=0.2)[1], atol=1e-5, rtol=0
    )
    with pytest.raises(InputError, match="adaptive steps are for the probability flow"):
        EXACT.transport(X, stepper=Adaptive())


def test_seeds_fix_the_noise_and_none_does_not() -> None:
    first, again, other = (EXACT.transport(X, steps=5, random_state=seed) for seed in (3, np.int64(3), 4))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert not torch.allclose(EXACT.transport(X, steps=5), EXACT.transport(X, steps=5))


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_numpy_generators_seed_and_advance(make: Callable[[int], np.random.Generator]) -> None:
    one, same = make(0), make(0)
    first, again, other = (EXACT.transport(X, steps=5, random_state=state) for state in (one, same, one))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_other_seeds_are_refused() -> None:
    with pytest.raises(InputError, match="random_state must be None, a whole number or a NumPy generator, not '3'"):
        EXACT.transport(X, random_state=cast(int, "3"))


def test_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    EXACT.transport(X, steps=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_only_bound_memory() -> None:
    x = _sample(*GAUSSIANS[:2], 50)
    whole, parts = (EXACT.trajectories(x, (0.0, 0.4, 1.0), diffusion=0, steps=10, batch=b) for b in (50, 7))
    torch.testing.assert_close(whole, parts)


def test_trajectories_start_where_they_are_told_and_end_as_transport_does() -> None:
    path = EXACT.trajectories(X, (0.0, 0.5, 1.0), steps=20, random_state=1)
    assert torch.equal(path[0], X)
    torch.testing.assert_close(path[2], EXACT.transport(X, steps=20, random_state=1))


def test_flow_forward_and_back_is_the_identity() -> None:
    there = EXACT.trajectories(X, (0.2, 0.9), start=0.2, diffusion=0, steps=50, stepper=RK4)[1]
    back = EXACT.trajectories(there, (0.9, 0.2), start=0.9, diffusion=0, steps=50, stepper=RK4)[1]
    torch.testing.assert_close(back, X, atol=1e-6, rtol=0)


# Bridge: its processes


def _moments_at(t: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of ρ_t, from the score, which is −Σ_t⁻¹(x − m_t)."""
    rows = torch.cat([torch.zeros(1, 2, dtype=FLOAT), torch.eye(2, dtype=FLOAT)])
    values = EXACT.marginal_score(t, rows)
    precision = values[0] - values[1:]
    return torch.linalg.solve(precision, values[0]), torch.linalg.inv(precision)


FORWARD, BACKWARD, UNEVEN = (0.0, 0.4, 1.0), (1.0, 0.4, 0.0), PiecewiseLinear((0.1, 1.0, 0.0))


@pytest.mark.parametrize("times", [FORWARD, BACKWARD], ids=["forward", "backward"])
@pytest.mark.parametrize("diffusion", [0.0, 0.5 * EPSILON, EPSILON, 2 * EPSILON, UNEVEN], ids=str)
def test_every_diffusion_has_the_marginals_of_the_bridge(diffusion: Diffusion, times: tuple[float, ...]) -> None:
    start = GAUSSIANS[:2] if times[0] == 0 else GAUSSIANS[2:]
    x, n = _sample(*start, 20_000), 20_000
    path = EXACT.trajectories(x, times, Simulation(30, diffusion, HEUN), random_state=2)
    for t, states in zip(times, path, strict=True):
        mean, cov = _moments_at(t)
        spread = cov.diagonal().sqrt()
        assert ((states.mean(0) - mean).abs() / spread).max() < 4.5 / n**0.5 + 2e-3
        error = (states.T.cov() - cov).abs() / torch.outer(spread, spread)
        assert error.max() < 4.5 * (2 / n) ** 0.5 + 4e-3


def test_only_the_bridges_own_diffusion_has_its_plan() -> None:
    """Cov(x0, x1) of the process; other diffusions have the marginals but other couplings."""
    mean0, cov0, _, _ = GAUSSIANS
    x = _sample(mean0, cov0, 20_000)
    exact = EXACT.conditional_moments(x)[0] - EXACT.endpoint_moments()[0]
    expected = (x - mean0).T @ exact / len(x)

    def cross(share: float) -> Tensor:
        ends = EXACT.transport(x, diffusion=share * EPSILON, steps=30, stepper=HEUN, random_state=2)
        return (x - mean0).T @ (ends - ends.mean(0)) / len(x)

    torch.testing.assert_close(cross(1.0), expected, atol=0.03, rtol=0)
    assert (cross(0.0) - expected).abs().max() > 0.1
    assert (cross(2.0) - expected).abs().max() > 0.05


def test_points_between_given_ends_are_those_of_a_brownian_bridge() -> None:
    n = 40_000
    x0, x1 = (row.expand(n, 2) for row in X[:2])
    between = EXACT.between(torch.tensor(0.3, dtype=FLOAT), x0, x1, _generator())
    torch.testing.assert_close(between.mean(0), 0.7 * X[0] + 0.3 * X[1], atol=4e-3 * 4, rtol=0)
    variance = 2 * EPSILON * 0.3 * 0.7
    assert between.var(0).sub(variance).abs().max() < 5 * variance * (2 / n) ** 0.5


@pytest.mark.parametrize("epsilon", [5.0, 50.0, 500.0])
def test_large_noise_takes_more_steps_and_ends_right(epsilon: float) -> None:
    """With 100 steps the spread of the ends is 5 to 40 % too large, and it is that of the data with the default."""
    x0, x1 = (spread * normal(4000, 2, seed=seed) for seed, spread in ((0, 1.0), (1, 0.5)))
    bridge = MixturePotential(1).solve(Problem(x0, x1, epsilon, x0, x1))
    spread = bridge.transport(x0, random_state=0).std(0) / x1.std(0)
    assert (spread - 1).abs().max() < 0.04
    few = bridge.transport(x0, random_state=0, steps=100).std(0) / x1.std(0)
    assert (few - 1).abs().max() > 0.02 + 0.04 * (epsilon > 5)
    assert steps_for(epsilon, bridge.forward_field.data_spread) > 100 == steps_for(epsilon, None)
