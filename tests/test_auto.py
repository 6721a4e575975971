"""The default solver: never worse than its best ingredient, says what it tried, keeps to a budget, resumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import sbridge
from sbridge.auto import SOLVERS, Account, Auto, Contest, within
from sbridge.auto import contest as contest_module
from sbridge.auto.closed import families, turned
from sbridge.auto.contenders import Contender, Learned, Way, best_in
from sbridge.auto.held_out import HeldOut
from sbridge.bridge import Bridge, ExactBridge
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.duality import Dual
from sbridge.evaluation.metrics import path_kl
from sbridge.evaluation.pairs import Leads
from sbridge.fields import Field, Framed
from sbridge.problem import Problem
from sbridge.problems.gaussian import Gaussian
from sbridge.problems.mixture import Mixture
from sbridge.problems.shapes import Shapes
from sbridge.solvers.regression import Regression
from tests.members import generator

NETWORK = Regression(steps=200, batch=64, network=sbridge.ResidualNetwork(16, 1), coupling=sbridge.MinibatchSinkhorn)
SHORT = replace(NETWORK, steps=30)
PROBLEMS: dict[str, Problem] = {
    "Gaussian": Gaussian(dim=3, samples=1000, test_samples=200).build(),
    "mixture": Mixture(dim=2, samples=1000, test_samples=200).build(),
    "shapes": Shapes(dim=2, laws=("clusters:moons",), epsilon=0.5, samples=1000, test_samples=200).build(),
    "few points": Mixture(dim=4, samples=200, test_samples=200).build(),
}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is trained whatever the check of the ends says."""
    monkeypatch.setattr(contest_module, "_SAME", 1.0)


DEAR, SLOW = ("mixture", "shapes"), pytest.mark.slow


def fought(solver: Auto, problem: Problem, random_state: int = 0) -> Contest:
    contest = solver.start(problem, random_state)
    for _ in contest:
        pass
    return contest


def drift_gap(field: Field, way: int, truth: ExactBridge, x0: Tensor) -> float:
    """KL from the exact bridge in nats, for .02 ≤ t ≤ .98, of a drift in the time of its direction."""
    source, gap = generator(), 0.0
    x1 = truth.endpoints(x0, source)
    own, true = (field, truth.forward_field) if way == 0 else (turned(field), truth.backward_field)
    for t in torch.linspace(0.02, 0.98, 9, dtype=x0.dtype)[:, None]:
        x = truth.between(t, x0, x1, source)
        gap += float((own(t, x) - true(t, x)).double().square().sum(-1).mean())
    return 0.96 * gap / (9 * 4 * truth.epsilon)


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW if name in DEAR else ()) for name in PROBLEMS])
@pytest.mark.usefixtures("always")
def test_it_is_not_worse_than_its_best_ingredient(name: str) -> None:
    """But for what the held-out points cannot tell, which is the standard error of the difference."""
    problem = PROBLEMS[name]
    assert problem.truth is not None
    contest = fought(Auto(NETWORK), problem)
    answer, network = contest.bridge(), contest.trained()
    assert network is not None
    for k, kept in enumerate((answer.forward_field, turned(answer.backward_field))):
        fields = {one.name: one.ways[k].field for one in contest.closed if one.ways[k].compared}
        fields |= {"network": network.ways[k].field, "kept": kept}
        gaps = {one: drift_gap(field, k, problem.truth, problem.test0) for one, field in fields.items()}
        best = min(gap for one, gap in gaps.items() if one != "kept")
        assert gaps["kept"] < 1.05 * best + 3 * network.ways[k].lead.standard_error
        assert gaps["kept"] < 0.5 * gaps["no drift"]


@pytest.mark.parametrize("name", ["Gaussian", "mixture"])
def test_where_a_closed_form_is_the_bridge_no_network_is_trained(name: str) -> None:
    contest = fought(Auto(), PROBLEMS[name])
    assert (contest.step, contest.steps, contest.history) == (0, 0, [])
    answer = contest.bridge()
    assert isinstance(answer, ExactBridge)
    assert "No network: the ends of the best closed forms cannot be told from the data" in str(answer.tried)


def test_where_none_is_a_network_is_trained_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest_module, "families", lambda problem: families(problem)[:1])
    many = Shapes(dim=2, laws=("clusters:moons",), epsilon=0.5, samples=10_000, test_samples=10).build()
    contest = fought(Auto(replace(NETWORK, steps=400)), many)
    assert max(check.p_value for check in contest.checks) <= 0.05
    answer = contest.bridge()
    assert isinstance(answer.tried, Account)
    kept = {one.name: one.kept for one in answer.tried.tried}
    assert kept[NETWORK.name].count("% of ") == 2 or kept[NETWORK.name] == "forward and backward"
    assert answer.interpolant is not None


class Judged:
    """A contender's direction whose dual value is made up."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.asked = values, False

    @property
    def dual(self) -> Dual:
        self.asked = True
        zero = torch.zeros(2, dtype=torch.float64)
        return Dual(self.values, zero, zero)

    @property
    def compared(self) -> bool:
        return self.asked

    def promises_more_than(self, other: Judged) -> bool:
        return bool(self.values.mean() > other.values.mean() - 1)

    def ahead_of(self, other: Judged) -> Estimate:
        return self.dual.minus(other.dual).value


def made_up(name: str, forward: float, backward: float, noise: float = 0.0, **more: object) -> Contender:
    wave = noise * torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(50)
    ways = tuple(Judged(value + wave) for value in (forward, backward))
    return Contender(name, ways, 0.0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("noise", "wins"), [(1.0, True), (40.0, False)])
def test_no_drift_must_be_certainly_better_than_a_fit(noise: float, wins: bool) -> None:
    contenders = [made_up("no drift", 5.0, 5.0, noise, fitted=False), made_up("Gaussian", 0.0, 0.0)]
    assert best_in(0, contenders).name == best_in(1, contenders).name == ("no drift" if wins else "Gaussian")


@pytest.mark.parametrize(
    ("source", "worth", "looked_at"), [(2.0, 9.0, True), (1.0, 9.0, False), (2.0, -0.5, True), (2.0, -2.0, False)]
)
def test_time_reversals_are_looked_at_where_their_source_is_good_and_few_points_speak_for_them(
    source: float, worth: float, looked_at: bool
) -> None:
    reversal = made_up("reversal", worth, worth, reversal_of="potential")
    contenders = [made_up("Gaussian", 2.0, 0.0), made_up("potential", source, 0.0), reversal]
    assert best_in(1, contenders).name == ("reversal" if looked_at and worth > 0 else "Gaussian")
    assert reversal.ways[1].asked == looked_at  # type: ignore[attr-defined]


@pytest.mark.usefixtures("always")
def test_it_says_what_it_tried() -> None:
    contest = fought(Auto(SHORT), PROBLEMS["shapes"])
    account = contest.bridge().tried
    assert isinstance(account, Account)
    assert [one.name for one in account.tried] == [
        "no drift",
        "mixture potential",
        "its time reversal",
        "full mixture potential",
        "fixed interpolant",
    ]
    kept = " and ".join(one.kept for one in account.tried if one.kept).split(" and ")
    for way in ("forward", "backward"):
        shares = [1.0 if part == way else float(part.split("%")[0]) / 100 for part in kept if part.endswith(way)]
        assert sum(shares) == pytest.approx(1)
    assert all(one.forward is None or one.forward.value >= 0 for one in account.tried[-2:])
    assert "The network did 30 steps" in str(account) and account._repr_html_().count("<tr>") == 6


# Blends


def learned(lead: float, apart: float, error: float = 0.0) -> Learned:
    """A network's direction whose lead and distance are made up."""
    way = Learned(PLAIN, None)  # type: ignore[arg-type]
    noise = error * torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(4)
    vars(way)["_leads"] = Leads(lead + noise, apart + 0 * noise)
    return way


@given(st.floats(-3, 3), st.floats(0.01, 3), st.floats(0, 1))
def test_no_blend_is_ahead_of_the_best(lead: float, apart: float, other: float) -> None:
    """Of all w, up to its rounding; so neither part is: they are w = 0 and 1."""
    way = learned(lead, apart)
    assert way.gain.value > other * lead + other * (1 - other) * apart - 1e-4
    assert way.gain.value > -1e-4 and way.behind.value > -1e-4


@pytest.mark.parametrize(
    ("lead", "apart", "share"), [(0, 1, 0.5), (1, 1, 1), (-1, 1, 0), (5, 1, 1), (0.5, 1, 0.75), (0, 0, 0)]
)
def test_the_share_of_a_network(lead: float, apart: float, share: float) -> None:
    way = learned(lead, apart, 0.1)
    assert way.share == share
    assert way.gain.standard_error + way.behind.standard_error == pytest.approx(way.lead.standard_error)


@pytest.mark.parametrize(("error", "share"), [(0.1, 0.5), (2, 0)])
def test_a_gain_that_may_be_noise_leaves_the_closed_form(error: float, share: float) -> None:
    way = learned(0, 1, error)
    assert way.share == share and way.gain.value == share / 2


def test_a_blend_is_nearer_to_the_bridge_than_its_parts() -> None:
    """A quadratic error: by as much as was foretold."""
    problem = Mixture(dim=2, epsilon=0.5, samples=1000, test_samples=3000, seed=2).build()
    truth = problem.truth
    assert truth is not None
    fit = sbridge.MixturePotential(3).solve(problem)
    side = HeldOut(problem, (problem.test0, problem.test1), 0)
    way = Learned(Wavy(truth.forward_field), Way(fit.forward_field, side, fit))
    bridges = [Bridge(field, truth.backward_field, 0.5) for field in (fit.forward_field, way.field, way.blend)]
    closed, network, blend = (path_kl(one, truth, problem.test0, generator()).value for one in bridges)
    assert 0 < way.share < 1 and blend < min(closed, network)
    assert closed - blend == pytest.approx(way.gain.value, abs=4 * way.gain.standard_error)


@pytest.mark.usefixtures("always")
def test_history_shows_which_step_is_kept() -> None:
    contest = fought(Auto(SHORT), PROBLEMS["shapes"])
    assert contest.training is not None
    rows = contest.history
    assert [row["kept"] for row in rows].count(1.0) == 1
    assert {key for row in rows for key in row} == {"kept", *contest.training.history[0]}


@pytest.mark.usefixtures("always")
def test_it_resumes_to_the_last_bit() -> None:
    solver, problem = Auto(SHORT), PROBLEMS["shapes"]
    whole = fought(solver, problem, 3)
    part = solver.start(problem, 3)
    for _ in islice(part, 4):
        pass
    again = solver.start(problem, 3)
    again.load_state_dict(part.state_dict())
    assert again.step == part.step > 0
    for _ in again:
        pass
    assert again.history == whole.history
    ends = [one.bridge().state_dict() for one in (whole, again)]
    assert all(torch.equal(a, b) for a, b in zip(ends[0].values(), ends[1].values(), strict=True))


@pytest.mark.usefixtures("always")
def test_an_unstable_network_is_no_failure() -> None:
    hot = replace(NETWORK, optimiser=torch.optim.Adam, rate=100.0, steps=300)
    contest = fought(Auto(hot), PROBLEMS["mixture"])
    assert 0 < contest.step < 300
    answer = contest.bridge()
    assert "unstable" in str(answer.tried)
    assert answer.forward_drift(0.5, PROBLEMS["mixture"].test0).isfinite().all()


# A budget


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that goes on by a tenth of a second whenever it is read."""
    now = [0.0]

    def read() -> float:
        now[0] += 0.1
        return now[0]

    monkeypatch.setattr(contest_module, "perf_counter", read)
    yield now


@pytest.mark.usefixtures("always")
def test_without_time_there_is_no_network(clock: list[float]) -> None:
    contest = fought(Auto(NETWORK, budget=0.05), PROBLEMS["shapes"])
    assert contest.step == 0
    assert "No network: there was no time for it" in str(contest.bridge().tried)


@pytest.mark.parametrize("name", ["Gaussian", "few points"])
def test_a_budget_is_spent_if_there_are_points_enough_for_it(name: str) -> None:
    """On a tenth of a second the network would make few passes over 1,000 points, and on an hour many."""
    problem = PROBLEMS[name]
    assert Auto(NETWORK).start(problem).training is None
    assert Auto(NETWORK, budget=0.1).start(problem).training is not None
    assert Auto(NETWORK, budget=3600).start(problem).training is None


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("2min", 120), ("1.5 h", 5400), (3, 3), (0.5, 0.5)])
def test_budgets_are_times(text: str | float, seconds: float) -> None:
    assert within(Auto(), text) == Auto(budget=seconds) == Auto(budget=text)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["two", "2 days", "", 0, -1.0, "0s"])
def test_other_budgets_are_refused(wrong: str | float) -> None:
    with pytest.raises(InputError, match="budget"):
        within(Auto(), wrong)


def test_a_network_of_its_own_trains_for_its_budget() -> None:
    found = within(SHORT, "0.5s").solve(PROBLEMS["few points"])
    assert found.forward_drift(0.5, PROBLEMS["few points"].test0).isfinite().all()


def test_a_solver_that_does_not_train_takes_no_budget() -> None:
    with pytest.raises(InputError, match="mixture potential does not train"):
        within(SOLVERS["potential"], 3.0)


# Time reversal


def flow(t: Tensor, x: Tensor) -> Tensor:
    return torch.sin(3 * x) * t + t**2


class Plain(Field):
    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return flow(t, x)


class Wavy(Field):
    """A drift that is off by waves."""

    def __init__(self, inner: Field) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.inner(t, x) + 0.5 * torch.sin(4 * x)


PLAIN = Plain()
FRAME = (torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0]), 2.0)


@pytest.mark.parametrize("make", [lambda: PLAIN, lambda: Framed(PLAIN, *FRAME)])
def test_a_field_turned_is_the_drift_in_reversed_time(make: Callable[[], Field]) -> None:
    field, x, t = make(), torch.randn(5, 2, generator=generator()), torch.tensor(0.3)
    torch.testing.assert_close(turned(field)(t, x), -field(1 - t, x))
    torch.testing.assert_close(turned(turned(field))(t, x), field(t, x))


@pytest.mark.usefixtures("always")
def test_a_network_that_cannot_be_trained_leaves_the_closed_forms() -> None:
    """Two columns of which one is a thousand times as wide: too little noise for single precision."""
    noise = torch.Generator().manual_seed(0)
    x0, x1 = (torch.randn(500, 2, generator=noise).double() * torch.tensor([1e3, 1.0]) for _ in "01")
    bridge = Auto().solve(Problem(x0, x1, 0.1, x0, x1))
    assert "No network: epsilon = 0.1 is too small" in str(bridge.tried) and "Standardise" in str(bridge.tried)
    assert bridge.transport(x0[:10], random_state=0).isfinite().all()
