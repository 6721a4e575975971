"""Couplings: right marginals, and the right dependence between them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sbridge.couplings import Coupling, Independent, MinibatchSinkhorn, OnlineSinkhorn, WholePlan, whole
from sbridge.errors import InputError
from sbridge.plans import Plan, entropic_plan

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
    """Half of each side lies at each of two places, but x1's first pool has a quarter more at one of them.

    The first plan leads the surplus across; when the pools have passed, as many pairs cross one way as the other.
    """
    generator = _generator(4)
    x0, x1 = torch.randn(2, 8000, 1, generator=generator) / 8 + 2 * (torch.arange(8000) % 2)[:, None]
    coupling = OnlineSinkhorn(x0, x1, 0.3, pool=400, batch=100)
    coupling.pairs(1, generator)
    here, there = coupling.pool0, coupling.pool1
    there.rows = torch.cat([torch.arange(0, 300, 2), torch.arange(1, 501, 2)])[torch.randperm(400, generator=generator)]
    plan = entropic_plan(here.points, there.points, 0.3)
    here.potential, there.potential = plan.f, plan.g

    def surplus(times: int) -> float:
        i, j = torch.cat([coupling.planned(generator) for _ in range(times)]).T
        return (j % 2 - i % 2).float().mean().item()  # odd rows are at 2

    assert surplus(10) > 0.03
    surplus(100)
    assert abs(surplus(200)) < 0.01


def test_fresh_points_give_their_pairs_and_join_the_pools() -> None:
    coupling, generator = OnlineSinkhorn(*_data(), EPSILON, pool=600, batch=200, partners=3), _generator()
    coupling.pairs(1, generator)
    pools = coupling.pool0, coupling.pool1
    before = [pool.rows.clone() for pool in pools]
    pairs = coupling.planned(generator)
    for side, (pool, rows) in enumerate(zip(pools, before, strict=True)):
        fresh = pool.rows[-200:]
        assert torch.equal(pool.rows[:-200], rows[200:])
        own = pairs[600 * side : 600 * (side + 1)]
        assert torch.equal(own[:, side], fresh.repeat_interleave(3))
        assert torch.isin(own[:, 1 - side], torch.cat([before[1 - side], pools[1 - side].rows])).all()


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
