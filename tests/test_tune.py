"""Searches by Ray: the same solver, a fair budget, early refusals, and no trial lost by a kill."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from members import read_csv

import sbridge
from sbridge.bridge import Bridge
from sbridge.errors import DivergenceError, InputError
from sbridge.estimates import Estimate
from sbridge.fields import Field
from sbridge.io import Run
from sbridge.problem import Problem
from sbridge.problems.gaussian import Gaussian
from sbridge.problems.mixture import Mixture
from sbridge.solvers.maxmin import MaxMin

ray = pytest.importorskip("ray")

from pyarrow.fs import LocalFileSystem  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from sbridge import tuning  # noqa: E402
from sbridge.cli.tune import Tune  # noqa: E402
from sbridge.evaluation.value import reference_for  # noqa: E402
from sbridge.tuning.criteria import DualValue, PathKL, criterion_of  # noqa: E402
from sbridge.tuning.search import SCHEDULERS, Candidates, conduct  # noqa: E402
from sbridge.tuning.snapshot import Snapshot, put_back  # noqa: E402
from sbridge.tuning.space import own_settings, solver_of  # noqa: E402
from sbridge.tuning.trial import REPORTS, Work, for_search  # noqa: E402

# Ray leaves sockets and files of its processes to the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]

PROBLEM = Mixture(dim=2, epsilon=0.5, samples=400, test_samples=100)
FIXED = {
    "rate": tuning.Choice((4e-3,)),
    "round_steps": tuning.Choice((5,)),
    "width": tuning.Choice((16,)),
    "depth": tuning.Choice((2,)),
    "outer_width": tuning.Choice((16,)),
    "learn_gamma": tuning.Choice((False,)),
    "coupling": tuning.Choice(("Independent",)),
    "prior": tuning.Choice((None,)),
    "batch": tuning.Choice((256,)),
    "memory": tuning.Choice((0.1,)),
}
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}
SMALL = replace(tuning.Space(), **FIXED)
"""A space of fits of a second, of which only the outer rate varies."""


def nothing(text: str) -> None:
    """Discard a message."""


@pytest.fixture(scope="module")
def problem() -> Problem:
    return PROBLEM.build()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two machines of one CPU each, on this one, that a search finds connected."""
    machines = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    machines.add_node(**NODE)
    ray.init(address=machines.address, log_to_driver=False, logging_level="error")
    yield machines
    ray.shutdown()
    machines.shutdown()


# Spaces


def test_a_space_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps(tuning.Space().described()))
    assert tuning.read_space(tmp_path / "space.json") == tuning.Space()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"speed": 1}', "not a hyperparameter"),
        ('{"epsilon": [0.1, 1]}', "part of the problem"),
        ('{"rate": {"low": 1, "high": 0.1}}', "low < high"),
        ('{"rate": {"min": 1}}', "rate"),
        ('{"coupling": ["Sorted"]}', "coupling"),
        ('{"prior": "none"}', "prior"),
        ('{"width": []}', "at least one"),
        ("[]", "object"),
        ("{", "JSON"),
    ],
)
def test_a_wrong_space_is_refused(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "space.json").write_text(text)
    with pytest.raises(InputError, match=word):
        tuning.read_space(tmp_path / "space.json")


def test_every_draw_lies_in_the_space_and_makes_a_solver() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        settings = tuning.Space().draw(generator)
        assert all(settings[name] in domain for name, domain in tuning.Space().domains().items())
        solver_of(settings, 1000)


def test_a_number_is_uniform_in_its_logarithm() -> None:
    domain = tuning.LogUniform(1e-3, 1e1)
    assert domain.at(0.0) == pytest.approx(1e-3)
    assert domain.at(0.25) == pytest.approx(1e-2)
    assert domain.at(1.0) == pytest.approx(1e1)


@pytest.mark.parametrize("batch", [64, 256, 512, 1024])
def test_every_trial_sees_as_many_points(batch: int) -> None:
    solver = solver_of({**own_settings(), "batch": batch}, 6000)
    assert solver.steps * solver.batch == 6000 * MaxMin.batch
    assert solver.batch % solver.group == 0


def test_the_default_settings_are_the_solvers_own() -> None:
    (own,) = tuning.Space().defaults()
    assert solver_of(own, MaxMin.steps) == MaxMin()
    assert SMALL.defaults() == []


# What is minimised, and on what


def test_the_criterion_measures_as_much_as_is_known(problem: Problem) -> None:
    assert isinstance(criterion_of(problem), PathKL)
    assert isinstance(criterion_of(replace(problem, truth=None)), DualValue)


class Pushed(Field):
    """A drift with a constant added to every coordinate."""

    def __init__(self, field: Field, constant: float) -> None:
        super().__init__()
        self.field, self.constant = field, constant

    def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.field(t, x) + self.constant


@pytest.mark.parametrize(("dim", "constant"), [(1, 1.5), (2, 0.5)])
def test_the_dual_value_falls_by_the_divergence(dim: int, constant: float) -> None:
    """A constant c added to the bridge's drift costs d c²/4ε nats: an exact bridge still, to another end."""
    problem = Gaussian(dim=dim, epsilon=0.5, samples=400, test_samples=4000).build()
    truth = problem.truth
    assert truth is not None
    bridge = Bridge(Pushed(truth.forward_field, constant), truth.backward_field, truth.epsilon)
    criterion = DualValue(reference_for(problem, 0))
    worse, best = (criterion(one, problem, torch.Generator().manual_seed(0)) for one in (bridge, truth))
    expected = dim * constant**2 / (4 * truth.epsilon)
    assert worse.value - best.value == pytest.approx(expected, abs=0.05 + 0.1 * expected)


def test_path_kl_of_the_exact_bridge_is_zero(problem: Problem) -> None:
    assert problem.truth is not None
    assert PathKL()(problem.truth, problem, torch.Generator().manual_seed(0)).value == 0


def test_the_test_points_stay_unseen(problem: Problem) -> None:
    kept = for_search(problem, 0)
    for train, held, whole in ((kept.x0, kept.test0, problem.x0), (kept.x1, kept.test1, problem.x1)):
        assert torch.equal(torch.cat([train, held]).sort(dim=0).values, whole.sort(dim=0).values)


# A search


TWO = replace(SMALL, rate=tuning.LogUniform(1e-3, 1e-2))
"""A space of two hyperparameters."""
HEARD: set[str] = set()  # addresses that Ray's processes were listening at during the search


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Four trials in a private Ray."""
    folder = tmp_path_factory.mktemp("search") / "found"

    def watch(text: str) -> None:
        HEARD.update(listening())

    return folder, sbridge.tune(PROBLEM.build(), TWO, out=folder, trials=4, steps=60, say=watch)


def test_a_search_leaves_everything(searched: tuple[Path, Any]) -> None:
    folder, study = searched
    names = {path.name for path in folder.iterdir()}
    assert names >= {"trials.csv", "curves.csv", "bridge.safetensors", "history.csv", "figures", "study.json"}
    assert {path.stem for path in (folder / "figures").iterdir()} == {"trials", "curves", "importances"}
    rows = read_csv(folder / "trials.csv")
    assert [int(row["trial"]) for row in rows] == [0, 1, 2, 3]
    assert {row["status"] for row in rows} <= {"finished", "stopped early"}
    assert float(rows[study.best.number]["criterion"]) == min(float(row["criterion"]) for row in rows)
    assert_in_space(study, TWO, 4)


def test_the_page_says_what_was_asked_and_found(searched: tuple[Path, Any]) -> None:
    folder, study = searched
    page = html.unescape((folder / "search.html").read_text())
    asked = [PathKL.meaning, "1 CPU and 0 GPU a trial", "40 points a side"]
    found = [f"Best is trial {study.best.number}", "All trials", "Criterion during the training"]
    found += ["Which hyperparameter matters"]
    assert [word for word in asked + found if word not in page] == []
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_the_bridge_is_the_best_trials(searched: tuple[Path, Any]) -> None:
    """Its objective, computed again from the file, is the one reported."""
    folder, study = searched
    kept = for_search(PROBLEM.build(), 0)
    bridge = Bridge.load(folder / "bridge.safetensors")
    figure = PathKL()(bridge, kept, torch.Generator().manual_seed(0x7A1E5))
    assert figure.value == pytest.approx(study.best.criterion.value, rel=1e-4)


def test_a_trial_is_a_fit_like_any_other(searched: tuple[Path, Any]) -> None:
    """The best trial's bridge is what the solver finds by itself with its settings."""
    folder, study = searched
    solver, threads = solver_of(study.best.settings, 60), torch.get_num_threads()
    torch.set_num_threads(1)  # as in the trial: the last bits depend on it, and a training amplifies them
    bridge = solver.solve(for_search(PROBLEM.build(), 0))
    torch.set_num_threads(threads)
    found = Bridge.load(folder / "bridge.safetensors").state_dict()
    torch.testing.assert_close(found, bridge.state_dict(), rtol=1e-3, atol=1e-4)


def test_importances_are_shares(searched: tuple[Path, Any]) -> None:
    _, study = searched
    found = tuning.figures.importances(study, TWO)
    assert set(found) == {"rate", "outer_rate"}
    assert sum(found.values()) == pytest.approx(1)


def test_ray_is_stopped_afterwards(searched: tuple[Path, Any]) -> None:
    assert not ray.is_initialized()


# Placement


def listening() -> set[str]:
    """Addresses that this process and its descendants listen at, in hexadecimal, as the kernel has them."""
    ours = _sockets()
    lines = [line.split() for kind in ("tcp", "tcp6") for line in Path("/proc/net", kind).read_text().splitlines()[1:]]
    return {fields[1].split(":")[0] for fields in lines if fields[3] == "0A" and fields[9] in ours}


def _sockets() -> set[str]:
    """Inodes of the sockets of this process and its descendants."""
    inodes = set()
    for process in [os.getpid(), *_descendants(os.getpid())]:
        for link in Path(f"/proc/{process}/fd").glob("*"):
            with suppress(OSError):  # it has just been closed
                inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
    return inodes


def _descendants(process: int) -> list[int]:
    lists = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")]
    children = [int(word) for words in lists for word in words.split()]
    return children + [one for child in children for one in _descendants(child)]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads the kernel's tables")
def test_a_private_ray_is_reached_from_this_machine_only(searched: tuple[Path, Any]) -> None:
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert HEARD
    assert loopback >= HEARD


def test_the_object_store_is_the_data_twice_and_80_megabytes(problem: Problem) -> None:
    assert tuning.cluster.store_bytes(problem) == 80_000_000 + 2 * 4 * problem.dim * (400 + 400 + 100 + 100)


WRONG: list[dict[str, float]] = [
    {"gpus_per_trial": 1.5},
    {"gpus_per_trial": -1},
    {"cpus_per_trial": 0},
    {"concurrent": 0},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_placement_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError):
        tuning.Placement(**wrong)


@pytest.mark.parametrize("asked", [{"gpus_per_trial": 0.25}, {"cpus_per_trial": 2}])
def test_what_no_machine_has_is_refused_at_once(cluster: Cluster, problem: Problem, tmp_path: Path, asked: Any) -> None:
    """Two machines of one CPU are no machine of two."""
    begin = time.monotonic()
    with pytest.raises(InputError, match="The cluster has: 1 CPU and 0 GPU; 1 CPU and 0 GPU"):
        sbridge.tune(problem, SMALL, out=tmp_path / "out", placement=tuning.Placement(**asked), say=nothing)
    assert time.monotonic() - begin < 5
    assert not (tmp_path / "out").exists()


def test_a_folder_is_not_overwritten(searched: tuple[Path, Any], cluster: Cluster) -> None:
    folder, _ = searched
    with pytest.raises(InputError, match="holds a search already"):
        sbridge.tune(PROBLEM.build(), SMALL, out=folder, say=nothing)
    with pytest.raises(InputError, match="other settings"):
        sbridge.tune(PROBLEM.build(), SMALL, out=folder, resume=True, say=nothing)


def test_optuna_keeps_to_the_space(cluster: Cluster, problem: Problem, tmp_path: Path) -> None:
    placement = tuning.Placement(concurrent=1)
    space = replace(TWO, learn_gamma=tuning.Choice((False, True)))
    study = sbridge.tune(
        problem, space, out=tmp_path, trials=3, steps=16, search="optuna", placement=placement, say=nothing
    )
    assert_in_space(study, space, 3)


def assert_in_space(study: tuning.Study, space: tuning.Space, trials: int) -> None:
    assert [trial.number for trial in study.trials] == list(range(trials))
    for trial in study.trials:
        assert all(trial.settings[name] in domain for name, domain in space.domains().items())
    assert len({trial.settings["rate"] for trial in study.trials}) == trials


# Faults


@dataclass
class Deadly:
    """A criterion that kills its process at the third call, once."""

    flag: Path
    calls: int = 0
    name: str = "deadly"
    meaning: str = "deadly"

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        self.calls += 1
        if self.calls == 3 and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return PathKL()(bridge, problem, generator)


ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not know this file


def drawn(count: int) -> list[dict[str, Any]]:
    """Settings of that many trials."""
    return [dict(SMALL.draw(np.random.default_rng(seed))) for seed in range(count)]


def worked(problem: Problem, criterion: Any) -> Work:
    """What a trial does."""
    return Work(for_search(problem, 0), criterion, 120, 0, 1, "cpu")


def conducted(problem: Problem, criterion: Any, storage: Path, say: Any, settings: Any) -> Any:
    """A study of one trial for each settings."""
    candidates = Candidates({"settings": ray.tune.grid_search(settings)}, 1, len(settings))
    work, placement = worked(problem, criterion), tuning.Placement()
    return conduct(candidates, SCHEDULERS["none"](), work, placement, str(storage), nothing, say)


def curve(work: Work, settings: Any) -> dict[int, float]:
    """Share → criterion of a training in this process."""
    training, found = solver_of(settings, work.steps).start(work.problem), dict[int, float]()
    for progress in training:
        share = progress.step * REPORTS // progress.steps
        if share > max(found, default=0):
            generator = torch.Generator().manual_seed(0x7A1E5)
            found[share] = float(work.criterion(training.bridge(), work.problem, generator).value)
    return found


def reports(storage: Path) -> list[list[tuple[int, float]]]:
    """What each trial reported, as Ray wrote it down: share of the training and seconds of it."""
    logs = sorted((storage / "trials").glob("*/result.json"))
    lines = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
    return [[(line["share"], line["train_seconds"]) for line in trial] for trial in lines]


def trained_once(reported: list[tuple[int, float]]) -> bool:
    """Whether no share was trained twice; Ray may have been told twice of one."""
    done = sorted(set(reported))
    return len({share for share, _ in done}) == len(done) and reported == sorted(reported)


def test_a_killed_worker_goes_on_from_its_checkpoint(cluster: Cluster, problem: Problem, tmp_path: Path) -> None:
    """To the figures of a trial that nobody killed, and without doing again what it had done."""
    said: list[str] = []
    hurt = conducted(problem, Deadly(tmp_path / "killed"), tmp_path / "hurt", said.append, drawn(1))
    unhurt = curve(worked(problem, PathKL()), *drawn(1))
    assert (tmp_path / "killed").exists()
    assert any("resumes from its checkpoint" in line for line in said)
    assert hurt.trials[0].status == "finished"
    assert hurt.trials[0].curve == pytest.approx(unhurt, rel=1e-3)
    assert all(map(trained_once, reports(tmp_path / "hurt")))


def test_a_trial_that_diverges_says_why_and_the_search_goes_on(
    cluster: Cluster, problem: Problem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.json").write_text(json.dumps(replace(SMALL, rate=tuning.Choice((4e-3, 1e6))).described()))
    with pytest.raises(DivergenceError, match="trials failed, the first by: the training became unstable"):
        Tune(PROBLEM, out=tmp_path / "out", space=tmp_path / "space.json", trials=4, steps=60).run("sbridge tune")
    rows = read_csv(tmp_path / "out" / "trials.csv")
    assert {row["status"] == "failed" for row in rows} == {True, False}
    assert all(("unstable" in row["failure"]) == (float(row["rate"]) > 1) for row in rows)
    run = Run.open(tmp_path / "out")
    assert run.comparison() is not None
    assert run.path("report.html").exists() and run.certificate() is not None
    assert "failed: the training became unstable" in run.path("search.html").read_text()
    assert "failed" in capsys.readouterr().out


def test_a_lost_machine_takes_no_trial_with_it(cluster: Cluster, problem: Problem, tmp_path: Path) -> None:
    lost = cluster.add_node(**NODE)
    gone: list[str] = []

    def lose(text: str) -> None:
        if not gone:
            gone.append(text)
            cluster.remove_node(lost, allow_graceful=False)

    try:
        study = conducted(problem, PathKL(), tmp_path, lose, drawn(4))
    except KeyboardInterrupt:  # Ray gave up a trial on the lost machine, which happens on a busy one: resume
        study = conducted(problem, PathKL(), tmp_path, nothing, drawn(4))
    assert gone
    assert [trial.status for trial in study.trials] == ["finished"] * 4


def test_the_state_of_a_search_is_put_back_whole(tmp_path: Path) -> None:
    """After a kill: one file is cut off, one was written by a process that had resumed, and one is missing."""
    staged, place = tmp_path / "staged", tmp_path / "trials"
    (staged / "trial_0").mkdir(parents=True)
    place.mkdir()
    assert not put_back(str(place))
    names = {"experiment_state-1.json": "trials", "searcher-state-1.pkl": "searcher"}
    for name, text in names.items():
        (staged / name).write_text(text)
    storage = SimpleNamespace(experiment_driver_staging_path=str(staged), experiment_fs_path=str(place))
    storage.storage_filesystem = LocalFileSystem()
    Snapshot().on_step_end(1, [SimpleNamespace(storage=storage)])
    for name in ("experiment_state-1.json", "experiment_state-2.json", "tuner.pkl"):
        (place / name).write_text("")
    assert put_back(str(place))
    found = {path.name: path.read_text() for path in place.iterdir() if path.suffix != ".zip"}
    assert found == {**names, "tuner.pkl": ""}


def started(*words: object) -> subprocess.Popen[str]:
    """`sbridge` in a process of its own."""
    command = [sys.executable, "-m", "sbridge", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(count: int, share: int, storage: Path, process: subprocess.Popen[str]) -> None:
    """Until that many trials have reported that share."""
    while sum(share in dict(reported) for reported in reports(storage)) < count:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)


def test_nothing_is_lost_or_repeated_by_ctrl_c_and_kill_9(tmp_path: Path) -> None:
    """Stopped once, killed once, gone on twice."""
    (tmp_path / "space.json").write_text(json.dumps(SMALL.described()))
    out = tmp_path / "out"
    question = ["tune", PROBLEM.name, "--dim", PROBLEM.dim, "--samples", 400, "--test-samples", 100, "--out", out]
    question += ["--space", tmp_path / "space.json", "--trials", 3, "--steps", 160, "--scheduler", "none"]
    question += ["--concurrent", 1]

    process = started(*question)
    wait_for(1, REPORTS, out, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, said
    assert "--resume" in said
    assert "finished" in {row["status"] for row in read_csv(out / "trials.csv")}
    assert Bridge.load(out / "bridge.safetensors").epsilon == pytest.approx(0.5)

    process = started(*question, "--resume")
    wait_for(2, REPORTS, out, process)  # now Ray writes its trials and its searcher, one after the other
    process.kill()
    process.communicate()

    process = started(*question, "--resume")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert [row["status"] for row in read_csv(out / "trials.csv")] == ["finished"] * 3
    assert all(map(trained_once, reports(out)))


# The front door, with Ray and without


def test_without_ray_or_optuna_everything_else_works() -> None:
    program = """
import sys
import sbridge
from sbridge.cli import main
assert not {"ray", "optuna"} & set(sys.modules)
for absent in ("ray", "optuna"):
    sys.modules[absent] = None
    try:
        sbridge.tune(None, out="nowhere")
    except sbridge.InputError as error:
        print(error)
    code = main(["tune", "gaussian"])
    del sys.modules[absent]
sys.exit(code)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stdout.count("pip install 'ray[tune]' optuna") == 2
    assert ended.stderr.count("pip install 'ray[tune]' optuna") == 2


def test_nothing_else_imports_it() -> None:
    sources = Path(sbridge.__file__).parent.rglob("*.py")
    importers = [path for path in sources if re.search(r"^\s*(import|from) (ray|optuna)\b", path.read_text(), re.M)]
    assert {path.parent.name for path in importers} == {"tuning"}
