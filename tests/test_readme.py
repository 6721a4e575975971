"""What the README says can be done, can be done: its Python runs, its commands exist with their options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from sbridge.cli.arguments import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced code blocks in one of the languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def commands(text: str) -> Iterator[list[str]]:
    """Every command of the shell blocks as words; comments and prompts left out, continued lines joined."""
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
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert {one for one in arguments if "=" not in one} <= set(targets)
    elif program == "python" and arguments[:2] == ["-m", "sbridge"]:
        parse(arguments[2:])
    elif program == "python":
        assert (ROOT / arguments[0]).is_file()
    else:
        assert program in ("git", "cd", "pip"), f"the README runs {program}, which comes from elsewhere"


def test_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks in their order, as one session."""
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {"__name__": "readme"}
    for code in blocks(README, "python"):
        exec(compile(code, "README.md", "exec"), session)


@pytest.mark.parametrize("words", list(commands(README)), ids=shlex.join)
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
