"""The problem between two files, and run folders, which come whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sbridge.baselines.sinkhorn import PotSinkhorn
from sbridge.errors import InputError
from sbridge.evaluation import Effort, Evaluator
from sbridge.files import read_json
from sbridge.io import FileProblem, Run, check_vacant
from sbridge.problem import Problem


def cloud(n: int = 50, d: int = 2, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def text(content: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(content)


def asked(
    folder: Path, n0: int = 100, n1: int = 80, d1: int = 2, epsilon: float = 0.5, held_out: float = 0.2
) -> FileProblem:
    np.save(folder / "a.npy", cloud(n0))
    np.save(folder / "b.npy", cloud(n1, d1, seed=1))
    return FileProblem(x0=str(folder / "a.npy"), x1=str(folder / "b.npy"), epsilon=epsilon, held_out=held_out)


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
        ({"n1": 49, "held_out": 0.1}, "keeps 5 to evaluate"),
        ({"held_out": 1.0}, "--held-out"),
        ({"held_out": float("nan")}, "--held-out"),
        ({"epsilon": 0.0}, "epsilon must be"),
        ({"epsilon": float("inf")}, "epsilon must be"),
    ],
)
def test_problems_that_cannot_be_posed_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked(tmp_path, **options).build()


CONFIG = {
    "settings": {"epsilon": 0.5, "name": "test", "columns": ["height", "weight"]},
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
    assert problem.columns == ("height", "weight")


def test_a_run_gives_back_its_results(run: Run) -> None:
    solver, again = PotSinkhorn(iterations=10), Run.open(run.folder)
    assert (again.comparison(), again.certificate(), again.bridges()) == (None, None, {})
    bridge = solver.solve(run.problem)
    bridge.save(run.path("pot-sinkhorn.safetensors"))
    assert run.once("fit", lambda: {"fit_seconds": 1.5}) == {"fit_seconds": 1.5}
    judge = Evaluator.of(run.problem, effort=Effort(points=20, projections=8, steps=10))
    table = judge.table({solver.name: judge.row(bridge)})
    table.to_json(run.path("comparison.json"))
    run.write_history([{"step": 1.0, "loss": 0.5}, {"step": 2.0, "loss": -1e-7}])
    assert again.once("fit", dict) == {"fit_seconds": 1.5}
    assert list(again.bridges()) == [solver.name]
    x = run.problem.test0
    assert torch.equal(again.bridges()[solver.name].forward_drift(0.5, x), bridge.forward_drift(0.5, x))
    assert again.comparison() == table
    assert again.history().rows() == [(1.0, 0.5), (2.0, -1e-7)]


def test_a_run_folder_is_no_pattern(tmp_path: Path) -> None:
    run, other = (Run.create(tmp_path / name, CONFIG, asked(tmp_path).build()) for name in ("run[1]", "run1"))
    run.write_history([{"step": 1.0}])
    other.write_history([{"step": 2.0}])
    assert run.history().rows() == [(1.0,)]


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
    "half a certificate": ("certificate.json", text("{"), Run.certificate),
    "another file for the certificate": ("certificate.json", text("[]"), Run.certificate),
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


@pytest.mark.parametrize(("new", "work", "kept"), [(True, None, False), (True, "stages", True), (False, None, True)])
def test_a_new_run_that_is_refused_leaves_nothing(run: Run, new: bool, work: str | None, kept: bool) -> None:
    with pytest.raises(InputError, match="too late"), run.withdrawn_if_refused(new):
        if work:
            run.path(work).mkdir()
        raise InputError("too late")
    assert run.folder.exists() == kept


def test_a_run_cannot_be_made_below_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        Run.create(tmp_path / "file" / "run", CONFIG, run.problem)


def test_a_run_folder_appears_whole(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a crash while a folder is made leaves behind is no run and in nobody's way."""

    def crash(path: Path, value: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sbridge.io.runs.write_json", crash)
        with pytest.raises(KeyboardInterrupt):
            Run.create(tmp_path / "two", CONFIG, run.problem)
    assert not (tmp_path / "two").exists()
    again = Run.create(tmp_path / "two", CONFIG, run.problem)
    assert read_json(again.path("config.json")) == CONFIG
    assert isinstance(again.problem, Problem)
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", "b.npy", "runs", "two"}
