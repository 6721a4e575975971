"""Every learned solver on one problem; the peers' targets and losses; pairs that a process makes itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache, partial
from io import BytesIO
from itertools import chain

import pytest
import torch
from torch import Tensor, nn

from sbridge.baselines.markovian import MarkovianFitting
from sbridge.baselines.score_flow import MinibatchPot, ScoreFlowMatching, flow_and_score_losses
from sbridge.baselines.torchcfm import TorchCfm
from sbridge.bridge import Bridge
from sbridge.couplings import Coupling, Independent, MinibatchSinkhorn
from sbridge.couplings.self_consistent import SelfConsistent, Simulated
from sbridge.errors import DivergenceError, InputError
from sbridge.evaluation import path_kl
from sbridge.fields import Drifts
from sbridge.interpolants import Brownian, Linear
from sbridge.networks import ResidualNetwork
from sbridge.objectives import Velocity
from sbridge.problem import Frame, Problem
from sbridge.problems.gaussian import GaussianBridge
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.solvers.regression import Regression
from sbridge.solvers.training import Training
from sbridge.theory.oracle import MixtureOracle

pytestmark = pytest.mark.slow

EPSILON, STEPS = 0.3, 400
NET = {"network": ResidualNetwork(32, 2), "batch": 128}
GROUPS = {**NET, "group": 32}
few = partial(Simulated, points=1000, steps=20, uses=1)
again = partial(SelfConsistent, points=1000, steps=20, uses=3)
plans = partial(MinibatchSinkhorn, batch=128)
SOLVERS: dict[str, NetworkSolver] = {
    "fixed": Regression(**GROUPS, coupling=plans),
    "self-consistent": Regression(**GROUPS, coupling=again),
    "max–min": MaxMin(**GROUPS, coupling=plans),
    "max–min, self-consistent": MaxMin(**GROUPS, coupling=again),
    "IMF": MarkovianFitting(**NET, coupling=few, iterations=8),
    "[SF]²M": ScoreFlowMatching(**NET, coupling=partial(MinibatchPot, batch=128)),
    "torchcfm": TorchCfm(**NET),
}
NAMES = list(SOLVERS)


def _solver(name: str, steps: int) -> NetworkSolver:
    if isinstance(SOLVERS[name], TorchCfm):
        pytest.importorskip("torchcfm")
    return replace(SOLVERS[name], steps=steps)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def _truth() -> GaussianBridge:
    cov0, cov1 = torch.tensor([[1.0, 0.6], [0.6, 1.0]]), torch.tensor([[1.0, -0.7], [-0.7, 1.5]])
    return GaussianBridge(torch.zeros(2), cov0, torch.tensor([1.0, -1.0]), cov1, EPSILON)


@cache
def _problem(n: int = 4000) -> Problem:
    truth, generator = _truth(), _generator(5)
    x0, other = torch.randn(2, n, 2, generator=generator) @ torch.linalg.cholesky(truth.cov0).T
    x1 = truth.endpoints(other, generator)
    return Problem(x0, x1, EPSILON, x0, x1)


def _run(training: Training, rounds: int = 10**6) -> Training:
    for _, _ in zip(range(rounds), training, strict=False):
        pass
    return training


@cache
def _fit(name: str, exchanged: bool = False) -> Bridge:
    problem = _problem().exchanged() if exchanged else _problem()
    return _solver(name, STEPS).solve(problem)


def _joint(x0: Tensor, x1: Tensor) -> Tensor:
    return torch.cov(torch.cat([x0, x1], dim=1).T)


@cache
def _exact_joint() -> Tensor:
    x0 = torch.randn(200_000, 2, generator=_generator(2)) @ torch.linalg.cholesky(_truth().cov0).T
    return _joint(x0, _truth().endpoints(x0, _generator(3)))


# Every learned solver


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_comes_far_closer_than_no_drift(name: str) -> None:
    truth, x0 = _truth(), _problem().x0[:1000]
    without_drift = truth.kinetic_energy().value / (2 * EPSILON)
    assert path_kl(_fit(name), truth, x0, _generator(8)).value < 0.05 * without_drift


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("exchanged", [False, True], ids=["forward", "exchanged-backward"])
def test_both_directions_have_the_plan_of_the_bridge(name: str, exchanged: bool) -> None:
    """A fit of the exchanged problem, run backward, carries x0 to x1 too, and with the same joint law."""
    x0 = _problem().x0
    ends = _fit(name, exchanged).transport(x0, "backward" if exchanged else "forward", random_state=1)
    assert (_joint(x0, ends) - _exact_joint()).abs().max() < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_saved_fits_come_back(name: str, tmp_path: object) -> None:
    bridge, path = _fit(name), f"{tmp_path}/bridge.safetensors"
    bridge.save(path)
    loaded, x = Bridge.load(path), torch.randn(20, 2, generator=_generator())
    assert torch.equal(loaded.forward_drift(0.3, x), bridge.forward_drift(0.3, x))
    assert torch.equal(loaded.backward_drift(0.3, x), bridge.backward_drift(0.3, x))


@pytest.mark.parametrize("name", NAMES)
def test_resumed_training_is_bit_identical(name: str) -> None:
    """Stopped and gone on between two simulations of pairs, where there are any."""
    solver, problem = _solver(name, 90), _problem(400)
    straight = _run(solver.start(problem, 3))
    stopped, file = _run(solver.start(problem, 3), rounds=14), BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed = solver.start(problem, 3)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    _run(resumed)
    assert resumed.step == straight.step >= 90 > stopped.step
    assert resumed.history == straight.history
    for one, other in zip(resumed.averaged.parameters(), straight.averaged.parameters(), strict=True):
        assert torch.equal(one, other)


# What the drifts are regressed on


class Exact(Coupling):
    """The plan of the bridge, in the frame of the problem."""

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        frame = Frame.of(_problem())
        start = torch.randn(n, 2, generator=generator) @ torch.linalg.cholesky(_truth().cov0).T
        ends = _truth().endpoints(start, generator)
        return ((start - frame.shift0) / frame.scale).float(), ((ends - frame.shift1) / frame.scale).float()


class Nudged(Drifts):
    """The exact drifts in the frame of the problem, and a linear field added to both."""

    def __init__(self, forward: float = 1.0) -> None:
        super().__init__()
        self.frame, self.share = Frame.of(_problem()), forward
        self.nudge = nn.Linear(2, 4)
        for parameter in self.nudge.parameters():
            nn.init.zeros_(parameter)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        shift = self.frame.shift1 - self.frame.shift0
        place = (self.frame.scale * x + (1 - t) * self.frame.shift0 + t * self.frame.shift1).float()
        fields = (_truth().forward_field, _truth().backward_field)
        there, back = ((field(t, place) - shift).float() / self.frame.scale for field in fields)
        return torch.cat([self.share * there, back], dim=-1) + self.nudge(x)


def _pull(name: str, drifts: Nudged) -> Tensor:
    """Mean gradient of the solver's loss along the nudge over its standard error, at pairs of the bridge's plan."""
    training = _solver(name, STEPS).start(_problem())
    draws = training.method.draws
    draws.coupling = Exact(draws.coupling.x0, draws.coupling.x1, training.data.epsilon)
    pulls = [_slope(training, drifts, rounds=6) for _ in range(30)]
    stacked = torch.stack(pulls)
    return stacked.mean(0) / (stacked.std(0) / len(pulls) ** 0.5)


def _slope(training: Training, drifts: Nudged, rounds: int) -> Tensor:
    """The gradient of the losses of some rounds along the nudge."""
    drifts.zero_grad()
    for batch in chain.from_iterable(training.method.batches(training) for _ in range(rounds)):
        batch.losses(drifts(batch.t, batch.x)).mean().backward()
    return torch.cat([parameter.grad.flatten() for parameter in drifts.parameters()])


@pytest.mark.parametrize("name", ["fixed", "IMF", "[SF]²M"])
def test_the_exact_drifts_minimise_the_loss(name: str) -> None:
    """Under the plan of the bridge no loss has a slope along a linear field; at wrong drifts it has."""
    assert _pull(name, Nudged()).abs().max() < 4.5
    assert _pull(name, Nudged(forward=0.8)).abs().max() > 6


@pytest.mark.parametrize(("simulated_from", "feels"), [(0, slice(2, 4)), (1, slice(0, 2))], ids=["x0", "x1"])
def test_imf_trains_each_drift_on_pairs_from_the_other_end(simulated_from: int, feels: slice) -> None:
    """Pairs from x0, in which x1 is simulated, move b_B only, whose target (x − x0)/t does not contain x1."""
    training, drifts, pulls = _solver("IMF", STEPS).start(_problem()), Nudged(), []
    draws = training.method.draws
    draw = draws.training(training, 1)
    for shift in (0, 5):
        draw.x0[:, simulated_from] += shift
        draws.training = lambda *_: draw
        _slope(training, drifts, rounds=1)
        pulls.append(drifts.nudge.bias.grad.clone())
    change = (pulls[1] - pulls[0]).abs() > 1e-6
    assert change[feels].all() and change.sum() == 2


def test_lambda_keeps_the_variance_of_the_score_target_bounded() -> None:
    """λw + z has variance at most one at every time; −εz/γ, which w is regressed on, has ε²/γ²."""
    path = Linear(Brownian(EPSILON)).path(
        torch.tensor([1e-6, 1e-3, 0.5, 1 - 1e-3]).view(-1, 1, 1), *torch.randn((3, 4, 2000, 2), generator=_generator())
    )
    weight, still = path.gamma / EPSILON, torch.zeros(4, 2000, 4)
    losses = flow_and_score_losses(still, torch.zeros_like(path.z), path.z, weight).mean(-1)
    assert torch.allclose(losses, torch.ones(4), atol=0.1)
    moved = torch.cat([torch.ones_like(path.z), -torch.ones_like(path.z)], dim=-1)  # v = 0, w = 1
    change = flow_and_score_losses(moved, torch.zeros_like(path.z), path.z, weight).mean(-1) - losses
    assert torch.allclose(change, weight.square().flatten(), atol=0.3)
    assert (EPSILON * path.z / path.gamma)[0].var() > 1e4


def test_pot_pairs_have_the_covariance_of_the_bridge() -> None:
    problem = _problem()
    coupling, generator = MinibatchPot(problem.x0, problem.x1, EPSILON), _generator(1)
    pairs = [coupling.pairs(700, generator) for _ in range(10)]
    found = _joint(*(torch.cat(side) for side in zip(*pairs, strict=True)))
    assert (found - _exact_joint()).abs().max() < 0.15


def test_an_epsilon_at_which_pots_plans_underflow_is_refused() -> None:
    problem = _problem()
    coupling = MinibatchPot(problem.x0, problem.x1, 1e-3)
    with pytest.raises(InputError, match="underflow"), pytest.warns(UserWarning, match="numerical errors"):
        coupling.pairs(10, _generator())


# torchcfm


def test_torchcfm_batches_are_those_of_our_formulas() -> None:
    """Its flow and λ are u° = x1 − x0 + γ̇z and γ/ε, away from the ends, where it adds 1e-8 to denominators."""
    pytest.importorskip("torchcfm")
    training = TorchCfm(**NET).start(_problem())
    t, x, flow, z, weight = training.method.ingredients()
    inner = (t > 0.01) & (t < 0.99)
    gamma = (2 * training.data.epsilon * t * (1 - t)).sqrt()
    assert torch.allclose(weight, gamma / training.data.epsilon, rtol=1e-4)
    straight = flow - training.data.epsilon * (1 - 2 * t) / gamma * z  # x1 − x0
    start, end = x - gamma * z - t * straight, x - gamma * z + (1 - t) * straight
    for points, data in ((start, training.data.x0), (end, training.data.x1)):
        assert (torch.cdist(points.double(), data.double()).amin(1) < 1e-4)[inner[:, 0]].all()
    path = Linear(Brownian(training.data.epsilon)).path(t, start, end, z)
    assert torch.allclose(Velocity().target(path)[inner[:, 0]], flow[inner[:, 0]], atol=1e-3)


def test_without_torchcfm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcfm", None)
    with pytest.raises(InputError, match=r"pip install --no-deps torchcfm==1\.0\.7"):
        TorchCfm(**NET).start(_problem())


# Pairs that a process makes itself


def _exact(t: Tensor, x: Tensor) -> Tensor:
    return torch.cat([_truth().forward_field(t, x), _truth().backward_field(t, x)], dim=-1)


@pytest.mark.parametrize("make", [Simulated, SelfConsistent])
@pytest.mark.parametrize("half", [0, 1], ids=["from-x0", "from-x1"])
def test_the_bridge_is_a_fixed_point(make: type[Simulated], half: int) -> None:
    """With its drifts the simulated pairs have its plan, whichever end they start from."""
    coupling = make(_problem(10_000).x0, _problem(10_000).x1, EPSILON, points=10_000)
    coupling.simulate(_exact, _generator(4))
    found = _joint(*(end[half::2] for end in coupling.pairs(20_000, _generator(6))))
    assert (found - _exact_joint()).abs().max() < 0.13


def test_one_iteration_from_independent_pairs_comes_closer() -> None:
    """N(0, 1) → itself: the drift of the linear interpolant of independent pairs, simulated, correlates the ends."""
    one, zero = torch.ones(1), torch.zeros(1, 1)
    law = MixtureOracle(Linear(Brownian(EPSILON)), *[one, zero, torch.ones(1, 1, 1)] * 2)
    x0, x1 = torch.randn((2, 10_000, 1), generator=_generator())
    coupling = Simulated(x0, x1, EPSILON, points=10_000)
    exact = (1 + EPSILON**2) ** 0.5 - EPSILON

    def distance() -> float:
        return abs(_joint(*coupling.pairs(20_000, _generator(1)))[0, 1].item() - exact)

    before = distance()
    coupling.simulate(lambda t, x: torch.cat([law.drift(t, x, s * EPSILON) for s in (1, -1)], -1), _generator(2))
    assert distance() < 0.3 * before


def _astray(t: Tensor, x: Tensor) -> Tensor:
    return torch.cat([_exact(t, x)[:, :2] + 1, _exact(t, x)[:, 2:] - 1], dim=-1)


def test_matching_keeps_the_marginals_that_wrong_drifts_would_move() -> None:
    problem, means = _problem(), {}
    for make in (Simulated, SelfConsistent):
        coupling = make(problem.x0, problem.x1, EPSILON, points=4000)
        coupling.simulate(_astray, _generator())
        x0, x1 = coupling.pairs(8000, _generator(1))
        means[make] = [(x0 - problem.x0.mean(0)).mean().item(), (x1 - problem.x1.mean(0)).mean().item()]
    assert min(means[Simulated]) > 0.2
    assert max(abs(mean) for mean in means[SelfConsistent]) < 0.06
    assert torch.isin(x0, problem.x0).all() and torch.isin(x1, problem.x1).all()


def test_pairs_are_renewed_when_each_has_served() -> None:
    problem, generator = _problem(), _generator()
    coupling = SelfConsistent(problem.x0, problem.x1, EPSILON, points=100, uses=3)
    coupling.follow(_exact, generator)
    coupling.pairs(599, generator)
    coupling.follow(_exact, generator)
    assert not coupling.simulations
    coupling.pairs(1, generator)
    coupling.follow(_exact, generator)
    assert coupling.simulations
    ends = coupling.ends1.clone()
    coupling.follow(_exact, generator)
    assert torch.equal(coupling.ends1, ends)


@pytest.mark.parametrize(("uses", "simulations"), [(1, 7), (4, 4)])
def test_imf_simulates_no_pairs_before_the_last_are_used_up(uses: int, simulations: int) -> None:
    """Of 300 steps with 128 pairs each, 2000 pairs that serve four times last 63."""
    coupling = partial(Simulated, points=1000, steps=2, uses=uses)
    training = _run(MarkovianFitting(**NET, coupling=coupling, iterations=8, steps=300).start(_problem()))
    assert training.method.draws.coupling.get_buffer("simulations") == simulations


def test_drifts_that_blow_up_are_refused_and_leave_the_pairs() -> None:
    problem = _problem()
    coupling = Simulated(problem.x0, problem.x1, EPSILON, points=50)
    with pytest.raises(DivergenceError, match="not finite"):
        coupling.simulate(lambda t, x: torch.full_like(x, torch.inf).repeat(1, 2), _generator())
    assert not coupling.simulations


def test_a_training_on_its_own_pairs_is_judged_by_what_they_converge_to() -> None:
    """Judged by pairs of the starting coupling, it would seem to overfit, and stop, as soon as it left them."""
    training = _run(_solver("self-consistent", STEPS).start(_problem()))
    losses = [row["reference_loss"] for row in training.history]
    assert training.step >= STEPS
    assert losses[-1] < min(losses) + 0.01


def test_reference_pairs_have_the_plan_of_the_bridge() -> None:
    """They judge drifts that learn from any pairs, the starting coupling's included."""
    coupling = SelfConsistent(_problem().x0, _problem().x1, EPSILON)
    assert (_joint(*coupling.reference(1024, _generator())) - _exact_joint()).abs().max() < 0.3
    assert _joint(*coupling.pairs(2048, _generator()))[:2, 2:].abs().max() < 0.2
    assert isinstance(coupling.start, Independent)
