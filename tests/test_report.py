"""The page: whole, self-contained and true to the run; the figures' mathematics; the words' honesty."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from io import BytesIO
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from torch import Tensor

from sbridge.baselines.sinkhorn import PotSinkhorn
from sbridge.bridge import Bridge, Direction, ExactBridge
from sbridge.estimates import Estimate
from sbridge.evaluation import FLOOR, TRUTH, Comparison, Effort, Evaluator, column_named
from sbridge.evaluation.certificate.statement import (
    Certificate,
    ColumnGap,
    Distance,
    EndCheck,
    Meeting,
    Passage,
    Residual,
)
from sbridge.fields import Field
from sbridge.interpolants import Brownian, Interpolant, LearnedMean, Linear
from sbridge.io import Run
from sbridge.problem import Problem
from sbridge.problems.gaussian import GaussianBridge
from sbridge.report.fit import drift_gaps, interpolant, training_curves
from sbridge.report.material import Material, paths_of
from sbridge.report.page import SECTIONS, build, exhibits
from sbridge.report.points import endpoints, principal, view_of
from sbridge.report.recolouring import conditional_mean, flow, process, recolouring
from sbridge.report.style import colours, png
from sbridge.report.words import findings, question, ties, verdict
from sbridge.solvers.maxmin import MaxMin

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

SMALL = Effort(points=60, matched=60, projections=8, steps=5, times=2, starts=5, per_start=5)
NASTY = '<script>alert("x")</script> & $x_1$ ’ß'
PNG = b"\x89PNG\r\n\x1a\n"


class Constant(Field):
    """A drift that is the same everywhere."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.value.expand_as(x)


class Shifted(Field):
    """A drift plus a constant."""

    value: Tensor

    def __init__(self, inner: Field, value: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("value", value)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.inner(t, x) + self.value


def gaussian(dim: int, epsilon: float = 0.2) -> GaussianBridge:
    generator = torch.Generator().manual_seed(dim)
    root = torch.randn(dim, dim, generator=generator) / sqrt(dim)
    return GaussianBridge(
        torch.zeros(dim), torch.eye(dim) / 4, torch.ones(dim) / 2, root @ root.T / 4 + torch.eye(dim) / 9, epsilon
    )


def problem_of(dim: int, name: str, truth: ExactBridge | None = None) -> Problem:
    exact, generator = gaussian(dim), torch.Generator().manual_seed(0)
    starts = [torch.randn(n, dim, generator=generator) / 2 for n in (80, 60, 80, 60)]
    x0, test0, x1, test1 = starts[0], starts[1], *(exact.endpoints(x, generator) for x in starts[2:])
    return Problem(x0, x1, exact.epsilon, test0, test1, name, truth)


def learned(dim: int, epsilon: float) -> Interpolant:
    interpolant = LearnedMean(Linear(Brownian(epsilon)), dim, 1.0, 1.0, width=8, depth=1)
    with torch.no_grad():
        interpolant.body.last.bias.fill_(0.5)
    return interpolant


def pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 4, (2, 9, 12, 3), generator=generator) / 3  # so that colours repeat
    return coarse[0], coarse[1]


KINDS = {
    "planar": (2, NASTY, False),
    "line": (1, "line", False),
    "gaussian": (5, "gaussian", True),
    "photos": (3, "photos", False),
}
ALWAYS = ["training", "trajectories", "endpoints_forward", "endpoints_backward", "movement", "interpolant"]
CERTIFIED = [*ALWAYS[:-1], "certificate", ALWAYS[-1]]
EXPECTED = {
    "planar": CERTIFIED,
    "line": ALWAYS,
    "gaussian": [*ALWAYS, "drift_error"],
    "photos": ["recolouring", *ALWAYS],
}


def make_run(folder: Path, kind: str) -> Run:
    """A run of a closed-form bridge with a learned interpolant and a Sinkhorn that did not converge."""
    dim, name, known = KINDS[kind]
    exact = gaussian(dim)
    problem = problem_of(dim, name, exact if known else None)
    fitted = Bridge(exact.forward_field, exact.backward_field, exact.epsilon, learned(dim, exact.epsilon))
    methods: dict[str, Bridge] = {
        NASTY: fitted,
        "POT Sinkhorn": PotSinkhorn(points=40, iterations=1, tolerance=1e-9).solve(problem),
    }
    files = {method: f"{k}.safetensors" for k, method in enumerate(methods)}
    source = {"class": kind.capitalize(), "samples": 80}
    settings = {"name": name, "epsilon": exact.epsilon, "seed": 7, "threads": 1, "problem": source}
    config = {"settings": settings, "methods": files, "environment": {"torch": "2.x"}, "command": f"sbridge {NASTY}"}
    run = Run.create(folder / kind, config, problem)
    for method, file in files.items():
        methods[method].save(run.path(file))
    values = {"held_out_loss": -1.0, "training_loss": -2.0, "reference_loss": 0.5, "kinetic_energy": 3.0}
    run.write_history(
        [{"step": float(step), **{key: value / (1 + step) for key, value in values.items()}} for step in range(5)]
    )
    run.write_certificate(CERTIFICATE if kind == "planar" else "x0 has 60 points; a certificate needs 100")
    judge = Evaluator.of(problem, effort=SMALL)
    rows = {method: judge.row(bridge) for method, bridge in methods.items()}
    judge.table({**rows, **judge.references()}).to_json(run.path("comparison.json"))
    return run


def passage(distance: float, end: float) -> Passage:
    some, none = Estimate(0.5, 0.1), Estimate(0.0, 0.001)
    ends = EndCheck(3700, Estimate(end, 0.02), 0.03, 0.005 if end > 0.03 else 0.4, 0.01, 0.1)
    return Passage(
        starts=256,
        paths=64,
        distance=Estimate(distance, 0.002),
        fewer_paths=none,
        fewer_steps=none,
        residual=Residual(0.61, 0.62),
        dual=Estimate(12.5, 0.1),
        behind=Estimate(-1.0, 0.1),
        end_error=none,
        ends=ends,
        column=ColumnGap(1, 0.01, 0.02, 0.05),
        hjb=some,
        curl=Estimate(0.02, 0.001),
        turning=Estimate(9.0, 0.1),
    )


CERTIFICATE = Certificate(
    0.2, passage(0.317, -0.004), passage(0.5, 2.25), Meeting(*(Distance(k / 10, 0.01) for k in range(3)))
)


SMALL_SECTIONS = [partial(recolouring, pictures=pictures) if one is recolouring else one for one in SECTIONS]


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: dict[str, list[str]] = {}
        self.heads: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr" and (measure := dict(attrs).get("data-measure")):
            self._row = self.cells.setdefault(measure, [])
        if tag == "td" and self.cells:
            self._row.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass
        if tag == "table":
            self._row = []

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "td" and self.cells:
            self._row[-1] += data
        if "style" not in self._open:
            self.text += data

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for tag, attributes in self.tags if tag == "section"]


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Run, Page]:
    run = make_run(tmp_path_factory.mktemp("runs"), request.param)
    path = build(run, SMALL_SECTIONS)
    assert path == run.path("report.html")
    return request.param, run, Page(path.read_text(encoding="utf-8"))


Built = tuple[str, Run, Page]


def test_the_page_has_the_sections_of_its_problem(built: Built) -> None:
    kind, _, page = built
    assert page.ids() == ["question", "comparison", *EXPECTED[kind]]


def test_nothing_comes_from_outside(built: Built) -> None:
    _, run, page = built
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert not re.search(r"url\(|@import|https?://", run.path("report.html").read_text(encoding="utf-8"))


def test_every_figure_is_a_file_and_in_the_page(built: Built) -> None:
    kind, run, page = built
    images = [
        b64decode((attributes["src"] or "").partition("base64,")[2]) for tag, attributes in page.tags if tag == "img"
    ]
    files = [run.path("figures") / f"{slug}.png" for slug in EXPECTED[kind]]
    assert {path.name for path in run.path("figures").iterdir()} == {path.name for path in files}
    assert [path.read_bytes() for path in files] == images
    for image in images:
        assert image.startswith(PNG)
        pixels = imread(BytesIO(image))
        assert pixels.shape[1] == 1600 and pixels.std() > 0.01


def test_every_image_has_a_description(built: Built) -> None:
    for tag, attributes in built[2].tags:
        assert tag != "img" or len(attributes["alt"] or "") > 50


def test_the_tables_numbers_are_the_comparisons(built: Built) -> None:
    _, run, page = built
    comparison = run.comparison()
    assert comparison is not None
    names = [NASTY, "POT Sinkhorn", *(name for name in (TRUTH, FLOOR) if name in comparison.rows)]
    shown = [column for column in comparison.columns if column.name != "remark"]
    assert list(page.cells) == [column.name for column in shown]
    for column in shown:
        assert page.cells[column.name] == [column.cell(comparison.rows[name]) or "–" for name in names]


def test_names_and_command_come_out_as_they_are(built: Built) -> None:
    _, run, page = built
    assert page.text.count(NASTY) >= 4
    assert f"sbridge {NASTY}" in page.text
    assert run.problem.name in page.text


def test_a_remark_stands_out(built: Built) -> None:
    _, _, page = built
    assert sum(attributes.get("class") == "remark" for _, attributes in page.tags) == 1
    assert page.text.count("plan did not converge") == 2  # in the verdict and in the table


def test_the_footer_says_how_to_do_it_again(built: Built) -> None:
    _, _, page = built
    footer = page.text.partition("How to reproduce this page")[2]
    for wanted in ("2.x", "seed", "threads", "torch", '"samples": 80'):
        assert wanted in footer


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        ("history.csv", ["training"]),
        ("comparison.json", ["comparison"]),
        ("truth.safetensors", ["drift_error"]),
    ],
)
def test_what_a_run_lacks_is_left_out(tmp_path: Path, missing: str, gone: Sequence[str]) -> None:
    run = make_run(tmp_path, "gaussian")
    run.path(missing).unlink()
    material = Material(Run.open(run.folder))
    shown = [exhibit.slug for exhibit in exhibits(material)]
    assert shown == [slug for slug in EXPECTED["gaussian"] if slug not in gone]
    page = Page(build(Run.open(run.folder), []).read_text(encoding="utf-8"))
    assert ("comparison" in page.ids()) == (missing != "comparison.json")


def test_a_run_without_any_bridge_still_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path, "line")
    for file in (*run.config["methods"].values(), "history.csv", "comparison.json"):
        run.path(file).unlink()
    assert Page(build(Run.open(run.folder)).read_text(encoding="utf-8")).ids() == ["question"]


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
    assert curves is not None and len(curves.figure.axes) == 3
    assert paths is not None and png(paths.figure).startswith(PNG)


def test_the_certificate_comes_first_in_the_verdict(built: Built) -> None:
    kind, _, page = built
    if kind != "planar":
        assert "No certificate: x0 has 60 points" in page.text
        return
    assert CERTIFICATE.sentence.startswith("Do not trust: backward, at least 2.7")
    first = page.text.index(CERTIFICATE.sentence)
    assert "closest to the floor" not in page.text[:first]
    for wanted in ("0.317 ± 0.002", "0.61, 0.62", "12.5 ± 0.1", "3,700 points would have shown a blur of 0.1 spreads"):
        assert wanted in page.text


def test_lost_points_are_told(tmp_path: Path) -> None:
    run = make_run(tmp_path, "planar")
    Bridge(Constant(torch.full((2,), torch.nan)), Constant(torch.zeros(2)), 0.2).save(run.path("1.safetensors"))
    exhibit = endpoints(Material(Run.open(run.folder)), "forward")
    assert exhibit is not None and "60 endpoints of POT Sinkhorn are not finite" in exhibit.caption
    assert png(exhibit.figure).startswith(PNG)


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
    torch.testing.assert_close(moved.backward["a"][0], problem.test1, rtol=0, atol=0)
    torch.testing.assert_close(moved.forward["a"], moved.forward["b"], rtol=0, atol=0)
    times, paths = moved.towards("backward")
    assert list(times) == list(moved.times)[::-1] and paths is moved.backward


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
    view = principal(Problem(x[:20], x[20:], 1.0, x[:20], x[20:]))
    shown = torch.from_numpy(view.project([0.0], x[None])[0])
    torch.testing.assert_close(torch.cdist(shown, shown), torch.cdist(x, x), rtol=1e-6, atol=1e-6)
    share = [float(re.findall(r"\((\d+) %", label)[0]) for label in view.labels]
    assert sum(share) == pytest.approx(100, abs=1) and share[0] >= share[1]


def test_one_dimension_is_seen_against_time() -> None:
    paths = torch.arange(6.0).view(3, 2, 1)
    shown = view_of(problem_of(1, "line")).project([0.0, 0.5, 1.0], paths)
    assert shown[..., 0].tolist() == [[0, 0], [0.5, 0.5], [1, 1]]
    assert shown[..., 1].tolist() == paths[..., 0].tolist()


def test_axes_carry_the_names_of_the_columns() -> None:
    problem = replace(problem_of(2, "plane"), columns=("height", "cost in $"))
    assert view_of(problem).labels == ("height (data units)", r"cost in \$ (data units)")
    assert view_of(replace(problem_of(1, "line"), columns=("age",))).labels == ("time t", "age (data units)")


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
    assert "a (0.5) and b (0.55) tie, ahead of c (0.7). The floor is 0.1." in text[1]
    assert "not known" in text[-1]
    clear = table(0.0, a=0.5, b=0.7)
    text = verdict(replace(clear, rows={**clear.rows, TRUTH: {"path_kl": 0.0, "remark": ""}}))
    assert "a (0.5) is closest to the floor, ahead of b (0.7)" in text[1]
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
    for wanted in ("ε = 0.5", "√(2ε) = 1 ", "spread by 2 ", "x1 by 6 ", "25 % of the spread"):
        assert wanted in meaning


def test_methods_keep_their_colours() -> None:
    names = [f"method {k}" for k in range(6)]
    assert len(set(colours(names).values())) == 7
    assert colours(names[:2]).items() <= colours(names).items()
