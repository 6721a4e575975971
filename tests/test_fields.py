"""Fields take any time that broadcasts, keep shape and dtype, and are what their formulas say."""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sbridge.baselines.sinkhorn import PlugIn
from sbridge.bridge import Bridge, Direction
from sbridge.fields import Confined, Drifts, Field, Framed, Half, Reversed
from sbridge.networks import DriftPair, ResidualMLP, initialise, time_features

DIM, FLOAT = 3, torch.float64


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT)


def _pair() -> DriftPair:
    pair = DriftPair(DIM, 0.6, 1.5, 0.3, width=16, depth=2)
    initialise(pair, torch.Generator().manual_seed(0))
    return pair.double()


def _plug_in() -> PlugIn:
    return PlugIn(_normal(20, DIM), _normal(20, seed=1), 0.4)


FIELDS: dict[str, Callable[[], Field]] = {
    "forward half": lambda: Half(_pair(), 0),
    "backward half": lambda: Half(_pair(), 1),
    "framed": lambda: Framed(Half(_pair(), 0), _normal(DIM, seed=2), _normal(DIM, seed=3), 1.8),
    "plug-in": _plug_in,
    "reversed": lambda: Reversed(_plug_in()),
    "confined": lambda: Half(Confined(_pair(), 0.4), 0),
}
EVERY = pytest.mark.parametrize("field", [make() for make in FIELDS.values()], ids=list(FIELDS))
X = _normal(4, 5, DIM, seed=4)
TIMES = torch.linspace(0.05, 0.9, 20, dtype=FLOAT).reshape(4, 5, 1)


def _one_by_one(field: Field, t: Tensor, x: Tensor) -> Tensor:
    rows = zip(t.expand(*x.shape[:-1], 1).reshape(-1, 1), x.reshape(-1, DIM), strict=True)
    return torch.stack([field(time[0], row[None])[0] for time, row in rows]).reshape(x.shape)


@EVERY
@pytest.mark.parametrize(
    "t", [TIMES[0, 0, 0], TIMES[0, 0], TIMES[0], TIMES[:, :1], TIMES], ids=lambda t: str(tuple(t.shape))
)
def test_time_broadcasts(field: Field, t: Tensor) -> None:
    value = field(t, X)
    assert value.shape == X.shape
    torch.testing.assert_close(value, _one_by_one(field, t, X))


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dtype_is_the_datas(field: Field, dtype: torch.dtype) -> None:
    cast = field.to(dtype)
    value = cast(TIMES.to(dtype), X.to(dtype))
    field.to(FLOAT)
    assert value.dtype == dtype
    assert torch.isfinite(value).all()


@EVERY
def test_no_points_give_no_values(field: Field) -> None:
    assert field(torch.tensor(0.5, dtype=FLOAT), X[0, :0]).shape == (0, DIM)


def test_time_features_have_the_periods_they_are_said_to() -> None:
    t = torch.linspace(0, 1, 9, dtype=FLOAT)[:, None]
    features = time_features(t, octaves=3)
    assert features.shape == (9, 9)
    assert torch.equal(time_features(t, octaves=3, logarithms=False), features[:, :7])
    torch.testing.assert_close(features[:, :1], t)
    for k in range(3):
        torch.testing.assert_close(features[:, 1 + k : 2 + k], torch.sin(2**k * pi * t))
        torch.testing.assert_close(features[:, 4 + k : 5 + k], torch.cos(2**k * pi * t))
        period = time_features(t + 2 ** (1 - k), octaves=3)
        torch.testing.assert_close(period[:, 1 + k], features[:, 1 + k])
    for column, distance in ((7, t), (8, 1 - t)):
        torch.testing.assert_close((3 * (features[:, column : column + 1] - 1)).exp(), distance + 0.001)


def test_residual_layers_at_zero_are_the_identity() -> None:
    deep = ResidualMLP(4, 2, 8, 5)
    shallow = ResidualMLP(4, 2, 8, 1)
    shallow.load_state_dict({k: v for k, v in deep.state_dict().items() if not k.startswith("hidden")})
    for layer in deep.hidden:
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
    x = _normal(6, 4).float()
    torch.testing.assert_close(deep(x), shallow(x))


class _Straight(Drifts):
    """Drifts that lead from anywhere to given ends, as those of Brownian bridges between them do."""

    def __init__(self, end0: Tensor, end1: Tensor) -> None:
        super().__init__()
        self.end0, self.end1, self.dim = end0, end1, end0.shape[-1]

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.cat([(self.end1 - x) / (1 - t), (x - self.end0) / t], dim=-1)


@given(t=st.floats(0.02, 0.98), sizes=st.tuples(st.floats(0.1, 1e4), st.floats(0.1, 1e4)))
def test_confined_drifts_lead_to_the_nearest_end_in_reach(t: float, sizes: tuple[float, float]) -> None:
    """Those that lead within the reach are left as they are, from wherever; others keep their direction."""
    reach, time, x = 2.0, torch.tensor(t, dtype=FLOAT), 50 * _normal(20, DIM)
    ends = [size * torch.nn.functional.normalize(_normal(20, DIM, seed=k), dim=1) for k, size in enumerate(sizes, 1)]
    wanted = _Straight(*(end * min(1, reach / size) for end, size in zip(ends, sizes, strict=True)))
    torch.testing.assert_close(Confined(_Straight(*ends), reach)(time, x), wanted(time, x))


class _Explosion(Drifts):
    """Drifts by which points run away from the origin, forward and backward."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate, self.dim = rate, DIM

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.rate * torch.cat([x, -x], dim=-1)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("diffusion", [None, 0], ids=["SDE", "ODE"])
def test_confined_points_do_not_run_away(direction: Direction, diffusion: float | None) -> None:
    epsilon, x = 0.01, _normal(50, DIM)
    ends = []
    for drifts in (_Explosion(30), Confined(_Explosion(30), 5.0)):
        bridge = Bridge(Half(drifts, 0), Half(drifts, 1), epsilon)
        ends.append(bridge.transport(x, direction, diffusion=diffusion, random_state=0).norm(dim=1).max())
    assert ends[1] < 5.0 + 6 * (2 * epsilon) ** 0.5
    assert diffusion == 0 or ends[0] > 1e3  # without noise, velocities that cancel move nothing


@pytest.mark.parametrize("silent", [False, True])
def test_weights_come_from_the_generator(silent: bool) -> None:
    one, two, other = (ResidualMLP(4, 2, 8, 3, silent) for _ in range(3))
    before = torch.get_rng_state()
    for network, seed in ((one, 0), (two, 0), (other, 1)):
        initialise(network, torch.Generator().manual_seed(seed))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [torch.nn.utils.parameters_to_vector(n.parameters()) for n in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2])
    assert (one(_normal(6, 4).float()).abs().max() == 0) == silent


@pytest.mark.parametrize("t", [0.0, 0.37, 1.0])
def test_input_of_a_network_has_unit_size_at_every_time(t: float) -> None:
    """Of x_t between uncorrelated ends of the stated spreads."""
    x0, x1, z = (_normal(20_000, DIM, seed=s) for s in range(3))
    pair = _pair()
    seen: list[Tensor] = []
    pair.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = (1 - t) * 0.6 * x0 + t * 1.5 * x1 + (2 * 0.3 * t * (1 - t)) ** 0.5 * z
    pair(torch.tensor(t, dtype=FLOAT), x)
    assert seen[0][:, :DIM].std().item() == pytest.approx(1, abs=0.02)


def test_network_scales_with_the_data() -> None:
    """Data c times as large, ε then c² as large, give drifts c times as large."""
    small, large = _pair(), DriftPair(DIM, 0.6 * 7, 1.5 * 7, 0.3 * 49, width=16, depth=2).double()
    large.load_state_dict(small.state_dict())
    torch.testing.assert_close(large(TIMES, 7 * X), 7 * small(TIMES, X))


def test_halves_of_a_pair_are_its_two_drifts() -> None:
    pair = _pair()
    torch.testing.assert_close(torch.cat([Half(pair, 0)(TIMES, X), Half(pair, 1)(TIMES, X)], dim=-1), pair(TIMES, X))


def test_frame_moves_and_scales_a_drift() -> None:
    """A path in the frame and the same path outside have velocities related by the frame's."""
    inner, shift0, shift1, scale, step = Half(_pair(), 0), _normal(DIM, seed=2), _normal(DIM, seed=3), 1.8, 1e-6
    field = Framed(inner, shift0, shift1, scale)

    def outside(t: Tensor, y: Tensor) -> Tensor:
        return (1 - t) * shift0 + t * shift1 + scale * y

    speed = (outside(TIMES + step, X + step * inner(TIMES, X)) - outside(TIMES, X)) / step
    torch.testing.assert_close(field(TIMES, outside(TIMES, X)), speed, rtol=1e-6, atol=1e-6)


def test_reversing_twice_is_the_drift_itself() -> None:
    inner = Half(_pair(), 0)
    torch.testing.assert_close(Reversed(Reversed(inner))(TIMES, X), inner(TIMES, X))
