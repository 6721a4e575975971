"""AnnData in memory and in .h5ad files: groups, representations, and answers that go back into a copy."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse

import sbridge
from sbridge.cli import main
from sbridge.errors import InputError
from sbridge.io import Answer, FileProblem, Reading, read_points, write_answer
from sbridge.points import points_of
from sbridge.problems.gaussian import GaussianBridge

pytestmark = pytest.mark.filterwarnings(
    "ignore::sbridge.DataWarning", "ignore::UserWarning:zarr", "ignore::FutureWarning:anndata"
)

GENES = ["ACTB", "CD3E", "LYZ"]


def cells(n: int = 120) -> anndata.AnnData:
    """Three genes, two principal components, and two stages that take turns."""
    rng = np.random.default_rng(0)
    data = anndata.AnnData(
        sparse.csr_matrix(rng.poisson(1.0, size=(n, 3)).astype(np.float32)),
        obs=pd.DataFrame(
            {"stage": pd.Categorical(["day2", "day7"] * (n // 2)), "depth": np.arange(n)},
            index=[f"cell-{k}" for k in range(n)],
        ),
        var=pd.DataFrame(index=GENES),
    )
    data.obsm["X_pca"] = rng.normal(size=(n, 2)).astype(np.float32)
    data.obsm["X_pca"][1::2] += 3
    data.obsm["scores"] = pd.DataFrame(rng.normal(size=(n, 2)), index=data.obs_names, columns=["T", "B"])
    return data


@pytest.fixture
def file(tmp_path: Path) -> Path:
    cells().write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


@pytest.mark.parametrize(
    ("rep", "columns"), [(None, GENES), ("X", GENES), ("X_pca", ["PC1", "PC2"]), ("scores", ["T", "B"])]
)
def test_a_representation_names_its_columns(rep: str | None, columns: list[str], file: Path) -> None:
    held = cells()
    wanted = held.X.toarray() if rep in (None, "X") else np.asarray(held.obsm[rep])
    for found in (points_of(held, rep=rep), read_points(file, Reading(rep=rep))):
        assert found.columns == tuple(columns)
        np.testing.assert_array_equal(found.values.numpy(), wanted.astype(float))


def test_columns_choose_the_representation(file: Path) -> None:
    """A bridge between principal components finds them in the AnnData that it is asked about."""
    found = points_of(cells(), ["PC2", "PC1"])
    np.testing.assert_array_equal(found.values.numpy(), cells().obsm["X_pca"][:, ::-1].astype(float))
    assert read_points(file, Reading(columns=("PC1..PC2",))).columns == ("PC1", "PC2")
    assert read_points(file, Reading(columns=("LYZ",))).columns == ("LYZ",)


def test_two_groups_of_a_file_are_a_problem(file: Path) -> None:
    reading = Reading(groupby="stage", rep="X_pca")
    problem = FileProblem(x0=str(file), epsilon=1.0, reading=reading, source="day2", target="day7").build()
    assert (problem.name, problem.columns) == ("day2 → day7", ("PC1", "PC2"))
    assert torch.cat([problem.x0, problem.test0]).mean() < 1 and torch.cat([problem.x1, problem.test1]).mean() > 2


def exact(columns: tuple[str, ...]) -> GaussianBridge:
    zero, one = torch.zeros(len(columns)), torch.eye(len(columns))
    bridge = GaussianBridge(zero, one, zero + 3, one, 0.5)
    bridge.columns = columns
    return bridge


def test_an_annotated_table_is_answered_with_a_copy_that_has_the_answer() -> None:
    asked, bridge = cells(), exact(("PC1", "PC2"))
    wanted = bridge.trajectories(asked.obsm["X_pca"], [0, 0.5, 1], random_state=0)
    moved, paths = bridge.transport(asked, random_state=0), bridge.trajectories(asked, [0, 0.5, 1], random_state=0)
    np.testing.assert_allclose(moved.obsm["X_pca_t1"], wanted[2], rtol=1e-6)
    np.testing.assert_allclose(paths.obsm["X_pca_t0.5"], wanted[1], rtol=1e-6)
    assert "X_pca_t1" not in asked.obsm and list(moved.obs_names) == list(asked.obs_names)
    drift = bridge.forward_drift(0.5, asked).obsm["X_pca_forward_drift"]
    np.testing.assert_allclose(drift, bridge.forward_drift(0.5, asked.obsm["X_pca"]), rtol=1e-6)
    assert bridge.log_prob(asked, base=asked.obsm["X_pca"]).value.shape == (120,)


def test_genes_are_answered_in_a_layer_where_all_are_moved() -> None:
    whole, some = exact(tuple(GENES)), exact(("LYZ", "ACTB"))
    assert whole.transport(cells(), random_state=0).layers["t1"].shape == (120, 3)
    assert some.transport(cells(), "backward", random_state=0).obsm["X_t0"].shape == (120, 2)


def test_the_estimator_takes_cells() -> None:
    data = cells()
    start, end = (points_of(data[data.obs.stage == stage], rep="X_pca") for stage in ("day2", "day7"))
    model = sbridge.SchrodingerBridge(solver=sbridge.MixturePotential()).fit(start, end)
    assert list(model.feature_names_in_) == ["PC1", "PC2"]
    assert model.transport(data[data.obs.stage == "day2"].copy()).obsm["X_pca_t1"].mean() == pytest.approx(3, abs=0.5)
    assert model.transport(start, random_state=0).obsm["X_pca_t1"].shape == (60, 2)


@pytest.mark.slow
def test_the_command_line_goes_from_cells_to_cells(file: Path, tmp_path: Path) -> None:
    """A run between two groups, and its answers as .h5ad, table and array."""
    run, groups = str(tmp_path / "run"), ["--groupby", "stage", "--source", "day2", "--target", "day7"]
    words = ["recover", "--x0", str(file), *groups, "--rep", "X_pca", "--epsilon", "0.5", "--steps", "30", "--out", run]
    assert main(words) == 0
    sample = ["sample", run, "--input", str(file), "--groupby", "stage", "--group", "day2", "--out"]
    assert main([*sample, str(tmp_path / "moved.h5ad")]) == 0
    moved = anndata.read_h5ad(tmp_path / "moved.h5ad")
    assert list(moved.obs_names) == [f"cell-{k}" for k in range(0, 120, 2)]
    assert main([*sample, str(tmp_path / "moved.csv"), "--times", "0,1"]) == 0
    table = pl.read_csv(tmp_path / "moved.csv")
    assert table.columns == ["t", "row", "obs_names", "stage", "depth", "PC1", "PC2"]
    assert table["row"].to_list() == list(range(0, 120, 2)) * 2
    np.testing.assert_allclose(table[60:, -2:].to_numpy(), moved.obsm["X_pca_t1"], rtol=1e-6)
    assert main([*sample, str(tmp_path / "paths.h5ad"), "--times", "0.5,1"]) == 0
    assert {"X_pca_t0.5", "X_pca_t1"} <= set(anndata.read_h5ad(tmp_path / "paths.h5ad").obsm)
    likelihood = ["likelihood", run, "--input", str(file), "--out", str(tmp_path / "log.h5ad")]
    assert main(likelihood) == 0
    assert np.all(np.isfinite(anndata.read_h5ad(tmp_path / "log.h5ad").obs["log_density"]))


def test_missing_values_in_cells_are_left_out_on_request(tmp_path: Path) -> None:
    data = cells()
    data.obsm["X_pca"][3] = np.nan
    data.write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(InputError, match="row 3 counting from 0, in column PC1"):
        read_points(tmp_path / "x.h5ad", Reading(rep="X_pca"))
    found = read_points(tmp_path / "x.h5ad", Reading(rep="X_pca", drop_missing=True))
    write_answer(tmp_path / "y.h5ad", Answer(found.values.numpy(), found.columns or (), origin=found, name="t1"))
    written = anndata.read_h5ad(tmp_path / "y.h5ad")
    assert len(found) == 119 and "cell-3" not in written.obs_names
    np.testing.assert_array_equal(written.obsm["X_pca_t1"], written.obsm["X_pca"].astype(float))


@pytest.mark.parametrize(
    ("reading", "group", "message"),
    [
        (Reading(rep="X_umap"), None, "no representation 'X_umap'; it has X, X_pca, scores"),
        (Reading(columns=("PC1", "LYZ")), None, "no representation with the columns .* PC1, LYZ; it has X .ACTB"),
        (Reading(rep="X_pca", columns=("LYZ",)), None, "no column LYZ"),
        (Reading(groupby="age"), "old", "no column age"),
        (Reading(groupby="stage"), "day9", "no group 'day9' in stage; it has day2, day7"),
        (Reading(id="stage"), None, "--id is for .csv"),
    ],
)
def test_what_cells_do_not_hold_is_refused(file: Path, reading: Reading, group: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_points(file, reading, group=group)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.h5ad").write_text("hello")
    with pytest.raises(InputError, match=r"x\.h5ad cannot be read"):
        read_points(tmp_path / "x.h5ad")


def test_a_missing_package_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "anndata":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="pip install anndata"):
        read_points(file)
