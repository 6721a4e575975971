"""Couplings: right marginals, and the right dependence between them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sbridge.couplings import Coupling, Independent, MinibatchSinkhorn, OnlineSinkhorn, WholePlan, whole
from sbridge.couplings.moments import moment_step
from sbridge.errors import InputError
from sbridge.plans import Plan, drawn_partners, entropic_plan, extended

COUPLINGS = [Independent, MinibatchSinkhorn, OnlineSinkhorn, WholePlan]
EPSILON = 0.3


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _data(n: int = 4000) -> tuple[Tensor, Tensor]:
    """Independent samples of N(0, 1) and N(1, 4) in one dimension."""
    generator = _generator(7)
    return torch.randn(n, 1, generator=generator), 1 + 2 * torch.randn(n, 1, generator=generator)


@pytest.mark.parametrize("make", COUPLINGS)
def test_pairs_are_data_with_the_data_marginals(make: type[Coupling]) -> None:
    x0, x1 = _data()
    a, b = make(x0, x1, EPSILON).pairs(20_000, _generator())
    assert a.shape == b.shape == (20_000, 1)
    for drawn, data in ((a, x0), (b, x1)):
        assert torch.isin(drawn, data).all()
        # 1024 different points a plan: the mean's standard error is that of the minibatch
        assert (drawn.mean() - data.mean()).abs() < 5 * data.std() / 1024**0.5
        assert drawn.std() == pytest.approx(data.std().item(), rel=0.15)


@pytest.mark.parametrize("make", COUPLINGS)
def test_draws_repeat_from_seed_and_state(make: type[Coupling]) -> None:
    x0, x1 = _data()
    coupling, other, generator = make(x0, x1, EPSILON), make(x0, x1, EPSILON), _generator(3)
    coupling.pairs(700, generator)
    other.load_state_dict(coupling.state_dict())
    twin = _generator()
    twin.set_state(generator.get_state())
    for first, second in zip(coupling.pairs(700, generator), other.pairs(700, twin), strict=True):
        assert torch.equal(first, second)


def test_independent_pairs_are_uncorrelated() -> None:
    a, b = Independent(*_data(), EPSILON).pairs(20_000, _generator())
    assert torch.corrcoef(torch.cat([a, b], dim=1).T)[0, 1].abs() < 0.04


@pytest.mark.parametrize("make", [MinibatchSinkhorn, OnlineSinkhorn])
def test_sinkhorn_pairs_have_the_covariance_of_the_gaussian_bridge(make: type[Coupling]) -> None:
    coupling, generator = make(*_data(50_000), EPSILON), _generator(1)
    pairs = [torch.cat(coupling.pairs(1024, generator), dim=1) for _ in range(60)]
    exact = (1 * 4 + EPSILON**2) ** 0.5 - EPSILON
    assert torch.cov(torch.cat(pairs).T)[0, 1] == pytest.approx(exact, rel=0.05)


def test_a_plan_carried_on_is_less_biased_than_one_between_minibatches() -> None:
    """Standard normal laws in eight dimensions: the bridge's covariance is √(1 + ε²) − ε in each."""
    epsilon, generator = 0.2, _generator(2)
    x0, x1 = torch.randn(2, 50_000, 8, generator=generator)

    def bias(coupling: Coupling) -> float:
        a, b = (torch.cat(ends) for ends in zip(*(coupling.pairs(1024, generator) for _ in range(60)), strict=True))
        return abs((a * b).mean().item() + epsilon - (1 + epsilon**2) ** 0.5)

    assert bias(OnlineSinkhorn(x0, x1, epsilon)) < 0.7 * bias(MinibatchSinkhorn(x0, x1, epsilon))


def test_a_plan_carried_on_forgets_what_it_began_with() -> None:
    """A first plan between eight points a side is far off; the means over the draws bring it to the exact plan."""
    coupling, generator = OnlineSinkhorn(*_data(600), EPSILON, first=8, batch=200), _generator()
    exact = entropic_plan(coupling.x0, coupling.x1, EPSILON, 1e-6)

    def distance() -> float:
        return (coupling.g - exact.g - (coupling.g - exact.g).mean()).abs().mean().item()

    coupling.begin(generator)
    before = distance()
    for _ in range(100):
        coupling.planned(generator)
    assert distance() < 0.15 * before


def test_a_draw_gives_fresh_points_partners_and_exact_rows() -> None:
    coupling, generator = OnlineSinkhorn(*_data(), EPSILON, first=500, batch=200, partners=3), _generator()
    coupling.begin(generator)
    potential = coupling.g.clone()
    fresh, partners = coupling.planned(generator).T
    assert len(fresh.unique()) == 200
    assert torch.equal(fresh.view(200, 3), fresh.view(200, 3)[:, :1].expand(-1, 3))
    assert partners.min() >= 0
    assert partners.max() < 4000
    rows = fresh[::3]
    torch.testing.assert_close(coupling.f[rows], extended(coupling.x0[rows], coupling.x1, potential, EPSILON))


def test_points_have_as_many_partners_as_the_gaussian_bridge_says() -> None:
    """n exp(−I) with I = −½ log(1 − r²) the mutual information of the ends, whose correlation is r."""
    coupling = OnlineSinkhorn(*_data(), EPSILON)
    correlation = ((4 + EPSILON**2) ** 0.5 - EPSILON) / 2
    exact = 4000 * (1 - correlation**2) ** 0.5
    assert coupling.effective_partners(_generator()) == pytest.approx(exact, rel=0.05)


def test_pairs_of_the_whole_plan_have_the_covariance_of_the_gaussian_bridge() -> None:
    coupling = WholePlan(*_data(), EPSILON)
    a, b = coupling.pairs(30_000, _generator(1))
    spread0, spread1 = coupling.x0.var().item(), coupling.x1.var().item()
    exact = (spread0 * spread1 + EPSILON**2) ** 0.5 - EPSILON
    assert torch.cov(torch.cat([a, b], dim=1).T)[0, 1] == pytest.approx(exact, rel=0.03)


def test_whole_plan_uses_every_point_equally_often_before_it_begins_again() -> None:
    coupling, generator = WholePlan(*_data(300), EPSILON, points=200, partners=3), _generator()
    a = torch.cat([coupling.pairs(150, generator)[0] for _ in range(8)])
    for epoch in a.chunk(2):
        assert (epoch[:, 0].unique(return_counts=True)[1] == 3).all()
    assert len(a.unique()) == 200


def test_draws_of_the_whole_plan_may_be_larger_than_what_is_drawn_ahead() -> None:
    coupling = WholePlan(*_data(100), EPSILON, partners=1)
    a, b = coupling.pairs(250, _generator())
    assert len(a) == len(b) == 250
    assert torch.equal(a[:200].unique(return_counts=True)[1], torch.full((100,), 2))


def test_one_minibatch_plan_gives_every_x0_its_pairs_before_the_next_is_made() -> None:
    coupling, generator = MinibatchSinkhorn(*_data(), EPSILON, batch=256, partners=3), _generator()
    a = torch.cat([coupling.pairs(192, generator)[0] for _ in range(4)])
    rows = coupling.pool.rows.clone()
    assert (a[:, 0].unique(return_counts=True)[1] % 3 == 0).all()  # a point may be drawn twice into a minibatch
    coupling.pairs(1, generator)
    assert not torch.equal(coupling.pool.rows, rows)


def test_whole_plan_that_does_not_converge_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """At every draw, not at the first only."""
    monkeypatch.setattr(whole, "PLAN_TOLERANCE", 0.0)
    coupling = WholePlan(*_data(100), EPSILON)
    for _ in range(2):
        with pytest.raises(InputError, match=r"did not converge.*use OnlineSinkhorn"):
            coupling.pairs(10, _generator())


@pytest.mark.parametrize("epsilon", [0.02, 0.2, 2.0])
def test_later_minibatches_stay_converged(epsilon: float) -> None:
    coupling, generator = MinibatchSinkhorn(*_data(), epsilon, batch=256, iterations=100), _generator()
    for _ in range(6):
        coupling.planned(generator)
        i, j = (torch.randint(len(x), (256,), generator=generator) for x in (coupling.x0, coupling.x1))
        a, b = coupling.x0[i], coupling.x1[j]
        assert Plan.of_potential(a, b, epsilon, coupling._potential(a, b)).error < 0.05


def test_a_moment_step_mends_what_sinkhorn_mends_slowly() -> None:
    """A smooth error of the potential, at an ε whose noise is much shorter than the data; off by at most a constant."""
    generator, epsilon = _generator(5), 0.02
    x0, x1 = (torch.randn(4000, 2, generator=generator) for _ in range(2))
    plan = entropic_plan(x0, x1, epsilon, 1e-4)
    off = plan.g + 0.3 * x1[:, 0].double() + 0.2 * (2 * x1[:, 1]).sin().double()
    drawn = drawn_partners(x0, x1, off, epsilon, 8, generator)
    sinkhorn = off - drawn.masses.log()
    newton = off + moment_step(x1, drawn.masses, drawn.rows, x1[:64], epsilon)
    before, slow, fast = (float((g - plan.g).std()) for g in (off, sinkhorn, newton))
    assert fast < 0.25 * before < 0.5 * slow


def test_a_moment_step_is_bounded_where_all_points_are_one() -> None:
    x1, masses = torch.ones(20, 3), torch.linspace(0, 2, 20)
    step = moment_step(x1, masses, torch.zeros(5, 2, dtype=torch.long), x1[:2], EPSILON)
    assert step.isfinite().all() and step.abs().max() <= 2
