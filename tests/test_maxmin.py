"""The trainings: the outer player's force, what the game finds, resuming, selection and divergence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from sbridge.bridge import Bridge
from sbridge.couplings import Independent, SelfConsistent
from sbridge.errors import DataWarning, DivergenceError, InputError
from sbridge.evaluation import path_kl
from sbridge.interpolants import Brownian, Gamma, LearnedGamma, Linear, Parabolic, SineSquared, Trigonometric
from sbridge.networks import NetworkFactory, ResidualNetwork, Shaped
from sbridge.potentials.solver import MixturePotential
from sbridge.problem import Problem
from sbridge.problems.gaussian import GaussianBridge
from sbridge.solvers import training as training_module
from sbridge.solvers.answer import Last, LatestNotWorse
from sbridge.solvers.base import Progress, remarked
from sbridge.solvers.data import Data
from sbridge.solvers.force import curl_force, hjb_force, martingale_defect
from sbridge.solvers.held_out import drift_targets
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.method import Batch, Draws, Method, TrainingState, drift_batches
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.solvers.regression import Regression
from sbridge.solvers.training import Training
from sbridge.theory.oracle import MixtureOracle
from sbridge.times import Uniform

EPSILON = 0.5
TINY = {"steps": 60, "network": ResidualNetwork(16, 2), "batch": 128, "group": 32}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _truth() -> GaussianBridge:
    cov0, cov1 = torch.tensor([[1.0, 0.6], [0.6, 1.0]]), torch.tensor([[1.0, -0.7], [-0.7, 1.5]])
    return GaussianBridge(torch.zeros(2), cov0, torch.tensor([1.0, -1.0]), cov1, EPSILON)


def _problem(n: int = 4000, shift: float = 0.0, scale: float = 1.0) -> Problem:
    truth, generator = _truth(), _generator(5)
    x0, other = (
        truth.mean0 + torch.randn(n, 2, generator=generator) @ torch.linalg.cholesky(truth.cov0).T.to(torch.float32)
        for _ in range(2)
    )
    x1 = truth.endpoints(other, generator)
    x0, x1 = (scale * x.float() + shift for x in (x0, x1))
    return Problem(x0, x1, scale**2 * EPSILON, x0, x1)


# The outer player's force


def _swirl(t: Tensor, x: Tensor) -> Tensor:
    """A smooth drift with curvature in time and space."""
    return torch.sin(x + t) + t * x.flip(-1) ** 2 / 4


@pytest.mark.parametrize("sign", [1, -1], ids=["forward", "backward"])
def test_martingale_defect_is_the_generator_to_first_order(sign: int) -> None:
    """(∂t + f·∇ ± εΔ) f, by the chain rule with automatic differentiation."""
    x = torch.randn(6, 2, generator=_generator(), dtype=torch.float64)
    t = torch.full((6, 1), 0.4, dtype=torch.float64)

    def at(t_: Tensor, y: Tensor) -> Tensor:
        return _swirl(t_, y[None])[0]

    hessian = torch.func.vmap(torch.func.hessian(at, argnums=1))(t, x)
    jacobian = torch.func.vmap(torch.func.jacrev(at, argnums=1))(t, x)
    _, rate = torch.func.jvp(lambda s: _swirl(s, x), (t,), (torch.ones_like(t),))
    laplacian = hessian.diagonal(0, 2, 3).sum(-1)
    exact = rate + torch.einsum("nij,nj->ni", jacobian, _swirl(t, x)) + sign * EPSILON * laplacian

    def error(size: float) -> float:
        dt = torch.full_like(t, sign * size)
        corners = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=x.dtype)  # ±: the moments of noise, to third order
        noises = (2 * EPSILON * size) ** 0.5 * corners
        defects = [martingale_defect(_swirl, _swirl(t, x), t, x, dt, noise) for noise in noises]
        return (torch.stack(defects).mean(0) - exact).abs().max().item()

    assert error(0.002) < 0.02 * exact.abs().max()
    assert error(0.004) / error(0.002) == pytest.approx(2, rel=0.1)


def _both(truth: Bridge | MixtureOracle) -> Callable[[Tensor, Tensor], Tensor]:
    def drifts(t: Tensor, x: Tensor) -> Tensor:
        if isinstance(truth, MixtureOracle):
            return torch.cat([truth.drift(t, x, sign * EPSILON) for sign in (1, -1)], dim=-1)
        return torch.cat([truth.forward_field(t, x), truth.backward_field(t, x)], dim=-1)

    return drifts


def test_the_bridge_feels_no_force() -> None:
    """Against the force on the linear interpolant's law, which is what max–min starts from."""
    truth, generator = _truth(), _generator()
    t = torch.linspace(0.1, 0.9, 9).view(-1, 1, 1)
    x0, x1, z, xi = torch.randn((4, 9, 500, 2), generator=generator)
    path = Linear(Brownian(EPSILON)).path(t, x0, x1, z)
    moments = ((truth.mean0, truth.cov0), (truth.mean1, truth.cov1))
    ends = [(torch.ones(1), mean[None], cov[None]) for mean, cov in moments]
    linear = MixtureOracle(Linear(Brownian(EPSILON)), *ends[0], *ends[1])
    at_rest, at_start = (hjb_force(_both(law), path, EPSILON, xi).square().mean() for law in (truth, linear))
    assert at_rest < 0.01 * at_start


def test_a_drift_that_turns_is_a_martingale_but_feels_its_curl_force() -> None:
    """f = A(I + tA)⁻¹x is a martingale along its own process for every A; it is a gradient for symmetric A only."""
    turn = torch.tensor([[0.3, -0.8], [0.8, 0.1]], dtype=torch.float64)

    def drift(t: Tensor, x: Tensor) -> Tensor:
        rate = turn @ torch.linalg.inv(torch.eye(2, dtype=t.dtype) + t.unsqueeze(-1) * turn)
        return (rate @ x.unsqueeze(-1)).squeeze(-1)

    t = torch.full((6, 1), 0.4, dtype=torch.float64)
    x, residual, xi = torch.randn((3, 6, 2), generator=_generator(), dtype=torch.float64)
    dt = torch.full_like(t, 1e-4)
    defect = martingale_defect(drift, drift(t, x), t, x, dt, (2 * EPSILON * dt).sqrt() * xi)
    assert defect.abs().max() < 1e-3
    rate = turn @ torch.linalg.inv(torch.eye(2, dtype=torch.float64) + 0.4 * turn)
    place = x.clone().requires_grad_()
    assert torch.allclose(curl_force(drift(t, place), place, residual), residual @ (rate - rate.T).T)
    assert torch.allclose(curl_force(place**3, place, residual), torch.zeros_like(x))


def test_force_on_gamma_vanishes_at_the_known_optimum() -> None:
    """N(0, 1) → N(0, s²): a linear I reaches the bridge with γ² = 2√(s² + ε²) t(1−t) alone (THEORY of Gaussians)."""
    spread, generator = 0.8, _generator()
    best = (spread**2 + EPSILON**2) ** 0.5

    def push(level: float) -> float:
        one, zero = torch.ones(1), torch.zeros(1, 1)
        ends = (one, zero, torch.ones(1, 1, 1)), (one, zero, spread**2 * torch.ones(1, 1, 1))
        law = MixtureOracle(Linear(Brownian(level)), *ends[0], *ends[1])
        t = torch.linspace(0.05, 0.95, 19).view(-1, 1, 1)
        x0, x1, z, xi = torch.randn((4, 19, 4000, 1), generator=generator)
        path = Linear(Brownian(level)).path(t, x0, spread * x1, z)
        force = hjb_force(_both(law), path, EPSILON, xi)
        return (force * path.gamma * z).mean().item()

    assert push(0.5 * best) > 0 > push(1.5 * best)
    assert abs(push(best)) < 0.1 * min(push(0.5 * best), -push(1.5 * best))


# Trainings


@pytest.mark.parametrize("gamma", [Brownian, Parabolic, SineSquared])
@pytest.mark.parametrize("t", [0.005, 0.995])
def test_batches_on_a_line_stay_bounded_near_the_ends(gamma: type[Gamma], t: float) -> None:
    """The mean target of a group, where ε/γ is up to 2,000: points of a line are closest to each other."""
    x0, x1 = torch.randn((2, 2000, 1), generator=_generator())
    training = Regression(**TINY, gamma=gamma, coupling=Independent).start(Problem(x0, x1, EPSILON, x0, x1))
    draw = training.method.draws.training(training, 50)
    path = training.method.path(draw._replace(t=torch.full_like(draw.t, t)))
    means = drift_targets(path, training.data.epsilon).mean(-2)
    speed = (draw.x1 - draw.x0).mean(-2)
    assert means.square().mean() < 4 * speed.square().mean()


def _run(training: Training, rounds: int = 10**6) -> Training:
    for _, _ in zip(range(rounds), training, strict=False):
        pass
    return training


def _weights(training: Training) -> list[Tensor]:
    return [*training.bridge().state_dict().values()]


@pytest.mark.parametrize("solver", [MaxMin(**TINY, learn_gamma=True), Regression(**TINY, coupling=SelfConsistent)])
def test_resumed_training_is_bit_identical(solver: NetworkSolver) -> None:
    """A property of the loop: both players' optimisers, the average, the answer, and a coupling that remembers."""
    problem = _problem(400)
    straight = _run(solver.start(problem, 3))
    stopped, file = _run(solver.start(problem, 3), rounds=9), BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed = solver.start(problem, 3)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    _run(resumed)
    assert resumed.step == straight.step == 60
    assert resumed.history == straight.history
    for one, other in zip(_weights(resumed), _weights(straight), strict=True):
        assert torch.equal(one, other)


def test_a_training_goes_on_from_a_checkpoint_of_another_kind_of_device() -> None:
    """A GPU's generator has a state of 16 bytes, which decides the numbers to come but cannot be taken over."""
    problem, solver = _problem(400), MaxMin(**TINY)
    state = _run(solver.start(problem, 3), rounds=9).state_dict()
    weights = []
    for seed in (0, 0, 1):
        resumed = solver.start(problem, 3)
        resumed.load_state_dict({**deepcopy(state), "generator": torch.full((16,), seed, dtype=torch.uint8)})
        assert _run(resumed).step == resumed.steps
        weights.append(torch.cat([value.flatten() for value in resumed.drifts.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("solver", "confined"),
    [
        (MaxMin(**TINY), True),
        (Regression(**TINY), True),
        (Regression(**TINY, interpolant=Trigonometric), False),
        (Regression(**TINY, gamma=SineSquared), False),
    ],
)
def test_drifts_of_brownian_bridges_alone_are_confined(solver: NetworkSolver, confined: bool) -> None:
    """Of others x + (1−t) b_F need not be a mean of data: at t = 0 it is x0 + π/2 x1 for trigonometric ones."""
    problem, far = _problem(400), torch.full((1, 2), 1e6)
    end = far + 0.5 * solver.start(problem).bridge().forward_drift(0.5, far)
    assert bool(end.norm() < 2 * problem.x1.norm(dim=1).max()) == confined


@pytest.mark.parametrize("solver", [MaxMin(**TINY), MaxMin(**TINY, prior=MixturePotential(components=2))])
def test_fit_is_equivariant_under_shift_and_scale(solver: NetworkSolver) -> None:
    """x ↦ 4x + 64 turns ε into 16ε and the drift u into 4u; both are exact in binary, so is the training."""
    here, there = (solver.solve(_problem(400, shift, scale)) for shift, scale in ((0.0, 1.0), (64.0, 4.0)))
    x = torch.randn(50, 2, generator=_generator())
    for name in ("forward_drift", "backward_drift"):
        expected = 4 * getattr(here, name)(0.3, x)
        assert torch.allclose(getattr(there, name)(0.3, 4 * x + 64), expected, atol=2e-2 * expected.std().item())


def test_learning_the_interpolant_finds_the_bridge() -> None:
    """N(0, 1) → itself at ε = .1: the linear interpolant of independent pairs is 1.07 nats from the bridge."""
    one, zero, epsilon = torch.ones(1, 1), torch.zeros(1), 0.1
    truth = GaussianBridge(zero, one, zero, one, epsilon)
    x0, x1 = torch.randn((2, 5000, 1), generator=_generator(5))
    problem = Problem(x0, x1, epsilon, x0, x1)
    settings = {"coupling": Independent, "steps": 600, "network": ResidualNetwork(32, 2), "batch": 256, "group": 64}
    fixed, learned = (kind(**settings).solve(problem) for kind in (Regression, MaxMin))
    kl = [path_kl(bridge, truth, x0[:2000], _generator(8)).value for bridge in (fixed, learned)]
    assert kl[0] == pytest.approx(1.073, rel=0.15)  # a few hundred steps of a small network
    assert kl[1] < 0.1 * kl[0]


def test_a_residual_starts_as_its_prior_and_mends_it() -> None:
    """The problem exchanged is solved for the backward drift; one component with the wrong plan leaves much to mend."""
    problem, prior = _problem(), MixturePotential(components=1)
    training = MaxMin(**{**TINY, "steps": 600}, prior=prior).start(problem)
    x = problem.x0[:50]
    start, there, back = training.bridge(), prior.solve(problem), prior.solve(problem.exchanged())
    # Nearly: the training's prior does not see the points that it is checked on.
    assert torch.allclose(start.forward_drift(0.3, x), there.forward_drift(0.3, x), atol=0.15)
    assert torch.allclose(start.backward_drift(0.3, x), -back.forward_drift(0.7, x), atol=0.15)
    bridges = (there, _run(training).bridge())
    kl = [path_kl(bridge, _truth(), problem.x0[:2000], _generator(8)).value for bridge in bridges]
    assert kl[1] < 0.5 * kl[0]


def test_divergence_keeps_the_last_good_state() -> None:
    training = MaxMin(**{**TINY, "steps": 600}, coupling=Independent, rate=30.0).start(_problem(400))
    with pytest.raises(DivergenceError, match="Lower the rates"):
        _run(training)
    assert training.bridge().transport(torch.zeros(5, 2), random_state=0).isfinite().all()


def test_few_points_learned_by_heart_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the held-out loss is far above any fit's though the training loss has fallen; one that goes on ends too."""
    solver, problem = Regression(**{**TINY, "steps": 600}), _problem(200)
    training = _run(solver.start(problem), rounds=100)
    monkeypatch.setattr(training_module, "_FAR", -100.0)  # every loss counts as far
    first, *_, last = _run(training).history
    assert training.step < 600 and last["training_loss"] <= first["training_loss"]
    assert "by heart" in training.remark and training.bridge().remark == training.remark
    again = solver.start(problem)
    again.load_state_dict(training.state_dict())
    assert not list(again)
    with pytest.warns(DataWarning, match="by heart"):
        remarked(training.bridge())


def test_divergence_at_the_first_check_keeps_the_start() -> None:
    training = Regression(**TINY, rate=300.0).start(_problem(400))
    with pytest.raises(DivergenceError):
        _run(training)
    assert training.bridge().transport(torch.zeros(5, 2), random_state=0).isfinite().all()


@pytest.mark.parametrize("epsilon", [1e-12, 1e-7])
def test_epsilon_too_small_for_the_data_is_refused(epsilon: float) -> None:
    x = torch.randn(100, 2, generator=_generator())
    with pytest.raises(InputError, match="use at least 9e-05"):
        MaxMin().start(Problem(x, x, epsilon, x, x))


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(InputError, match="something to learn"):
        MaxMin(learn_mean=False)


def test_the_answer_is_the_latest_average_that_is_not_significantly_worse() -> None:
    noise = torch.randn(500, generator=_generator())
    selection = LatestNotWorse({"w": torch.tensor(0.0)})
    for number, level in enumerate((3.0, 1.0, 1.001, 2.0, 2.0), start=1):
        selection.offer(level + 0.1 * noise.roll(number), {"w": torch.tensor(float(number))})
    assert selection.kept["w"] == 3


# Own networks, optimisers, methods and answer rules


class Affine(nn.Module):
    """Both drifts affine in (t, |x|): too small for most bridges, and enough for a test."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.map = nn.Linear(dim + 1, 2 * dim)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.map(torch.cat([t, x.abs()], dim=-1))


class Convolution(nn.Module):
    """Both drifts of images (1, 2, 2) by one convolution of image and time."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.filter(torch.cat([x.abs(), t[:, :, None, None].expand_as(x)], dim=1))


def _affine(dim: int, spread0: float, spread1: float, epsilon: float) -> Affine:
    return Affine(dim)


def _images(n: int = 400) -> Problem:
    x0, x1 = torch.randn(2, n, 4, generator=_generator())
    return Problem(x0, 2 * x1.abs() ** 1.5, EPSILON, x0, x1)


OWN = {"steps": 150, "batch": 128, "group": 32, "optimiser": torch.optim.Adam, "rate": 3e-2}


@pytest.mark.parametrize("network", [_affine, Shaped((1, 2, 2), Convolution)], ids=["module", "image"])
def test_an_own_network_learns_and_comes_back_from_its_file(network: NetworkFactory, tmp_path: Path) -> None:
    training = MaxMin(**OWN, network=network).start(_images(), 3)
    first = training.bridge()
    last = _run(training).bridge()
    x, like = torch.randn(20, 4, generator=_generator()), network(4, 1.0, 1.0, EPSILON)
    assert training.history[-1]["reference_loss"] < training.history[0]["reference_loss"]
    assert not torch.equal(first.forward_drift(0.3, x), last.forward_drift(0.3, x))
    last.save(tmp_path / "own.safetensors")
    inner = like.module if isinstance(network, Shaped) else like  # the user's own module serves as well
    for module in (like, inner):
        again = Bridge.load(tmp_path / "own.safetensors", like=module)
        assert torch.equal(again.backward_drift(0.3, x), last.backward_drift(0.3, x))
    with pytest.raises(InputError, match="load it with like="):
        Bridge.load(tmp_path / "own.safetensors")
    with pytest.raises(InputError, match="weights of a"):
        Bridge.load(tmp_path / "own.safetensors", like=nn.Linear(1, 1))


def test_an_own_network_on_a_prior_starts_as_the_prior() -> None:
    solver = Regression(**OWN, network=_affine, prior=MixturePotential(components=1))
    drifts, (t, x) = solver.start(_images()).drifts, (torch.tensor(0.3), torch.randn(20, 4, generator=_generator()))
    assert torch.equal(drifts(t, x)[:, :4], drifts.known(t, x)[:, :4])


def test_the_seed_decides_an_own_networks_weights_and_leaves_the_global_generator() -> None:
    before = torch.get_rng_state()
    solver = Regression(**OWN, network=_affine)
    weights = [solver.start(_images(), seed).drifts.correction.state_dict()["module.map.weight"] for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(InputError, match="both drifts side by side"):
        Regression(network=lambda dim, *_: nn.Bilinear(1, dim, dim)).start(_images())
    with pytest.raises(InputError, match="have 9 values"):
        Regression(network=Shaped((1, 3, 3), Convolution)).start(_images())


def test_listeners_hear_every_round_and_every_check() -> None:
    heard: list[Progress] = []
    Regression(**TINY).solve(_problem(400), listeners=[heard.append])
    assert [progress.step for progress in heard] == list(range(3, 61, 3))
    assert heard[-1].values["step"] == 60


def test_the_answer_rule_is_an_argument() -> None:
    training = _run(Regression(**TINY, answer=Last).start(_problem(60)))
    kept, last = training.answer.kept["drifts"], training.weights()["drifts"]
    assert all(torch.equal(kept[name], last[name]) for name in last)


class FewTimes(Method):
    """Regression on Brownian bridges between independent pairs, whose batches see one time only."""

    def __init__(self, data: Data) -> None:
        self.interpolant = Linear(Brownian(data.epsilon))
        self.draws = Draws(data, Independent, Uniform(self.interpolant), groups=1, pairs=64)

    def batches(self, training: TrainingState) -> Iterator[Batch]:
        path = self.interpolant.path(*self.draws.training(training, 4)).detach()
        return drift_batches(path, training.data.epsilon, self.draws.groups)


@dataclass(frozen=True)
class FewTimesRegression(NetworkSolver):
    name: ClassVar[str] = "few times"

    def method(self, data: Data) -> FewTimes:
        return FewTimes(data)


def test_an_own_method_has_the_loop_for_nothing() -> None:
    training = _run(FewTimesRegression(steps=400, network=ResidualNetwork(16, 2)).start(_problem()))
    assert training.history[-1]["reference_loss"] < training.history[0]["reference_loss"] - 0.1


def test_the_average_looks_back_on_a_share_of_the_training_so_far() -> None:
    """Of weights that grow in proportion to the steps done, n, it is n/(1 + memory), at any time."""
    training = Regression(**TINY, memory=0.25).start(_problem())
    for done in range(1, 401):
        for weights in training.drifts.parameters():
            torch.nn.init.constant_(weights, float(done))
        training.average.update_parameters(training.drifts)
        if done in (100, 400):
            for weights in training.averaged.parameters():
                torch.testing.assert_close(weights, torch.full_like(weights, done / 1.25), rtol=0.02, atol=0)


def test_an_overfitted_training_answers_with_an_earlier_average() -> None:
    training = _run(Regression(coupling=Independent, steps=2000, network=ResidualNetwork(64)).start(_problem(60)))
    kept = deepcopy(training.drifts)
    kept.load_state_dict(training.answer.kept["drifts"])
    losses = [training.monitor.losses(drifts).mean().item() for drifts in (kept, training.averaged)]
    assert losses[0] < losses[1]
    assert losses[1] == training.history[-1]["reference_loss"]


def test_learned_gamma_stays_within_its_bound() -> None:
    gamma = LearnedGamma(Linear(Brownian(EPSILON)), bound=0.5)
    with torch.no_grad():
        gamma.body.last.bias.fill_(100.0)
    t = torch.linspace(0.01, 0.99, 9).unsqueeze(1)
    ratio = gamma.variance(t) / (2 * EPSILON * t * (1 - t))
    assert torch.allclose(ratio, torch.full_like(ratio, 0.5).exp(), rtol=1e-4)
