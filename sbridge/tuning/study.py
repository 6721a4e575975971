"""The result of a search: its trials and the best of them.

A study is read from Ray's folder, finished or not, so it is the same after an end, a Ctrl-C or a kill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from ray.tune import Checkpoint, ExperimentAnalysis, ResultGrid

from sbridge.bridge import Bridge
from sbridge.estimates import Estimate
from sbridge.io.checkpoint import read_training
from sbridge.tables import write_csv
from sbridge.tuning.space import Settings
from sbridge.tuning.trial import REPORTS, RETRIES

__all__ = ["Study", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One trial.

    Args:
        number: its place in the order of creation.
        settings: its hyperparameters.
        status: "finished", "stopped early" by the scheduler, "failed" or "unfinished".
        criterion: its last value; None before the first report, and of a failed trial.
        share: how much of the training is done, in units of 1/`REPORTS`.
        seconds: of training.
        kinetic_energy: ½E∫|b_F|²dt on held-out points, at the last report.
        failure: why the trial failed; empty if it did not.
        curve: share → criterion.
        checkpoint: of the last report.
    """

    number: int
    settings: Settings
    status: str
    criterion: Estimate | None
    share: int
    seconds: float
    kinetic_energy: float
    failure: str
    curve: Mapping[int, float]
    checkpoint: Checkpoint | None = field(default=None, repr=False)

    def bridge(self) -> Bridge:
        """Its bridge at the last report."""
        assert self.checkpoint is not None
        with self.checkpoint.as_directory() as folder:
            return Bridge.load(Path(folder) / "bridge.safetensors")

    def history(self) -> list[dict[str, float]]:
        """The values of every check of its training."""
        assert self.checkpoint is not None
        with self.checkpoint.as_directory() as folder:
            rows: list[dict[str, float]] = read_training(Path(folder) / "training.pt")["history"]
        return rows

    def row(self) -> dict[str, Any]:
        """As a line of trials.csv."""
        value = self.criterion
        return {
            "trial": self.number,
            "status": self.status,
            "criterion": value and value.value,
            "criterion_se": value and value.standard_error,
            "share": self.share / REPORTS,
            "train_seconds": self.seconds,
            "kinetic_energy": self.kinetic_energy,
            **self.settings,
            "failure": self.failure,
        }


@dataclass(frozen=True)
class Study:
    """All trials of a search.

    Args:
        trials: in the order of creation.
        criterion: name of what was minimised.
    """

    trials: Sequence[Trial]
    criterion: str

    @staticmethod
    def read(location: str, criterion: str) -> Study:
        """The study in Ray's folder, a path or a URL; without trials if Ray has not begun."""
        try:
            analysis = ExperimentAnalysis(location)
        except ValueError:  # nothing there yet
            return Study((), criterion)
        found = sorted(zip(analysis.trials, ResultGrid(analysis), strict=True), key=_place)
        return Study([_trial(number, *pair) for number, pair in enumerate(found)], criterion)

    @property
    def valued(self) -> list[tuple[Trial, Estimate]]:
        """The trials that have a criterion, and it."""
        return [(trial, trial.criterion) for trial in self.trials if trial.criterion is not None]

    @property
    def best(self) -> Trial | None:
        """The trial with the smallest criterion; None if no trial has one."""
        return min(self.valued, key=lambda pair: pair[1].value, default=(None, None))[0]

    @property
    def failed(self) -> list[Trial]:
        """Trials that failed; each says why."""
        return [trial for trial in self.trials if trial.status == "failed"]

    def failures(self) -> list[str]:
        """A sentence for each failed trial."""
        return [f"Trial {trial.number} failed: {trial.failure}." for trial in self.failed]

    def counted(self) -> str:
        """How many trials there are of each status, in words."""
        statuses = [trial.status for trial in self.trials]
        return ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))

    def write(self, folder: Path) -> None:
        """trials.csv and curves.csv."""
        write_csv(folder / "trials.csv", [trial.row() for trial in self.trials])
        curves = [
            {"trial": trial.number, "share": share / REPORTS, "criterion": value}
            for trial in self.trials
            for share, value in trial.curve.items()
        ]
        write_csv(folder / "curves.csv", curves)

    def write_best(self, folder: Path) -> None:
        """bridge.safetensors and history.csv of the best trial, if there is one."""
        if self.best is not None:
            self.best.bridge().save(folder / "bridge.safetensors")
            write_csv(folder / "history.csv", self.best.history())


def _trial(number: int, ray_trial: Any, result: Any) -> Trial:
    metrics = result.metrics or {}
    given_up = result.error is not None and ray_trial.num_failures > RETRIES  # else it was lost, and can be resumed
    failure = str(metrics.get("failure") or (_last_line(result.error) if given_up else ""))
    share = int(metrics.get("share", 0))
    return Trial(
        number,
        ray_trial.config["settings"],
        "failed" if failure else _status(ray_trial.status, share),
        None if failure else _estimate(metrics, "criterion"),
        share,
        float(metrics.get("train_seconds", 0)),
        float(metrics.get("kinetic_energy", float("nan"))),
        failure,
        _curve(result.metrics_dataframe),
        result.checkpoint,
    )


def _place(pair: tuple[Any, Any]) -> int:
    """The order of creation: the number that Ray's tag of a trial begins with."""
    return int(pair[0].experiment_tag.partition("_")[0])


def _estimate(metrics: Mapping[str, Any], name: str) -> Estimate | None:
    return Estimate(metrics[name], metrics[f"{name}_se"]) if name in metrics else None


def _status(ray_status: str, share: int) -> str:
    if share == REPORTS:  # an interrupt may come before Ray records a trial's end
        return "finished"
    return "stopped early" if ray_status == "TERMINATED" else "unfinished"


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]


def _curve(reports: Any) -> dict[int, float]:
    """Share → criterion; a trial that was killed and resumed may have reported a share twice."""
    if reports is None or "criterion" not in reports:
        return {}
    pairs = zip(reports["share"], reports["criterion"], strict=True)
    return {int(share): float(value) for share, value in pairs if isfinite(value)}
