"""A run folder: the question of one `sbridge recover`, its data and its results.

    config.json            settings, versions, seed, threads, device and command line
    data.npz               the points as used: x0, x1, test0, test1, and weights0, weights1 if they have weights
    truth.safetensors      the exact bridge, where the problem has one
    checkpoint.pt          the training, while it runs
    stages/*.json          finished stages: the seconds of each fit, the rows of the comparison
    history.csv            held-out monitoring rows of the fit's training, if there was one
    tried.csv              what the fit tried and kept, if it chose among several methods
    bridge.safetensors     the fitted bridge
    <method>.safetensors   a baseline's bridge
    comparison.json, .csv  the evaluation of all methods on the held-out points
    certificate.json       how far the fitted bridge is from a Schrödinger bridge, or why that cannot be said
    figures/, report.html  the report

A folder is readable at every moment: it appears whole, and its files are replaced whole.
"""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import torch
from annotated_types import MinLen
from polars.exceptions import PolarsError
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from sbridge.bridge import Bridge, ExactBridge
from sbridge.checks import NotNegative, Positive, Seed
from sbridge.errors import InputError
from sbridge.evaluation import Comparison
from sbridge.evaluation.certificate.statement import Certificate
from sbridge.files import FileName, read_json, replace_atomically, write_json
from sbridge.io.store import Store, check_same
from sbridge.problem import Problem
from sbridge.sizes import check_npz
from sbridge.standardise import Standardise, standardised
from sbridge.tables import read_csv, write_csv

__all__ = ["CHAIN", "Run", "check_vacant"]

CHAIN = "chain.safetensors"
"""File of the chain in a folder of `sbridge snapshots`."""

_WORK = ("stages", "checkpoint.pt", "study.json")  # what the first finished work leaves
_PARTS = ("x0", "x1", "test0", "test1")
_WEIGHTS = ("weights0", "weights1")  # where the points have some


class _Settings(TypedDict):
    name: str
    epsilon: Positive
    problem: NotRequired[dict[str, Any]]
    columns: NotRequired[list[str] | None]
    seed: NotRequired[Seed]
    device: NotRequired[Literal["cpu", "cuda"]]
    standardise: NotRequired[Standardise | None]
    diffusion: NotRequired[list[NotNegative]]


class _Certified(TypedDict):
    certificate: dict[str, Any]


class _Refused(TypedDict):
    refused: str


class _Config(TypedDict):
    settings: _Settings
    methods: Annotated[dict[str, FileName], MinLen(1)]
    environment: dict[str, str]
    command: str


@dataclass(frozen=True)
class Run:
    """A run folder and its configuration.

    Args:
        folder: its path.
        config: the content of config.json: `settings` (all that determines the result), `methods` (name of each method
            → file of its bridge, the fitted bridge first), `environment` (versions and machine), `command`.
    """

    folder: Path
    config: Mapping[str, Any]

    @staticmethod
    def create(folder: str | Path, config: Mapping[str, Any], problem: Problem) -> Run:
        """A new run folder that holds the configuration and the data.

        Raises:
            InputError: the folder is not empty, or cannot be made.
        """
        folder = Path(folder)
        check_vacant(folder)
        made = Run(folder.with_name(f".{folder.name}.partial"), config)
        try:
            shutil.rmtree(made.folder, ignore_errors=True)
            made.folder.mkdir(parents=True)
            made._write_question(problem)
            if folder.exists():
                folder.rmdir()
            made.folder.rename(folder)
        except (OSError, InputError) as error:
            shutil.rmtree(made.folder, ignore_errors=True)
            raise InputError(f"the run folder {folder} cannot be made: {error}") from error
        return Run(folder, config)

    def _write_question(self, problem: Problem) -> None:
        known = {label: getattr(problem, label) for label in (*_PARTS, *_WEIGHTS)}
        points = {label: x.cpu().numpy() for label, x in known.items() if x is not None}
        replace_atomically(self.path("data.npz"), lambda file: np.savez_compressed(file, **points))
        if problem.truth is not None:
            problem.truth.save(self.path("truth.safetensors"))
        write_json(self.path("config.json"), self.config)

    @staticmethod
    def open(folder: str | Path) -> Run:
        """The run in `folder`.

        Raises:
            InputError: there is no run, or its configuration is damaged.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            if (folder / CHAIN).is_file():
                raise InputError(
                    f"{folder} holds no run but a chain of several times: sbridge sample moves points with it, and "
                    "sbridge.Chain.load reads it"
                )
            raise InputError(f"{folder} is not a run folder: it holds no config.json")
        return Run(folder, read_json(folder / "config.json", _Config))

    @staticmethod
    def resume(folder: Path, config: Mapping[str, Any]) -> Run:
        """The run in `folder`, to continue it.

        Raises:
            InputError: there is no run, its configuration is damaged, or it was made with other settings.
        """
        run = Run.open(folder)
        check_same(folder, _without_paths(run.config["settings"]), _without_paths(config["settings"]))
        return run

    @contextmanager
    def withdrawn_if_refused(self, new: bool) -> Iterator[None]:
        """Within, an InputError removes a new folder in which nothing was finished: the corrected command needs it."""
        try:
            yield
        except InputError:
            if new and not any(self.path(name).exists() for name in _WORK):
                shutil.rmtree(self.folder)
            raise

    def path(self, name: str) -> Path:
        """The file `name` of this run."""
        return self.folder / name

    @cached_property
    def problem(self) -> Problem:
        """The problem as it was solved, on the CPU, with its truth where known.

        Raises:
            InputError: data.npz or truth.safetensors is missing or damaged.
        """
        settings = self.config["settings"]
        points = _read_points(self.path("data.npz"))
        truth = self.path("truth.safetensors")
        exact = _exact(truth) if truth.exists() else None
        names = settings.get("columns")
        columns = None if names is None else tuple(names)
        return Problem(**points, epsilon=settings["epsilon"], name=settings["name"], truth=exact, columns=columns)

    @cached_property
    def fitted_problem(self) -> Problem:
        """The problem in the coordinates of the fit: standardised, if the run is."""
        return standardised(self.problem, self.standardise)[0]

    @property
    def standardise(self) -> Standardise | None:
        """How the data were standardised before the fit."""
        kind: Standardise | None = self.config["settings"].get("standardise")
        return kind

    def keep(self, method: str, bridge: Bridge) -> None:
        """Write a method's bridge, found in the coordinates of the fit, to its file, in the user's units."""
        _, outside = standardised(self.problem, self.standardise)
        outside(bridge).save(self.path(self.config["methods"][method]))

    def bridges(self) -> dict[str, Bridge]:
        """The bridge of each finished method by the method's name, the fitted one first.

        Raises:
            InputError: a bridge's file is damaged.
        """
        files = {name: self.path(file) for name, file in self.config["methods"].items()}
        return {name: Bridge.load(file) for name, file in files.items() if file.exists()}

    def history(self) -> pl.DataFrame:
        """The fit's held-out monitoring rows: column `step` and one column for each monitored value.

        Raises:
            InputError: history.csv is missing or damaged.
        """
        found = self._table("history.csv")
        if "step" not in found.columns or not all(kind.is_numeric() for kind in found.dtypes):
            raise InputError(f"{self.path('history.csv')} is damaged: it must have numbers only, and a column step")
        return found

    def once(self, stage: str, work: Callable[[], Any]) -> Any:
        """The result of a stage: the one that is kept, or the one that `work` gives, which is then kept.

        Raises:
            InputError: the stage's record is damaged.
        """
        return self.stages.once(stage, self.config["settings"], work)

    @property
    def stages(self) -> Store:
        """The records of finished stages."""
        return Store(self.folder / "stages")

    def comparison(self) -> Comparison | None:
        """The evaluation of all methods; None before it is finished.

        Raises:
            InputError: comparison.json is damaged.
        """
        path = self.path("comparison.json")
        return Comparison.read(path) if path.exists() else None

    def certificate(self) -> Certificate | str | None:
        """The certificate of the fitted bridge, or why there is none; None before it was computed.

        Raises:
            InputError: certificate.json is damaged.
        """
        path = self.path("certificate.json")
        if not path.exists():
            return None
        content = read_json(path, _Certified | _Refused)
        return str(content["refused"]) if "refused" in content else Certificate.of(content["certificate"])

    def write_certificate(self, found: Certificate | str) -> None:
        """Write certificate.json: the certificate, or the reason why there is none."""
        content = {"refused": found} if isinstance(found, str) else {"certificate": found.content()}
        write_json(self.path("certificate.json"), content)

    def tried(self) -> pl.DataFrame | None:
        """tried.csv: for each method that the fit tried, the nats it was behind, its seconds, and what was kept of it.

        None where the fit did not choose.

        Raises:
            InputError: tried.csv is damaged.
        """
        return self._table("tried.csv") if self.path("tried.csv").exists() else None

    def _table(self, name: str) -> pl.DataFrame:
        path = self.path(name)
        try:
            return read_csv(path.read_bytes())
        except (OSError, PolarsError) as error:
            raise InputError(f"{path} is missing or damaged: {error}") from error

    def write_tried(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write tried.csv."""
        write_csv(self.path("tried.csv"), rows)

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write history.csv."""
        replace_atomically(self.path("history.csv"), pl.DataFrame(list(rows)).write_csv)


def check_vacant(folder: Path) -> None:
    """Refuse a folder that a new run cannot be written to.

    Raises:
        InputError: it is a file, a run folder or another folder that is not empty.
    """
    if folder.resolve() == Path.cwd():
        raise InputError(f"{folder} is the current folder; a run needs a folder of its own: choose another")
    if folder.is_file():
        raise InputError(f"{folder} is a file; a run needs a folder")
    if (folder / "config.json").is_file():
        raise InputError(f"{folder} holds a run already; add --resume to continue it, or choose another folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no run; choose another folder")


def _read_points(path: Path) -> dict[str, Tensor]:
    try:
        check_npz(path)
        with open(path, "rb") as file, np.load(file) as arrays:  # np.load leaves a damaged file open
            weights = [label for label in _WEIGHTS if label in arrays]
            return {label: torch.from_numpy(arrays[label]) for label in (*_PARTS, *weights)}
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is missing or damaged: {error}") from error


def _without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the places of the data files: the data themselves have a hash."""
    source = {name: value for name, value in settings.get("problem", {}).items() if name not in ("x0", "x1")}
    return {**settings, "problem": source}


def _exact(path: Path) -> ExactBridge:
    truth = Bridge.load(path)
    if not isinstance(truth, ExactBridge):
        raise InputError(f"{path} holds a {type(truth).__name__}, not an exact bridge")
    return truth
