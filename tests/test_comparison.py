"""Comparisons: methods judged alike beside their references, failures that spare the others, files that come back."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from members import read_csv
from torch import Tensor

from sbridge.baselines.sinkhorn import PotSinkhorn
from sbridge.bridge import Bridge
from sbridge.errors import DivergenceError, InputError
from sbridge.evaluation import (
    COLUMNS,
    FLOOR,
    TRUTH,
    Candidate,
    Comparison,
    Effort,
    Evaluator,
    column_named,
    compare,
    merge,
)
from sbridge.evaluation.table import Row
from sbridge.fields import Field
from sbridge.problem import Problem
from sbridge.problems.gaussian import GaussianBridge, ShiftedGaussian
from sbridge.standardise import StandardisedBridge

EPSILON = 0.3
MEAN0, COV0 = torch.tensor([0.5, -1.0]), torch.tensor([[1.0, 0.4], [0.4, 0.7]])
MEAN1, COV1 = torch.tensor([-1.0, 1.5]), torch.tensor([[0.6, -0.3], [-0.3, 1.2]])
EXACT = GaussianBridge(MEAN0, COV0, MEAN1, COV1, EPSILON)
WRONG = GaussianBridge(MEAN0, COV0, MEAN1 + 1, COV1, EPSILON)
SMALL = Effort(points=300, matched=200, projections=20, steps=20, times=4, starts=20, per_start=20)
SINKHORN = PotSinkhorn(points=100, iterations=200)
TIMES = ("fit_seconds", "move_seconds")
GAPS = ("dual_gap", "dual_gap_se")  # which depend on the other rows


class Runaway(Field):
    """x ↦ factor · x."""

    factor: Tensor

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("factor", factor)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.factor * x


class LateInfinity(Field):
    """The exact drift, infinite in the middle of (0, 1) only between two steps of 1/20."""

    def __init__(self, inner: Field) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.where((t > 0.501) & (t < 0.549), torch.full_like(x, inf), self.inner(t, x))


class Diverging:
    """A solver whose training runs away."""

    name = "diverging"

    def solve(self, problem: Problem, random_state: int = 0) -> Bridge:
        raise DivergenceError("the loss is NaN at step 7")


def _points(n: int, mean: Tensor, cov: Tensor, seed: int) -> Tensor:
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    points: Tensor = mean + z @ torch.linalg.cholesky(cov).T
    return points


def _problem(truth: GaussianBridge | None = EXACT) -> Problem:
    train = _points(500, MEAN0, COV0, 1), _points(600, MEAN1, COV1, 2)
    test = _points(400, MEAN0, COV0, 3), _points(350, MEAN1, COV1, 4)
    return Problem(*train, EPSILON, *test, name="gaussian", truth=truth)


def _figure(row: Row, name: str) -> float:
    value = row[name]
    assert isinstance(value, float)
    return value


def _untimed(comparison: Comparison) -> dict[str, dict[str, float | str]]:
    return {name: {k: v for k, v in row.items() if k not in (*TIMES, *GAPS)} for name, row in comparison.rows.items()}


PROBLEM = _problem()
METHODS: dict[str, Candidate] = {"exact": EXACT, "wrong": WRONG, "sinkhorn": SINKHORN}


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(METHODS, PROBLEM, effort=SMALL)


def test_the_dual_gap_is_the_divergence_from_the_truth(comparison: Comparison) -> None:
    """An end that is off by δ costs δᵀR⁻¹δ/4ε nats, R the regression of x1 on x0; the best of the table has no gap."""
    rows = {name: row for name, row in comparison.rows.items() if "dual_gap" in row}
    assert min(float(row["dual_gap"]) for row in rows.values()) == 0
    wrong, exact = (float(rows[name]["dual_gap"]) for name in ("wrong", "exact"))
    error = float(rows["wrong"]["dual_gap_se"])
    root = torch.linalg.cholesky(COV0)
    middle = root.T @ COV1 @ root + EPSILON**2 * torch.eye(2)
    values, axes = torch.linalg.eigh(middle)
    regression = torch.linalg.inv(root).T @ ((axes * values.sqrt()) @ axes.T - EPSILON * torch.eye(2)) @ root.inverse()
    expected = float(torch.linalg.inv(regression).sum()) / (4 * EPSILON)
    assert abs(wrong - exact - expected) < 4 * error + 0.05
    assert 0 < error < 0.7 and float(rows["exact"]["dual_gap"]) < 0.1
    assert float(rows["sinkhorn"]["dual_gap"]) > 5 * float(rows["sinkhorn"]["dual_gap_se"])  # of 100 points


def test_every_row_is_complete(comparison: Comparison) -> None:
    assert list(comparison.rows) == ["exact", "wrong", "sinkhorn", TRUTH, FLOOR]
    figures = {name for column in COLUMNS for name in column.names}
    figures -= {"peak_memory"}  # which only a process of its own can tell
    exact_only, sampled = {"cbw_uvp_exact", "cbw_uvp_exact_se"}, figures - {"fit_seconds"}
    assert set(comparison.rows["wrong"]) == sampled
    assert set(comparison.rows[TRUTH]) == sampled
    assert set(comparison.rows["sinkhorn"]) == figures - exact_only
    bare = sampled - exact_only - {"path_kl_se", "move_seconds"}
    assert set(comparison.rows[FLOOR]) == bare - {"dual_gap", "dual_gap_se"}


def test_figures_tell_a_good_bridge_from_a_bad_one(comparison: Comparison) -> None:
    exact, wrong, floor = (comparison.rows[name] for name in ("exact", "wrong", FLOOR))
    assert exact["path_kl"] == floor["path_kl"] == 0
    for name in ("forward_energy", "forward_sliced", "forward_wasserstein", "cbw_uvp", "bw_uvp"):
        assert _figure(wrong, name) > 3 * abs(_figure(exact, name)), name
    for name in ("forward_wasserstein", "backward_wasserstein", "cbw_uvp"):
        assert exact[name] == pytest.approx(floor[name], rel=0.35), name
    assert wrong["cbw_uvp_exact"] == pytest.approx(100 * 2 / (COV1.trace().item() / 2), rel=1e-4)


def test_a_gaussian_truth_gives_figures_of_its_own(comparison: Comparison) -> None:
    exact, wrong, floor = (comparison.rows[name] for name in ("exact", "wrong", FLOOR))
    for name in ("diagonal_kl", "path_energy"):
        assert _figure(wrong, name) > 10 * max(_figure(exact, name), _figure(floor, name)), name
    assert _figure(floor, "diagonal_kl") == pytest.approx(2 / 300, rel=1.0)
    assert max(_figure(row, "endpoint_covariance_error") for row in (exact, wrong, floor)) < 50
    assert _figure(floor, "kinetic_energy") == pytest.approx(EXACT.kinetic_energy().value, rel=0.1)


def test_p_values_see_a_wrong_end_and_pass_true_ones(comparison: Comparison) -> None:
    assert comparison.rows["wrong"]["forward_p"] == 1 / 200
    assert _figure(comparison.rows["exact"], "forward_p") > 0.05
    assert _figure(comparison.rows[FLOOR], "forward_p") > 0.05


def test_the_truth_is_judged_like_every_method(comparison: Comparison) -> None:
    rows = _untimed(comparison)
    assert rows["exact"] == rows[TRUTH]


def test_a_row_does_not_depend_on_the_others(comparison: Comparison) -> None:
    shuffled = compare({name: METHODS[name] for name in ("sinkhorn", "exact")}, PROBLEM, effort=SMALL)
    expected = _untimed(comparison)
    assert _untimed(shuffled) == {name: expected[name] for name in ("sinkhorn", "exact", TRUTH, FLOOR)}


def test_the_seed_changes_the_random_numbers(comparison: Comparison) -> None:
    other = compare({"exact": EXACT}, PROBLEM, random_state=1, effort=SMALL)
    assert other.rows["exact"]["forward_energy"] != comparison.rows["exact"]["forward_energy"]


def test_the_judging_leaves_the_global_random_numbers_alone() -> None:
    state = torch.random.get_rng_state()
    compare({"exact": EXACT}, PROBLEM, effort=SMALL)
    assert torch.equal(state, torch.random.get_rng_state())


def test_without_a_truth_there_are_no_figures_against_it() -> None:
    found = compare({"exact": EXACT}, _problem(truth=None), effort=SMALL)
    assert list(found.rows) == ["exact", FLOOR]
    assert {"path_kl", "cbw_uvp", "cbw_uvp_exact", "bw_uvp"}.isdisjoint(found.rows["exact"].keys() | found.rows[FLOOR])
    assert "path KL" not in found.to_markdown() and "dual gap" in found.to_markdown()


def test_held_out_points_that_are_the_training_points_give_no_floor() -> None:
    problem = replace(PROBLEM, test0=PROBLEM.x0, test1=PROBLEM.x1)
    floor = Evaluator.of(problem, effort=SMALL).floor()
    assert "forward_energy" not in floor
    assert floor["remark"] == "no distances: the held-out points are the training points"
    assert _figure(floor, "bw_uvp") > 0


def test_sizes_are_cut_to_the_data() -> None:
    effort = Evaluator.of(PROBLEM, effort=Effort()).effort
    assert (effort.points, effort.matched, effort.starts) == (350, 350, 200)


def test_estimators_and_solvers_are_taken_with_their_names() -> None:
    estimator: Any = SimpleNamespace(bridge_=WRONG)
    found = compare([EXACT, SINKHORN, estimator, EXACT], PROBLEM, effort=SMALL)
    methods = ["GaussianBridge", "POT Sinkhorn", "SimpleNamespace", "GaussianBridge (2)"]
    assert list(found.rows) == [*methods, TRUTH, FLOOR]
    assert _untimed(found)["SimpleNamespace"] == _untimed(compare({"wrong": WRONG}, PROBLEM, effort=SMALL))["wrong"]
    assert "fit_seconds" in found.rows["POT Sinkhorn"]
    assert "fit_seconds" not in found.rows["SimpleNamespace"]


def test_fitted_methods_are_measured_on_points_of_both_ends() -> None:
    """Also standardised ones, in the coordinates of their fit: the same figures, whatever the units."""
    x0, x1 = PROBLEM.test0, PROBLEM.test1
    estimator: Any = SimpleNamespace(bridge_=WRONG)
    found = compare({"exact": EXACT, "wrong": estimator}, x0.numpy(), x1.numpy(), effort=SMALL)
    assert list(found.rows) == ["exact", "wrong", FLOOR] and found.epsilon == EPSILON
    right, wrong, floor = (_figure(row, "forward_sliced") for row in found.rows.values())
    assert right < 3 * floor and wrong > 3 * floor
    centre, scale = torch.tensor([5.0, 1.0]).double(), torch.diag(torch.tensor([100.0, 0.1]).double())
    outer = {name: StandardisedBridge(bridge, centre, scale) for name, bridge in (("exact", EXACT), ("wrong", WRONG))}
    again = compare(outer, x0.double() @ scale + centre, x1.double() @ scale + centre, effort=SMALL)
    for name in outer:
        assert _figure(again.rows[name], "kinetic_energy") == pytest.approx(
            _figure(found.rows[name], "kinetic_energy"), rel=1e-3
        )
    with pytest.raises(InputError, match="exact was standardised otherwise than wrong"):
        compare({"wrong": outer["wrong"], "exact": EXACT}, x0, x1)


@pytest.mark.parametrize(
    ("methods", "points", "message"),
    [
        ({"exact": EXACT}, (PROBLEM.test0,), "give a Problem, or points of both ends"),
        ({"exact": EXACT}, (PROBLEM, PROBLEM.test1), "a problem has points of both ends"),
        ({"POT": SINKHORN}, (PROBLEM.test0, PROBLEM.test1), "POT is not fitted yet"),
        ({"exact": EXACT}, (PROBLEM.test0[:, :1], PROBLEM.test1), "must have shape"),
    ],
)
def test_points_that_pose_no_question_are_refused(methods: Any, points: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(methods, *points, effort=SMALL)


@pytest.mark.parametrize("name", [FLOOR, TRUTH])
def test_reserved_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="reference row"):
        compare({name: EXACT}, PROBLEM, effort=SMALL)


def test_what_is_no_method_is_refused_before_anything_runs() -> None:
    unfitted: Any = SimpleNamespace()
    with pytest.raises(InputError, match="unfitted is no bridge, solver or fitted estimator"):
        compare({"diverging": Diverging(), "unfitted": unfitted}, PROBLEM, effort=SMALL)


def test_a_failing_method_spares_the_others(comparison: Comparison) -> None:
    field = Runaway(torch.tensor(1e30))
    other = GaussianBridge(MEAN0, COV0, MEAN1, COV1, 2 * EPSILON)
    broken: dict[str, Candidate] = {"a": Diverging(), "b": Bridge(field, field, EPSILON), "c": other}
    found = compare({**broken, "exact": EXACT}, PROBLEM, effort=SMALL)
    assert found.rows["a"] == {"remark": "failed: the loss is NaN at step 7"}
    assert str(found.rows["b"]["remark"]).startswith("failed: paths became infinite or NaN")
    assert found.rows["c"] == {"remark": "failed: its epsilon is 0.6, the problem's 0.3"}
    assert _untimed(found)["exact"] == _untimed(comparison)["exact"]


def test_programming_errors_are_not_swallowed() -> None:
    class Faulty(Diverging):
        def solve(self, problem: Problem, random_state: int = 0) -> Bridge:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compare({"faulty": Faulty()}, PROBLEM, effort=SMALL)


def test_figures_that_are_not_finite_are_named_and_left_out(tmp_path: Path) -> None:
    late = Bridge(LateInfinity(EXACT.forward_field), EXACT.backward_field, EPSILON, remark="own words")
    found = compare({"late": late}, PROBLEM, effort=SMALL)
    row = found.rows["late"]
    assert row["remark"] == "own words; not finite: path_kl, path_kl_se"
    assert "path_kl" not in row
    assert "forward_energy" in row
    found.to_json(tmp_path / "finite.json")


# Tables and files


def test_json_comes_back_equal(comparison: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    comparison.to_json(path)
    assert Comparison.read(path) == comparison
    meanings = {column["name"]: column["meaning"] for column in json.loads(path.read_text())["columns"]}
    assert "KL divergence" in meanings["path_kl"]


def test_csv_holds_every_figure(comparison: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "comparison.csv"
    comparison.to_csv(path)
    read = {row.pop("method"): row for row in read_csv(path)}
    assert list(read) == list(comparison.rows)
    for name, row in comparison.rows.items():
        figures = {key: float(text) for key, text in read[name].items() if text and key != "remark"}
        assert figures == {key: value for key, value in row.items() if key != "remark"}
        assert read[name]["remark"] == row["remark"]


def test_markdown_has_a_line_a_method_and_the_shown_columns(comparison: Comparison) -> None:
    lines = comparison.to_markdown().splitlines()
    cells = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]
    assert [line[0] for line in cells] == ["method", "---", *comparison.rows]
    assert cells[0][1:] == [column.heading for column in comparison.columns]
    assert {len(line) for line in cells} == {1 + len(comparison.columns)}
    assert " ± " in dict(zip(cells[0], cells[3], strict=True))["path KL (nats)"]


def test_a_cell_shows_three_digits_and_the_error() -> None:
    column = column_named("path_kl")
    assert column.cell({"path_kl": 0.0}) == "0"
    assert column.cell({"path_kl": 0.0123456}) == "0.0123"
    assert column.cell({"path_kl": 1234.5}) == "1234"
    assert column.cell({}) == ""
    for value, error, text in (
        (0.0123456, 0.000234, "0.0123 ± 0.0002"),
        (7.31, 0.6, "7.3 ± 0.6"),
        (578.0, 23.0, "578 ± 20"),
        (4e-4, 2e-5, "0.00040 ± 0.00002"),
        (-1e-4, 2e-3, "0.000 ± 0.002"),
        (4e-7, 2e-8, "(4.0 ± 0.2)e-07"),
        (222.2222, 1e-9, "222.222 ± 0.000"),
        (0.0, 0.0, "0 ± 0"),
    ):
        assert column.cell({"path_kl": value, "path_kl_se": error}) == text


_SIZES = st.floats(-12, 12).map(lambda exponent: 10**exponent)


@settings(deadline=None)
@given(sign=st.sampled_from([-1, 0, 1]), size=_SIZES, error=_SIZES)
def test_a_cell_shows_value_and_error_to_one_place(sign: int, size: float, error: float) -> None:
    """The place is the error's first digit, unless that is left of the point or beyond 10⁻⁵ of the value."""
    value = sign * size
    column = column_named("path_kl")
    text = column.cell({"path_kl": value, "path_kl_se": error})
    match = re.fullmatch(r"\(?(-?[\d.]+) ± ([\d.]+)(?:\)e([+-]\d+))?", text)
    assert match and len(text) <= 30
    shown, spread = match[1], match[2]
    power = 10.0 ** int(match[3] or 0)
    decimals = len(shown.partition(".")[2])
    assert decimals == len(spread.partition(".")[2])
    place = power * 10.0**-decimals
    assert abs(float(shown) * power - value) <= 0.5001 * place
    assert abs(float(spread) * power - error) <= max(0.5001 * place, error / 2.99)
    assert place < 2 * error or abs(value) / place >= 0.94e5
    assert decimals == 0 or error < 10 * place
    assert (match[3] is None) == (0.95e-4 <= max(abs(value), error) < 0.95e6)


def test_a_bar_in_a_remark_does_not_break_the_table() -> None:
    found = Comparison("p", 1.0, 2, 0, SMALL, {"a": {"remark": "x|y"}})
    assert found.to_markdown().splitlines()[2] == "| a | x\\|y |"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"columns": []}', '{"columns": [], "effort": {}}'])
def test_damaged_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"broken\.json is (not a comparison|missing|damaged)"):
        Comparison.read(path)
    with pytest.raises(InputError, match=r"absent\.json"):
        Comparison.read(tmp_path / "absent.json")


def test_column_names_are_unique_and_explained() -> None:
    names = [name for column in COLUMNS for name in column.names]
    assert len(set(names)) == len(names)
    assert all(column.meaning.endswith(".") for column in COLUMNS)


def test_merging_is_comparing_together(comparison: Comparison) -> None:
    parts = [compare({name: method}, PROBLEM, effort=SMALL) for name, method in METHODS.items()]
    assert _untimed(merge(parts)) == _untimed(comparison)
    assert list(merge(parts).rows) == list(comparison.rows)


def test_merging_numbers_equal_names(comparison: Comparison) -> None:
    merged = merge([comparison, comparison])
    assert list(merged.rows) == ["exact", "wrong", "sinkhorn", "exact (2)", "wrong (2)", "sinkhorn (2)", TRUTH, FLOOR]
    assert merged.rows["wrong (2)"] == comparison.rows["wrong"]


def test_merging_refuses_what_was_judged_differently(comparison: Comparison) -> None:
    with pytest.raises(InputError, match=r"these differ in epsilon \(0.3 and 0.4\), random_state \(0 and 1\)"):
        merge([comparison, replace(comparison, epsilon=0.4, random_state=1)])
    with pytest.raises(InputError, match="no comparison to merge"):
        merge([])


# Column by column


def _wider(problem: Problem) -> Bridge:
    """Ends at x1 with the second column twice as wide."""
    law0, law1 = ((x.mean(0).double(), x.T.double().cov()) for x in (problem.x0, problem.x1))
    scale = torch.diag(torch.tensor([1.0, 2.0]).double())
    return GaussianBridge(*law0, law1[0], scale @ law1[1] @ scale, problem.epsilon)


def test_the_table_by_column_shows_where_an_end_is_off(tmp_path: Path) -> None:
    """Mean and spread of every end beside the data's; the worst column first, and its gap beside the floor."""
    problem = replace(ShiftedGaussian(dim=2, samples=2000, test_samples=1000).build(), truth=None, columns=("a", "b"))
    effort = replace(SMALL, points=1000)
    compared = compare({"exact": _exact(problem), "wide": _wider(problem)}, problem, effort=effort)
    compared.to_json(tmp_path / "x.json")
    for found in (compared, Comparison.read(tmp_path / "x.json"), merge([compared])):
        rows = found.by_column().rows()
        assert (rows[0]["column"], rows[0]["end"]) == ("b", "x1") and len(rows) == 4
        mean, spread = (float(part) for part in rows[0]["data"].rstrip(")").split(" ("))
        end = Evaluator.of(problem, effort=effort).test[1][:, 1]
        assert (mean, spread) == pytest.approx((float(end.mean()), float(end.std())), rel=0.01)
        assert float(rows[0]["wide"].rstrip(")").split(" (")[1]) == pytest.approx(2 * spread, rel=0.1)
        assert float(rows[0]["exact"].rstrip(")").split(" (")[1]) == pytest.approx(spread, rel=0.1)
    gaps = {name: float(row["forward_column"]) for name, row in compared.rows.items()}
    assert gaps["wide"] == pytest.approx(1, abs=0.15) and max(gaps["exact"], gaps[FLOOR]) < 0.15
    assert "| b | x1 |" in compared.by_column().to_markdown() and "<td>b</td>" in compared.by_column()._repr_html_()


def test_comparisons_without_ends_say_so() -> None:
    with pytest.raises(InputError, match="compute it again"):
        Comparison("p", 0.5, 2, 0, SMALL, {}).by_column()


def _exact(problem: Problem) -> Bridge:
    law0, law1 = ((x.mean(0).double(), x.T.double().cov()) for x in (problem.x0, problem.x1))
    return GaussianBridge(*law0, *law1, problem.epsilon)
