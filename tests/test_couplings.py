"""Couplings: right marginals, and the right dependence between them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sbridge.couplings import Coupling, Independent, MinibatchSinkhorn
from sbridge.plans import annealed_potential, log_sinkhorn_step

COUPLINGS = [Independent, MinibatchSinkhorn]
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
        # 512 different points a plan: the mean's standard error is that of the minibatch
        assert (drawn.mean() - data.mean()).abs() < 5 * data.std() / 512**0.5
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


def test_sinkhorn_pairs_have_the_covariance_of_the_gaussian_bridge() -> None:
    coupling, generator = MinibatchSinkhorn(*_data(50_000), EPSILON), _generator(1)
    pairs = [torch.cat(coupling.pairs(512, generator), dim=1) for _ in range(60)]
    exact = (1 * 4 + EPSILON**2) ** 0.5 - EPSILON
    assert torch.cov(torch.cat(pairs).T)[0, 1] == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("epsilon", [0.02, 0.2, 2.0])
def test_later_minibatches_stay_converged(epsilon: float) -> None:
    coupling, generator = MinibatchSinkhorn(*_data(), epsilon, batch=256, iterations=100), _generator()
    for _ in range(6):
        a, b = (x[torch.randint(len(x), (256,), generator=generator)] for x in (coupling.x0, coupling.x1))
        plan = coupling._plan(a, b)
        assert (plan.sum(0) - 1).abs().max() < 1e-4
        assert (plan.sum(1) - 1).abs().mean() < 0.05


def test_annealing_starts_sinkhorn_close_to_its_fixed_point() -> None:
    x0, x1 = _data(300)
    cost = torch.cdist(x0, x1).square() / (4 * 0.01)

    def error(g: Tensor) -> Tensor:
        f, g = log_sinkhorn_step(g, cost)
        return (torch.exp(f[:, None] + g - cost).sum(1) - 1).abs().mean()

    assert error(annealed_potential(cost)) < 0.3 * error(torch.zeros(300))
