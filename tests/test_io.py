"""Data files survive a round trip in every format, bad ones are refused by name, and run folders come whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from sbridge.baselines.sinkhorn import PotSinkhorn
from sbridge.errors import InputError
from sbridge.evaluation import Effort, Evaluator
from sbridge.io import FileProblem, Run, check_vacant, read_points, write_points
from sbridge.problem import Problem

SUFFIXES = [".npy", ".npz", ".csv", ".parquet"]
TABLES = [".csv", ".parquet"]
floats = st.floats(-(2.0**100), 2.0**100, width=32)
points = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=floats)


def cloud(n: int = 50, d: int = 2, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def names(d: int) -> list[str]:
    return [f"gene {i}" for i in range(d)]


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=30)
@given(x=points)
def test_points_survive_a_round_trip(tmp_path_factory: pytest.TempPathFactory, suffix: str, x: NDArray[Any]) -> None:
    """Single precision to the last bit, whatever the format; tables keep the columns' names."""
    path = tmp_path_factory.mktemp("points") / f"x{suffix}"
    write_points(path, x, names(x.shape[1]))
    read = read_points(path)
    assert read.values.dtype == torch.float32
    np.testing.assert_array_equal(read.values.numpy(), x)
    assert suffix not in TABLES or list(read.columns) == names(x.shape[1])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_times_are_the_leading_axis_of_arrays_and_a_column_of_tables(tmp_path: Path, suffix: str) -> None:
    times, path = [0.0, 0.25, 1.0], tmp_path / f"x{suffix}"
    x: NDArray[Any] = np.stack([cloud(5), cloud(5, seed=1), cloud(5, seed=2)])
    write_points(path, x, ["a", "b"], times)
    if suffix in TABLES:
        table = pl.read_csv(path) if suffix == ".csv" else pl.read_parquet(path)
        assert table.columns == ["t", "a", "b"]
        for k, t in enumerate(times):
            at = table.filter(pl.col("t") == t)[:, 1:].to_numpy().astype(np.float32)
            np.testing.assert_array_equal(at, x[k])
    elif suffix == ".npz":
        with np.load(path) as held:
            np.testing.assert_array_equal(held["x"], x)
            np.testing.assert_array_equal(held["t"], times)
    else:
        np.testing.assert_array_equal(np.load(path), x)


@pytest.mark.parametrize("suffix", TABLES)
def test_columns_are_picked_by_name_in_the_order_asked(tmp_path: Path, suffix: str) -> None:
    x = cloud(20, 3)
    write_points(tmp_path / f"x{suffix}", x, ["a", "b", "c"])
    picked = read_points(tmp_path / f"x{suffix}", ("c", "a"))
    np.testing.assert_array_equal(picked.values.numpy(), x[:, [2, 0]])
    assert picked.columns == ("c", "a")


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.uint8])
def test_any_real_numbers_become_single_precision(tmp_path: Path, dtype: type) -> None:
    x: NDArray[Any] = np.arange(20).reshape(10, 2).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    pl.DataFrame(x.astype(float) if dtype == np.float16 else x, schema=["a", "b"]).write_parquet(tmp_path / "x.parquet")
    for name in ("x.npy", "x.parquet"):
        assert torch.equal(read_points(tmp_path / name).values, torch.arange(20.0).view(10, 2))


def test_an_array_of_several_is_named_by_its_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", first=cloud(), second=cloud(seed=1))
    np.testing.assert_array_equal(read_points(f"{tmp_path}/x.npz:second").values.numpy(), cloud(seed=1))


def text(content: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(content)


def array(x: Any) -> Callable[[Path], Any]:
    return lambda path: np.save(path, x)


def with_value(value: float) -> NDArray[Any]:
    x = cloud(20)
    x[[3, 7], 1] = value
    return x


BAD_FILES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "missing": ("x.npy", lambda path: None, "no such file"),
    "empty": ("x.csv", text(""), "is empty"),
    "empty npy": ("x.npy", text(""), "is empty"),
    "no rows": ("x.csv", text("a,b\n"), "holds no points"),
    "no rows in an array": ("x.npy", array(np.empty((0, 2))), "shape (n, d)"),
    "unsupported": ("x.xlsx", text("1"), ".npy, .npz, .csv or .parquet"),
    "no suffix": ("x", text("1"), "without a suffix"),
    "not an array": ("x.npy", text("hello"), "cannot be read"),
    "not an archive": ("x.npz", text("hello"), "cannot be read"),
    "not a table": ("x.parquet", text("hello"), "cannot be read"),
    "pickled": ("x.npy", array(np.array([[{}]], dtype=object)), "cannot be read"),
    "words": ("x.npy", array(np.array([["a", "b"]])), "not numbers"),
    "complex": ("x.npy", array(np.ones((20, 2), complex)), "not numbers"),
    "a line": ("x.npy", array(np.ones(20)), "shape (n, d)"),
    "three axes": ("x.npy", array(np.ones((20, 2, 2))), "shape (n, d)"),
    "NaN": ("x.npy", array(with_value(np.nan)), "2 of 20 rows"),
    "infinite": ("x.npy", array(with_value(np.inf)), "2 of 20 rows"),
    "too large for single precision": ("x.npy", array(np.full((20, 2), 1e39)), "20 of 20 rows"),
    "missing value": ("x.csv", text("a,b\n1,2\n3,\n"), "1 of 2 rows"),
    "NaN in a table": ("x.csv", text("a,b\n1,2\n3,NaN\n"), "1 of 2 rows"),
    "text column": ("x.csv", text("a,kind\n1,B cell\n2,T cell\n"), "column kind holds no numbers"),
    "text far down": ("x.csv", text("a,b\n" + "1,2\n" * 5000 + "1,x\n"), "column b holds no numbers"),
    "no header": ("x.csv", text("1.5,2\n3,4\n"), "has no header"),
    "other separator": ("x.csv", text("a;b\n1;2\n"), "column a;b holds no numbers"),
    "ragged": ("x.csv", text("a,b\n1,2\n1,2,3\n"), "cannot be read"),
    "several arrays": ("x.npz", lambda path: np.savez(path, a=cloud(), b=cloud()), "x.npz:KEY"),
}


@pytest.mark.parametrize(("name", "write", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files_are_refused_by_name(tmp_path: Path, name: str, write: Callable[[Path], Any], message: str) -> None:
    write(tmp_path / name)
    with pytest.raises(InputError) as caught:
        read_points(tmp_path / name)
    assert message in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("source", "columns", "message"),
    [
        ("x.csv", ("a", "z"), "no column z; it has a, b"),
        ("x.npy", ("a",), "--columns is for .csv and .parquet"),
        ("x.npz:y", (), "no array 'y'"),
        ("y.npz:x", (), "no such file"),
    ],
)
def test_what_a_file_does_not_hold_is_refused(
    tmp_path: Path, source: str, columns: tuple[str, ...], message: str
) -> None:
    for suffix in (".csv", ".npy", ".npz"):
        write_points(tmp_path / f"x{suffix}", cloud(), ["a", "b"])
    with pytest.raises(InputError, match=message):
        read_points(f"{tmp_path}/{source}", columns)


@pytest.mark.parametrize("name", ["x.txt", "x"])
def test_files_of_another_kind_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"\.parquet"):
        write_points(tmp_path / name, cloud(), ["a", "b"])


def asked(
    folder: Path, n0: int = 100, n1: int = 80, d1: int = 2, epsilon: float = 0.5, held_out: float = 0.2
) -> FileProblem:
    np.save(folder / "a.npy", cloud(n0))
    np.save(folder / "b.npy", cloud(n1, d1, seed=1))
    return FileProblem(str(folder / "a.npy"), str(folder / "b.npy"), epsilon, held_out=held_out)


def test_the_split_keeps_every_point_once(tmp_path: Path) -> None:
    problem = asked(tmp_path, held_out=0.25).build()
    assert [len(x) for x in (problem.x0, problem.test0, problem.x1, problem.test1)] == [75, 25, 60, 20]
    pairs = ((problem.x0, problem.test0, cloud(100)), (problem.x1, problem.test1, cloud(80, seed=1)))
    for fit, test, x in pairs:
        together = torch.cat([fit, test])
        np.testing.assert_array_equal(np.sort(together.numpy(), axis=0), np.sort(x, axis=0))


def test_the_split_is_always_the_same(tmp_path: Path) -> None:
    one, two = (asked(tmp_path, epsilon=epsilon).build() for epsilon in (0.5, 2.0))
    assert torch.equal(one.test0, two.test0)
    assert torch.equal(one.x1, two.x1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d1": 3}, "2 columns .* 3"),
        ({"n0": 9}, "9 points"),
        ({"n1": 49, "held_out": 0.1}, "keeps 5 apart"),
        ({"held_out": 1.0}, "--held-out"),
        ({"held_out": float("nan")}, "--held-out"),
        ({"epsilon": 0.0}, "epsilon must be a positive number"),
        ({"epsilon": float("inf")}, "epsilon must be a positive number"),
    ],
)
def test_problems_that_cannot_be_posed_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked(tmp_path, **options).build()


CONFIG = {
    "settings": {"epsilon": 0.5, "name": "test"},
    "methods": {"POT Sinkhorn": "pot-sinkhorn.safetensors"},
    "environment": {},
    "command": "sbridge",
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "one", CONFIG, asked(tmp_path).build())


def test_a_run_gives_back_its_problem(run: Run, tmp_path: Path) -> None:
    built, problem = asked(tmp_path).build(), Run.open(run.folder).problem
    for label in ("x0", "x1", "test0", "test1"):
        assert torch.equal(getattr(problem, label), getattr(built, label))
    assert (problem.epsilon, problem.name, problem.truth) == (0.5, "test", None)


def test_a_run_gives_back_its_results(run: Run) -> None:
    solver, again = PotSinkhorn(iterations=10), Run.open(run.folder)
    assert (again.fits(), again.comparison(), again.bridges()) == ({}, None, {})
    bridge = solver.solve(run.problem)
    bridge.save(run.path("pot-sinkhorn.safetensors"))
    run.record(solver.name, fit_seconds=1.5)
    judge = Evaluator.of(run.problem, effort=Effort(points=20, projections=8, steps=10))
    table = judge.table({solver.name: judge.row(bridge)})
    table.to_json(run.path("comparison.json"))
    run.write_history([{"step": 1.0, "loss": 0.5}, {"step": 2.0, "loss": -1e-7}])
    assert again.fits() == {solver.name: {"fit_seconds": 1.5}}
    assert list(again.bridges()) == [solver.name]
    x = run.problem.test0
    assert torch.equal(again.bridges()[solver.name].forward_drift(0.5, x), bridge.forward_drift(0.5, x))
    assert again.comparison() == table
    assert again.history().rows() == [(1.0, 0.5), (2.0, -1e-7)]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


DAMAGES: dict[str, tuple[str, Callable[[Path], Any], Callable[[Run], Any]]] = {
    "no configuration": ("config.json", Path.unlink, lambda run: run.problem),
    "half a configuration": ("config.json", _cut, lambda run: run.problem),
    "another file for a configuration": ("config.json", text("[]"), lambda run: run.problem),
    "no data": ("data.npz", Path.unlink, lambda run: run.problem),
    "half of the data": ("data.npz", _cut, lambda run: run.problem),
    "another file for data": ("data.npz", lambda path: np.savez(path, x=1), lambda run: run.problem),
    "another file for the truth": ("truth.safetensors", text("x"), lambda run: run.problem),
    "half a bridge": ("pot-sinkhorn.safetensors", _cut, Run.bridges),
    "half a history": ("history.csv", text(""), Run.history),
    "another file for the history": ("history.csv", text("a,b\n1,2,3"), Run.history),
    "no history": ("history.csv", lambda path: None, Run.history),
    "half a comparison": ("comparison.json", text('{"problem": '), Run.comparison),
    "half of the fits": ("fits.json", text("{"), Run.fits),
}


@pytest.mark.parametrize(("name", "damage", "use"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_run_is_refused_by_the_file(
    run: Run, name: str, damage: Callable[[Path], Any], use: Callable[[Run], Any]
) -> None:
    PotSinkhorn(iterations=10).solve(run.problem).save(run.path("pot-sinkhorn.safetensors"))
    damage(run.path(name))
    with pytest.raises(InputError, match=name):
        use(Run.open(run.folder))


def test_the_truth_must_be_exact(run: Run) -> None:
    PotSinkhorn(iterations=10).solve(run.problem).save(run.path("truth.safetensors"))
    with pytest.raises(InputError, match="not an exact bridge"):
        _ = Run.open(run.folder).problem


def test_a_run_is_not_put_where_something_lies(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place, message in ((run.folder, "--resume"), (tmp_path, "not empty"), (tmp_path / "file", "is a file")):
        with pytest.raises(InputError, match=message):
            check_vacant(place)
        with pytest.raises(InputError, match=message):
            Run.create(place, CONFIG, run.problem)
    check_vacant(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    assert Run.create(tmp_path / "empty", CONFIG, run.problem).path("config.json").exists()


def test_a_run_cannot_be_made_below_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        Run.create(tmp_path / "file" / "run", CONFIG, run.problem)


def test_a_run_folder_appears_whole(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a crash while a folder is made leaves behind is no run and in nobody's way."""

    def crash(run: Run, name: str, value: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_json", crash)
        with pytest.raises(KeyboardInterrupt):
            Run.create(tmp_path / "two", CONFIG, run.problem)
    assert not (tmp_path / "two").exists()
    again = Run.create(tmp_path / "two", CONFIG, run.problem)
    assert json.loads(again.path("config.json").read_text()) == CONFIG
    assert isinstance(again.problem, Problem)
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", "b.npy", "runs", "two"}
