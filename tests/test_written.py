"""Reports and tables in Python: what the shell makes, from bridges that were fitted here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import sbridge
from sbridge.cli import main
from sbridge.errors import InputError
from sbridge.evaluation import FLOOR
from sbridge.io import Run
from sbridge.problem import Problem
from sbridge.tables import html

NETWORK = sbridge.ResidualNetwork(16, 2)


def cloud(n: int, seed: int, shift: float = 0.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n, 2)) + shift


@pytest.fixture(scope="module")
def model() -> sbridge.SchrodingerBridge:
    solver = sbridge.Regression(steps=30, network=NETWORK, batch=128, group=32, coupling=sbridge.Independent)
    return sbridge.SchrodingerBridge(epsilon=0.3, solver=solver).fit(cloud(300, 0), cloud(300, 1, 2.0))


def test_a_fit_writes_the_page_of_a_run(model: sbridge.SchrodingerBridge, tmp_path: Path) -> None:
    """The other commands take its folder."""
    test0, test1 = cloud(120, 2), cloud(120, 3, 2.0)
    page = model.report(tmp_path / "run", test0, test1)
    assert page == tmp_path / "run" / "report.html"
    shown = page.read_text(encoding="utf-8")
    assert all(f'id="{part}"' in shown for part in ("question", "comparison", "training", "movement", "certificate"))
    run = Run.open(tmp_path / "run")
    assert run.history().to_dicts() == model.history_
    np.testing.assert_array_equal(run.problem.test0.numpy(), test0)
    np.save(tmp_path / "new.npy", test0)
    assert (
        main(["sample", str(run.folder), "--input", str(tmp_path / "new.npy"), "--out", str(tmp_path / "to.npy")]) == 0
    )
    assert main(["compare", str(run.folder)]) == 0


def test_several_bridges_stand_side_by_side(model: sbridge.SchrodingerBridge, tmp_path: Path) -> None:
    x0, x1, test0, test1 = (torch.from_numpy(cloud(200, seed, 2.0 * (seed % 2))) for seed in range(4))
    problem = Problem(x0, x1, 0.3, test0, test1, "clouds")
    potential = sbridge.MixturePotential(1).solve(problem)
    sbridge.write_report({"potential": potential, "regression": model}, problem, tmp_path / "run")
    comparison = Run.open(tmp_path / "run").comparison()
    assert comparison is not None and list(comparison.rows) == ["potential", "regression", FLOOR]
    assert list(Run.open(tmp_path / "run").bridges()) == ["potential", "regression"]
    with pytest.raises(InputError, match="holds a run already"):
        sbridge.write_report({"potential": potential}, problem, tmp_path / "run")
    with pytest.raises(InputError, match="at least one bridge"):
        sbridge.write_report({}, problem, tmp_path / "other")
    table = comparison._repr_html_()
    assert "<caption>clouds, d = 2, ε = 0.3</caption>" in table
    assert all(f"<td>{name}</td>" in table for name in comparison.rows)


def test_a_standardised_fit_has_a_report_too(tmp_path: Path) -> None:
    scales = np.array([1, 1000])
    model = sbridge.SchrodingerBridge(epsilon=0.1, solver=sbridge.MixturePotential(1), standardise="columns")
    model.fit(cloud(300, 0) * scales, cloud(300, 1, 2.0) * scales)
    page = model.report(tmp_path / "run", cloud(120, 2) * scales, cloud(120, 3, 2.0) * scales)
    assert "was divided by its standard deviation" in page.read_text(encoding="utf-8")
    moved = Run.open(tmp_path / "run").bridges()["mixture potential"].transport(cloud(120, 2) * scales)
    np.testing.assert_allclose(moved.mean(0) / scales, [2, 2], atol=0.4)


def test_a_notebook_shows_a_bridge_as_a_table(model: sbridge.SchrodingerBridge) -> None:
    shown = model.bridge_._repr_html_()
    assert shown.startswith("<table><caption>Bridge</caption>") and "<td>0.3</td>" in shown and len(shown) < 500


def test_a_table_in_html_escapes_its_cells() -> None:
    assert html([{"a<b": "x&y", "n": 1}]) == (
        "<table><thead><tr><th>a&lt;b</th><th>n</th></tr></thead><tbody><tr><td>x&amp;y</td><td>1</td></tr></tbody></table>"
    )
