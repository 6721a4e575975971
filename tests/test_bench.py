"""The benchmark: equal results however often it is stopped, failures that spare the rest, tables that add up."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from statistics import mean, stdev
from types import SimpleNamespace
from typing import Any, ClassVar

import polars as pl
import pytest
import torch

from sbridge.baselines.markovian import MarkovianFitting
from sbridge.bench import ENTRIES, SUITES, Case, Cell, Entry, Finite, bench, cells_of, chosen
from sbridge.bench.cells import _peak_memory
from sbridge.bench.figures import DIMENSION, NUMBER_OF_POINTS, TIME, figures, method_curves
from sbridge.bench.folder import Folder
from sbridge.bench.pool import finished
from sbridge.bench.table import of_cells, write_table
from sbridge.bridge import Bridge
from sbridge.cli import main
from sbridge.couplings import Independent
from sbridge.couplings.self_consistent import Simulated
from sbridge.errors import InputError
from sbridge.evaluation import COLUMNS, FLOOR, TRUTH, Effort, column_named
from sbridge.evaluation.table import Row
from sbridge.io import Store
from sbridge.io.settings import describe
from sbridge.networks import ResidualNetwork
from sbridge.problem import Problem
from sbridge.problems.gaussian import ShiftedGaussian
from sbridge.problems.planar import NormalToMoons
from sbridge.solvers.budget import TimedFit, fitted_within
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.regression import Regression
from sbridge.solvers.training import Progress, Training

pytestmark = pytest.mark.slow

EFFORT = Effort(points=50, matched=50, projections=5, steps=5, times=2, starts=5, per_start=5)
CASE = Case("gaussian d=2", ShiftedGaussian(dim=2, samples=60, test_samples=60), 2, EFFORT)
TIMES = ["fit_seconds", "move_seconds", "peak_memory"]


@dataclass(frozen=True)
class Exact:
    """Answers with the truth."""

    name: ClassVar[str] = "exact"

    setting: int = 20

    def solve(self, problem: Problem, random_state: int = 0) -> Bridge:
        assert problem.truth is not None
        return problem.truth


@dataclass(frozen=True)
class Killed:
    """Takes more memory than there is, as the kernel sees it."""

    name: ClassVar[str] = "killed"

    def solve(self, problem: Problem, random_state: int = 0) -> Bridge:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@dataclass(frozen=True)
class Lacking:
    """Needs a package that is not there."""

    name: ClassVar[str] = "lacking"

    def solve(self, problem: Problem, random_state: int = 0) -> Bridge:
        raise InputError("pip install something")


EXACT = Entry("exact", "exact", Exact())
FAILING = [Entry("killed", "killed", Killed()), Entry("lacking", "lacking", Lacking())]


def _cells(*entries: Entry) -> list[Cell]:
    return cells_of([CASE], entries, budgets=[1.0], seeds=[0])


def _untimed(table: pl.DataFrame) -> list[dict[str, Any]]:
    return table.drop(*TIMES, *(f"{name}_spread" for name in TIMES)).to_dicts()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    """A benchmark done in one go, with failures."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, bench(_cells(EXACT, *FAILING), folder, jobs=2)


# Processes and folders


def test_a_resumed_benchmark_equals_an_uninterrupted_one(whole: tuple[Path, pl.DataFrame], tmp_path: Path) -> None:
    """Stopped after the first cell, while the second runs, then done to the end."""
    cells = _cells(EXACT)
    running = Folder(tmp_path).run(cells)
    assert next(running).number == 1
    running.close()
    assert len(list((tmp_path / "cells").iterdir())) == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    resumed = bench(cells, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    done = {cell: rows for cell in cells if (rows := Folder(whole[0]).rows(cell)) is not None}
    assert _untimed(resumed) == _untimed(of_cells(done))


def test_killed_and_failed_methods_are_remarks(whole: tuple[Path, pl.DataFrame]) -> None:
    remarks = dict(whole[1].select("method", "remark").iter_rows())
    assert remarks["killed"] == "failed: its process was killed, probably because memory ran out"
    assert remarks["lacking"] == "failed: pip install something"
    assert remarks["exact"] == ""
    assert whole[1].filter(pl.col("method") == "exact")["path_kl"].item() == 0


def test_only_failed_cells_are_done_again_on_request(
    whole: tuple[Path, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cells = Folder(whole[0]), _cells(EXACT, *FAILING)
    asked: list[Cell] = []

    def nothing(tasks: list[Cell], *_: object) -> Iterator[tuple[Cell, str]]:
        asked.extend(tasks)
        yield from ()

    monkeypatch.setattr("sbridge.bench.folder.finished", nothing)
    assert list(folder.run(cells)) == [] and asked == []
    assert list(folder.run(cells, retry=True)) == []
    assert {cell.entry.key for cell in asked if cell.entry} == {"killed", "lacking"}
    assert len(asked) == 2


def test_other_settings_are_not_mixed(whole: tuple[Path, pl.DataFrame]) -> None:
    changed = [
        (replace(CASE, effort=replace(EFFORT, steps=6)), EXACT, r"case\.effort\.steps \(5 there, 6 now\)"),
        (CASE, Entry("exact", "exact", Exact(21)), r"entry\.solver\.setting \(20 there, 21 now\)"),
    ]
    for case, entry, message in changed:
        with pytest.raises(InputError, match=message):
            bench(cells_of([case], [entry], [1.0], [0]), whole[0])


def test_damaged_cells_are_refused(tmp_path: Path) -> None:
    cell = _cells(EXACT)[0]
    (tmp_path / "cells").mkdir()
    Store(tmp_path / "cells").path(cell.key).write_text("{")
    with pytest.raises(InputError, match="missing or damaged"):
        bench([cell], tmp_path)


def test_a_process_has_its_threads_and_a_memory_of_its_own(tmp_path: Path) -> None:
    ballast = torch.ones(100_000_000)  # 400 MB that the process must not be charged with
    before = dict(os.environ)
    assert list(finished([tmp_path / "facts"], _note_process, jobs=1, threads=3)) == [(tmp_path / "facts", "")]
    threads, ignores_interrupts, memory = json.loads((tmp_path / "facts").read_text())
    assert (threads, ignores_interrupts) == ("3", True)
    assert memory < _peak_memory() - 200
    assert ballast.sum() > 0
    assert dict(os.environ) == before


def _note_process(path: Path) -> None:
    ignores_interrupts = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    path.write_text(json.dumps([os.environ["OMP_NUM_THREADS"], ignores_interrupts, _peak_memory()]))


# Cells and suites


def test_the_first_seed_comes_first_and_references_lead_every_case() -> None:
    other = replace(CASE, name="other")
    cells = cells_of([CASE, other], [EXACT, ENTRIES["pot"], ENTRIES["maxmin"]], [1.0, 2.0], [3, 4])
    assert [cell.seed for cell in cells] == [3] * 10 + [4] * 10
    assert [cell.entry is None for cell in cells[:10]] == [True, False, False, False, False] * 2
    assert [cell.budget for cell in cells[:5]] == [None, None, None, 1.0, 2.0]
    assert len({Store(Path()).path(cell.key) for cell in cells}) == len(cells)


@pytest.mark.parametrize("wrong", [{"seeds": []}, {"budgets": [0.0]}, {"entries": []}, {"threads": 0}])
def test_empty_or_impossible_plans_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        cells_of(**{"cases": [CASE], "entries": [EXACT], "budgets": [1.0], "seeds": [0], **wrong})


def test_unknown_methods_are_refused_with_the_list() -> None:
    with pytest.raises(InputError, match=r"no method 'nothing'; choose from auto, .*pot"):
        chosen(["maxmin", "nothing"])
    assert [entry.key for entry in chosen([])] == list(ENTRIES)


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_suites_list_cases_with_names_and_settings_of_their_own(suite: Callable[[], Any]) -> None:
    cells = cells_of(suite().cases(), chosen([]), [1.0, 120.0], [0])
    assert len({Store(Path()).path(cell.key) for cell in cells}) == len(cells)
    for cell in cells:
        assert json.loads(json.dumps(describe(cell))) == describe(cell)
        assert hash(cell) is not None


def test_the_quick_suite_is_one_small_case_of_each() -> None:
    names = [case.name for case in SUITES["quick"]().cases()]
    known = ["gaussian d=5", "mixture d=2 ε=0.5", "shapes d=2 ε=0.05"]
    assert names == [*known, "normal-8gaussians", "finite d=2 n=1000", "digits"]


def test_cases_know_their_dimension() -> None:
    for case in SUITES["quick"]().cases():
        assert case.source.build().dim == case.dim, case.name


def test_few_points_are_some_of_more_and_the_judge_keeps_all() -> None:
    few, more = Finite(dims=(2,), points=(20, 50)).cases()
    problem = ShiftedGaussian(dim=2, samples=200).build()
    given, larger = few.given(problem, 1), more.given(problem, 1)
    assert torch.equal(given.x0, larger.x0[:20]) and torch.equal(given.x1, larger.x1[:20])
    assert torch.equal(given.test0, problem.test0) and given.truth is problem.truth
    assert not torch.equal(few.given(problem, 2).x0, given.x0)


# Budgets


class Attempt:
    """A training on a clock that only it moves, with the exact bridge for an answer."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.steps, self.begin = machine, 1000, machine.clock.now
        self.shares: list[tuple[float, float]] = []  # of the clock's time since its first round, and of the steps

    def __iter__(self) -> Iterator[Progress]:
        machine, step = self.machine, 0
        generator = torch.Generator().manual_seed(0)
        while step < self.steps:
            step += 3
            machine.clock.now += 0.03 * (1 + machine.noise * float(torch.rand((), generator=generator)))
            machine.clock.now += machine.first_seconds * (step == 3) + machine.rare_seconds * (step % 300 == 0)
            yield Progress(step, self.steps, {})
            self.shares.append((machine.clock.now, step / self.steps))
            if step == machine.ends_at:
                return

    def bridge(self) -> Bridge:
        truth = CASE.source.build().truth
        assert truth is not None
        return truth


@dataclass(frozen=True)
class Machine:
    """A solver that prepares, in its first round too, and now and then does something that takes long."""

    clock: SimpleNamespace
    start_seconds: float = 0.0
    first_seconds: float = 0.0
    rare_seconds: float = 0.0
    noise: float = 0.0
    ends_at: int = 0
    attempts: list[Attempt] = field(default_factory=list)

    def start(self, problem: Problem, random_state: int = 0) -> Attempt:
        self.clock.now += self.start_seconds
        self.attempts.append(Attempt(self))
        return self.attempts[-1]


def _timed_fit(machine: Machine, seconds: float) -> tuple[TimedFit, Attempt]:
    fit = fitted_within(machine, CASE.source.build(), seconds, clock=lambda: machine.clock.now)
    return fit, machine.attempts[-1]


@pytest.mark.parametrize("seconds", [30.0, 120.0])
@pytest.mark.parametrize(
    "settings", [{}, {"start_seconds": 20.0}, {"first_seconds": 9.0}, {"rare_seconds": 2.0}, {"noise": 2.0}], ids=str
)
def test_a_fit_takes_its_budget_and_completes_its_schedule(seconds: float, settings: dict[str, float]) -> None:
    machine = Machine(SimpleNamespace(now=5.0), **settings)
    fit, attempt = _timed_fit(machine, seconds)
    assert seconds - 0.1 <= fit.seconds <= seconds + 0.1 + machine.rare_seconds
    assert fit.steps == attempt.shares[-1][1] * attempt.steps == attempt.steps


@pytest.mark.parametrize("settings", [{}, {"start_seconds": 20.0}, {"first_seconds": 9.0}, {"noise": 2.0}], ids=str)
def test_the_schedule_goes_with_the_clock(settings: dict[str, float]) -> None:
    machine = Machine(SimpleNamespace(now=0.0), **settings)
    _, attempt = _timed_fit(machine, 60.0)
    before = machine.start_seconds + machine.first_seconds
    for now, share in attempt.shares[20:]:
        passed = now - attempt.begin - machine.first_seconds
        assert share == pytest.approx(passed / (60 - before), abs=0.04)


def test_a_training_may_end_by_itself_before_its_budget() -> None:
    fit, _ = _timed_fit(Machine(SimpleNamespace(now=0.0), ends_at=1500), 60.0)
    assert fit.steps == 1500 and fit.seconds == pytest.approx(15.0)


@pytest.mark.parametrize("settings", [{}, {"start_seconds": 20.0}], ids=str)
def test_a_budget_that_is_too_small_still_trains(settings: dict[str, float]) -> None:
    fit, _ = _timed_fit(Machine(SimpleNamespace(now=0.0), **settings), 0.1)
    assert 50 <= fit.steps <= 52


SMALL = {"network": ResidualNetwork(8, 1), "batch": 32}
TRAINED: list[Regression] = [
    MaxMin(**SMALL, group=8, coupling=Independent),
    MarkovianFitting(**SMALL, coupling=partial(Simulated, points=20, steps=5, uses=1)),
]


@pytest.mark.parametrize("solver", TRAINED, ids=lambda solver: solver.name)
def test_real_trainings_follow_a_clock(solver: Regression) -> None:
    """The rate falls to zero and every check and iteration is made, on a clock that runs a second a round."""
    ticks = count()
    started: list[Training] = []

    @dataclass(frozen=True)
    class Watched:
        def start(self, problem: Problem, random_state: int = 0) -> Training:
            started.append(solver.start(problem, random_state))
            return started[-1]

    fit = fitted_within(Watched(), CASE.source.build(), 100.0, clock=lambda: float(next(ticks)))
    training = started[-1]
    assert fit.steps == pytest.approx(99 * solver.round_steps, abs=2 * solver.round_steps)
    assert training.schedule.get_last_lr()[0] < 0.01 * solver.rate
    assert len(training.history) == 50
    if isinstance(training.method.draws.coupling, Simulated):
        assert training.method.draws.coupling.simulations == 19


# Tables and figures


def _result(value: float, error: float = 0.1, remark: str = "") -> Row:
    return {"path_kl": value, "path_kl_se": error, "fit_seconds": 10 * value, "remark": remark}


VALUES = [1.0, 2.0, 6.0]


def _three_seeds() -> dict[Cell, dict[str, Row]]:
    cells = cells_of([CASE], [ENTRIES["pot"]], [1.0], [0, 1, 2])
    found: dict[Cell, dict[str, Row]] = {}
    for cell in cells:
        references: dict[str, Row] = {TRUTH: _result(0.0), FLOOR: {"path_kl": 0.0, "remark": ""}}
        own: dict[str, Row] = {"POT": _result(VALUES[cell.seed], remark="odd" if cell.seed else "")}
        found[cell] = own if cell.entry else references
    return found


def test_tables_have_mean_spread_and_error_over_seeds() -> None:
    table = of_cells(_three_seeds())
    assert table["method"].to_list() == [TRUTH, FLOOR, "POT"]
    row = table.to_dicts()[2]
    assert (row["seeds"], row["case"], row["dim"], row["epsilon"]) == (3, CASE.name, 2, 0.5)
    assert row["path_kl"] == pytest.approx(mean(VALUES))
    assert row["path_kl_spread"] == pytest.approx(stdev(VALUES))
    assert row["path_kl_se"] == pytest.approx(0.1 / 3**0.5)
    assert row["remark"] == "odd"
    assert row["cbw_uvp"] is None


def test_a_single_seed_has_no_spread_but_its_error(tmp_path: Path) -> None:
    single = {cell: rows for cell, rows in _three_seeds().items() if cell.seed == 1}
    table = of_cells(single)
    assert table.to_dicts()[2]["path_kl_spread"] is None
    write_table(Folder(tmp_path), table)
    text = (tmp_path / "table.md").read_text()
    assert "2.0 ± 0.1" in text and "- path KL (nats): KL divergence" in text
    assert pl.read_csv(tmp_path / "table.csv")["path_kl"].to_list() == [0.0, 0.0, 2.0]
    stored = json.loads((tmp_path / "table.json").read_text())
    assert stored["rows"] == table.to_dicts()
    assert [column["name"] for column in stored["columns"]] == [column.name for column in COLUMNS]


def test_figures_are_drawn_for_what_varies() -> None:
    cells = cells_of(Finite().cases(), [ENTRIES["pot"]], [1.0], [0])
    found = {cell: {"POT" if cell.entry else FLOOR: _result(1.0 + (cell.case.points or 0))} for cell in cells}
    table = of_cells(found)
    path_kl = column_named("path_kl")
    by_points, by_dim, by_time = (method_curves(table, path_kl, sweep) for sweep in (NUMBER_OF_POINTS, DIMENSION, TIME))
    assert by_points is not None and by_dim is not None and by_time is None  # one point in a panel says nothing
    assert [ax.get_title() for ax in by_points.axes] == ["mixture, ε = 0.5, d = 2", "mixture, ε = 0.5, d = 16"]
    line = by_points.axes[0].containers[0].lines[0]  # type: ignore[attr-defined]
    assert line.get_xydata().tolist() == [[n, 1.0 + n] for n in (500, 1000, 2000, 4000, 8000)]
    assert {"path_kl_by_points", "path_kl_by_dim"} == set(figures(table))


def test_equal_times_are_not_drawn_apart() -> None:
    cells = cells_of(Finite().cases()[:1], [ENTRIES["maxmin"], ENTRIES["fixed"]], [1.0], [0])
    found = {cell: {str(k): {**_result(1.0), "fit_seconds": 120.0 + 0.01 * k}} for k, cell in enumerate(cells)}
    drawn = method_curves(of_cells(found), column_named("path_kl"), TIME)
    assert drawn is not None
    low, high = drawn.axes[0].get_xlim()
    assert low < 61 and high > 239


def test_without_a_truth_the_ends_are_drawn() -> None:
    case = Case("moons", NormalToMoons(), 2, EFFORT)
    cell = cells_of([case], [ENTRIES["pot"]], [1.0], [0])[1]
    row: Row = {"forward_wasserstein": 1.0, "backward_wasserstein": 2.0, "fit_seconds": 1.0}
    rows = {"POT": row, "GeomLoss": {**row, "fit_seconds": 2.0}}
    drawn = figures(of_cells({cell: rows}))
    assert set(drawn) == {"forward_wasserstein_by_fit_seconds", "backward_wasserstein_by_fit_seconds"}


# The command


@pytest.mark.parametrize("words", [["bench"], *(["bench", name] for name in SUITES)])
def test_the_command_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([*words, "--help"])
    assert left.value.code == 0
    assert "--budget" in capsys.readouterr().out


def test_the_command_names_the_methods_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "quick", "--methods", "nothing"]) == 2
    assert "choose from auto" in capsys.readouterr().err
