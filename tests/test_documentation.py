"""The documentation is true: its Python runs, its commands exist, its links lead to files, its lists are complete."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_architecture import LAYERS

from sbridge.cli.arguments import parse

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
}


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced code blocks in one of the languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def commands(text: str) -> Iterator[list[str]]:
    """Every command of the shell blocks as words; without comments and prompts, continued lines joined."""
    for block in blocks(text, "sh", "bash", "shell", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                yield words


def check(words: list[str]) -> None:
    """Fail unless the command exists here with these options."""
    program, arguments = Path(words[0]).name, words[1:]
    if program == "sbridge":
        parse(arguments)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert {one for one in arguments if "=" not in one} <= set(targets)
    elif program == "python" and arguments[:2] == ["-m", "sbridge"]:
        parse(arguments[2:])
    elif program == "python":
        assert (ROOT / arguments[0]).is_file()
    else:
        assert program in ("git", "cd", "pip"), f"{program} comes from elsewhere"


def _with_python() -> list[object]:
    slow = {key: [pytest.mark.slow] for key in ("README.md", "docs/cluster.md")}  # the latter starts Ray
    names = [name for name, text in DOCUMENTS.items() if blocks(text, "python")]
    return [pytest.param(name, marks=slow.get(name, [])) for name in names]


@pytest.mark.parametrize("name", _with_python())
def test_python_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a document in their order, as one session."""
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {"__name__": "documentation"}
    for code in blocks(DOCUMENTS[name], "python"):
        exec(compile(code, name, "exec", dont_inherit=True), session)


@pytest.mark.parametrize("code", blocks(DOCUMENTS["CONTRIBUTING.md"], "python"))
def test_examples_are_short(code: str) -> None:
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 20


@pytest.mark.parametrize("words", [words for text in DOCUMENTS.values() for words in commands(text)], ids=shlex.join)
def test_commands_exist(words: list[str]) -> None:
    check(words)


@pytest.mark.parametrize("line", ["sbridge recover nothing", "sbridge report run --speed 3", "make tea", "jump high"])
def test_commands_that_do_not_exist_are_seen(line: str) -> None:
    (words,) = commands(f"```sh\n$ {line}  # a comment\n```\n")
    with pytest.raises((AssertionError, ValueError, SystemExit)):
        check(words)


def test_continued_lines_are_one_command() -> None:
    text = "text\n```sh\nmake \\\n  test\n\n# only a comment\nmake demo\n```\n```python\nx = 1\n```\n"
    assert list(commands(text)) == [["make", "test"], ["make", "demo"]]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", DOCUMENTS[name])
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []


def test_the_list_of_layers_is_that_of_the_imports() -> None:
    (listed,) = blocks(DOCUMENTS["CONTRIBUTING.md"], "text")
    assert listed.split() == LAYERS, "copy LAYERS of tests/test_architecture.py to CONTRIBUTING.md"


def test_make_results_names_every_experiment() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    questions = [path.stem for path in EXPERIMENTS if path.stem != "common"]
    assert [name for name in questions if not re.search(rf"\b{name}\b", makefile)] == []


def _imported(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of everything that a script imports from the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sbridge":
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_use_public_names_that_exist(path: Path) -> None:
    for module, name in _imported(path):
        assert not name.startswith("_")
        assert hasattr(importlib.import_module(module), name) or importlib.import_module(f"{module}.{name}")
