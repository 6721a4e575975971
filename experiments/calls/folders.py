"""Damaged and hostile run folders and files."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from calls import IN_ORDER, Case, answer_of_command
from calls.commands import FINISHED, RUN, Executes

__all__ = ["folder_cases"]

COPY = "copy"
OUTSIDE = Path("outside")
"""A folder that links in a hostile folder lead to."""

_REPORT = ("report", COPY)
_COMPARE = ("compare", COPY)
_SAMPLE = ("sample", COPY, "--input", "a.npy", "--out", f"{COPY}/moved.csv")
_LIKELIHOOD = ("likelihood", COPY, "--input", "few.npy")
_RESUME = (*FINISHED, "--out", COPY, "--resume")

Damage = Callable[[Path], object]


def folder_cases() -> Iterator[Case]:
    """All of them, for a folder that `calls.commands.prepare` has filled and that holds a run."""
    for name, damages, commands in (
        ("config.json", _TEXTS | _configs(), (_REPORT, _SAMPLE)),
        ("comparison.json", _TEXTS | _comparisons(), (_REPORT, _COMPARE)),
        ("certificate.json", _TEXTS | _certificates(), (_REPORT,)),
        ("history.csv", _HISTORIES, (_REPORT,)),
        ("bridge.safetensors", _BYTES | _bridges(), (_SAMPLE, _LIKELIHOOD)),
        ("data.npz", _BYTES | _ARRAYS, (_REPORT, _LIKELIHOOD)),
        ("stages/fit-max-min.json", _TEXTS, (_RESUME,)),
    ):
        for title, damage in damages.items():
            for command in commands:
                yield Case(f"{name}: {title}: {command[0]}", partial(_answer, name, damage, command))
    for title, damage in _LINKS.items():
        yield Case(f"links: {title}", partial(_answer, "", damage, _RESUME if "stages" in title else _REPORT, True))


def _answer(name: str, damage: Damage, command: Sequence[str], may_pass: bool = False) -> str:
    """The answer to a command on a copy of the run whose file is damaged; nothing outside of it may change."""
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.rmtree(OUTSIDE, ignore_errors=True)
    shutil.copytree(RUN, COPY)
    OUTSIDE.mkdir()
    (OUTSIDE / "file").write_text("not ours")
    path = Path(COPY, name)
    if not path.exists():
        return f"the run has no {name}"
    damage(path)
    found = answer_of_command(*command)
    if [(OUTSIDE / "file").read_text(), *os.listdir(OUTSIDE)] != ["not ours", "file"]:
        return "written outside the folder"
    harmless = found.startswith("exit code 0") and (may_pass or "is missing" in found)
    return IN_ORDER if harmless else found


def _write(content: str | bytes) -> Damage:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(share: float) -> Damage:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(share * (len(content) - 1))] ^= 0x10
        path.write_bytes(bytes(content))

    return flip


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _changed(change: Callable[[Any], object]) -> Damage:
    """A change of a JSON file's content."""

    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


def _set(*keys: Any, to: Any) -> Damage:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return _changed(change)


def _without(*keys: str) -> Damage:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return _changed(change)


_BYTES: Mapping[str, Damage] = {
    "missing": Path.unlink,
    "empty": _write(b""),
    "half": _cut,
    "a bit at the start": _flip(0.01),
    "a bit in the middle": _flip(0.5),
    "a bit at the end": _flip(0.98),
    "a folder": _folder,
    "noise": _write(bytes(range(256)) * 40),
    "a pickle": _write(pickle.dumps(Executes())),
    "text": _write("hello"),
}
_TEXTS: Mapping[str, Damage] = {
    "empty": _write(""),
    "half": _cut,
    "a list": _write("[]"),
    "a number": _write("3"),
    "null": _write("null"),
    "no JSON": _write("{'a': 1}"),
    "not UTF-8": _write(b"\xff\xfe{}"),
    "deep": _write("[" * 100_000 + "]" * 100_000),
    "a folder": _folder,
    "newer": lambda path: _set("format", to=99)(path),
    "a strange format": lambda path: _set("format", to="1; rm")(path),
}


def _configs() -> dict[str, Damage]:
    missing = {f"no {key}": _without(key) for key in ("settings", "methods", "environment", "command")}
    missing |= {f"no settings.{key}": _without("settings", key) for key in ("name", "epsilon")}
    names = ("/etc/passwd", "../outside/file", "..", "", "a/b.safetensors", 3, None)
    bad = {f"methods to {name!r}": _set("methods", "max–min", to=name) for name in names}
    values: dict[tuple[str, ...], Sequence[Any]] = {
        ("settings", "epsilon"): (-1, 0, "0.5", None, [1], 1e999),
        ("settings", "name"): (3, None, "\x1b[2Jgone", "\x07"),
        ("settings", "columns"): ("ab", [1, 2], {"a": 1}),
        ("settings", "standardise"): ("rows", 3),
        ("settings", "device"): ("gpu", 3),
        ("settings",): ([], None),
        ("methods",): ({}, [], None),
        ("environment",): ([], {"torch": 2}),
        ("command",): (3, "\x1b]0;title\x07"),
    }
    bad |= {f"{'.'.join(keys)} {value!r}": _set(*keys, to=value) for keys, found in values.items() for value in found}
    return missing | bad


def _comparisons() -> dict[str, Damage]:
    missing = {f"no {key}": _without(key) for key in ("problem", "epsilon", "dim", "rows", "effort")}
    values: dict[tuple[str, ...], Sequence[Any]] = {
        ("epsilon",): ("0.5e", None, [1]),
        ("rows",): ([], 3, {"a": 3}, {"a": {"path_kl": [1]}}),
        ("effort",): (3, {"points": -1}, {"sizes": 3}),
        ("duals",): ([1], {"a": "b"}),
        ("problem",): (3, "\x1b[31mred"),
    }
    return missing | {
        f"{keys[0]} {value!r}": _set(*keys, to=value) for keys, found in values.items() for value in found
    }


def _certificates() -> dict[str, Damage]:
    contents = ({}, {"certificate": None}, {"certificate": {}}, {"certificate": {"epsilon": 1}}, {"refused": "\x1b[2J"})
    more: Sequence[Any] = ({"refused": 3}, {"certificate": {"epsilon": 0.5, "method": "x", "forward": "f"}})
    return {f"{content!r}": _write(json.dumps(content)) for content in (*contents, *more)}


_HISTORIES: Mapping[str, Damage] = {
    "missing": Path.unlink,
    "empty": _write(""),
    "no step": _write("a,b\n1,2\n"),
    "words": _write("step,held_out_loss\none,two\n"),
    "ragged": _write("step,a\n1,2,3\n"),
    "noise": _write(bytes(range(256))),
    "a folder": _folder,
}

_ARRAYS: Mapping[str, Damage] = {
    "other names": lambda path: np.savez(path, a=np.ones((20, 2))),
    "words": lambda path: np.savez(path, **{name: np.array(["a"] * 20) for name in ("x0", "x1", "test0", "test1")}),
    "other shapes": lambda path: np.savez(path, **{name: np.ones(20) for name in ("x0", "x1", "test0", "test1")}),
    "NaN": lambda path: np.savez(path, **{name: np.full((20, 2), np.nan) for name in ("x0", "x1", "test0", "test1")}),
    "objects": lambda path: np.savez(path, x0=np.array([Executes()], dtype=object)),
    "a bomb": lambda path: shutil.copy("bomb.npz", path),
}


def _header(change: Callable[[dict[str, Any]], object]) -> Damage:
    """A change of a bridge's header; the checksum is taken away, as an attacker would."""

    def damage(path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["sbridge"])
        header.pop("sha256")
        change(header)
        save_file(load_file(path), path, metadata={"sbridge": json.dumps(header)})

    return damage


def _first_network(header: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the network in a header."""
    waiting = [header["module"]]
    while waiting:
        one = waiting.pop()
        if one.get("class") == "DriftPair":
            found: dict[str, Any] = one["arguments"]
            return found
        waiting += [inner for inner in one.get("arguments", {}).values() if isinstance(inner, dict)]
    raise AssertionError("no network")


def _bridges() -> dict[str, Damage]:
    def of(key: str, value: Any) -> Damage:
        return _header(lambda header: header["module"].update({key: value}))

    def network(**sizes: Any) -> Damage:
        return _header(lambda header: _first_network(header).update(sizes))

    return {
        "os.system": _header(lambda header: header["module"].update({"class": "system", "module": "os"})),
        "another module": of("module", "sbridge.tuning.search"),
        "a module of the folder": of("module", "evil"),
        "another class": of("class", "Frame"),
        "no class": _header(lambda header: header["module"].pop("class")),
        "no arguments": _header(lambda header: header["module"].pop("arguments")),
        "more arguments": _header(lambda header: header["module"]["arguments"].update(more=1)),
        "kept names": of("kept", {"__class__": "x"}),
        "columns of numbers": of("kept", {"columns": 3}),
        "columns that control": of("kept", {"columns": ["\x1b[2J", "b"]}),
        "a loop": _header(lambda header: header["module"]["arguments"].update(forward_field={"same": ""})),
        "epsilon text": _header(lambda header: header["module"]["arguments"].update(epsilon="0.5")),
        "epsilon negative": _header(lambda header: header["module"]["arguments"].update(epsilon=-1.0)),
        "wide": network(width=10**9),
        "wide and large": network(width=2 * 10**5),
        "width text": network(width="128"),
        "depth negative": network(depth=-3),
        "newer": _header(lambda header: header.update(format=99)),
        "no header": lambda path: save_file(load_file(path), path),
        "nonsense header": lambda path: save_file(load_file(path), path, metadata={"sbridge": "{"}),
    }


def _link(name: str) -> Damage:
    """The file or folder of that name becomes a link to one outside."""

    def damage(path: Path) -> None:
        place = path / name
        if place.is_dir():
            shutil.rmtree(place)
            place.symlink_to(OUTSIDE.absolute())
        else:
            place.unlink(missing_ok=True)
            place.symlink_to((OUTSIDE / "file").absolute())

    return damage


_LINKS: Mapping[str, Damage] = {
    name: _link(name) for name in ("figures", "report.html", "stages", ".lock", "stages/row-max-min.json")
}
