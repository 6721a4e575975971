"""The page of a run: whole, true to the run, independent of anything else, and alive in a browser."""

from __future__ import annotations

import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from browser import CHROMIUM, asked
from runs import CERTIFICATE, COLUMNS, EXPECTED, NASTY, make_run, pictures

from sbridge import report
from sbridge.evaluation import FLOOR, TRUTH
from sbridge.io import Run
from sbridge.report.material import Material
from sbridge.report.page import SECTIONS, build
from sbridge.report.recolouring import recolouring
from sbridge.report.style import VARIABLES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

SMALL_SECTIONS = [partial(recolouring, pictures=pictures) if one is recolouring else one for one in SECTIONS]
LARGEST = 4e6  # bytes
VOID = {"meta", "link", "input", "br", "img"}


class Page(HTMLParser):
    """The tags, the text and the tables of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.text += data
        if {"th", "td"} & set(self._open):
            self.tables[-1][-1][-1] += data

    def all(self, attribute: str) -> list[str]:
        """The values of an attribute."""
        return [value for _, attributes in self.tags if (value := attributes.get(attribute)) is not None]

    def sections(self) -> list[str]:
        return [attributes["id"] or "" for tag, attributes in self.tags if tag == "section"]


Built = tuple[str, Run, str, Page]


@pytest.fixture(scope="module", params=EXPECTED)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    run = make_run(tmp_path_factory.mktemp("runs"), request.param)
    path = build(run, SMALL_SECTIONS)
    assert path == run.path("report.html")
    text = path.read_text(encoding="utf-8")
    return request.param, run, text, Page(text)


def test_the_page_has_the_sections_of_its_problem(built: Built) -> None:
    kind, _, _, page = built
    assert page.sections() == ["verdict", "animation", "question", "comparison", *EXPECTED[kind]]
    links = {link for link in page.all("href") if link.startswith("#")}
    assert links == {f"#{part}" for part in [*page.sections()[1:], "again"]}


def test_nothing_comes_from_outside(built: Built) -> None:
    """Nor may it: the page forbids its browser to load anything."""
    _, _, text, page = built
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            assert re.match("data:|#|$", attributes.get(name) or ""), (tag, attributes)
    assert not re.search(r"url\((?!#)|@import|https?://", text)
    assert "default-src 'none'" in page.all("content")[1]


def test_a_page_is_small(built: Built) -> None:
    assert len(built[2].encode()) < LARGEST


def test_every_figure_is_a_svg_file_and_in_the_page(built: Built) -> None:
    """In the page it has the page's colours, and no two marks have one name."""
    kind, run, text, page = built
    files = sorted(run.path("figures").iterdir())
    assert {path.name.split(".")[0].rstrip("-0123456789") for path in files} == set(EXPECTED[kind])
    for path in files:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == len(files)
    colours = {colour for drawing in drawings for colour in re.findall(r"#[0-9a-f]{6}\b", drawing)}
    assert not colours & {colour.lower() for colour in VARIABLES}
    names = page.all("id")
    assert len(set(names)) == len(names)
    assert {link.lstrip("#") for link in page.all("xlink:href") if link.startswith("#")} <= set(names)


def test_every_figure_has_a_description(built: Built) -> None:
    labels = [attributes.get("aria-label") or "" for tag, attributes in built[3].tags if tag == "svg"]
    assert all(len(label) > 15 for label in labels)


def test_the_colours_of_the_page_are_those_of_the_figures() -> None:
    style = (Path(report.__file__).parent / "page.css").read_text()
    light = dict(re.findall(r"(--\w+): (#\w+);", style[: style.index("@media")]))
    named = {variable: colour.lower() for colour, variable in VARIABLES.items() if variable not in ("--ink", "--paper")}
    assert {variable: light[variable] for variable in named} == named


def test_the_tables_numbers_are_the_comparisons(built: Built) -> None:
    _, run, _, page = built
    comparison = run.comparison()
    assert comparison is not None
    names = [NASTY, "POT Sinkhorn", *(name for name in (TRUTH, FLOOR) if name in comparison.rows)]
    columns = [column for column in comparison.columns if column.name != "remark"]
    whole = page.tables[1]  # after the main measures
    assert whole[0] == ["method", *(column.heading for column in columns)]
    for name, row in zip(names, whole[1:], strict=True):
        assert row[0].startswith(name)
        assert row[1:] == [column.cell(comparison.rows[name]) or "–" for column in columns]
    assert set(page.tables[0][0]) < set(whole[0])


def test_names_and_command_come_out_as_they_are(built: Built) -> None:
    _, run, _, page = built
    assert page.text.count(NASTY) >= 4
    assert f"sbridge {NASTY}" in page.text
    assert run.problem.name in page.text


def test_the_users_columns_are_named_everywhere(built: Built) -> None:
    kind, _, text, page = built
    if kind != "gaussian":
        return
    chosen = page.text.partition("The points in time")[2].partition("The question")[0]
    figures = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    moves = next(table for table in page.tables if table[0][0] == "name")
    assert {row[0] for row in moves[1:]} == set(COLUMNS)
    for name in COLUMNS:
        assert chosen.count(name) >= 2 and name.replace("&", "&amp;").replace("<", "&lt;") in figures
    assert not re.search(r"\bc[0-4]\b", page.text)


def test_a_remark_stands_out(built: Built) -> None:
    page = built[3]
    assert page.all("class").count("remark") == 2  # in the table of main measures, and in that of all
    assert page.text.count("plan did not converge") == 3


def test_few_points_are_said_to_be_few(built: Built) -> None:
    assert "n = 60" in built[3].text and "80 points of x0" in built[3].text


def test_the_footer_says_how_to_do_it_again(built: Built) -> None:
    footer = built[3].text.partition("How to make this page again")[2]
    for wanted in ("2.x", "seed", "threads", "torch", '"samples": 80'):
        assert wanted in footer


def test_the_verdict_comes_first(built: Built) -> None:
    kind, _, _, page = built
    first = page.text.partition("The points in time")[0]
    if kind != "planar":
        assert "No certificate: x0 has 60 held-out points" in first and "× the floor" in first
        return
    assert str(CERTIFICATE.verdict).startswith("Do not trust: backward, at least 2.7")
    assert "do not trust" in first and CERTIFICATE.verdict.reason[1:] in first
    assert CERTIFICATE.backward.stated in first and "Finer differences add to it" in first
    for wanted in ("0.317 ± 0.002", "0.61, 0.62", "12.5 ± 0.1", "3,700 points would have shown a blur of 0.1 spreads"):
        assert wanted in page.text


@pytest.mark.parametrize(
    ("missing", "gone"),
    [("history.csv", "training"), ("comparison.json", "comparison"), ("truth.safetensors", "drift_error")],
)
def test_what_a_run_lacks_is_left_out(tmp_path: Path, missing: str, gone: str) -> None:
    run = make_run(tmp_path, "gaussian")
    run.path(missing).unlink()
    page = Page(build(Run.open(run.folder)).read_text(encoding="utf-8"))
    left = ["verdict", "animation", "question", "comparison", *EXPECTED["gaussian"]]
    assert page.sections() == [part for part in left if part != gone and (part, gone) != ("verdict", "comparison")]


def test_a_run_without_any_bridge_still_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path, "line")
    for file in (*run.config["methods"].values(), "history.csv", "comparison.json"):
        run.path(file).unlink()
    assert Page(build(Run.open(run.folder)).read_text(encoding="utf-8")).sections() == ["question"]


# In a browser

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian's package chromium)")

HELPERS = """
const root = document.getElementById("animation");
const canvas = root.querySelector("canvas");
const tip = root.querySelector(".tip");
const at = (name) => root.querySelector(`[name=${name}]`);
const say = (control) => control.dispatchEvent(new Event("input"));
const set = (name, value) => { at(name).value = value; say(at(name)); return canvas.toDataURL(); };
const choose = (name, value) => {
  const one = root.querySelector(`[name=${name}][value="${value}"]`);
  one.checked = true;
  say(one);
  return canvas.toDataURL();
};
const wide = document.documentElement.scrollWidth;
const texts = (table, column) => [...table.tBodies[0].rows].map((row) => row.cells[column].textContent.trim());
"""

ANIMATED = (
    HELPERS
    + """
const slid = [0, 250, 500, 1000].map((value) => set("time", value));
const words = [0, 1000].map((value) => (set("time", value), root.querySelector("output").value));
set("time", 500);
const turned = ["forward", "backward"].map((one) => choose("direction", one));
const switched = ["0", "1", "2"].map((one) => choose("method", one));
choose("method", "0");
const views = ["-1", "3"].map((axis) => set("across", axis));
set("across", "0");
const count = root.querySelector(".count").textContent;
let place = null;
const box = canvas.getBoundingClientRect();
for (let y = 0; y < box.height && !place; y += 20)
  for (let x = 0; x < box.width && !place; x += 20) {
    canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + x, clientY: box.top + y }));
    if (!tip.hidden) place = tip.textContent;
  }
canvas.dispatchEvent(new PointerEvent("pointerleave"));
const left = tip.hidden;
choose("direction", "forward");
set("time", 1000);
const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
window.requestAnimationFrame = (draw) => setTimeout(() => draw(performance.now()), 50);  // without a screen
at("play").click();
await wait(1);
const [midway, playing] = [Number(at("time").value), at("play").textContent];
await wait(6);
const data = JSON.parse(document.getElementById("animation-data").textContent);
const paths = Object.fromEntries(["forward", "backward"].map((one) => {
  const moved = new Paths(data.methods[0][one], data.axes, data.times);
  const value = (axis, k) => Array.from({ length: moved.count }, (_, point) => moved.at(axis, k, point));
  return [one, data.axes.map((axis, a) => [0, data.times.length - 1].map((k) => value(a, k)))];
}));
const distinct = (pictures) => new Set(pictures).size;
return {
  slid: distinct(slid), words, turned: distinct(turned), switched: distinct(switched), views: distinct(views),
  count, place, left, wide, paths, axes: data.axes, midway, playing,
  played: [Number(at("time").value), at("play").textContent],
  background: getComputedStyle(document.body).backgroundColor,
};
"""
)

SORTED = (
    HELPERS
    + """
return [...document.querySelectorAll("table")].map((table) =>
  [...table.tHead.rows[0].cells].map((cell, column) => {
    const click = () => (cell.querySelector("button").click(), [cell.ariaSort, texts(table, column)]);
    return [click(), click()];
  }));
"""
)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("named"), "gaussian")
    build(run)
    return run


@pytest.fixture(scope="module", params=[(1200, False), (500, True)], ids=["wide and light", "narrow and dark"])
def animated(
    request: pytest.FixtureRequest, named: Run, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, bool, Any]:
    width, dark = request.param
    return width, dark, asked(named.path("report.html"), ANIMATED, tmp_path_factory.mktemp("asked"), width, dark)


@in_browser
def test_the_points_move_in_a_browser(animated: tuple[int, bool, Any]) -> None:
    width, dark, found = animated
    pictures = {"slid": 4, "turned": 2, "switched": 3, "views": 2}
    assert {name: found[name] for name in pictures} == pictures
    assert found["words"] == ["t = 0", "t = 1"] and "60 points at t = 0.5, moved backward" in found["count"]
    assert all(f"{name}: " in found["place"] for name in COLUMNS) and found["left"]
    assert 0 < found["midway"] < 1000 and found["playing"] == "❚❚ Pause" and found["played"] == [1000, "▶ Play"]
    assert found["wide"] <= width  # no scrolling sideways
    assert found["background"] == ("rgb(22, 22, 22)" if dark else "rgb(255, 255, 255)")


@in_browser
def test_the_points_of_the_browser_are_those_of_the_run(named: Run, animated: tuple[int, bool, Any]) -> None:
    """To a step of the 16 bits, and to the limits of the axes."""
    found, paths = animated[2], Material(named).paths
    for direction, moved in (("forward", paths.forward), ("backward", paths.backward)):
        for axis, ends in zip(found["axes"], found["paths"][direction], strict=True):
            if axis["name"] in COLUMNS:
                both = moved[NASTY][[0, -1], :, COLUMNS.index(axis["name"])].double()
                expected = both.clamp(axis["low"], axis["high"])
                torch.testing.assert_close(torch.tensor(ends).double(), expected, rtol=0, atol=1e-4)


@in_browser
def test_every_table_is_sorted_by_a_click_on_any_heading(named: Run, tmp_path: Path) -> None:
    tables = asked(named.path("report.html"), SORTED, tmp_path)
    assert len(tables) == len(Page(named.path("report.html").read_text(encoding="utf-8")).tables)
    for (first, rising), (second, falling) in (column for table in tables for column in table):
        assert (first, second) == ("ascending", "descending") and sorted(rising) == sorted(falling)
        for texts, turned in ((rising, False), (falling, True)):
            filled = [text for text in texts if text != "–"]
            assert texts[: len(filled)] == filled  # empty cells are last
            numbers = [_number(text) for text in filled]
            if None not in numbers:
                assert numbers == sorted(numbers, reverse=turned)


def _number(text: str) -> Any:
    """The number that a cell begins with, if it begins with one."""
    found = re.match(r"\(?(-?\d[\d.,]*(?:e[-+]\d+)?)(?:.*\)(e[-+]\d+))?", text)
    return found and float(found[1].replace(",", "") + (found[2] or ""))
