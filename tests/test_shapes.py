"""Bridges between smoothed atoms: planar grids, their products, and data under a known potential.

`test_problems` tests what holds for every exact bridge: drifts as conditional expectations, moments, energy, saving.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sbridge.errors import DivergenceError, InputError
from sbridge.evaluation.distances import energy_p_value
from sbridge.evaluation.metrics import move
from sbridge.fields import Reversed
from sbridge.problems import grid
from sbridge.problems.atoms import AtomBridge
from sbridge.problems.gaussian import GaussianBridge
from sbridge.problems.grid import Grid, grid_sinkhorn, smoothed
from sbridge.problems.laws import LAWS, masses
from sbridge.problems.shapes import Shapes, ShapesBridge
from sbridge.problems.sourced import KnownPotential, SourcedBridge

FLOAT = torch.float64
EPSILONS = [0.02, 0.05, 0.5, 5.0]
TIMES = [0.0, 0.1, 0.5, 0.95, 1.0]


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _tensor(value: float) -> Tensor:
    return torch.tensor(value, dtype=FLOAT)


def _axis(cells: int = 160) -> Tensor:
    return (2 * torch.arange(cells, dtype=FLOAT) + 1) * (4 / cells) - 4


def _block(p: Tensor, q: Tensor, epsilon: float) -> ShapesBridge:
    """The bridge of one plane between masses on a grid over ±4, smoothed by the spacing of 160 cells."""
    variance, axis, eye = 0.05**2, _axis(len(p)), torch.eye(2, dtype=FLOAT)
    log_a, log_w = grid_sinkhorn(p, q, axis, 2 * epsilon + 2 * variance)
    target, source = (Grid(logs[None], axis, [0], eye, epsilon, variance) for logs in (log_w, log_a))
    return ShapesBridge(target, Reversed(source), epsilon)


def _gaussian_masses(mean: list[float], cov: list[list[float]]) -> Tensor:
    points = torch.cartesian_prod(_axis(), _axis())
    normal = torch.distributions.MultivariateNormal(torch.tensor(mean, dtype=FLOAT), torch.tensor(cov, dtype=FLOAT))
    return normal.log_prob(points).softmax(0).reshape(160, 160)


def _truth(dim: int, epsilon: float = 0.05, *laws: str) -> ShapesBridge:
    return Shapes(dim=dim, epsilon=epsilon, **({"laws": laws} if laws else {})).truth(_generator(1))


def _known(epsilon: float = 0.05) -> SourcedBridge:
    return KnownPotential(atoms=400, components=4, epsilon=epsilon).truth(_generator(1))


BRIDGES: dict[str, Callable[[], AtomBridge]] = {"shapes": lambda: _truth(4), "known potential": _known}
EVERY_BRIDGE = pytest.mark.parametrize("bridge", [make() for make in BRIDGES.values()], ids=list(BRIDGES))


# Sums on a grid


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("t", TIMES)
def test_sums_are_those_of_all_terms(epsilon: float, t: float) -> None:
    """Among the atoms, between them, and where all terms of the product underflow."""
    field = _truth(2, epsilon, "rings:checkerboard").forward_field
    x = torch.cat([torch.randn(40, 2, generator=_generator(), dtype=FLOAT), 30 * torch.eye(2, dtype=FLOAT)])
    spread = field.spread(_tensor(t), x)
    places = torch.cartesian_prod(field.axis, field.axis)
    logs = field.log_weights.flatten() - torch.cdist(x @ field.rotation, places).square() / (2 * spread)
    wanted = torch.logsumexp(logs, dim=1) - torch.log(2 * pi * spread[:, 0])
    torch.testing.assert_close(field.log_sum(x, spread), wanted, atol=1e-10, rtol=1e-10)
    mean = torch.softmax(logs, dim=1) @ places @ field.rotation.T
    torch.testing.assert_close(field.mean(x, spread), mean, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("pair", Shapes().laws)
def test_sinkhorn_meets_both_marginals(pair: str, epsilon: float) -> None:
    axis, variance = _axis(), 2 * epsilon + 0.005
    p, q = (masses(LAWS[name], axis) for name in pair.split(":"))
    log_a, log_w = grid_sinkhorn(p, q, axis, variance)
    for wanted, own, other in ((p, log_a, log_w), (q, log_w, log_a)):
        assert ((own + smoothed(other, axis, axis, variance)).exp() - wanted).abs().sum() < 1e-9


def test_sinkhorn_says_when_it_does_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "_MOST_STEPS", 3)
    p, q = (masses(LAWS[name], _axis()) for name in ("moons", "spiral"))
    with pytest.raises(DivergenceError, match="after 3 steps"):
        grid_sinkhorn(p, q, _axis(), 0.1)


@pytest.mark.parametrize("name", LAWS)
def test_laws_have_unit_spread(name: str) -> None:
    found, axis = masses(LAWS[name], _axis()), _axis()
    assert found.min() >= 0 and float(found.sum()) == pytest.approx(1)
    for marginal in (found.sum(1), found.sum(0)):
        assert abs(float(marginal @ axis)) < 1e-3
        assert float(marginal @ axis.square()) == pytest.approx(1, abs=5e-3)


# The bridge of a plane


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_block_between_gaussians_is_the_closed_form(epsilon: float) -> None:
    p = _gaussian_masses([0.3, -0.2], [[0.3, 0.1], [0.1, 0.2]])
    q = _gaussian_masses([-0.4, 0.1], [[0.2, -0.1], [-0.1, 0.35]])
    there, back = _block(p, q, epsilon), _block(q, p, epsilon)
    known = GaussianBridge(*back.endpoint_moments(), *there.endpoint_moments(), epsilon)
    x = 0.5 * torch.randn(50, 2, generator=_generator(), dtype=FLOAT)
    for t in TIMES:
        torch.testing.assert_close(there.forward_drift(t, x), known.forward_drift(t, x), atol=2e-5, rtol=0)
        torch.testing.assert_close(there.backward_drift(t, x), known.backward_drift(t, x), atol=2e-5, rtol=0)
        torch.testing.assert_close(there.marginal_score(t, x), known.marginal_score(t, x), atol=2e-5 / epsilon, rtol=0)
    torch.testing.assert_close(there.conditional_moments(x), known.conditional_moments(x), atol=1e-6, rtol=0)
    assert there.kinetic_energy().value == pytest.approx(known.kinetic_energy().value, rel=1e-9)


@pytest.mark.parametrize(("pair", "tolerance"), [("moons:spiral", 1e-6), ("uniform:gap", 1e-2)])
def test_a_finer_grid_gives_the_same_bridge(pair: str, tolerance: float) -> None:
    """To 1e-6 for smooth densities; a density that jumps is itself known to a cell's mean."""
    coarse, fine = (_block(*(masses(LAWS[name], _axis(n)) for name in pair.split(":")), 0.05) for n in (160, 240))
    x0, x1 = coarse.pairs(200, _generator())
    for t in (0.0, 0.5, 0.9):
        x = coarse.between(_tensor(t), x0, x1, _generator())
        u, w = coarse.forward_drift(t, x), fine.forward_drift(t, x)
        assert (u - w).norm() < tolerance * w.norm()
    assert coarse.kinetic_energy().value == pytest.approx(fine.kinetic_energy().value, rel=tolerance)


# Products


def test_product_is_its_blocks_turned() -> None:
    laws = ("moons:spiral", "uniform:gap", "moons:spiral")
    whole, parts = _truth(6, 0.05, *laws), [_truth(2, 0.05, law) for law in laws]
    turn, x = whole.forward_field.rotation, torch.randn(30, 6, generator=_generator(), dtype=FLOAT)
    planes = [y @ part.forward_field.rotation.T for part, y in zip(parts, (x @ turn).split(2, dim=1), strict=True)]
    for t in TIMES:
        for name in ("forward_drift", "backward_drift"):
            pieces = [
                getattr(part, name)(t, y) @ part.forward_field.rotation for part, y in zip(parts, planes, strict=True)
            ]
            torch.testing.assert_close(getattr(whole, name)(t, x), torch.cat(pieces, dim=1) @ turn.T)
        densities = [part.log_density(_tensor(t), y) for part, y in zip(parts, planes, strict=True)]
        torch.testing.assert_close(whole.log_density(_tensor(t), x), torch.stack(densities).sum(0))
    energies = [part.kinetic_energy().value for part in parts]
    assert whole.kinetic_energy().value == pytest.approx(sum(energies))
    assert energies[0] == energies[2]


def test_rotation_turns_every_answer() -> None:
    here, there = (Shapes(dim=4).truth(_generator(seed)) for seed in (1, 2))
    turn = here.forward_field.rotation @ there.forward_field.rotation.T
    x = torch.randn(20, 4, generator=_generator(), dtype=FLOAT)
    for t in (0.0, 0.6):
        torch.testing.assert_close(there.forward_drift(t, x @ turn), here.forward_drift(t, x) @ turn)
        torch.testing.assert_close(there.backward_drift(t, x @ turn), here.backward_drift(t, x) @ turn)
    (mean, cov), (turned_mean, turned_cov) = here.endpoint_moments(), there.endpoint_moments()
    torch.testing.assert_close(turned_mean, mean @ turn)
    torch.testing.assert_close(turned_cov, turn.T @ cov @ turn)
    assert not torch.allclose(mean, turned_mean, atol=1e-3) or not torch.allclose(cov, turned_cov, atol=1e-3)


# Every bridge between atoms


@EVERY_BRIDGE
@pytest.mark.parametrize("t", [0.0, 0.3, 0.9])
def test_drift_is_the_gradient_of_a_solution_of_hamilton_jacobi_bellman(bridge: AtomBridge, t: float) -> None:
    """∇λ = b_F and ∂tλ + ½|∇λ|² + εΔλ = 0, by central differences on points of the bridge."""
    x0, x1 = bridge.pairs(20, _generator())
    time, x, step = _tensor(t), bridge.between(_tensor(t), x0, x1, _generator()), 1e-4
    moves = step * torch.eye(x.shape[1], dtype=FLOAT)
    up, down = (torch.stack([bridge.potential(time, x + s * m) for m in moves], dim=1) for s in (1, -1))
    u = bridge.forward_drift(t, x)
    torch.testing.assert_close((up - down) / (2 * step), u, atol=1e-4, rtol=1e-4)
    curvature = (up + down - 2 * bridge.potential(time, x)[:, None]).sum(1) / step**2
    later, earlier = (bridge.potential(time + s * 1e-5, x) for s in (1, -1))
    residual = (later - earlier) / 2e-5 + u.square().sum(1) / 2 + bridge.epsilon * curvature
    assert residual.abs().max() < 1e-3 * (1 + u.square().sum(1).max() + bridge.epsilon * curvature.abs().max())


@EVERY_BRIDGE
@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_drifts_differ_by_the_gradient_of_the_density(bridge: AtomBridge, t: float) -> None:
    x0, x1 = bridge.pairs(20, _generator())
    time, x, step = _tensor(t), bridge.between(_tensor(t), x0, x1, _generator()), 1e-5
    moves = step * torch.eye(x.shape[1], dtype=FLOAT)
    slope = [(bridge.log_density(time, x + m) - bridge.log_density(time, x - m)) / (2 * step) for m in moves]
    gap = bridge.forward_drift(t, x) - bridge.backward_drift(t, x)
    torch.testing.assert_close(gap, 2 * bridge.epsilon * torch.stack(slope, dim=1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [lambda: _truth(2, 0.05, "moons:gap"), _known], ids=list(BRIDGES))
@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_points_have_the_density(make: Callable[[], AtomBridge], t: float) -> None:
    """The density integrates to one and gives every square of a grid its share of the points."""
    bridge, n, fine, coarse, half = make(), 10_000, 120, 10, 4.5
    x = bridge.between(_tensor(t), *bridge.pairs(n, _generator()), _generator(1))
    axis = (2 * torch.arange(fine, dtype=FLOAT) + 1) * (half / fine) - half
    mass = bridge.log_density(_tensor(t), torch.cartesian_prod(axis, axis)).exp() * (2 * half / fine) ** 2
    assert float(mass.sum()) == pytest.approx(1, abs=1e-3)
    expected = n * mass.reshape(coarse, fine // coarse, coarse, fine // coarse).sum((1, 3)).flatten()
    squares = ((x + half) / (2 * half / coarse)).long().clamp(0, coarse - 1)
    seen = torch.bincount(coarse * squares[:, 0] + squares[:, 1], minlength=coarse**2)
    common = expected > 5
    degrees = int(common.sum())
    assert float(((seen - expected)[common].square() / expected[common]).sum()) < degrees + 4 * sqrt(2 * degrees)


@EVERY_BRIDGE
def test_sde_ends_in_the_right_laws(bridge: AtomBridge) -> None:
    """Two-sample tests; a bridge at another ε fails them."""
    (x0, x1), (other0, other1) = bridge.pairs(700, _generator(1)), bridge.pairs(700, _generator(2))
    assert energy_p_value(move(bridge, x0, _generator(3)), other1, _generator()) > 0.01
    assert energy_p_value(move(bridge, x1, _generator(3), direction="backward"), other0, _generator()) > 0.01
    assert energy_p_value(x0, other1, _generator()) < 0.01


def test_energy_of_shapes_agrees_with_that_of_drawn_pairs() -> None:
    bridge = _truth(2)
    drawn, exact = AtomBridge.kinetic_energy(bridge), bridge.kinetic_energy()
    assert exact.standard_error == 0
    assert abs(drawn.value - exact.value) < 4 * drawn.standard_error < 0.05 * exact.value


# Families


def test_blocks_of_one_pair_are_solved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = _truth(2, 0.3, "moons:moons").forward_field.log_weights
    monkeypatch.setattr("sbridge.problems.shapes.grid_sinkhorn", None)
    again = _truth(8, 0.3, "moons:moons").forward_field
    assert again.kinds == [0, 0, 0, 0] and torch.equal(again.log_weights, first)


def test_source_points_have_equal_masses_and_components_nearly() -> None:
    bridge = _known()
    for atoms, partners in ((bridge.sources, bridge.forward_field), (bridge.forward_field, bridge.sources)):
        share = atoms.shares(partners, bridge.span)
        assert float(share.sum()) == pytest.approx(1)
        torch.testing.assert_close(share, torch.full_like(share, 1 / len(share)), atol=0, rtol=0.02)


def test_points_of_a_file_are_the_source(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(5, 3, (100, 3))
    np.save(tmp_path / "cells.npy", rows)
    problem = KnownPotential(source=str(tmp_path / "cells.npy"), samples=3000, test_samples=100).build()
    assert problem.name == "known-potential cells d=3"
    truth = problem.truth
    assert isinstance(truth, SourcedBridge) and len(truth.sources.places) == 100
    centred = torch.from_numpy(rows - rows.mean(0))
    scaled = centred / centred.var(0).mean().sqrt()
    torch.testing.assert_close(truth.sources.places.sort(0).values, scaled.sort(0).values)
    nearest = torch.cdist(problem.x0.double(), scaled).min(1).values
    assert nearest.square().mean().sqrt() < 0.5  # moved little and smoothed by 0.1


@pytest.mark.parametrize("source", ["nowhere", "missing.npy", "flat.npy", "few.npy", "nan.npy", "equal.npy"])
def test_impossible_sources_are_refused(source: str, tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.ones(20))
    np.save(tmp_path / "few.npy", np.ones((5, 2)))
    np.save(tmp_path / "nan.npy", np.full((20, 2), np.nan))
    np.save(tmp_path / "equal.npy", np.ones((20, 2)))
    with pytest.raises(InputError):
        KnownPotential(source=str(tmp_path / source)).build()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Shapes(dim=3),
        lambda: Shapes(dim=0),
        lambda: Shapes(laws=()),
        lambda: Shapes(laws=("moons",)),
        lambda: Shapes(laws=("moons:stars",)),
        lambda: KnownPotential(components=0),
        lambda: KnownPotential(atoms=5),
    ],
)
def test_impossible_options_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        make()
