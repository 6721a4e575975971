"""Weights of points: a weight of two is the point twice, in every solver; growth against POT."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sbridge import FullMixturePotential, InputError, MixturePotential, Regression, SchrodingerBridge, Snapshots
from sbridge.baselines.markovian import MarkovianFitting
from sbridge.baselines.score_flow import ScoreFlowMatching
from sbridge.baselines.sinkhorn import BlockwiseSinkhorn, GeomlossSinkhorn, PotSinkhorn
from sbridge.baselines.torchcfm import TorchCfm
from sbridge.epsilon import EpsilonRange
from sbridge.estimates import Estimate
from sbridge.evaluation import Evaluator
from sbridge.plans import Plan, entropic_plan
from sbridge.problem import Frame, Problem
from sbridge.snapshots import growth_weights
from sbridge.solvers.data import Data
from sbridge.solvers.maxmin import MaxMin
from sbridge.standardise import Standardise, standardised
from sbridge.weights import effective_size, repeated, thinned

FLOAT, EPSILON = torch.float64, 0.4
CLOSED = [MixturePotential(3), FullMixturePotential(2), PotSinkhorn(), GeomlossSinkhorn(points=2048)]
CLOSED += [BlockwiseSinkhorn(tolerance=1e-4)]
TRAINED = [MaxMin, Regression, MarkovianFitting, ScoreFlowMatching, TorchCfm]


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=FLOAT, generator=_generator(seed))


@cache
def _samples(n: int = 600) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points of both sides, and whole weights: 4 on the right of x0 and at the top of x1, and 1 elsewhere."""
    x0, x1 = _normal(n, 2), 1.5 * _normal(n, 2, seed=1) + torch.tensor([1.0, 0.0], dtype=FLOAT)
    return x0, x1, 1 + 3 * (x0[:, 0] > 0), 1 + 3 * (x1[:, 1] > 0)


def _problem(kind: str, n: int = 600) -> Problem:
    """The sample with weights, with repeated points instead, or without."""
    x0, x1, w0, w1 = _samples(n)
    if kind == "repeated":
        x0, x1 = x0.repeat_interleave(w0, 0), x1.repeat_interleave(w1, 0)
    weights = (w0.double(), w1.double()) if kind == "weighted" else (None, None)
    return Problem(x0, x1, EPSILON, x0, x1, weights0=weights[0], weights1=weights[1])


@pytest.mark.parametrize("solver", CLOSED, ids=lambda solver: solver.name)
def test_a_weighted_sample_and_one_with_repeated_points_have_one_bridge(solver: Any) -> None:
    """Both drifts agree within a third of what the weights change; plans of all points, to their tolerance."""
    n = 300 if hasattr(solver, "points") else 6000
    weighted, twice, plain = (solver.solve(_problem(kind, n)) for kind in ("weighted", "repeated", "plain"))
    x, share = _normal(200, 2, seed=5), 0.02 if hasattr(solver, "points") else 0.33
    for drift, t in (("forward_drift", 0.2), ("backward_drift", 0.8)):
        one, other, without = (getattr(bridge, drift)(t, x) for bridge in (weighted, twice, plain))
        change = (one - without).square().mean().sqrt()
        assert change > 0.1 and (one - other).square().mean().sqrt() < share * change


@pytest.mark.parametrize("solver", TRAINED, ids=lambda solver: solver.name)
def test_networks_are_shown_points_as_often_as_their_weights_say(solver: Any) -> None:
    """Their batches have the weighted moments, and no held-out point is a training point."""
    problem = _problem("weighted", 6000)
    data = Data.of(problem, random_state=0)
    points = solver(batch=512).start(problem, random_state=0).data
    for x, check, held, weights in (
        (points.x0, points.check0, problem.x0, problem.weights0),
        (points.x1, points.check1, problem.x1, problem.weights1),
    ):
        assert weights is not None
        shift = data.frame.shift0 if held is problem.x0 else data.frame.shift1
        inside = (held - shift) / data.frame.scale
        shares = weights / weights.sum()
        deviation = (shares @ inside.square()).sqrt()
        for part, tolerance in ((x, 0.02), (check, 0.2)):
            assert ((part.double().mean(0) - shares @ inside).abs() / deviation).max() < tolerance
            assert (part.double().square().mean(0) / deviation.square() - 1).abs().max() < 2 * tolerance
        trained, checked = ({tuple(row) for row in part.tolist()} for part in (x, check))
        assert trained and checked and not trained & checked


@pytest.mark.slow
def test_a_trained_bridge_moves_to_the_weighted_law() -> None:
    x0, x1, w0, w1 = _samples(4000)
    model = SchrodingerBridge(EPSILON, Regression(steps=400)).fit(x0, x1, sample_weight=(w0, w1))
    start = x0[torch.multinomial(w0.double(), 4000, replacement=True, generator=_generator())]
    moved = model.transport(start, random_state=0)
    wanted = (w1.double() / w1.sum()) @ x1
    assert ((moved.mean(0) - wanted).abs() < 0.1).all() and (wanted - x1.mean(0)).abs().max() > 0.25


# Plans


def test_weighted_plans_have_the_marginals_and_the_cost_of_pot() -> None:
    import ot

    x0, x1, w0, w1 = (part[:150] for part in _samples())
    plan = entropic_plan(x0, x1, EPSILON, 1e-9, weights0=w0, weights1=w1)
    a, b = (w.double() / w.sum() for w in (w0, w1))
    cost = torch.cdist(x0, x1).square() / 2
    exact = ot.sinkhorn(a, b, cost, 2 * EPSILON, method="sinkhorn_log", stopThr=1e-12, numItermax=5000)
    found = a[:, None] * b * (plan.f[:, None] + plan.g - cost / (2 * EPSILON)).exp()
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-12)
    assert plan.transport_cost() == pytest.approx(float((exact * cost).sum()), rel=1e-6)
    entropy = float((exact * (exact / (a[:, None] * b)).log()).sum())
    assert plan.value == pytest.approx(float((exact * cost).sum()) + 2 * EPSILON * entropy, rel=1e-6)


@pytest.mark.parametrize("n", [200, 600])
def test_weighted_plans_are_those_of_repeated_points(n: int) -> None:
    """From a start by annealing, and from a plan between fewer points."""
    x0, x1, w0, w1 = _samples(n)
    weighted = entropic_plan(x0, x1, EPSILON, 1e-8, weights0=w0, weights1=w1)
    twice = entropic_plan(x0.repeat_interleave(w0, 0), x1.repeat_interleave(w1, 0), EPSILON, 1e-8)
    both = weighted.f.repeat_interleave(w0) - twice.f
    torch.testing.assert_close(both, both.mean().expand_as(both), atol=1e-6, rtol=0)
    assert weighted.value == pytest.approx(twice.value, abs=1e-7)


def test_pairs_of_a_weighted_plan_have_its_marginals() -> None:
    x0, x1, w0, w1 = _samples()
    plan = Plan.of_potential(x0, x1, EPSILON, entropic_plan(x0, x1, EPSILON, 1e-6, 1000, w0, w1).g, w0, w1)
    pairs = plan.pairs(40_000, _generator())
    for drawn, x, w in zip(pairs, (x0, x1), (w0, w1), strict=True):
        shares = w.double() / w.sum()
        assert (drawn.mean(0) - shares @ x).abs().max() < 4 * float(x.std()) / 40_000**0.5


# Growth


def _two_clusters(share: float, n: int, seed: int) -> Tensor:
    """A part of the points at 0, the others at 4."""
    places = torch.where(torch.arange(n) < share * n, 0.0, 4.0)
    return torch.stack([places.double(), torch.zeros(n, dtype=FLOAT)], 1) + 0.3 * _normal(n, 2, seed=seed)


@pytest.mark.parametrize("relaxation", [0.3, 2.0, 20.0])
def test_growth_is_the_unbalanced_plan_of_pot(relaxation: float) -> None:
    import ot

    x0, x1 = _two_clusters(0.5, 60, 0), _two_clusters(0.2, 80, 1)
    found = growth_weights(x0, x1, EPSILON, relaxation)
    a, b = (np.full(n, 1 / n) for n in (60, 80))
    cost = (torch.cdist(x0, x1).square() / 2).numpy()
    plan = ot.unbalanced.sinkhorn_unbalanced(
        a, b, cost, 2 * EPSILON, reg_m=(relaxation, float("inf")), reg_type="kl", numItermax=100_000, stopThr=1e-12
    )
    torch.testing.assert_close(found / 60, torch.as_tensor(plan.sum(1)), rtol=0.02, atol=1e-5)


def test_growth_explains_what_no_point_has_moved_for() -> None:
    """From halves to one fifth and four fifths: by weights where they are cheap, by transport where they are not."""
    x0, x1 = _two_clusters(0.5, 400, 0), _two_clusters(0.2, 400, 1)
    cheap, dear = (growth_weights(x0, x1, 0.1, relaxation)[:200].sum() / 400 for relaxation in (0.1, 1e4))
    assert cheap == pytest.approx(0.2, abs=0.01) and dear == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("relaxation", [0.0, -1.0, float("inf"), float("nan")])
def test_growth_needs_a_positive_relaxation(relaxation: float) -> None:
    with pytest.raises(InputError, match="must be a positive number"):
        growth_weights(*_samples()[:2], EPSILON, relaxation)


# At the door


def test_snapshots_take_weights_and_growth() -> None:
    """The chain with growth moves the weighted points to the next snapshot, and few points cross over."""
    snapshots = [_two_clusters(share, 600, seed) for seed, share in enumerate((0.5, 0.2, 0.2))]
    model = Snapshots(0.05, MixturePotential(2), growth=0.1).fit(snapshots)
    first, second = model.growth_
    assert float(first[:300].sum()) / 600 == pytest.approx(0.2, abs=0.02)
    assert float(second[:120].sum()) / 600 == pytest.approx(0.2, abs=0.02)
    assert model.legs_[0].effective_sizes_ == [pytest.approx(effective_size(first)), 600.0]
    crossed = (model.at(snapshots[0], 1.0, random_state=0)[:, 0] > 2) != (snapshots[0][:, 0] > 2)
    plain = Snapshots(0.05, MixturePotential(2)).fit(snapshots)
    crossed_plain = (plain.at(snapshots[0], 1.0, random_state=0)[:, 0] > 2) != (snapshots[0][:, 0] > 2)
    assert crossed.double().mean() < 0.05 < crossed_plain.double().mean()
    (end, _), (plain_end, _) = (fitted.ends(snapshots, random_state=0) for fitted in (model, plain))
    assert abs(end["forward"]) < 0.05 > abs(end["backward"]) and abs(plain_end["forward"]) < 0.05
    held_out = [_two_clusters(share, 600, 10 + seed) for seed, share in enumerate((0.5, 0.2, 0.2))]
    assert all(found.verdict.word != "do not trust" for found in model.certificates(held_out, random_state=0))
    given = Snapshots(0.05, MixturePotential(2)).fit(snapshots, sample_weight=[first, None, second])
    x = snapshots[0][:50]
    torch.testing.assert_close(given.chain_.forward_drift(0.3, x), model.chain_.forward_drift(0.3, x))


def test_points_of_weight_zero_are_left_out_and_the_effective_size_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    x0, x1, w0, _ = _samples()
    weights = w0.double() * (x0[:, 1] > 0)
    model = SchrodingerBridge(EPSILON, MixturePotential(2), verbose=True)
    model.fit(x0.numpy(), x1.numpy(), sample_weight=(weights.numpy(), None))
    fewer = SchrodingerBridge(EPSILON, MixturePotential(2)).fit(
        x0[weights > 0], x1, sample_weight=(w0[weights > 0], None)
    )
    torch.testing.assert_close(model.forward_drift(0.5, x0), fewer.forward_drift(0.5, x0))
    size = effective_size(w0[weights > 0])
    assert f"effective sample sizes: {size:.0f} and 600" in capsys.readouterr().err
    assert model.sample("x1") is not None and torch.equal(model.sample("x1"), x1)
    mean = (weights / weights.sum()) @ x0
    torch.testing.assert_close(model.sample("x0").mean(0), mean, atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(7), r"must have shape \(600,\)"),
        (-np.ones(600), "must be positive and finite"),
        (np.full(600, np.nan), "must be positive and finite"),
        (np.arange(600) < 5, "at least 10 are needed"),
    ],
)
def test_weights_are_checked(weights: Any, message: str) -> None:
    x0, x1, _, _ = _samples()
    with pytest.raises(InputError, match=message):
        SchrodingerBridge(EPSILON, MixturePotential(2)).fit(x0, x1, sample_weight=(weights, None))


def test_a_problem_keeps_its_weights() -> None:
    problem = _problem("weighted")
    assert problem.exchanged().weights == (problem.weights1, problem.weights0)
    assert Frame.of(problem).inside(problem).weights == problem.weights
    twice, weighted = Frame.of(_problem("repeated")), Frame.of(problem)
    torch.testing.assert_close(weighted.shift0, twice.shift0)
    assert weighted.scale == pytest.approx(twice.scale, rel=2e-3)
    moved = problem.to("cpu").weights[0]
    assert moved is not None and torch.equal(moved, torch.as_tensor(problem.weights0))


@pytest.mark.parametrize("kind", ["columns", "whiten"])
def test_weights_standardise_like_repeated_points(kind: Standardise) -> None:
    weighted, twice, plain = (standardised(_problem(one), kind)[0].x0 for one in ("weighted", "repeated", "plain"))
    repeats = _samples()[2]
    torch.testing.assert_close(weighted.repeat_interleave(repeats, 0), twice, rtol=2e-3, atol=2e-3)
    assert (weighted - plain).abs().max() > 0.1


def test_weights_decide_the_range_of_epsilon() -> None:
    """Weights exp(−2|x|²) make N(0, I) to N(0, I/5)."""
    x0, x1 = _normal(1000, 2), _normal(1000, 2, seed=1)
    w0, w1 = ((-2 * x.square().sum(1)).exp() for x in (x0, x1))
    narrow0, narrow1 = (x / 5**0.5 for x in (x0, x1))
    weighted = EpsilonRange.of(Problem(x0, x1, 1.0, x0, x1, weights0=w0, weights1=w1))
    narrow = EpsilonRange.of(Problem(narrow0, narrow1, 1.0, narrow0, narrow1))
    assert weighted.high == pytest.approx(narrow.high, rel=0.15)
    assert weighted.choice == pytest.approx(narrow.choice, rel=0.15)


def test_repeated_points_have_the_weighted_law() -> None:
    """Whole numbers of copies are exact; the rounding of others has no bias."""
    x, w = _normal(50, 1), torch.arange(1, 51, dtype=FLOAT)
    copies = [repeated(x, w, 4, _generator(seed)) for seed in range(400)]
    means = torch.stack([(one[:, None] == x).double().mean(0)[:, 0] for one in copies])
    torch.testing.assert_close(means.mean(0), w / w.sum(), atol=4e-4, rtol=0)
    even = repeated(x, torch.full((50,), 3.0), 2, _generator())
    assert torch.equal(even, x.repeat_interleave(2, 0))


def test_thinned_points_have_the_weighted_law_and_its_size() -> None:
    x, w = _normal(4000, 2), (2 * _normal(4000, seed=1)).exp()
    few = thinned(x + w[:, None], w, _generator())
    assert len(few) == round(effective_size(w)) < 400
    means = torch.stack([thinned(x, w, _generator(seed)).mean(0) for seed in range(300)])
    torch.testing.assert_close(means.mean(0), (w / w.sum()) @ x, atol=0.02, rtol=0)
    assert thinned(x, None, _generator()) is x
    with pytest.raises(InputError, match="one weight for each point"):
        thinned(x, w[:7], _generator())


@pytest.mark.slow
def test_certificates_and_scores_see_the_weights() -> None:
    """Held-out points stand for another law by their weights alone."""
    x0, x1, w0, w1 = (torch.as_tensor(x).double() for x in _samples(2000))
    held0, held1, v0, v1 = x0[1::2], x1[1::2], w0[1::2], w1[1::2]
    right, wrong = (
        SchrodingerBridge(EPSILON, FullMixturePotential(3)).fit(x0[::2], x1[::2], sample_weight=weights)
        for weights in ((w0[::2], w1[::2]), (None, None))
    )
    words = [model.certificate(held0, held1, 0, sample_weight=(v0, v1)).verdict.word for model in (right, wrong)]
    assert words[0] != "do not trust" and words[1] == "do not trust"
    assert right.certificate(held0, held1, 0).verdict.word == "do not trust"
    good, bad = (model.score(held0, held1, sample_weight=(v0, v1)) for model in (right, wrong))
    assert good > bad


def test_the_floor_of_a_comparison_sees_the_weights() -> None:
    """Two true samples are one of the held-out points and one of the weighted training points."""
    x0, x1, w0, w1 = _samples(2000)
    test0, test1 = (repeated(x[1::2], w[1::2].double(), 1, _generator()) for x, w in ((x0, w0), (x1, w1)))
    weights = {"weights0": w0[::2].double(), "weights1": w1[::2].double()}
    floors = [Evaluator.of(Problem(x0[::2], x1[::2], EPSILON, test0, test1, **more)).floor() for more in (weights, {})]
    weighted, plain = (float(floor["forward_energy"]) for floor in floors)
    assert abs(weighted) < 0.02 < plain


def test_weighted_means_and_their_errors() -> None:
    """The error is that of as many equal points as the effective size."""
    draws, weights = _normal(20_000), 1 + _normal(20_000, seed=1).square()
    found = Estimate.of(draws, weights)
    assert abs(found.value) < 4 * found.standard_error
    assert found.standard_error == pytest.approx(effective_size(weights) ** -0.5, rel=0.03)
    assert Estimate.of(draws, torch.ones(20_000)).value == pytest.approx(Estimate.of(draws).value)
