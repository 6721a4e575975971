"""Bad command lines, by the program's entry point."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import polars as pl

from calls import IN_ORDER, Case, answer_of_command
from sbridge.cli import main

__all__ = ["FINISHED", "RUN", "Executes", "command_cases", "finished_run", "prepare"]

RUN = "run"
"""A finished run in the current folder."""

FINISHED = ("recover", "--x0", "a.npy", "--x1", "b.npy", "--epsilon", "0.5", "--method", "maxmin", "--steps", "30")
FINISHED += ("--baselines", "none")
"""The command of that run, without its folder."""

_FIT = (*FINISHED, "--out", "new")
_NUMBERS = ("0", "-1", "1.5", "nan", "many", "1e400", "9" * 30)
_POSITIVE = ("0", "-1", "nan", "inf", "half")
_SEEDS = ("-1", "1.5", "nan", "9" * 30)

_SPACES = {
    "unknown.json": '{"speed": [1]}',
    "inverted.json": '{"rate": {"low": 1, "high": 0.1}}',
    "nan.json": '{"rate": {"low": NaN, "high": NaN}}',
    "half.json": '{"rate": {"low": 1}}',
    "more.json": '{"rate": {"low": 0.1, "high": 1, "step": 2}}',
    "negative.json": '{"rate": [-1]}',
    "words.json": '{"rate": "fast"}',
    "narrow.json": '{"width": [64, 0]}',
    "nested.json": '{"coupling": [["Independent"]]}',
    "empty.json": '{"batch": []}',
}

OPTIONS: Mapping[tuple[str, ...], Mapping[str, Sequence[str]]] = {
    _FIT: {
        "--steps": _NUMBERS,
        "--epsilon": (*_POSITIVE, "reg=", "reg=-1", "blur=x", "sigma=nan", "foo=1", "1e-12"),
        "--seed": _SEEDS,
        "--threads": (*_NUMBERS, "5000"),
        "--checkpoint-seconds": ("-1", "nan", "soon"),
        "--diffusion": ("-1", "nan", "0.1,-1", "x", ","),
        "--held-out": ("0", "1", "-0.1", "nan", "x", "0.0001"),
        "--learn": ("everything",),
        "--interpolant": ("quadratic",),
        "--gamma": ("white",),
        "--coupling": ("optimal",),
        "--prior": ("mine",),
        "--baselines": ("all", "pot,nothing", ","),
        "--standardise": ("rows",),
        "--device": ("gpu", "cuda"),
        "--x0": (
            "none.npy",
            "empty.npy",
            "text.npy",
            "bomb.npz",
            "bomb.csv.gz",
            "claims.npy",
            "a.txt",
            "few.npy",
            "words.csv",
        ),
        "--x1": ("wide.npy", "constant.npy", "pickle.npy", "pickle.npz", "folder.npy", "many.npz", "many.npz:z"),
        "--out": ("a.npy", "full", "a.npy/inside", "n" * 300, ".", "/proc/new"),
        "--no-such-option": ("1",),
        "--columns": ("c0", "a,a", "a..z"),
        "--separator": ("ab",),
        "--groupby": ("g",),
    },
    ("recover", "gaussian", "--steps", "30", "--out", "new"): {
        "--dim": (*_NUMBERS, "1000000"),
        "--samples": (*_NUMBERS, "3", "2000000000"),
        "--test-samples": (*_NUMBERS, "3"),
        "--epsilon": _POSITIVE,
        "--data-seed": _SEEDS,
    },
    ("recover", "shapes", "--out", "new"): {"--dim": ("3", "0"), "--laws": ("moons", "", "moons:moon")},
    ("recover", "digits", "--out", "new"): {"--source": ("10", "x", "8", ""), "--components": ("0", "65")},
    ("recover", "known-potential", "--out", "new"): {
        "--source": ("none.npy", "text.npy", "claims.npy"),
        "--atoms": ("1", "x"),
    },
    ("epsilon", "--x0", "a.npy", "--x1", "b.npy", "--out", "new"): {
        "--values": ("0", "-1", "nan", "x", "0.1,inf"),
        "--seed": _SEEDS,
        "--out": ("a.npy", "n" * 300),
    },
    ("sample", RUN, "--input", "a.npy", "--out", "new.csv"): {
        "--steps": _NUMBERS,
        "--times": ("-0.1", "1.1", "nan", "0.5,0.2", "x", "0.3,0.3"),
        "--diffusion": ("-1", "nan", "x", "1e30"),
        "--seed": _SEEDS,
        "--direction": ("up",),
        "--input": ("none.npy", "wide.npy", "nan.npy", "words.csv", "bomb.npz", "claims.npy"),
        "--out": ("new.txt", "new", "folder.npy", "a.npy/new.csv", "n" * 300 + ".csv", "/proc/new.csv"),
        "--group": ("g",),
        "--rep": ("X_pca",),
        "--decimal": (";",),
    },
    ("sample", RUN, "--input", "t.csv", "--out", "new.csv"): {"--times": ("0.5,1",)},
    ("likelihood", RUN, "--input", "a.npy"): {
        "--method": ("magic",),
        "--at": ("x2",),
        "--seed": _SEEDS,
        "--input": ("one.npy", "wide.npy", "none.npy"),
        "--out": ("new.txt", "folder.npy"),
    },
    ("compare", RUN): {"--no-such-option": ("1",)},
    ("moves", RUN): {
        "--input": ("none.npy", "wide.npy", "one.npy", "nan.npy", "words.csv"),
        "--loadings": ("PCs",),
        "--top": _NUMBERS,
        "--seed": _SEEDS,
        "--out": ("new.txt", "folder.npy", "a.npy/new.csv", "n" * 300 + ".csv"),
        "--group": ("g",),
    },
    ("bench", "quick", "--methods", "potential", "--out", "new"): {
        "--budget": _POSITIVE,
        "--threads": (*_NUMBERS, "5000"),
        "--jobs": _NUMBERS,
        "--seeds": (*_SEEDS, ""),
        "--methods": ("none", "pot,none"),
        "--plugin": ("no.such.module", "os", "../x"),
        "--out": ("a.npy", "n" * 300),
    },
    ("bench", "gaussian", "--methods", "potential", "--out", "new"): {"--dims": ("0", "x", "-3")},
    ("tune", "--x0", "a.npy", "--x1", "b.npy", "--epsilon", "0.5", "--out", "new"): {
        "--trials": _NUMBERS,
        "--steps": _NUMBERS,
        "--concurrent": _NUMBERS,
        "--cpus-per-trial": _POSITIVE,
        "--gpus-per-trial": ("-1", "nan", "1.5"),
        "--seed": _SEEDS,
        "--search": ("grid",),
        "--scheduler": ("slurm",),
        "--space": ("none.json", "list.json", *_SPACES),
        "--storage": ("a.npy", "nosuch://bucket"),
    },
    ("snapshots", "a.npy", "b.npy", "--epsilon", "0.5", "--method", "potential", "--out", "new"): {
        "--times": ("0", "1,0", "0,nan", "x"),
        "--epsilon": _POSITIVE,
        "--held-out": ("0", "1", "nan"),
        "--growth": ("-1", "nan", "x"),
        "--seed": _SEEDS,
        "--steps": _NUMBERS,
        "--leave-out": ("5", "x"),
        "--out": ("full", "a.npy"),
    },
}

LINES: Sequence[tuple[str, ...]] = (
    (),
    ("fit",),
    ("recover",),
    ("recover", "pigs"),
    ("recover", "--x0", "a.npy"),
    ("recover", "--x0", "a.npy", "--x1", "b.npy"),
    ("recover", "--epsilon"),
    ("recover", "gaussian", "extra"),
    ("recover", "gaussian", "--out", RUN),
    ("sample",),
    ("sample", "full", "--input", "a.npy", "--out", "b.csv"),
    ("sample", RUN),
    ("sample", "none", "--input", "a.npy", "--out", "b.csv"),
    ("likelihood", "full", "--input", "a.npy"),
    ("compare",),
    ("compare", "full"),
    ("compare", "none", RUN),
    ("moves",),
    ("moves", "full"),
    ("report", "full"),
    ("report", "a.npy"),
    ("report", "n" * 300),
    ("bench", "slow"),
    ("tune",),
    ("tune", "pigs"),
    ("snapshots",),
    ("snapshots", "a.npy", "--epsilon", "1", "--out", "new"),
)


def command_cases() -> Iterator[Case]:
    """All of them, for a folder that `prepare` has filled."""
    for command, options in OPTIONS.items():
        for option, values in options.items():
            for value in values:
                yield _case(*command, f"{option}={value}")
    for words in LINES:
        yield _case(*words)


def _case(*words: str) -> Case:
    return Case(" ".join(words)[:160], partial(_answer, words))


def _answer(words: Sequence[str]) -> str:
    """The answer; a refused command must leave nothing behind."""
    before = _listing()
    found = answer_of_command(*words)
    more = sorted(_listing() - before)
    return f"left {more[:3]}" if found == IN_ORDER and more else found


def _listing() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.name != ".lock"}


def prepare() -> None:
    """Fill the current folder with the files that the command lines name."""
    noise = np.random.default_rng(0)
    x = noise.normal(size=(400, 2))
    arrays: Mapping[str, object] = {
        "a": x,
        "b": x + 1,
        "wide": noise.normal(size=(400, 5)),
        "few": x[:5],
        "one": x[:1],
        "nan": np.where(x > 2, np.nan, x),
        "constant": np.ones((400, 2)) * np.inf,
        "text": np.array([["a", "b"]] * 40),
    }
    for name, values in arrays.items():
        np.save(f"{name}.npy", values)  # type: ignore[arg-type]
    np.savez("many.npz", a=x, b=x)
    Path("empty.npy").touch()
    Path("a.txt").write_text("1 2\n")
    Path("folder.npy").mkdir()
    Path("full").mkdir()
    Path("full/file").touch()
    for name, text in _TEXTS.items():
        Path(name).write_text(text)
    table = pl.DataFrame({"t": x[:, 0], "u": x[:, 1]})
    table.write_csv("t.csv")
    for name, write in _HOSTILE.items():
        write(Path(name))


_TEXTS = {
    "words.csv": "a,b\n" + "x,y\n" * 40,
    "few.csv": "a,b\n1,2\n",
    "list.json": "[1, 2]",
    **_SPACES,
}


class Executes:
    """What a pickle does when it is read."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, ("executed", "w")


def _pickled_npy(path: Path) -> None:
    np.save(path, np.array([Executes()], dtype=object), allow_pickle=True)


def _pickled_npz(path: Path) -> None:
    np.savez(path, x=np.array([Executes()], dtype=object))


def _bomb(path: Path) -> None:
    """A megabyte or so that becomes hundreds of gigabytes, if one believes the header of the array."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", _header((200_000_000_000, 10)) + bytes(2**24))


def _gz_bomb(path: Path) -> None:
    """64 MB that unpack to 64 GB."""
    path.write_bytes(gzip.compress(bytes(2**26)) * 1000)


def _claims(path: Path) -> None:
    path.write_bytes(_header((2**40, 2)) + bytes(64))


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": "<f8"})
    return buffer.getvalue()


_HOSTILE: Mapping[str, Callable[[Path], None]] = {
    "pickle.npy": _pickled_npy,
    "pickle.npz": _pickled_npz,
    "bomb.npz": _bomb,
    "bomb.csv.gz": _gz_bomb,
    "claims.npy": _claims,
}


def finished_run() -> str:
    """Make the run that command lines and folders use; returns its folder."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        code = main([*FINISHED, "--out", RUN])
    assert code == 0
    return RUN
