"""Bad calls, and what the package answers: shared by `experiments/robustness.py` and `tests/test_robustness.py`.

An answer is in order if it is one sentence that says what to do: an InputError or a DivergenceError from Python, exit
code 1 or 2 with a line on stderr from a command.  Out of order are tracebacks, silence, and code that a file executed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from sbridge.cli import main
from sbridge.errors import DivergenceError, InputError

__all__ = ["CANARY", "IN_ORDER", "Case", "answer", "answer_of_command", "workspace"]

IN_ORDER = "refused"
CANARY = "executed"
"""The file that hostile files try to make in the current folder."""


@dataclass(frozen=True)
class Case:
    """A bad call.

    Args:
        name: what is wrong.
        call: makes the call in the current folder, and returns the answer: `IN_ORDER`, or what was out of order.
    """

    name: str
    call: Callable[[], str]


def answer(case: Case) -> str:
    """What the package answers to a bad call: `IN_ORDER`, or what was out of order."""
    found = case.call()
    if Path(CANARY).exists():
        Path(CANARY).unlink()
        return f"code executed; {found}"
    return found


def answer_of_python(call: Callable[[], object]) -> str:
    """The answer to a call from Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = call()
    except (InputError, DivergenceError) as error:
        return IN_ORDER if len(str(error)) > 10 else f"no sentence: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"silent: {str(given)[:60]}"


def answer_of_command(*words: str) -> str:
    """The answer to a command, by its entry point."""
    out, err = StringIO(), StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
            code = main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    text = err.getvalue()
    if code in (1, 2):
        hidden = [mark for mark in ("Traceback", "\x1b", "\x07") if mark in text]
        return f"{hidden[0]!r} in its words" if hidden else IN_ORDER if text.strip() else "no word"
    return f"exit code {code}: {text.strip()[-120:]}"


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """An empty folder that is the current one."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)
