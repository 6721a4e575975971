"""The mathematics of the report's figures, and whether its words are honest."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from math import sqrt
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from runs import CERTIFICATE, NASTY, SMALL, Constant, Shifted, gaussian, make_run, pictures, problem_of

from sbridge.bridge import Bridge, Direction
from sbridge.evaluation import FLOOR, TRUTH, Comparison, column_named
from sbridge.io import Run
from sbridge.problem import Problem
from sbridge.problems.gaussian import GaussianBridge
from sbridge.report.animation import animation
from sbridge.report.chain import ChainTables
from sbridge.report.coordinates import columns_of, coordinates, principal
from sbridge.report.ends import ends
from sbridge.report.fit import drift_gaps, interpolant, training_curves
from sbridge.report.headline import caution, told_apart
from sbridge.report.material import Material, paths_of
from sbridge.report.page import build
from sbridge.report.recolouring import conditional_mean, flow, process
from sbridge.report.style import colours, inline, styled, svg
from sbridge.report.words import findings, question, ties, verdict
from sbridge.solvers.maxmin import MaxMin

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]


def test_a_real_fit_has_a_whole_page(tmp_path: Path) -> None:
    """Networks seen through a frame, and the history as the solver writes it."""
    run = make_run(tmp_path, "planar")
    training = MaxMin(steps=6, batch=128, group=32, learn_gamma=True).start(run.problem)
    for _ in training:
        pass
    training.bridge().save(run.path("0.safetensors"))
    run.write_history(training.history)
    material = Material(Run.open(run.folder))
    curves, paths = training_curves(material), interpolant(material)
    assert curves is not None and len(curves.figures) == 3
    assert paths is not None and len(paths.figures) == 4


def test_lost_points_are_told(tmp_path: Path) -> None:
    run = make_run(tmp_path, "planar")
    Bridge(Constant(torch.full((2,), torch.nan)), Constant(torch.zeros(2)), 0.2).save(run.path("1.safetensors"))
    material = Material(Run.open(run.folder))
    moving, exhibit = animation(material), ends(material)
    assert moving is not None and exhibit is not None
    assert [method["name"] for method in moving.content()["methods"]] == [NASTY] and moving.lost == ["POT Sinkhorn"]
    assert list(material.methods) == [NASTY] and len(exhibit.figures) == 4  # each column at each end
    assert "Not shown: POT Sinkhorn." in build(material.run).read_text(encoding="utf-8")


def test_a_fit_that_runs_away_has_a_page_of_the_others(tmp_path: Path) -> None:
    run = make_run(tmp_path, "planar")
    Bridge(Constant(torch.full((2,), torch.nan)), Constant(torch.zeros(2)), 0.2).save(run.path("0.safetensors"))
    page = build(run).read_text(encoding="utf-8")
    assert "Not shown: &lt;script&gt;" in page and 'id="movement"' not in page and 'id="ends"' in page


def test_a_constant_error_has_a_constant_density() -> None:
    """|û − u*|²/4ε of a drift that is off by c is |c|²/4ε at all times, forward and backward each on its own."""
    exact, c = gaussian(3), torch.tensor([0.3, -0.4, 1.2])
    for k, wrong in enumerate(
        [
            Bridge(Shifted(exact.forward_field, c), exact.backward_field, exact.epsilon),
            Bridge(exact.forward_field, Shifted(exact.backward_field, c), exact.epsilon),
        ]
    ):
        x0 = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) / 2
        gaps = drift_gaps(wrong, exact, x0, torch.Generator().manual_seed(1))
        expected = torch.full((50, 20), c.square().sum().item() / (4 * exact.epsilon))
        torch.testing.assert_close(gaps[k], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gaps[1 - k], torch.zeros(50, 20), rtol=0, atol=1e-8)


def test_paths_start_at_held_out_points_and_share_their_noise() -> None:
    problem, exact = problem_of(2, "planar"), gaussian(2)
    moved = paths_of(problem, {"a": exact, "b": exact})
    assert moved.times[0] == 0 and moved.times[-1] == 1
    torch.testing.assert_close(moved.forward["a"][0], problem.test0, rtol=0, atol=0)
    torch.testing.assert_close(moved.backward["a"][-1], problem.test1, rtol=0, atol=0)
    torch.testing.assert_close(moved.forward["a"], moved.forward["b"], rtol=0, atol=0)
    assert moved.ends("forward")["a"] is not None and torch.equal(moved.ends("backward")["a"], moved.backward["a"][0])


@pytest.mark.parametrize("move", [flow, process, conditional_mean])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_recolouring_moves_each_pixel_where_it_belongs(move: Any, direction: Any) -> None:
    """Constant drifts of a process with next to no noise: every pixel moves by ± the same colour."""
    shift, picture = torch.tensor([0.1, -0.2, 0.3]), pictures()[0]
    bridge = Bridge(Constant(shift), Constant(shift), 1e-12)
    moved = move(bridge, picture, direction)
    sign = 1 if direction == "forward" else -1
    torch.testing.assert_close(moved.stages[-1], picture + sign * shift, rtol=0, atol=1e-4)
    assert moved.stages.shape[1:] == picture.shape and moved.seconds > 0
    if move is flow:
        torch.testing.assert_close(moved.stages[1], picture + sign * shift / 4, rtol=0, atol=1e-4)


def test_the_mean_recolouring_is_the_conditional_mean() -> None:
    exact = gaussian(3)
    swapped = GaussianBridge(exact.mean1, exact.cov1, exact.mean0, exact.cov0, exact.epsilon)
    picture = pictures()[0]
    cases: list[tuple[GaussianBridge, Direction]] = [(exact, "forward"), (swapped, "backward")]
    for bridge, direction in cases:
        mean, _ = bridge.conditional_moments(picture.reshape(-1, 3))
        moved = conditional_mean(exact, picture, direction)
        torch.testing.assert_close(moved.stages[0], mean.reshape(picture.shape), rtol=1e-4, atol=1e-4)


@given(st.integers(2, 6), st.integers(0, 2**31))
def test_principal_components_keep_distances_in_a_plane(dim: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(dim, 2, generator=generator, dtype=torch.float64))
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 1.0]) @ basis.T
    axes = principal([x[:20], x[20:]], coordinates(dim, None))
    shown = torch.stack([axis.of(x) for axis in axes], -1)
    torch.testing.assert_close(torch.cdist(shown, shown), torch.cdist(x, x), rtol=1e-6, atol=1e-6)
    share = [float(re.findall(r"\((\d+) %", axis.name)[0]) for axis in axes]
    assert sum(share) == pytest.approx(100, abs=1) and share[0] >= share[1]


def test_principal_components_are_named_by_the_columns_that_weigh_most() -> None:
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([0.1, 1.0, 30.0])
    x[:, 1] -= x[:, 2] / 30
    problem = Problem(x[:100], x[100:], 1.0, x[:100], x[100:], columns=("small", "age", "cost in $"))
    assert [column.name for column in columns_of(problem)] == ["small", "age", "cost in $"]
    assert principal([x], columns_of(problem))[0].name.endswith("mainly cost in $)")
    assert "mainly cost in $, −age" in principal([x], columns_of(problem), scaled=True)[0].name
    assert [column.name for column in columns_of(problem_of(2, "plane"))] == ["c0", "c1"]


@styled
def _picture() -> Figure:
    figure = Figure(figsize=(2, 2))
    ax = figure.subplots()
    ax.imshow(np.random.default_rng(0).random((20, 20, 3)))
    ax.plot([0, 10], [0, 10], color="#0072B2")
    ax.set_title("a < b")
    return figure


def test_a_figure_within_a_page_has_its_colours_and_pictures_as_jpeg() -> None:
    whole = svg(_picture(), "salt")
    part = inline(whole)
    assert whole == svg(_picture(), "salt") and ElementTree.fromstring(whole) is not None
    assert "#0072b2" in whole and "#0072b2" not in part and "stroke: var(--c0)" in part
    assert part.startswith("<svg") and "http" not in part and ">a &lt; b<" in part
    (picture,) = re.findall(r"data:image/jpeg;base64,([^\"]*)", part)
    assert Image.open(BytesIO(b64decode(picture))).format == "JPEG"


@given(st.floats(0, 20))
def test_two_laws_are_told_apart_no_better_than_their_divergence_allows(nats: float) -> None:
    """Two normal laws at a distance m have the divergence m²/2, and the better half-plane is right Φ(m/2) times."""
    right = torch.special.ndtr(torch.tensor(sqrt(2 * nats) / 2)).item()
    assert right - 1e-6 <= told_apart(nats) <= 1
    assert told_apart(0.0) == 0.5 == told_apart(-1.0)


def test_the_headline_of_a_chain_is_that_of_its_worst_leg() -> None:
    fine = replace(CERTIFICATE, backward=CERTIFICATE.forward)
    assert fine.verdict.rank < CERTIFICATE.verdict.rank
    found = ChainTables((), certificates=[fine, CERTIFICATE, fine]).headline
    assert found is not None and (found.word, found.tone) == ("do not trust", "bad")
    assert ChainTables(()).headline is None


def test_a_page_cautions_where_points_are_few_or_not_held_out() -> None:
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    assert caution(Problem(x, x + 1, 1.0, x[:500], x[:500])) == ""
    assert "n = 499" in caution(Problem(x, x + 1, 1.0, x[:500], x[:499]))
    assert "looks too good" in caution(Problem(x, x + 1, 1.0, x, x + 1))


def table(floor: float | None = 0.1, **figures: float | tuple[float, float]) -> Comparison:
    """A comparison by path KL: method → figure, or (figure, standard error)."""
    pairs = {name: value if isinstance(value, tuple) else (value, 0.0) for name, value in figures.items()}
    rows: dict[str, dict[str, float | str]] = {
        name: {"path_kl": value, "path_kl_se": error, "remark": ""} for name, (value, error) in pairs.items()
    }
    reference: dict[str, Any] = {} if floor is None else {FLOOR: {"path_kl": floor, "remark": ""}}
    return Comparison("test", 0.5, 2, 0, SMALL, {**rows, **reference})


PATH_KL = column_named("path_kl")
ENERGY = column_named("kinetic_energy")


@pytest.mark.parametrize(
    ("comparison", "best"),
    [
        (table(0.1, a=0.5, b=0.55, c=0.7), ["a", "b"]),  # the floor decides
        (table(0.0, a=0.5, b=0.55, c=0.7), ["a"]),
        (table(0.0, a=(0.5, 0.03), b=(0.55, 0.03), c=(0.7, 0.03)), ["a", "b"]),  # two standard errors decide
        (table(0.001, a=0.4, b=-0.01, c=-0.3), ["c", "b"]),  # noise below zero is no merit
        (table(None, b=0.5, a=0.4), ["a"]),
    ],
)
def test_ties(comparison: Comparison, best: Sequence[str]) -> None:
    assert list(ties(comparison, PATH_KL)) == list(best)


def test_energy_is_no_contest() -> None:
    comparison = table(0.1, a=0.5)
    rows = {**comparison.rows, "a": {**comparison.rows["a"], "kinetic_energy": 1.0}}
    assert ties(replace(comparison, rows=rows), ENERGY) == {}


@given(st.lists(st.floats(0, 10), min_size=1, max_size=5), st.floats(0, 5), st.floats(0, 5))
def test_a_larger_floor_ties_more_and_the_best_is_always_there(values: list[float], low: float, more: float) -> None:
    figures: dict[str, Any] = {f"m{k}": value for k, value in enumerate(values)}
    few, many = (ties(table(floor, **figures), PATH_KL) for floor in (low, low + more))
    assert few.items() <= many.items()
    assert min(values) in few.values()


def test_the_verdict_says_who_wins_what_ties_and_what_is_unknown() -> None:
    text = verdict(table(0.1, b=0.55, a=0.5, c=0.7))
    assert "b on 1, a on 1 and c on 0" in text[0]
    assert "a (0.5) and b (0.55) cannot be told apart, before c (0.7). The floor is 0.1." in text[1]
    assert "not known" in text[-1]
    clear = table(0.0, a=0.5, b=0.7)
    text = verdict(replace(clear, rows={**clear.rows, TRUTH: {"path_kl": 0.0, "remark": ""}}))
    assert "a (0.5) is best, before b (0.7)" in text[1]
    assert not any("not known" in sentence for sentence in text)


def test_the_verdict_carries_remarks() -> None:
    comparison = table(0.1, a=0.5)
    rows = {**comparison.rows, "b": {"remark": "failed: ran away"}}
    text = verdict(replace(comparison, rows=rows))
    assert "Note on b: failed: ran away." in text
    assert [finding.best for finding in findings(replace(comparison, rows=rows))] == [["a"]]


def test_the_question_gives_noise_and_spread_in_the_datas_units() -> None:
    x = torch.tensor([[-2.0, 2.0], [2.0, -2.0]]).repeat(10, 1)
    x = x / x.std(0)
    _, meaning = question(Problem(2 * x, 6 * x, 0.5, 2 * x, 6 * x))
    for wanted in ("ε = 0.5", "√(2ε) = 1 ", "is 2 in x0", "6 in x1", "the noise is 25 % of it"):
        assert wanted in meaning


def test_methods_keep_their_colours() -> None:
    names = [f"method {k}" for k in range(6)]
    assert len(set(colours(names).values())) == 7
    assert colours(names[:2]).items() <= colours(names).items()
