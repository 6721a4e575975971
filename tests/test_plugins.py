"""Methods, networks and problems of another package in the benchmark."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from sbridge.bench import ENTRIES, SUITES, add_plugins
from sbridge.cli import main
from sbridge.errors import InputError

THEIRS = '''
from dataclasses import dataclass
from typing import ClassVar

import torch
from sbridge import Bridge, MaxMin, Problem
from sbridge.bench import Case, Entry
from sbridge.evaluation import Effort
from sbridge.fields import Field
from sbridge.problems.gaussian import ShiftedGaussian


class Constant(Field):
    def __init__(self, value):
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, t, x):
        return self.value.expand_as(x)


@dataclass(frozen=True)
class Shift:
    name: str = "shift"

    def solve(self, problem, random_state=0, listeners=()):
        drift = Constant(problem.x1.mean(0) - problem.x0.mean(0))
        return Bridge(drift, drift, problem.epsilon)


class Affine(torch.nn.Module):
    def __init__(self, dim, spread0, spread1, epsilon):
        super().__init__()
        self.map = torch.nn.Linear(1 + dim, 2 * dim)

    def forward(self, t, x):
        return self.map(torch.cat([t, x], dim=-1))


@dataclass(frozen=True)
class Tiny:
    """One small problem."""

    name: ClassVar[str] = "tiny"
    budget: ClassVar[float] = 0.5

    def cases(self):
        effort = Effort(points=100, matched=100, starts=10, per_start=10, steps=10)
        return [Case("tiny", ShiftedGaussian(dim=2, samples=200, test_samples=100), 2, effort)]


ENTRIES = [Entry("shift", "shift", Shift()), Entry("affine", "affine network", MaxMin(network=Affine))]
SUITES = [Tiny]
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `theirs` that can be imported while the test runs."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "mine.py").write_text(THEIRS)
    (folder / "empty.py").write_text("")
    (folder / "taken.py").write_text(THEIRS.replace('Entry("shift"', 'Entry("pot"'))
    monkeypatch.syspath_prepend(str(tmp_path))
    entries, suites = dict(ENTRIES), dict(SUITES)
    yield tmp_path
    for known, before in ((ENTRIES, entries), (SUITES, suites)):
        known.clear()  # type: ignore[attr-defined]
        known.update(before)  # type: ignore[attr-defined]
    for name in [name for name in sys.modules if name.split(".")[0] == "theirs"]:
        del sys.modules[name]


@pytest.mark.slow
def test_the_bench_takes_methods_networks_and_problems_of_another_package(package: Path) -> None:
    words = ["bench", "tiny", "--plugin", "theirs.mine", "--methods", "shift,affine", "--out", str(package / "out")]
    assert main(words) == 0
    table = pl.read_csv(package / "out" / "table.csv")
    assert {"shift", "affine network"} <= set(table["method"])
    assert table.filter(pl.col("method") == "shift")["remark"].to_list() == [""]


def test_an_installed_package_announces_its_methods(package: Path) -> None:
    """By an entry point in its metadata."""
    metadata = package / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[sbridge.plugins]\nmine = theirs.mine\n")
    add_plugins([])
    assert ENTRIES["affine"].title == "affine network" and SUITES["tiny"].name == "tiny"
    add_plugins(["theirs.mine"])  # twice is once


def test_a_module_may_stand_in_the_current_folder(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(package)])
    with pytest.raises(InputError, match=r"No module named .* in this folder"):
        add_plugins(["theirs.mine"])
    monkeypatch.chdir(package)
    add_plugins(["theirs.mine"])
    assert ENTRIES["affine"].title == "affine network"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("theirs.nothing", "--plugin theirs.nothing: No module named .* PYTHONPATH"),
        ("theirs.empty", "neither ENTRIES nor SUITES"),
        ("theirs.taken", "the name 'pot' is taken"),
    ],
)
def test_a_module_that_is_no_plugin_is_refused(name: str, message: str, package: Path) -> None:
    with pytest.raises(InputError, match=message):
        add_plugins([name])
