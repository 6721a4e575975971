"""The command line: a whole run, the same bridge after any interruption, and clear messages for bad input."""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from sbridge.bridge import Bridge, Direction
from sbridge.cli import main
from sbridge.cli.recover import Recover
from sbridge.couplings import Independent
from sbridge.evaluation import FLOOR, Comparison
from sbridge.io import Run
from sbridge.networks import ResidualNetwork
from sbridge.problems import PROBLEMS
from sbridge.solvers.maxmin import MaxMin

pytestmark = pytest.mark.slow

METHODS = ["max–min", "POT Sinkhorn", "GeomLoss Sinkhorn"]
STEPS = 60


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*words: object) -> Outcome:
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


def cloud(n: int, seed: int) -> NDArray[Any]:
    """Points (n, 2) around (seed, seed)."""
    return (np.random.default_rng(seed).normal(size=(n, 2)) + seed).astype(np.float32)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    np.save(folder / "a.npy", cloud(100, 0))
    pl.DataFrame(cloud(80, 1), schema=["x", "y"]).write_csv(folder / "b.csv")
    return folder


@pytest.fixture(scope="session")
def question(data: Path) -> list[str]:
    """The options of a run of a second."""
    options = ["--x0", data / "a.npy", "--x1", data / "b.csv", "--epsilon", 0.5, "--method", "maxmin"]
    options += ["--steps", STEPS]
    return [str(option) for option in options]


@pytest.fixture(scope="session")
def whole(question: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The folder and the words of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = main(["recover", *question, "--out", str(folder)])
    return folder, Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def finished(whole: tuple[Path, Outcome]) -> Path:
    return whole[0]


def results(folder: Path) -> dict[str, Any]:
    """All that a run found, without the times it took."""
    comparison = Comparison.read(folder / "comparison.json")
    rows = {
        name: {key: value for key, value in row.items() if not key.endswith("_seconds")}
        for name, row in comparison.rows.items()
    }
    return {
        **{path.name: path.read_bytes() for path in folder.glob("*.safetensors")},
        "history": (folder / "history.csv").read_text(),
        "rows": rows,
    }


# A whole run


def test_a_run_leaves_everything(finished: Path, question: list[str]) -> None:
    files = {"config.json", "data.npz", "bridge.safetensors", "pot-sinkhorn.safetensors"}
    files |= {"geomloss-sinkhorn.safetensors", "stages", "history.csv", "comparison.csv", "comparison.json"}
    files |= {"figures", "report.html", "certificate.json", ".lock"}
    assert {path.name for path in finished.iterdir()} == files
    assert list((finished / "figures").glob("*.svg"))
    run = Run.open(finished)
    comparison = run.comparison()
    assert comparison is not None
    assert list(comparison.rows) == [*METHODS, FLOOR]
    assert list(run.bridges()) == METHODS
    assert run.history()["step"].to_list()[-1] == STEPS
    assert all(float(comparison.rows[name]["fit_seconds"]) > 0 for name in METHODS)


def test_a_run_can_be_repeated_from_its_configuration(finished: Path, question: list[str]) -> None:
    config = json.loads((finished / "config.json").read_text())
    assert config["command"] == shlex.join(["sbridge", "recover", *question, "--out", str(finished)])
    settings = config["settings"]
    assert (settings["seed"], settings["threads"], settings["device"], settings["epsilon"]) == (0, 1, "cpu", 0.5)
    assert settings["solver"]["steps"] == STEPS
    assert settings["problem"]["x0"] == question[1]
    assert [one["class"] for one in settings["baselines"]] == ["PotSinkhorn", "GeomlossSinkhorn"]
    assert {"python", "torch", "numpy", "pot", "geomloss", "sbridge"} <= config["environment"].keys()
    assert config["environment"]["torch"] == torch.__version__


def test_the_held_out_points_take_no_part_in_the_fit(finished: Path) -> None:
    problem = Run.open(finished).problem
    together = torch.cat([problem.x0, problem.test0])
    assert (len(problem.x0), len(problem.test0), len(problem.x1), len(problem.test1)) == (80, 20, 64, 16)
    assert len(np.unique(together.numpy(), axis=0)) == 100


def test_a_run_ends_with_the_table_and_the_place_of_the_report(whole: tuple[Path, Outcome]) -> None:
    folder, asked = whole
    assert asked.code == 0
    assert asked.out.rstrip().endswith(f"report: {folder / 'report.html'}")
    assert all(name in asked.out for name in [*METHODS, "floor", "energy distance"])


def test_progress_is_plain_and_sparse_where_there_is_no_terminal(whole: tuple[Path, Outcome]) -> None:
    _, asked = whole
    assert "\x1b" not in asked.out + asked.err
    stages = [f"{name}: solving" for name in METHODS[1:]]
    stages += [f"{name}: evaluating on held-out points" for name in METHODS]
    lines = [line for line in asked.err.splitlines() if not line.startswith("max–min: step")]
    judging = ["evaluating two true samples", "measuring the distance to the Schrödinger bridge", "writing the report"]
    begin = lines.index("[1/9] max–min: fitting")
    shown = [re.sub(r",( at most)? about \d+ s$", "", stage) for stage in lines[begin:] if stage.startswith("[")]
    assert shown == [f"[{k}/9] {stage}" for k, stage in enumerate(["max–min: fitting", *stages, *judging], 1)]
    assert "no certificate: x0 has 20 held-out points; a certificate needs at least 100 a side" in lines
    assert "at most about" in lines[begin + 1] and "about" in lines[begin + 4]
    table, counts = lines[1 : begin - 1], lines[begin - 1]
    assert [line.split()[0] for line in table] == ["column", "x", "y"]
    assert counts.startswith("x0: 80 rows; x1: 64 rows. √(2ε) = 1; ")


def test_a_second_run_is_the_same(finished: Path, question: list[str], tmp_path: Path, call: Call) -> None:
    """The options' order doesn't matter either."""
    assert question[-2] == "--steps"
    with stop_when((tmp_path / "comparison.json").exists, signal.SIGTERM):
        call("recover", "--out", tmp_path, "--steps", STEPS, *question[:-2])
    assert results(tmp_path) == results(finished)


@pytest.mark.parametrize(
    ("options", "solver"),
    [
        (["--learn", "none"], {"class": "Regression"}),
        (["--learn", "gamma"], {"class": "MaxMin", "learn_mean": False, "learn_gamma": True}),
        (["--learn", "both"], {"class": "MaxMin", "learn_mean": True, "learn_gamma": True}),
        (["--coupling", "independent"], {"class": "MaxMin", "coupling": "Independent"}),
        (["--baselines", "none"], {"class": "MaxMin"}),
        (["--baselines", "blockwise,pot"], {"class": "MaxMin"}),
    ],
)
def test_options_choose_the_solver(
    options: list[str], solver: dict[str, Any], question: list[str], tmp_path: Path, call: Call
) -> None:
    with stop_when((tmp_path / "checkpoint.pt").exists, signal.SIGTERM):
        call("recover", *question, "--out", tmp_path, *options, "--checkpoint-seconds", 0)
    settings = Run.open(tmp_path).config["settings"]
    assert solver.items() <= settings["solver"].items()
    chosen = {"--baselines none": [], "--baselines blockwise,pot": ["BlockwiseSinkhorn", "PotSinkhorn"]}
    wanted = chosen.get(" ".join(options), ["PotSinkhorn", "GeomlossSinkhorn"])
    assert [one["class"] for one in settings["baselines"]] == wanted


# Interruptions


@contextmanager
def stop_when(holds: Callable[[], bool], number: signal.Signals) -> Iterator[None]:
    """Sends this process a signal once something holds."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            if holds():
                os.kill(os.getpid(), number)
                return

    thread = threading.Thread(target=watch)
    with warnings.catch_warnings():
        # Where a signal comes while a file is being opened, it is left to the garbage collector, which warns of it.
        warnings.simplefilter("ignore", ResourceWarning)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            gc.collect()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_fit_and_it_goes_on_to_the_same_bridge(
    number: signal.Signals, code: int, finished: Path, question: list[str], tmp_path: Path, call: Call
) -> None:
    words = ["recover", *question, "--out", str(tmp_path), "--checkpoint-seconds", "0"]
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_when((tmp_path / "checkpoint.pt").exists, number):
        stopped = call(*words)
    assert stopped.code == code
    again = stopped.err.rstrip().rpartition("go on with: ")[2]
    assert again == f"sbridge {shlex.join(words)} --resume"
    assert not (tmp_path / "bridge.safetensors").exists()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    with stop_when(Run.open(tmp_path).stages.path(f"fit {METHODS[0]}").exists, number):
        assert call(*shlex.split(again)[1:]).code == code  # the later stages stop as well
    same_fit(tmp_path, finished)


def same_fit(one: Path, other: Path) -> None:
    for name in ("bridge.safetensors", "history.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_killed_run_goes_on_to_the_same_bridge(
    finished: Path, question: list[str], tmp_path: Path, call: Call
) -> None:
    words = ["recover", *question, "--out", str(tmp_path), "--checkpoint-seconds", "0"]
    process = subprocess.Popen([sys.executable, "-m", "sbridge", *words], stderr=subprocess.DEVNULL)
    for _ in checkpoints(tmp_path / "checkpoint.pt", 5):
        assert process.poll() is None
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "bridge.safetensors").exists()
    with stop_when((tmp_path / "pot-sinkhorn.safetensors").exists, signal.SIGTERM):
        asked = call(*words, "--resume")
    assert 0 < int(asked.err.partition("going on from step ")[2].split()[0]) < STEPS
    same_fit(tmp_path, finished)
    assert not (tmp_path / "checkpoint.pt").exists()


def checkpoints(path: Path, count: int) -> Iterator[None]:
    """Waits for a file to be written that many times."""
    seen: set[int] = set()
    deadline = time.monotonic() + 60
    while len(seen) < count:
        assert time.monotonic() < deadline, "no checkpoints"
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.001)
        yield


def test_finished_stages_are_not_repeated(finished: Path, question: list[str], tmp_path: Path, call: Call) -> None:
    """A run that lost its second baseline and all judging but the first method's keeps the rest."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    lost = [f"fit {METHODS[2]}", f"row {METHODS[1]}", f"row {METHODS[2]}", "references"]
    for stage in lost:
        Run.open(tmp_path).stages.path(stage).unlink()
    for name in ("comparison.csv", "comparison.json", "geomloss-sinkhorn.safetensors"):
        (tmp_path / name).unlink()
    kept = {name: (tmp_path / name).stat().st_mtime_ns for name in ("bridge.safetensors", "pot-sinkhorn.safetensors")}
    with stop_when((tmp_path / "comparison.json").exists, signal.SIGTERM):
        asked = call("recover", *question, "--out", tmp_path, "--resume")
    judged = [f"{name}: evaluating on held-out points" for name in METHODS[1:]]
    wanted = [f"{METHODS[2]}: solving", *judged, "evaluating two true samples"]
    note, *lines = asked.err.splitlines()
    shown = [re.sub(r"^\[\d/9\] |,( at most)? about \d+ s$", "", line) for line in lines]
    assert "a.npy does not name its columns" in note and shown[: len(wanted)] == wanted
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in kept} == kept
    assert results(tmp_path) == results(finished)


@pytest.mark.usefixtures("little_care")
def test_a_run_with_points_enough_is_certified_once(
    finished: Path, question: list[str], tmp_path: Path, call: Call
) -> None:
    """A finished run that lost its certificate and has more held-out points than it had."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "certificate.json").unlink()
    with np.load(tmp_path / "data.npz") as points:
        more = {name: points[name] for name in ("x0", "x1")}
    np.savez(tmp_path / "data.npz", **more, test0=cloud(120, 2).astype(float), test1=cloud(120, 3).astype(float))
    asked = call("recover", *question, "--out", tmp_path, "--resume")
    stages = ["[8/9] measuring the distance to the Schrödinger bridge", "[9/9] writing the report"]
    shown = [line for line in asked.err.splitlines() if not line.startswith("certificate: step")]
    assert (asked.code, shown[1:]) == (0, stages)  # the first line is about the columns
    found = Run.open(tmp_path).certificate()
    bridge = Bridge.load(tmp_path / "bridge.safetensors")
    assert found == bridge.certificate(cloud(120, 2), cloud(120, 3), random_state=0)
    assert "within" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(call("recover", *question, "--out", tmp_path, "--resume").err.splitlines()) == 1


def test_nothing_is_left_to_do_for_a_finished_run(finished: Path, question: list[str], call: Call) -> None:
    asked = call("recover", *question, "--out", finished, "--resume")
    (note,) = asked.err.splitlines()
    assert asked.code == 0 and "a.npy does not name its columns" in note
    assert "energy distance" in asked.out


AUTO = ["--steps", "40", "--baselines", "none"]


@pytest.fixture(scope="session")
def by_auto(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run by the default method."""
    folder = tmp_path_factory.mktemp("runs") / "auto"
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as err:
        assert main(["recover", *_files(data), *AUTO, "--out", str(folder)]) == 0
    assert "nats behind, forward" in err.getvalue()
    return folder


def _files(data: Path) -> list[str]:
    return ["--x0", str(data / "a.npy"), "--x1", str(data / "b.csv"), "--epsilon", "0.5"]


def test_the_default_method_says_what_it_tried(by_auto: Path) -> None:
    run = Run.open(by_auto)
    found = run.tried()
    assert found is not None
    assert found["name"].to_list()[:2] == ["no drift", "mixture potential"]
    assert run.config["settings"]["solver"]["class"] == "Auto"
    page = (by_auto / "report.html").read_text()
    assert "What was tried" in page and "mixture potential" in page


def test_a_potential_is_a_method(data: Path, tmp_path: Path, call: Call) -> None:
    words = ["recover", *_files(data), "--method", "potential", "--baselines", "none", "--out", tmp_path]
    assert call(*words).code == 0
    run = Run.open(tmp_path)
    assert list(run.config["methods"]) == ["mixture potential"]
    assert not run.path("history.csv").exists() and run.tried() is None
    assert call(*words, "--resume").code == 0


@pytest.mark.parametrize("option", [["--steps", "7"], ["--budget", "3s"], ["--prior", "potential"]])
def test_a_potential_takes_no_option_of_networks(option: list[str], data: Path, tmp_path: Path, call: Call) -> None:
    asked = call("recover", *_files(data), "--method", "potential", *option, "--out", tmp_path / "run")
    refused(asked, f"{option[0]} is for networks, and --method potential has none: leave it out")


def test_a_budget_is_a_time(data: Path, tmp_path: Path, call: Call) -> None:
    refused(call("recover", *_files(data), "--budget", "soon", "--out", tmp_path / "run"), "'soon' is no time")


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the content of a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_diverged_fit_keeps_its_last_good_bridge(
    question: list[str], tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a rate far too high."""
    hot = MaxMin(coupling=Independent, steps=600, batch=128, group=32, rate=30.0, network=ResidualNetwork(16, 2))
    monkeypatch.setattr(Recover, "_solver", lambda self: hot)
    asked = call("recover", *question, "--out", tmp_path)
    assert asked.code == 1
    assert str(tmp_path / "bridge.safetensors") in asked.err
    x = torch.zeros(1, 2)
    assert Bridge.load(tmp_path / "bridge.safetensors").forward_drift(0.5, x).isfinite().all()
    assert not (tmp_path / "comparison.json").exists()


# New points


@pytest.mark.parametrize(("direction", "start", "end"), [("forward", 0, 1), ("backward", 1, 0)])
def test_points_move_to_the_other_end(
    direction: Direction, start: int, end: int, finished: Path, tmp_path: Path, call: Call
) -> None:
    """Moved points are what the run's bridge makes of them, by the same numbers."""
    x = cloud(500, start)
    np.save(tmp_path / "new.npy", x)
    words = ["--input", tmp_path / "new.npy", "--direction", direction, "--out", tmp_path / "to.npy"]
    assert call("sample", finished, *words).code == 0
    moved = np.load(tmp_path / "to.npy")
    bridge = Bridge.load(finished / "bridge.safetensors")
    np.testing.assert_array_equal(moved, bridge.transport(x.astype(float), direction, random_state=0))
    assert np.abs(moved.mean(0) - end).max() < np.abs(x.mean(0) - end).min()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet"])
@pytest.mark.parametrize(("direction", "times"), [("forward", "0,.25,1"), ("backward", "0.75,0")])
def test_points_at_intermediate_times(
    suffix: str, direction: str, times: str, finished: Path, data: Path, tmp_path: Path, call: Call
) -> None:
    """A leading time axis in arrays, a column t and the input's names in tables; the times need not hold the start."""
    path, asked_times = tmp_path / f"to{suffix}", [float(t) for t in times.split(",")]
    words = ["--input", data / "b.csv", "--direction", direction, "--times", times, "--ode", "--out", path]
    assert call("sample", finished, *words).code == 0
    start = 0.0 if direction == "forward" else 1.0
    grid = asked_times if asked_times[0] == start else [start, *asked_times]
    x = pl.read_csv(data / "b.csv").to_numpy()
    wanted = Bridge.load(finished / "bridge.safetensors").trajectories(x, grid, diffusion=0.0)[-len(asked_times) :]
    if suffix in (".csv", ".parquet"):
        table = pl.read_csv(path) if suffix == ".csv" else pl.read_parquet(path)
        assert table.columns == ["t", "row", "x", "y"]
        np.testing.assert_array_equal(table["row"].to_numpy().reshape(wanted.shape[:2])[0], np.arange(len(x)))
        np.testing.assert_array_equal(table["t"].to_numpy().reshape(wanted.shape[:2])[:, 0], asked_times)
        got = table[:, 2:].to_numpy().reshape(wanted.shape)
    else:
        got = np.load(path) if suffix == ".npy" else np.load(path)["x"]
    np.testing.assert_array_equal(got, wanted)


def test_points_may_stand_on_the_way(finished: Path, tmp_path: Path, call: Call) -> None:
    x = cloud(300, 0)
    np.save(tmp_path / "new.npy", x)
    words = ["--input", tmp_path / "new.npy", "--start", 0.25, "--times", "0.5,1", "--out", tmp_path / "to.npy"]
    assert call("sample", finished, *words).code == 0
    bridge = Bridge.load(finished / "bridge.safetensors")
    wanted = bridge.trajectories(x.astype(float), [0.5, 1], random_state=0, start=0.25)
    np.testing.assert_array_equal(np.load(tmp_path / "to.npy"), wanted)


def test_noise_is_chosen_and_seeded(finished: Path, data: Path, tmp_path: Path, call: Call) -> None:
    def moved(*options: object) -> NDArray[Any]:
        words = ["--input", data / "a.npy", "--out", tmp_path / "to.npy", "--steps", 20, *options]
        assert call("sample", finished, *words).code == 0
        points: NDArray[Any] = np.load(tmp_path / "to.npy")
        return points

    plain = moved()
    assert np.array_equal(plain, moved("--seed", 0))
    assert not np.array_equal(plain, moved("--seed", 1))
    assert np.array_equal(moved("--ode"), moved("--diffusion", 0, "--seed", 1))
    assert np.array_equal(plain, moved("--diffusion", 0.5))
    assert np.array_equal(moved("--diffusion", "0.2,0.2"), moved("--diffusion", 0.2))
    assert not np.array_equal(plain, moved("--diffusion", "0,0.5,0"))


def test_new_points_are_matched_by_name(finished: Path, data: Path, tmp_path: Path, call: Call) -> None:
    """A file with its columns in another order, an index, ids and a hole, and answers that say which rows they are."""
    x = pl.read_csv(data / "b.csv")
    ids = pl.Series("cell", [f"cell-{k}" for k in range(x.height)])
    hole = pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise(pl.col("x")).alias("x")
    new = x.with_columns(hole).select(pl.int_range(pl.len()).alias(""), ids, "y", "x")
    new.write_csv(tmp_path / "new.csv", separator=";")
    words = ["--input", tmp_path / "new.csv", "--drop-missing", "--ode"]
    asked = call("sample", finished, *words, "--out", tmp_path / "to.tsv.gz")
    assert asked.code == 0 and "79 points written" in asked.out
    for part in ("separated by ;", "without a name", "cell is carried along", "1 of 80 rows", "row 3 (line 5)"):
        assert part in asked.err
    table = pl.read_csv(tmp_path / "to.tsv.gz", separator="\t")
    kept = [k for k in range(x.height) if k != 3]
    assert table["row"].to_list() == kept and table["cell"].to_list() == [f"cell-{k}" for k in kept]
    wanted = Bridge.load(finished / "bridge.safetensors").transport(x.to_numpy()[kept], diffusion=0.0)
    np.testing.assert_allclose(table["x", "y"].to_numpy(), wanted, rtol=1e-12)


# Log-densities


@pytest.mark.parametrize(("at", "method"), [("x1", "ode"), ("x0", "tilted-bound")])
def test_log_densities_of_a_run(
    at: Literal["x1", "x0"], method: str, finished: Path, data: Path, tmp_path: Path, call: Call
) -> None:
    x = pl.read_csv(data / "b.csv")[:60].to_numpy().astype(np.float32)  # two steps of the bar
    np.save(tmp_path / "some.npy", x)
    words = ["--input", tmp_path / "some.npy", "--at", at, "--method", method, "--out", tmp_path / "log.csv"]
    asked = call("likelihood", finished, *words)
    assert asked.code == 0
    table = pl.read_csv(tmp_path / "log.csv")
    assert table.columns == ["row", "log_density", "standard_error"]
    problem = Run.open(finished).problem
    base = problem.x0 if at == "x1" else problem.x1
    wanted = Bridge.load(finished / "bridge.safetensors").log_prob(x[:50], at, base=base, method=method, random_state=0)
    np.testing.assert_allclose(table["log_density"][:50], wanted.value, rtol=1e-5)
    np.testing.assert_allclose(table["standard_error"][:50], wanted.standard_error, atol=1e-5)
    nats = float(asked.out.split()[1])
    assert nats == pytest.approx(-table["log_density"].mean(), abs=0.2)  # printed to one digit of its error
    assert "(60 points; base: Gaussian mixture of" in asked.out


# Standardised columns


@pytest.mark.usefixtures("little_care")
def test_a_standardised_run_answers_in_the_units_of_the_data(tmp_path: Path, call: Call) -> None:
    """A column 1,000 times as wide as the other, which a fit without it is warned of."""
    scales = np.array([1, 1000], dtype=np.float32)
    np.save(tmp_path / "a.npy", cloud(500, 0) * scales)
    np.save(tmp_path / "b.npy", cloud(500, 3) * scales)
    question = ["--x0", tmp_path / "a.npy", "--x1", tmp_path / "b.npy", "--epsilon", 0.1, "--method", "potential"]
    question += ["--baselines", "pot"]
    run = tmp_path / "run"
    asked = call("recover", *question, "--out", run, "--standardise", "columns")
    assert asked.code == 0 and "warning" not in asked.err
    assert "(standardised)" in asked.out
    assert "was divided by its standard deviation" in (run / "report.html").read_text(encoding="utf-8")
    assert call("sample", run, "--input", tmp_path / "a.npy", "--out", tmp_path / "to.npy").code == 0
    moved = np.load(tmp_path / "to.npy")
    np.testing.assert_allclose(moved.mean(0) / scales, [3, 3], atol=0.3)
    np.testing.assert_allclose(moved.std(0) / scales, [1, 1], atol=0.2)
    for baseline in Run.open(run).bridges().values():
        np.testing.assert_allclose(baseline.transport(moved, "backward").mean(0) / scales, [0, 0], atol=0.3)
    with stop_when((tmp_path / "plain" / "config.json").exists, signal.SIGTERM):
        asked = call("recover", *question, "--out", tmp_path / "plain")
    assert "warning: column c1 (spread " in asked.err and "--standardise columns" in asked.err


# The choice of ε


def test_the_effect_of_epsilon_is_shown(question: list[str], tmp_path: Path, call: Call) -> None:
    asked = call("epsilon", *question[:4], "--values", "0.05,0.5", "--out", tmp_path)
    assert asked.code == 0
    assert "straightness" in asked.out and "Recommended: " in asked.out and "spread of x0" in asked.err
    assert pl.read_csv(tmp_path / "epsilon.csv")["ε"].to_list() == [0.05, 0.5]
    assert (tmp_path / "epsilon.html").exists()
    refused(call("epsilon", *question[:4], "--values", "0,1", "--out", tmp_path), "--values[0] must be above 0")


@pytest.mark.parametrize(("words", "wanted"), [("auto", None), ("reg=0.8", 0.2), ("sigma=1", 0.5)])
def test_a_run_takes_every_epsilon(
    words: str, wanted: float | None, question: list[str], tmp_path: Path, call: Call
) -> None:
    with stop_when((tmp_path / "config.json").exists, signal.SIGTERM):
        asked = call("recover", *question[:4], f"--epsilon={words}", "--out", tmp_path)
    found = Run.open(tmp_path).problem.epsilon
    assert found == (pytest.approx(wanted) if wanted else found)
    assert ("chosen: ε = " in asked.err) == (wanted is None)


# Other interpolants

CHOICES = [
    ["--interpolant", "trigonometric", "--gamma", "parabolic", "--learn", "both"],
    ["--interpolant", "encoder-decoder", "--gamma", "sine-squared", "--learn", "none"],
    ["--interpolant", "one-sided-linear", "--learn", "mean"],
    ["--interpolant", "one-sided-trigonometric", "--learn", "none"],
    ["--interpolant", "variance-preserving", "--learn", "gamma"],
    ["--interpolant", "mirror", "--learn", "none", "--diffusion", "0,0.3,0"],
]


def interpolant_run(choice: list[str], data: Path) -> list[object]:
    other = "a.npy" if "mirror" in choice else "b.csv"
    options: list[object] = ["--x0", data / "a.npy", "--x1", data / other, "--epsilon", 0.5, "--steps", 10]
    return ["recover", *options, "--method", "maxmin", "--coupling", "independent", *choice]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice[1])
def test_every_interpolant_is_trained(choice: list[str], data: Path, tmp_path: Path, call: Call) -> None:
    """For a step at least: the rest of a run is the same for all."""
    words = [*interpolant_run(choice, data), "--steps", 1000, "--checkpoint-seconds", 0, "--out", tmp_path]
    with stop_when((tmp_path / "checkpoint.pt").exists, signal.SIGTERM):
        assert call(*words).code == 128 + signal.SIGTERM
    settings = Run.open(tmp_path).config["settings"]
    assert settings["solver"]["interpolant"].lower() == choice[1].replace("-", "")
    assert settings["solver"]["gamma"].lower() == (choice[3] if "--gamma" in choice else "brownian").replace("-", "")


@pytest.mark.parametrize("choice", CHOICES[-2:], ids=lambda choice: choice[1])
def test_other_interpolants_make_a_whole_run(choice: list[str], data: Path, tmp_path: Path, call: Call) -> None:
    """One of which γ alone is learned, and one that is fitted as it is."""
    assert call(*interpolant_run(choice, data), "--out", tmp_path).code == 0
    comparison = Run.open(tmp_path).comparison()
    assert comparison is not None
    assert comparison.effort.diffusion == ((0.0, 0.3, 0.0) if "--diffusion" in choice else ())
    assert call("report", tmp_path).code == 0


# Looking again


def test_compare_prints_the_table_again(finished: Path, call: Call) -> None:
    asked = call("compare", finished)
    assert asked.code == 0
    assert all(name in asked.out for name in [*METHODS, "floor", "energy distance"])


def test_compare_puts_runs_judged_alike_side_by_side(finished: Path, tmp_path: Path, call: Call) -> None:
    shutil.copytree(finished, tmp_path / "again")
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    edit(other / "comparison.json", lambda content: content.update(random_state=1))
    asked = call("compare", finished, tmp_path / "again", other)
    assert asked.out.count("d = 2, ε = 0.5") == 2  # two tables
    assert "again: POT" in " ".join(asked.out.split())


def test_the_page_is_rebuilt_without_the_data_files(finished: Path, tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "figures")
    (folder / "report.html").unlink()
    config = (folder / "config.json").read_text().replace("a.npy", "moved.npy")
    (folder / "config.json").write_text(config)
    asked = call("report", folder)
    assert (asked.code, asked.out) == (0, f"report: {folder / 'report.html'}\n")
    assert (folder / "report.html").exists()
    assert {path.name for path in (folder / "figures").iterdir()} == {p.name for p in (finished / "figures").iterdir()}


def test_compare_shows_every_column_beside_the_data(finished: Path, call: Call) -> None:
    asked = call("compare", finished, "--by-column")
    assert (asked.code, asked.err) == (0, "")
    heads, *rows = asked.out[asked.out.index("column  end") :].strip().splitlines()
    assert "data" in heads and all(method in heads for method in METHODS)
    ends = {tuple(row.split()[:2]) for row in rows}
    assert ends == {(name, end) for name in "xy" for end in ("x0", "x1")}


def test_moves_lists_the_columns_that_move_most(finished: Path, data: Path, tmp_path: Path, call: Call) -> None:
    """By default those of held-out points; a file may be given, and another written."""
    asked = call("moves", finished, "--top", 1)
    assert asked.code == 0 and len(asked.out.strip().splitlines()) == 2 and "share of the energy" in asked.out
    wanted = call("moves", finished, "--input", data / "a.npy", "--out", tmp_path / "moves.csv")
    assert wanted.code == 0 and set(pl.read_csv(tmp_path / "moves.csv")["name"]) == {"x", "y"}
    for words, message in (
        (["--loadings", "PCs"], "give that too"),
        (["--input", data / "a.npy", "--loadings", "PCs"], "only an AnnData"),
        (["--out", tmp_path / "x.txt"], "must be a .csv file"),
    ):
        refused = call("moves", finished, *words)
        assert refused.code == 2 and message in refused.err


# Help


@pytest.mark.parametrize(
    "words", [[], ["recover"], ["sample"], ["likelihood"], ["compare"], ["report"], ["bench"], ["epsilon"], ["moves"]]
)
def test_every_command_has_help(words: list[str], call: Call) -> None:
    asked = call(*words, "--help")
    assert (asked.code, asked.err) == (0, "")
    assert f"usage: {' '.join(['sbridge', *words])}" in asked.out


@pytest.mark.parametrize("problem", ["files", *PROBLEMS])
def test_every_problem_explains_its_options(problem: str, call: Call) -> None:
    """Options of the run and of the problem, each with a sentence."""
    asked = call("recover", problem, "--help-verbose")
    assert asked.code == 0
    assert "--out" in asked.out
    assert "squared units" in asked.out or problem != "files"
    assert problem in call("recover", "--help").out


@pytest.mark.parametrize("command", ["recover", "epsilon", "tune"])
def test_the_help_for_own_files_fits_a_screen(command: str, call: Call) -> None:
    shown = call(command, "--help").out
    assert 0 < shown.index("--x0") < shown.index("--out") < shown.index("--columns")  # the files come first
    assert len(shown.splitlines()) <= 56


COMPLETED = [
    (["re"], {"recover", "report"}),
    (["recover", "--ep"], {"--epsilon"}),
    (["recover", "--method", "max"], {"maxmin"}),
    (["sample", "run", "--direction", "b"], {"backward"}),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_options_and_choices(tmp_path: Path, call: Call) -> None:
    """By the script that is printed for it, called as bash calls it."""
    (tmp_path / "script").write_text(call("--tyro-print-completion", "bash").out)
    lines = [f"source {tmp_path / 'script'}", "name=$(complete -p sbridge | sed 's/.*-F \\([^ ]*\\).*/\\1/')"]
    for words, _ in COMPLETED:
        lines += [f"COMP_WORDS=(sbridge {' '.join(words)}); COMP_CWORD={len(words)}"]
        lines += [f"COMPREPLY=(); $name sbridge {words[-1]} ''; echo ${{COMPREPLY[*]}}"]
    shown = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True).stdout
    assert [set(line.split()) for line in shown.splitlines()] == [wanted for _, wanted in COMPLETED]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_too(shell: str, call: Call) -> None:
    asked = call("--tyro-print-completion", shell)
    assert asked.code == 0 and "--epsilon" in asked.out and "moves" in asked.out
    refused(call("--tyro-print-completion", "tcsh"), "knows bash, zsh, fish, not tcsh")


def test_the_version_is_that_of_the_package(call: Call) -> None:
    assert call("--version").out == f"sbridge {version('sbridge')}\n"


# Bad input


def test_a_new_run_does_not_overwrite_an_old_one(finished: Path, question: list[str], call: Call) -> None:
    before = results(finished)
    asked = call("recover", *question, "--out", finished)
    assert (asked.code, asked.out) == (2, "")
    assert "--resume" in asked.err
    assert results(finished) == before


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["--steps", 61], f"solver.steps ({STEPS} there, 61 now)"),
        (["--epsilon", 1], "epsilon (0.5 there, 1.0 now)"),
        (["--seed", 1], "seed (0 there, 1 now)"),
        (["--threads", 2], "threads (1 there, 2 now)"),
        (["--held-out", 0.3], "data ("),
        (["--learn", "none"], "solver.class (MaxMin there, Regression now)"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(
    options: list[object], difference: str, finished: Path, question: list[str], call: Call
) -> None:
    before = results(finished)
    asked = call("recover", *question, *options, "--out", finished, "--resume")
    torch.set_num_threads(1)
    assert (asked.code, asked.out) == (2, "")
    assert difference in asked.err
    assert results(finished) == before


BAD_RUNS: dict[str, tuple[list[object], str]] = {
    "no epsilon": (["--x0", "a.npy", "--x1", "b.csv"], "--epsilon"),
    "epsilon zero": (["--x0", "a.npy", "--x1", "b.csv", "--epsilon", 0], "epsilon must be above 0"),
    "epsilon below zero": (["--x0", "a.npy", "--x1", "b.csv", "--epsilon=-1"], "epsilon must be"),
    "epsilon no number": (["--x0", "a.npy", "--x1", "b.csv", "--epsilon", "x"], "--epsilon"),
    "epsilon of nobody": (["--x0", "a.npy", "--x1", "b.csv", "--epsilon", "tau=1"], "one of reg=…"),
    "missing file": (["--x0", "none.npy", "--x1", "b.csv", "--epsilon", 1], "none.npy: there is no such file"),
    "other kind": (["--x0", "a.txt", "--x1", "b.csv", "--epsilon", 1], ".npy, .npz or .h5ad"),
    "empty": (["--x0", "empty.csv", "--x1", "b.csv", "--epsilon", 1], "empty.csv is empty"),
    "NaN": (["--x0", "nan.npy", "--x1", "b.csv", "--epsilon", 1], "nan.npy: 1 of 100 rows"),
    "few": (["--x0", "few.npy", "--x1", "b.csv", "--epsilon", 1], "few.npy has 9 points"),
    "other dimension": (
        ["--x0", "wide.npy", "--x1", "b.csv", "--epsilon", 1],
        "wide.npy has 3 columns and b.csv has 2",
    ),
    "other columns": (["--x0", "wide.csv", "--x1", "b.csv", "--epsilon", 1], "b.csv: there is no column z"),
    "text": (
        ["--x0", "words.csv", "--x1", "b.csv", "--epsilon", 1],
        "b.csv has more columns than those of words.csv: y",
    ),
    "two faults": (["--x0", "nan.npy", "--x1", "none.csv", "--epsilon", 1], "1 of 100 rows"),
    "two faults, the other": (["--x0", "nan.npy", "--x1", "none.csv", "--epsilon", 1], "none.csv: there is no such"),
    "unknown column": (["--x0", "b.csv", "--x1", "b.csv", "--epsilon", 1, "--columns", "x,q"], "no column q"),
    "only one file": (["--x0", "a.npy", "--epsilon", 1], "--x1"),
    "unknown problem": (["moonshine"], "there is no problem 'moonshine'"),
    "unknown option": (["--x0", "a.npy", "--x1", "b.csv", "--epsilon", 1, "--speed", 3], "--speed"),
    "no such baseline": (["--x0", "a.npy", "--x1", "b.csv", "--epsilon", 1, "--baselines", "ott"], "there is no 'ott'"),
    "no steps": (["--x0", "a.npy", "--x1", "b.csv", "--epsilon", 1, "--steps", 0], "--steps"),
    "no threads": (["--x0", "a.npy", "--x1", "b.csv", "--epsilon", 1, "--threads", 0], "--threads"),
    "noise below zero": (["--x0", "a.npy", "--x1", "b.csv", "--epsilon", 1, "--diffusion=0,-1"], "--diffusion[1] must"),
    "two noises": (
        ["--x0", "a.npy", "--x1", "b.csv", "--epsilon", 1, "--interpolant", "one-sided-linear", "--gamma", "parabolic"],
        "OneSidedLinear has a noise of its own",
    ),
    "no noise to start from": (
        ["--x0", "steps.npy", "--x1", "a.npy", "--epsilon", 1, "--interpolant", "one-sided-linear"],
        "x0 is not a sample of Gaussian noise",
    ),
    "two laws": (
        ["--x0", "steps.npy", "--x1", "a.npy", "--epsilon", 1, "--interpolant", "mirror"],
        "x0 and x1 are samples of different laws",
    ),
    "no variation": (["--x0", "same.npy", "--x1", "same.npy", "--epsilon", 1], "do not vary"),
}


@pytest.fixture
def bad_data(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(data, tmp_path / "bad")
    monkeypatch.chdir(tmp_path / "bad")
    hole = cloud(100, 0)
    hole[5, 1] = np.nan
    np.save("nan.npy", hole)
    np.save("few.npy", cloud(9, 0))
    np.save("same.npy", np.ones((100, 2)))
    np.save("steps.npy", np.repeat(np.eye(2), 50, axis=0))
    Path("empty.csv").write_text("")
    np.save("wide.npy", np.ones((60, 3)))
    pl.DataFrame(np.ones((60, 3)), schema=["x", "y", "z"]).write_csv("wide.csv")
    pl.DataFrame({"x": ["1"] * 60, "kind": ["B"] * 60}).write_csv("words.csv")
    return tmp_path / "bad"


def refused(asked: Outcome, message: str) -> None:
    """Exit code 2, the message and nothing else."""
    assert asked.code == 2
    assert message in asked.err
    assert "Traceback" not in asked.err
    assert asked.out == ""


@pytest.mark.parametrize(("words", "message"), BAD_RUNS.values(), ids=BAD_RUNS.keys())
def test_bad_questions_are_refused_before_any_work(
    words: list[object], message: str, bad_data: Path, call: Call
) -> None:
    refused(call("recover", *words, "--out", "run"), message)
    assert not Path("run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_no_reason_to_use_the_cpu(question: list[str], tmp_path: Path, call: Call) -> None:
    refused(call("recover", *question, "--out", tmp_path / "run", "--device", "cuda"), "finds no GPU")
    assert not (tmp_path / "run").exists()


BAD_QUESTIONS: dict[str, tuple[list[object], str]] = {
    "missing file": (["--input", "none.npy"], "no such file"),
    "NaN": (["--input", "nan.npy"], "1 of 100 rows"),
    "other dimension": (["--input", "wide.npy"], "wide.npy has 3 columns, the run's data 2"),
    "other columns": (["--input", "words.csv"], "words.csv: there is no column y. The columns are x, kind; those of"),
    "other kind to write": (["--input", "a.npy", "--out", "to.txt"], ".npy, .npz or .h5ad"),
    "other method": (["--input", "a.npy", "--method", "guess"], "--method"),
    "other end": (["--input", "a.npy", "--at", "x2"], "--at"),
}


@pytest.mark.parametrize(("words", "message"), BAD_QUESTIONS.values(), ids=BAD_QUESTIONS.keys())
def test_bad_points_have_no_density(
    words: list[object], message: str, finished: Path, bad_data: Path, call: Call
) -> None:
    refused(call("likelihood", finished, *words), message)
    assert not list(Path().glob("to.*"))


BAD_SAMPLES: dict[str, tuple[list[object], str]] = {
    "missing file": (["--input", "none.npy", "--out", "to.npy"], "no such file"),
    "NaN": (["--input", "nan.npy", "--out", "to.npy"], "1 of 100 rows"),
    "other dimension": (["--input", "wide.npy", "--out", "to.npy"], "wide.npy has 3 columns, the run's data 2"),
    "other columns": (["--input", "words.csv", "--out", "to.npy"], "The columns are x, kind; those of"),
    "cells from no cells": (["--input", "a.npy", "--out", "to.h5ad"], "can only be written where the points came from"),
    "other kind of output": (["--input", "a.npy", "--out", "to.txt"], "to.txt: files may be"),
    "times outside": (["--input", "a.npy", "--out", "to.npy", "--times", "0.5,2"], "two numbers in [0, 1]"),
    "times back and forth": (["--input", "a.npy", "--out", "to.npy", "--times", "0.5,0.2"], "times must be"),
    "times no numbers": (["--input", "a.npy", "--out", "to.npy", "--times", "soon"], "--times"),
    "a start at its end": (["--input", "a.npy", "--out", "to.npy", "--start", "1"], "stand at t = 1 already"),
    "other direction": (["--input", "a.npy", "--out", "to.npy", "--direction", "up"], "--direction"),
    "noise below zero": (["--input", "a.npy", "--out", "to.npy", "--diffusion=-1"], "--diffusion[0] must"),
    "two noises": (["--input", "a.npy", "--out", "to.npy", "--ode", "--diffusion", 1], "--ode means --diffusion 0"),
    "no steps": (["--input", "a.npy", "--out", "to.npy", "--steps", 0], "steps must be at least 1"),
}


@pytest.mark.parametrize(("words", "message"), BAD_SAMPLES.values(), ids=BAD_SAMPLES.keys())
def test_bad_samples_are_refused(words: list[object], message: str, finished: Path, bad_data: Path, call: Call) -> None:
    refused(call("sample", finished, *words), message)
    assert not list(Path().glob("to.*"))


@pytest.mark.parametrize("command", ["sample", "likelihood", "compare", "report"])
def test_no_run_is_no_run(command: str, data: Path, tmp_path: Path, call: Call) -> None:
    rest = ["--input", data / "a.npy", "--out", tmp_path / "to.npy"] if command in ("sample", "likelihood") else []
    for folder in (tmp_path, tmp_path / "none"):
        refused(call(command, folder, *rest), f"{folder} is not a run folder")


DAMAGES = {
    "config.json": ["sample", "compare", "report"],
    "data.npz": ["sample", "report"],
    "bridge.safetensors": ["sample", "report"],
    "comparison.json": ["compare"],
    "history.csv": ["report"],
}


@pytest.mark.parametrize(("name", "command"), [(name, one) for name, many in DAMAGES.items() for one in many])
def test_a_damaged_run_is_refused(
    name: str, command: str, finished: Path, data: Path, tmp_path: Path, call: Call
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    damaged = tmp_path / "run" / name
    damaged.write_bytes(damaged.read_bytes()[:20] if name != "history.csv" else b"a,b\n1,2,3\n")
    rest = ["--input", data / "a.npy", "--out", tmp_path / "to.npy"] if command == "sample" else []
    refused(call(command, tmp_path / "run", *rest), name)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_refused(
    content: bytes | None, finished: Path, question: list[str], tmp_path: Path, call: Call
) -> None:
    """Also one that holds something else than a training."""
    shutil.copytree(finished, tmp_path / "run")
    Run.open(tmp_path / "run").stages.path(f"fit {METHODS[0]}").unlink()
    path = tmp_path / "run" / "checkpoint.pt"
    if content is None:
        torch.save({"training": {"step": 3}, "seconds": 1.0}, path)
    else:
        path.write_bytes(content)
    refused(call("recover", *question, "--out", tmp_path / "run", "--resume"), "checkpoint.pt is damaged")


def test_an_unfinished_run_says_how_to_go_on(finished: Path, data: Path, tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.json", "data.npz"):
        shutil.copy(finished / name, folder)
    refused(call("sample", folder, "--input", data / "a.npy", "--out", tmp_path / "to.npy"), "--resume")
    refused(call("compare", folder), "--resume")
    refused(call("compare"), "name at least one run folder")
