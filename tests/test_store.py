"""Finished work is kept and never mixed with that of other settings; a training continues to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from sbridge.errors import InputError
from sbridge.files import read_json
from sbridge.io import Store, load_training, read_training, save_training
from sbridge.networks import ResidualNetwork
from sbridge.problem import Problem
from sbridge.problems.gaussian import Gaussian
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.regression import Regression

DRAW = partial(max, default=1)


@dataclass(frozen=True)
class Inner:
    rates: tuple[float, ...] = (0.1, 0.2)


@dataclass(frozen=True)
class Outer:
    steps: int
    inner: Inner = Inner()
    draw: Callable[..., Any] = DRAW


def test_a_result_is_kept_with_its_settings_and_environment(tmp_path: Path) -> None:
    store = Store(tmp_path / "made" / "here")
    assert store.get("work", Outer(3)) is None
    store.put("work", Outer(3), {"kl": 0.25, "remark": "ε"})
    assert Store(store.folder).get("work", Outer(3)) == {"kl": 0.25, "remark": "ε"}
    record = read_json(store.path("work"))
    inner = {"class": "Inner", "rates": [0.1, 0.2]}
    assert record["settings"] == {"class": "Outer", "steps": 3, "inner": inner, "draw": {"class": "max", "default": 1}}
    assert record["environment"]["torch"] == version("torch")


def test_work_is_done_once(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def work() -> list[int]:
        calls.append(1)
        return [1, 2]

    assert [store.once("work", {"a": 1}, work) for _ in range(3)] == [[1, 2]] * 3
    assert len(calls) == 1


def test_work_that_fails_leaves_no_record(tmp_path: Path) -> None:
    def work() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).once("work", {}, work)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Outer(4), r"steps \(3 there, 4 now\)"),
        (Outer(3, Inner((0.1, 0.3))), r"inner\.rates\.1 \(0\.2 there, 0\.3 now\)"),
        (Outer(3, Inner((0.1,))), r"inner\.rates\.1 \(0\.2 there, absent now\)"),
        (Outer(3, draw=partial(max, default=2)), r"draw\.default \(1 there, 2 now\)"),
        (Outer(3, draw=max), r"draw \(absent there, max now\)"),
    ],
)
def test_other_settings_are_refused_by_name(settings: Outer, message: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("work", Outer(3), 1)
    for ask in (lambda: store.get("work", settings), lambda: store.once("work", settings, dict)):
        with pytest.raises(InputError, match=rf"work\.json was made with other settings: .*{message}"):
            ask()
    assert store.get("work", Outer(3)) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": {}}', '{"result": 1}'])
def test_a_damaged_record_is_refused_by_its_file(content: str, tmp_path: Path) -> None:
    (tmp_path / "work.json").write_text(content)
    with pytest.raises(InputError, match=r"work\.json is .*damaged"):
        Store(tmp_path).get("work", {})


def test_every_key_is_a_plain_file_name(tmp_path: Path) -> None:
    path = Store(tmp_path).path("../a/b: max–min, ε=0.5--120s")
    assert path == tmp_path / "..-a-b-max-min-eps=0.5--120s.json"


SOLVER = MaxMin(network=ResidualNetwork(8, 1), outer_width=8, steps=20, batch=32, group=8)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Gaussian(dim=1, epsilon=0.5, samples=60, test_samples=20).build()


def test_a_training_continues_to_the_last_bit(problem: Problem, tmp_path: Path) -> None:
    whole, stopped = SOLVER.start(problem), SOLVER.start(problem)
    for _ in whole:
        pass
    for progress in stopped:
        if progress.step == 10:
            break
    save_training(tmp_path / "state", stopped, seconds=1.5)
    continued = SOLVER.start(problem)
    assert load_training(tmp_path / "state", continued) == {"seconds": 1.5}
    assert read_training(tmp_path / "state")["history"] == stopped.history
    for _ in continued:
        pass
    assert continued.history == whole.history
    ours, theirs = whole.weights(), continued.weights()
    assert all(torch.equal(ours[part][name], theirs[part][name]) for part in ours for name in ours[part])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


STATE_DAMAGES: dict[str, Callable[[Path], Any]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut off": _cut,
    "a pickle of code": lambda path: torch.save({"training": SOLVER}, path),
    "another dictionary": lambda path: torch.save({"training": {"step": 3}, "notes": {}}, path),
    "another value": lambda path: torch.save(3, path),
}


@pytest.mark.parametrize("damage", STATE_DAMAGES.values(), ids=STATE_DAMAGES.keys())
def test_a_damaged_state_is_refused_by_its_file(
    damage: Callable[[Path], Any], problem: Problem, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_training(path, SOLVER.start(problem))
    damage(path)
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged; delete it to train from the start"):
        load_training(path, SOLVER.start(problem))


def test_the_state_of_another_solver_is_refused(problem: Problem, tmp_path: Path) -> None:
    save_training(tmp_path / "state", Regression(network=ResidualNetwork(4, 1), batch=32, group=8).start(problem))
    with pytest.raises(InputError, match="is damaged"):
        load_training(tmp_path / "state", SOLVER.start(problem))
