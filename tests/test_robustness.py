"""Every bad call gets a sentence, nothing is lost, nobody is let in: a sample of `experiments/robustness.py`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calls import IN_ORDER, Case, answer
from calls.commands import FINISHED, command_cases, finished_run, prepare
from calls.folders import folder_cases
from calls.python import python_cases

from sbridge import (
    Bridge,
    DivergenceError,
    InputError,
    MaxMin,
    MixturePotential,
    PotSinkhorn,
    Problem,
    Regression,
    SchrodingerBridge,
    Simulation,
    SpreadWarning,
)
from sbridge.checks import Checked, Count, Named, checked, checked_value
from sbridge.cli import main
from sbridge.couplings import COUPLINGS
from sbridge.io import Run, owned
from sbridge.problems.gaussian import Gaussian
from sbridge.solvers import Listener, Solver
from sbridge.spread import faults_of_ends

GAUSSIAN = Gaussian(samples=400, test_samples=400).build()
QUICK: list[Solver] = [MaxMin(steps=6, batch=32), Regression(steps=6, batch=32), MixturePotential(1), PotSinkhorn()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data, hostile files and a finished run; it is the current one."""
    folder, before = tmp_path_factory.mktemp("place"), Path.cwd()
    os.chdir(folder)
    prepare()
    finished_run()
    yield folder
    os.chdir(before)


def every(step: int, cases: Callable[[], Iterator[Case]]) -> Any:
    """A sample of the cases: one of so many."""
    found = list(cases())[::step]
    names = [re.sub(" at 0x[0-9a-f]+", "", case.name) for case in found]  # an address differs in every process
    return pytest.mark.parametrize("case", found, ids=names)


@every(3, python_cases)
def test_bad_calls_from_python_get_a_sentence(case: Case, place: Path) -> None:
    assert answer(case) == IN_ORDER


@every(6, command_cases)
def test_bad_command_lines_get_a_sentence_and_leave_nothing(case: Case, place: Path) -> None:
    assert answer(case) == IN_ORDER


@every(12, folder_cases)
def test_damaged_and_hostile_folders_get_a_sentence_and_do_nothing(case: Case, place: Path) -> None:
    assert answer(case) == IN_ORDER


def test_names_of_the_command_line_are_settings_too() -> None:
    made: Any = MaxMin
    assert [made(coupling=name).coupling for name in COUPLINGS] == list(COUPLINGS.values())
    solver = made(interpolant="trigonometric", gamma="parabolic", times="arcsine")
    names = [kind.__name__ for kind in (solver.interpolant, solver.gamma, solver.times)]
    assert names == ["Trigonometric", "Parabolic", "Arcsine"]


def test_numbers_of_numpy_and_torch_are_plain_settings() -> None:
    made: Any = MaxMin
    solver = made(steps=np.int64(40), rate=np.float32(0.5), batch=torch.tensor(64))
    assert (solver.steps, solver.rate, solver.batch) == (40, 0.5, 64)
    assert [type(value) for value in (solver.steps, solver.rate, solver.batch)] == [int, float, int]


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (Count, 0, "size must be at least 1, not 0"),
        (Count, 1.5, "size must be a whole number, not 1.5"),
        (Count, True, "size must be a whole number, not True"),
        (float | None, "x", "size must be a number, not 'x'"),
        (tuple[Count, ...], (1, -1), r"size\[1\] must be at least 1, not -1"),
        (dict[str, int], {"a": "b"}, r"size\['a'\] must be a whole number, not 'b'"),
    ],
)
def test_a_refusal_names_the_place_the_rule_and_the_value(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        checked_value("size", annotation, value)


def test_a_checked_function_checks_what_it_is_given_by_place_and_by_name() -> None:
    assert double(3) == double(size=3) == double(3, 4, 5, x="y") == 6
    for call in (lambda: double(0), lambda: double(size=0), lambda: double(1, more=-1)):
        with pytest.raises(InputError, match="must be at least 1"):
            call()


@checked
def double(size: Count, *others: int, more: Count = 1, **options: str) -> int:
    """Twice the size, so many times."""
    return 2 * size * more


def test_a_named_member_must_be_of_the_family() -> None:
    rule = Named({"text": str}, str)
    assert rule.member("text") is str
    for wrong in ("none", int):
        with pytest.raises(ValueError, match="choose text"):
            rule.member(wrong)


@pytest.mark.parametrize("solver", QUICK, ids=lambda solver: str(solver.name))
def test_every_solver_is_checked(solver: Solver) -> None:
    """A new solver takes part by inheriting from `Checked`, or from a solver that does."""
    assert isinstance(solver, Checked)
    with pytest.raises(InputError, match="random_state must be at least 0"):
        solver.solve(GAUSSIAN, -1)


@pytest.mark.parametrize("solver", QUICK, ids=lambda solver: str(solver.name))
def test_a_fit_leaves_global_settings_as_they_were(solver: Solver) -> None:
    def state() -> list[Any]:
        return [torch.get_rng_state().tolist(), torch.get_num_threads(), np.geterr(), repr(np.random.get_state())]

    before = state()
    SchrodingerBridge(0.2, solver).fit(GAUSSIAN.x0, GAUSSIAN.x1).transport(GAUSSIAN.test0)
    assert state() == before


def test_no_answer_is_nan_without_an_error() -> None:
    bridge = Regression(steps=6, batch=32).solve(GAUSSIAN)
    with pytest.raises(DivergenceError, match="infinite or NaN"):
        bridge.transport(GAUSSIAN.test0, diffusion=1e30)


@dataclass(frozen=True)
class OfOtherData:
    """The bridge of data that are twice as wide."""

    name: str = "of other data"

    def solve(self, problem: Problem, random_state: int = 0, listeners: Sequence[Listener] = ()) -> Bridge:
        assert GAUSSIAN.truth is not None
        return GAUSSIAN.truth


def test_a_fit_whose_paths_end_too_wide_says_so() -> None:
    with pytest.warns(SpreadWarning, match=r"forward paths end [12][.\d]* times as wide as x1 in column c[01]"):
        SchrodingerBridge(0.02, OfOtherData()).fit(GAUSSIAN.x0, GAUSSIAN.x1 / 2)


@pytest.mark.parametrize("epsilon", [1e-3, 0.5, 20.0])
@pytest.mark.parametrize("dim", [1, 32])
def test_a_true_bridge_is_not_warned_of(dim: int, epsilon: float) -> None:
    problem = Gaussian(dim=dim, epsilon=epsilon, samples=1000, test_samples=1000).build()
    assert problem.truth is not None
    assert faults_of_ends(problem.truth, problem) == []


def test_paths_in_several_batches_are_those_of_each_batch() -> None:
    bridge, x = MixturePotential(1).solve(GAUSSIAN), GAUSSIAN.test0
    times, settings = (0.0, 0.4, 1.0), Simulation(8, diffusion=0.0)
    whole = bridge.trajectories(x, times, settings)
    parts = bridge.trajectories(x, times, settings, batch=150)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(bridge.at(x[:150], 0.4, simulation=settings), whole[1, :150])


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    other = f"from sbridge.io import owned; from pathlib import Path; owned(Path({str(tmp_path)!r})).__enter__()"
    with owned(tmp_path):
        done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True)
    assert "another process is working in" in done.stderr
    assert subprocess.run([sys.executable, "-c", other], capture_output=True).returncode == 0


def test_a_run_is_resumed_from_elsewhere_if_the_data_are_the_same(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(place)
    monkeypatch.chdir(tmp_path)
    again = (*FINISHED, "--x1", str(place / "b.npy"), "--resume", "--out", "link/run")
    assert main([*again, "--x0", "link/a.npy"]) == 0
    assert main([*again, "--x0", "link/b.npy"]) == 2


def test_a_file_of_a_newer_version_says_so(place: Path, tmp_path: Path) -> None:
    config = json.loads((place / "run" / "config.json").read_text())
    assert config["format"] == 1
    (tmp_path / "config.json").write_text(json.dumps({**config, "format": 2}))
    with pytest.raises(InputError, match=r"a newer sbridge .* has written it, in format 2: update sbridge"):
        Run.open(tmp_path)


WORKER = """
import os, sys, time
from pathlib import Path
from sbridge.bench.pool import finished

def work(folder):
    Path(folder, "pid").write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    list(finished([sys.argv[1]], work, 1, 1))
"""


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(WORKER)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py"), str(tmp_path)])
    pid = tmp_path / "pid"
    _until(lambda: pid.exists() and pid.read_text() != "")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _until(lambda: not _runs(int(pid.read_text())))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and ") Z " in stat.read_text())  # ended, and waits for somebody to notice


def _until(done: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
