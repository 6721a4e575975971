"""Entropic plans: against POT and a dense iteration, their symmetries, and the law of their pairs."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from math import log

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sbridge.estimates import Estimate
from sbridge.plans import (
    Plan,
    annealed_potential,
    cost,
    drawn_partners,
    entropic_plan,
    entropic_plans,
    extended,
    plan_energy,
    refined,
    scaled_cost,
)
from sbridge.plans.iteration import Anderson
from sbridge.problems.gaussian import GaussianBridge
from sbridge.units import pot_reg

FLOAT, EPSILON = torch.float64, 0.4


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _samples(n0: int = 130, n1: int = 170, dtype: torch.dtype = FLOAT, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Two datasets in three dimensions without symmetries."""
    generator = _generator(seed)
    x0, x1, noise = (torch.randn(n, 3, generator=generator, dtype=FLOAT) for n in (n0, n1, n1))
    return x0.to(dtype), (1.5 * x1.tanh() + 0.3 * noise + 2).to(dtype)


def _matrix(plan: Plan) -> Tensor:
    """The plan itself, (n0, n1), in double precision."""
    costs = scaled_cost(plan.x0.double(), plan.x1.double(), plan.epsilon)
    return torch.exp(plan.f[:, None] + plan.g - costs) / costs.numel()


def _dense_step(g: Tensor, costs: Tensor) -> tuple[Tensor, Tensor]:
    """Sinkhorn's iteration written out: f with exact rows, and then g with exact columns."""
    n0, n1 = costs.shape
    f = log(n1) - torch.logsumexp(g - costs, dim=1)
    return f, log(n0) - torch.logsumexp(f[:, None] - costs, dim=0)


@pytest.mark.parametrize("epsilon", [0.03, 0.4, 5.0])
@pytest.mark.parametrize("sizes", [(130, 170), (90, 40)])
def test_plan_is_pots(epsilon: float, sizes: tuple[int, int]) -> None:
    x0, x1 = _samples(*sizes)
    weights = [torch.full((n,), 1 / n, dtype=FLOAT) for n in sizes]
    cost = torch.cdist(x0, x1).square()
    theirs = ot.bregman.sinkhorn_log(*weights, cost, pot_reg(epsilon), numItermax=20_000, stopThr=1e-12, warn=False)
    ours = entropic_plan(x0, x1, epsilon, tolerance=1e-10)
    torch.testing.assert_close(_matrix(ours), theirs, rtol=1e-6, atol=1e-12)
    assert ours.transport_cost() == pytest.approx(float((theirs * cost).sum()) / 2)
    divergence = float(torch.special.xlogy(theirs, theirs * theirs.numel()).sum())
    assert ours.value == pytest.approx(float((theirs * cost).sum()) / 2 + 2 * epsilon * divergence)


@pytest.mark.parametrize("dtype", [torch.float32, FLOAT])
@pytest.mark.parametrize("iterations", [1, 3, 1000])
def test_error_is_that_of_the_plans_marginal(dtype: torch.dtype, iterations: int) -> None:
    plan = entropic_plan(*_samples(dtype=dtype), 0.05, iterations=iterations)
    matrix = _matrix(plan)
    assert (matrix.sum(0) - 1 / 170).abs().sum().item() == pytest.approx(plan.error, rel=1e-3, abs=1e-4)
    torch.testing.assert_close(matrix.sum(1), torch.full((130,), 1 / 130, dtype=FLOAT), rtol=1e-4, atol=0)
    assert plan.iterations <= iterations
    assert (plan.remark(1e-3) == "") == (plan.error <= 1e-3) == (iterations == 1000)


@pytest.mark.parametrize("steps", [1, 4])
def test_iterations_are_dense_ones(steps: int) -> None:
    """Half a step, the first plans of the blockwise iteration, and the iteration on exponentials that are held."""
    x0, x1 = _samples()
    costs, start = scaled_cost(x0, x1, EPSILON), torch.randn(170, generator=_generator(), dtype=FLOAT)
    f, g = _dense_step(start, costs)
    plan = Plan.of_potential(x0, x1, EPSILON, start)
    torch.testing.assert_close(plan.f, f)
    torch.testing.assert_close(extended(x0, x1, start, EPSILON), f)
    assert plan.error == pytest.approx(torch.expm1(start - g).abs().mean().item())
    for _ in range(steps - 1):
        _, g = _dense_step(g, costs)
    torch.testing.assert_close(refined(x0, x1, start, EPSILON, steps), g)


def test_potentials_do_not_depend_on_the_sizes() -> None:
    """Of samples in which each point stands several times."""
    x0, x1 = _samples()
    once, often = entropic_plan(x0, x1, EPSILON, 1e-10), entropic_plan(x0.repeat(2, 1), x1.repeat(3, 1), EPSILON, 1e-10)
    shift = (once.g - often.g[:170]).mean()
    torch.testing.assert_close(often.f, once.f.repeat(2) + shift, rtol=0, atol=1e-7)
    torch.testing.assert_close(often.g, once.g.repeat(3) - shift, rtol=0, atol=1e-7)


@pytest.mark.parametrize("elements", [1, 500, 2**12])
def test_blocks_are_immaterial_and_never_exceeded(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x0, x1 = _samples()
    whole = entropic_plan(x0, x1, EPSILON, tolerance=1e-9)
    seen: list[int] = []
    exp_ = Tensor.exp_
    monkeypatch.setattr(cost, "_ENTRIES_AT_ONCE", elements)
    monkeypatch.setattr(Tensor, "exp_", lambda block: (seen.append(block.numel()), exp_(block))[1])
    split = entropic_plan(x0, x1, EPSILON, tolerance=1e-9)
    torch.testing.assert_close(split.g, whole.g, rtol=1e-6, atol=1e-6)
    assert 0 < max(seen) <= max(elements, len(x1))


def _changed_partners(ours: Plan, theirs: Plan) -> float:
    """Share of partners, drawn with the same seed, that differ: where the plans agree, those next to a border."""
    drawn, again = (drawn_partners(p.x0, p.x1, p.g, p.epsilon, 50, _generator()).rows for p in (ours, theirs))
    return float((drawn != again).float().mean())


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 1000),
    st.floats(0.1, 30),
    st.lists(st.floats(-1000, 1000), min_size=6, max_size=6),
    st.sampled_from([0.1, 0.4, 3.0]),
)
def test_plan_moves_and_scales_with_the_points(seed: int, scale: float, shifts: list[float], epsilon: float) -> None:
    """Each dataset may move by itself: the cost changes by a function of x and one of y."""
    x0, x1 = _samples(60, 50, seed=seed)
    shift = torch.tensor(shifts, dtype=FLOAT)
    ours = entropic_plan(x0, x1, epsilon, tolerance=1e-8)
    moved = entropic_plan(scale * x0 + shift[:3], scale * x1 + shift[3:], scale**2 * epsilon, tolerance=1e-8)
    torch.testing.assert_close(_matrix(moved), _matrix(ours), rtol=1e-4, atol=1e-12)
    assert _changed_partners(ours, moved) < 0.01


def test_single_precision_is_enough_for_points_that_are_far_apart() -> None:
    x0, x1 = _samples(dtype=torch.float32)
    near, far = (entropic_plan(x0, x1 + shift, 0.1, tolerance=1e-4) for shift in (0.0, 1000.0))
    assert far.error <= 1e-4
    assert _changed_partners(near, far) < 0.02


def test_exchanging_the_samples_transposes_the_plan() -> None:
    x0, x1 = _samples()
    ours, theirs = entropic_plan(x0, x1, EPSILON, 1e-10), entropic_plan(x1, x0, EPSILON, 1e-10)
    torch.testing.assert_close(_matrix(theirs), _matrix(ours).T, rtol=1e-6, atol=1e-12)
    assert theirs.value == pytest.approx(ours.value)


@pytest.mark.parametrize("epsilon", [0.4, 0.02])
def test_dual_value_is_a_lower_bound_that_is_reached(epsilon: float) -> None:
    x0, x1 = _samples(600, 600)
    best = entropic_plan(x0, x1, epsilon, tolerance=1e-7).value
    values = torch.tensor([plan.value for plan in islice(entropic_plans(x0, x1, epsilon), 40)])
    assert (values <= best + 1e-9 * abs(best)).all()
    assert best - values[-1] < 1e-3 * (best - values[0])


def test_small_epsilon_converges_where_the_plain_iteration_does_not() -> None:
    """Costs of thousands of ε."""
    x0, x1 = _samples(700, 700)
    epsilon = 2e-3
    assert scaled_cost(x0, x1, epsilon).max() > 1000
    plan = entropic_plan(x0, x1, epsilon, iterations=1000)
    assert plan.error <= 1e-3
    costs, g = scaled_cost(x0, x1, epsilon), torch.zeros(700, dtype=FLOAT)
    for _ in range(plan.iterations):
        _, after = _dense_step(g, costs)
        error, g = (torch.expm1(g - after)).abs().mean().item(), after
    assert error > 10 * plan.error


def test_annealing_starts_sinkhorn_close_to_its_fixed_point() -> None:
    x0, x1 = _samples(300, 300)
    start = annealed_potential(x0, x1, 0.01)
    assert Plan.of_potential(x0, x1, 0.01, start).error < 0.3 * Plan.of_potential(x0, x1, 0.01, 0 * start).error


def test_extrapolation_that_goes_too_far_is_taken_back() -> None:
    extrapolation = Anderson()
    point, step = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.5])
    extrapolation.next(point, step, 0.1)
    extrapolation.next(point + step, 0.9 * step, 0.09)
    assert torch.equal(extrapolation.next(100 * step, -90 * step, 5.0), point + step + 0.9 * step)


def test_points_that_are_all_alike_are_no_trouble() -> None:
    """The first iteration is exact and there is nothing to extrapolate from."""
    x0, x1 = torch.ones(20, 2), torch.zeros(30, 2)
    for plan in islice(entropic_plans(x0, x1, EPSILON), 5):
        assert plan.error < 1e-6
        assert plan.value == pytest.approx(1.0, rel=1e-5)


def test_pairs_have_the_plans_joint_law() -> None:
    """Pearson's statistic over all cells that are not rare."""
    plan, n = entropic_plan(*_samples(9, 12), EPSILON, tolerance=1e-8), 40_000
    x0, x1 = plan.pairs(n, _generator())
    cells = 12 * torch.cdist(x0, plan.x0).argmin(1) + torch.cdist(x1, plan.x1).argmin(1)
    seen, expected = torch.bincount(cells, minlength=108).double(), n * _matrix(plan).flatten()
    common = expected > 5
    statistic = ((seen - expected)[common].square() / expected[common]).sum()
    degrees = int(common.sum())
    assert abs(statistic - degrees) < 5 * (2 * degrees) ** 0.5


def test_a_plan_extended_to_its_own_points_is_itself() -> None:
    """Half a step from an exact plan's potential gives its other potential, and partners by the laws of its rows."""
    plan, uses = entropic_plan(*_samples(), EPSILON, 1e-9), 2000
    potential, masses, partners = drawn_partners(plan.x0, plan.x1, plan.g, EPSILON, uses, _generator())
    torch.testing.assert_close(potential, plan.f, rtol=0, atol=1e-7)
    torch.testing.assert_close(masses, torch.ones_like(masses), rtol=0, atol=1e-6)
    law = 130 * _matrix(plan)
    mean = law @ plan.x1
    spread = (law @ plan.x1.square() - mean.square()).sqrt()
    assert ((plan.x1[partners].mean(1) - mean) / spread).abs().max() < 5 / uses**0.5


@pytest.mark.parametrize(("n", "repeats", "epsilon"), [(800, 10, 0.4), (10, 400, 0.1)])
def test_kinetic_energy_is_that_of_the_gaussian_bridge(n: int, repeats: int, epsilon: float) -> None:
    """From so few as ten points too, where the bias without extrapolation is several standard errors."""
    cov0, cov1 = torch.tensor([[1.0, 0.4], [0.4, 0.7]]), torch.tensor([[0.6, -0.3], [-0.3, 1.2]])
    truth = GaussianBridge(torch.tensor([0.5, -1.0]), cov0, torch.tensor([-1.0, 1.5]), cov1, epsilon)
    laws = [torch.distributions.MultivariateNormal(m, c) for m, c in ((truth.mean0, cov0), (truth.mean1, cov1))]
    generator, found = _generator(), []
    for _ in range(repeats):
        x0, x1 = (law.loc + torch.randn(n, 2, generator=generator) @ law.scale_tril.T for law in laws)
        found.append(plan_energy(x0, x1, laws[1].log_prob, epsilon))
    estimate = Estimate.of(torch.tensor(found))
    assert estimate.standard_error < 0.08
    assert abs(estimate.value - truth.kinetic_energy().value) < 3 * estimate.standard_error


_HALF_STEP = """
import resource, torch
from sbridge.plans.cost import Cost
torch.set_num_threads(1)
cost, start = Cost.between(torch.randn(8192, 2), torch.randn(131_072, 2), 0.5), torch.zeros(131_072).double()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cost.half_step_with_partners(start, 16, torch.Generator().manual_seed(0))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_memory_does_not_grow_with_the_blocks_of_a_half_step() -> None:
    grown = subprocess.run([sys.executable, "-c", _HALF_STEP], capture_output=True, text=True, check=True).stdout
    assert int(grown) < 100_000  # kB; what is kept are 8,192 rows of 17 numbers, and there were 600,000 once
