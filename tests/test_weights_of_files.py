"""Weights in a column of a file: read, fitted, kept in a run, and used by every command that reads points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import sbridge
from sbridge.cli import main
from sbridge.errors import InputError
from sbridge.io import Reading, Run, read_points
from sbridge.potentials.solver import MixturePotential
from sbridge.problem import Problem
from sbridge.snapshots import leave_one_out

N, HEAVY = 300, 9.0
FIT = ["--epsilon", "0.5", "--weights", "w"]


def table(seed: int, shift: float = 0.0) -> pl.DataFrame:
    """Normal points whose right half weighs nine times as much, and one point far away of weight zero."""
    x = np.random.default_rng(seed).normal(loc=[shift, 0], size=(N, 2))
    weights = np.where(x[:, 0] > shift, HEAVY, 1.0)
    x[7], weights[7] = [1000, 1000], 0
    return pl.DataFrame({"w": weights, "a": x[:, 0], "b": x[:, 1]})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("weights")
    for k in range(3):
        table(k, 2.0 * k).write_csv(folder / f"x{k}.csv")
    return [folder / f"x{k}.csv" for k in range(3)]


def question(files: list[Path]) -> list[str]:
    return ["--x0", str(files[0]), "--x1", str(files[1]), *FIT]


@pytest.fixture(scope="module")
def run(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "run"
    fit = ["--method", "potential", "--baselines", "none", "--out", str(folder)]
    assert main(["recover", *question(files), *fit]) == 0
    return Run.open(folder)


@pytest.mark.parametrize("kind", [".csv", ".parquet", ".tsv.gz"])
def test_a_column_of_weights_is_no_coordinate(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{kind}"
    x = table(0)
    if kind == ".parquet":
        x.write_parquet(path)
    else:
        x.write_csv(
            path, separator="," if kind == ".csv" else "\t", compression="gzip" if "gz" in kind else "uncompressed"
        )
    found = read_points(path, Reading(weights="w"))
    kept = x.filter(pl.col("w") > 0)
    assert found.columns == ("a", "b") and found.weights is not None
    np.testing.assert_array_equal(found.values, kept["a", "b"].to_numpy())
    np.testing.assert_array_equal(found.weights, kept["w"].to_numpy())
    assert found.carried is not None and found.carried.columns == ["w"] and 7 not in found.numbers
    assert "299 points with weights are worth" in found.remarks[-1] and "1 of weight zero" in found.remarks[-1]


def test_weights_of_cells_stand_in_obs(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    cells = anndata.AnnData(table(0)["a", "b"].to_numpy())
    cells.var_names, cells.obs["w"], cells.obs["kind"] = ["a", "b"], table(0)["w"].to_numpy(), ["u", "v"] * (N // 2)
    cells.write_h5ad(tmp_path / "x.h5ad")
    found = read_points(tmp_path / "x.h5ad", Reading(weights="w", groupby="kind"), group="v")
    assert found.weights is not None and len(found) == N // 2 - 1
    np.testing.assert_array_equal(found.weights, table(0)["w"].to_numpy()[found.numbers])


@pytest.mark.parametrize(
    ("cells", "reading", "message"),
    [
        ({"w": [1, -1, 1]}, Reading(weights="w"), "w has no weight in row 1 counting from 0, and 1 such rows in all"),
        ({"w": ["1", "NA", "1"]}, Reading(weights="w"), "no weight in row 1"),
        ({"w": [0, 0, 0]}, Reading(weights="w"), "all weights in w are zero"),
        ({"w": [1, 1, 1]}, Reading(weights="v"), "there is no column v"),
        ({"w": [1, 1, 1]}, Reading(weights="w", columns=("a", "w")), "cannot be both a coordinate"),
    ],
)
def test_what_is_no_weight_is_refused(cells: dict[str, Any], reading: Reading, message: str, tmp_path: Path) -> None:
    pl.DataFrame({"a": [0.5, 2.0, 3.0], **cells}).write_csv(tmp_path / "x.csv")
    with pytest.raises(InputError, match=message):
        read_points(tmp_path / "x.csv", reading)


def test_an_array_has_no_column_of_weights(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((20, 2)))
    with pytest.raises(InputError, match=r"--weights is for \.csv"):
        read_points(tmp_path / "x.npy", Reading(weights="w"))


def test_points_with_weights_are_fitted_with_them(files: list[Path]) -> None:
    """Without `sample_weight`; which wins where it is given."""
    x0, x1 = (read_points(file, Reading(weights="w")) for file in files[:2])
    models = [
        sbridge.SchrodingerBridge(0.5, MixturePotential(2)).fit(x0, x1, sample_weight=weights)
        for weights in ((None, None), (x0.weights, x1.weights), (torch.ones(len(x0)), torch.ones(len(x1))))
    ]
    own, given, equal = (model.transport(x0.values, random_state=0) for model in models)
    torch.testing.assert_close(own, given, rtol=0, atol=0)
    assert (own - equal).abs().max() > 0.1


def test_a_run_is_fitted_to_weights_and_keeps_them(run: Run, files: list[Path]) -> None:
    """Its held-out points have the weighted law, in equal weights."""
    problem = run.problem
    assert problem.columns == ("a", "b") and problem.weights0 is not None and problem.weights1 is not None
    assert set(problem.weights0.tolist()) == {1.0, HEAVY} and len(problem.weights0) == len(problem.x0) == 239
    assert len(problem.test0) < 60 and (problem.test0[:, 0] > 0).double().mean() > 0.8
    wanted = MixturePotential().solve(problem)
    x = problem.test0
    fitted = run.bridges()["mixture potential"]
    torch.testing.assert_close(fitted.forward_drift(0.3, x), wanted.forward_drift(0.3, x))
    end = fitted.transport(problem.test0, random_state=0).mean(0)
    assert abs(float(end[0]) - 2.6) < 0.3  # the mean of |z| is 0.8, of which the weights leave eight tenths


def test_answers_for_points_with_weights(run: Run, files: list[Path], tmp_path: Path, capsys: Any) -> None:
    """`sample` writes the column again; the cross-entropy and what moves are those of the weighted law."""
    table(1, 2.0)[:60].write_csv(tmp_path / "few.csv")
    words = [str(run.folder), "--input", str(tmp_path / "few.csv"), "--weights", "w"]
    assert main(["sample", *words, "--direction", "backward", "--out", str(tmp_path / "to.csv")]) == 0
    assert pl.read_csv(tmp_path / "to.csv").columns == ["row", "w", "a", "b"]
    capsys.readouterr()
    assert main(["likelihood", *words, "--out", str(tmp_path / "log.csv")]) == 0
    found, weights = pl.read_csv(tmp_path / "log.csv"), table(1, 2.0)[:60].filter(pl.col("w") > 0)["w"]
    wanted = -float((found["log_density"] * weights).sum() / weights.sum())
    assert float(capsys.readouterr().out.split()[1]) == pytest.approx(wanted, abs=0.06)  # one digit of its error
    assert main(["moves", str(run.folder), "--input", str(files[0]), "--weights", "w"]) == 0


def test_other_commands_take_weights(files: list[Path], tmp_path: Path) -> None:
    assert main(["epsilon", *question(files)[:4], *FIT[2:], "--values", "0.5", "--out", str(tmp_path / "eps")]) == 0
    words = [*map(str, files), "--weights", "w", "--epsilon", "0.5", "--method", "potential"]
    assert main(["snapshots", *words, "--out", str(tmp_path / "chain")]) == 0
    legs = pl.read_csv(tmp_path / "chain" / "legs.csv")
    assert (legs["points from"] < 200).all() and (legs["points to"] < 200).all()


def test_a_time_is_left_out_with_weights(files: list[Path], tmp_path: Path) -> None:
    """The figures are those of the same call in Python, where the weights are given apart from the points."""
    words = [*map(str, files), "--epsilon", "0.5", "--method", "potential", "--leave-out", "each", "--weights", "w"]
    assert main(["snapshots", *words, "--out", str(tmp_path / "out")]) == 0
    left = pl.read_csv(tmp_path / "out" / "left_out.csv")
    tables = [table(k, 2.0 * k) for k in range(3)]
    samples, weights = zip(*((one.select("a", "b").to_numpy(), one["w"].to_numpy()) for one in tables), strict=True)
    wanted = leave_one_out(samples, None, 0.5, {"potential": MixturePotential()}, sample_weight=weights)
    assert left["W1"].to_list() == pytest.approx([row["W1"] for row in wanted.rows], rel=1e-6)


def test_a_search_sees_points_as_often_as_their_weights_say(run: Run) -> None:
    tuning = pytest.importorskip("sbridge.tuning.trial")
    found: Problem = tuning.for_search(run.problem, 0)
    assert found.weights == (None, None) and (found.x0[:, 0] > 0).double().mean() > 0.8
