"""How processes are ranked: by differences of their divergence from the bridge, without knowing it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

import sbridge
from sbridge.bridge import Bridge
from sbridge.estimates import Estimate
from sbridge.evaluation.metrics import path_kl
from sbridge.evaluation.pairs import leads_by_pairs, parts_of
from sbridge.evaluation.value import reference_for, values
from sbridge.fields import Field
from sbridge.problem import Problem
from sbridge.problems.gaussian import Gaussian
from sbridge.problems.mixture import Mixture
from sbridge.problems.shapes import Shapes
from tests.members import generator


class Off(Field):
    """A drift and a multiple of itself."""

    def __init__(self, inner: Field, share: float) -> None:
        super().__init__()
        self.inner, self.share = inner, share
        self.register_buffer("place", torch.zeros(1))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return (1 + self.share) * self.inner(t, x)


def divergence(bridge: Bridge, problem: Problem) -> float:
    assert problem.truth is not None
    return path_kl(bridge, problem.truth, problem.test0, generator()).value


def lead(field: Field, problem: Problem) -> Estimate:
    closed = reference_for(problem, 0).forward_field
    return Estimate.of(leads_by_pairs(field, closed, problem.test0, problem.test1, problem.epsilon, 0).ahead)


@pytest.mark.parametrize("share", [0.1, -0.5])
@pytest.mark.parametrize("dim", [1, 3])
def test_a_lead_is_the_difference_of_the_divergences(dim: int, share: float) -> None:
    problem = Gaussian(dim=dim, epsilon=0.5, samples=4000, test_samples=3000).build()
    assert problem.truth is not None
    other = Bridge(Off(problem.truth.forward_field, share), problem.truth.backward_field, 0.5)
    found = lead(other.forward_field, problem)
    behind = divergence(other, problem) - divergence(reference_for(problem, 0), problem)
    assert abs(found.value + behind) < 4 * found.standard_error < 0.5


def test_a_network_that_learned_the_bias_of_plans_is_not_flattered() -> None:
    """Between its own pairs it looks nats better than the truth."""
    problem = Gaussian(dim=10, epsilon=0.05, samples=2000, test_samples=2000).build()
    coupling = partial(sbridge.MinibatchSinkhorn, batch=64)
    network = sbridge.Regression(steps=200, batch=64, network=sbridge.ResidualNetwork(16, 1), coupling=coupling)
    learned = network.solve(problem)
    found, behind = lead(learned.forward_field, problem), divergence(learned, problem)
    assert behind > 1 and -found.value == pytest.approx(behind, rel=0.2)


@pytest.mark.parametrize(
    "problem",
    [
        Mixture(dim=4, epsilon=0.1, samples=3000, test_samples=3000),
        Shapes(dim=4, epsilon=0.2, samples=3000, test_samples=3000),
    ],
    ids=lambda problem: problem.name,
)
def test_values_rank_processes_of_every_kind(problem: Mixture | Shapes) -> None:
    """The truth, potentials, and drifts that are off: differences of values are those of the divergences."""
    built = problem.build()
    truth = built.truth
    assert truth is not None
    reference = reference_for(replace(built, truth=None), 0)
    off = [Bridge(Off(truth.forward_field, share), truth.backward_field, truth.epsilon) for share in (0.05, 0.2)]
    worth, far = [], []
    for bridge in (truth, sbridge.MixturePotential(3).solve(built), *off):
        worth.append(torch.tensor(values(bridge, reference, built.test0, built.test1, 0)))
        far.append(divergence(bridge, built))
    for value, distance in zip(worth[1:], far[1:], strict=True):
        found = Estimate.of(worth[0] - value)
        assert abs(found.value - distance) < 4 * found.standard_error + 0.1 * distance
        assert distance < 0.3 or 0.8 < found.value / distance < 1.25


@pytest.mark.parametrize("sizes", [(10, 10), (45, 3000)])
def test_samples_may_have_any_size(sizes: tuple[int, int]) -> None:
    x0, x1 = (torch.randn(size, 2, generator=generator()) for size in sizes)
    problem = Problem(x0, x1, 0.5, x0, x1)
    network = Bridge(
        Off(reference_for(problem, 0).forward_field, 0.1), Off(reference_for(problem, 0).forward_field, 0.1), 0.5
    )
    found = torch.tensor(values(network, reference_for(problem, 0), x0, x1, 0))
    assert len(found) == parts_of(x0, x1) == min(8, sizes[0] // 4) and found.isfinite().all()
