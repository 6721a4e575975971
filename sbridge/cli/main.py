"""`sbridge`: arguments in, exit code out.

0: done.  1: the fit diverged.  2: what was asked for cannot be done.  128 + n: stopped by signal n.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version

from sbridge.cli.arguments import parse
from sbridge.cli.signals import Stopped, stoppable
from sbridge.display import note, noted_warnings
from sbridge.errors import DivergenceError, InputError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        print(f"sbridge {version('sbridge')}")
        return 0
    try:
        with stoppable(), noted_warnings():
            parse(words).run(shlex.join(["sbridge", *words]))
    except InputError as error:
        return _fail(str(error), 2)
    except DivergenceError as error:
        return _fail(str(error), 1)
    except Stopped as stop:
        return _fail(str(stop), 128 + stop.signal)
    except (OSError, MemoryError, RuntimeError) as error:
        return _fail(_in_words(error), 2)
    return 0


def _in_words(error: OSError | MemoryError | RuntimeError) -> str:
    """What the system or a library refused, in a sentence."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or text}; check the path, its rights and the disk"
    if isinstance(error, MemoryError) or "allocate" in text:
        return f"there is not enough memory: take fewer points, columns or samples ({text.splitlines()[0]})"
    return f"a library refused this: {text.splitlines()[0]}; check the sizes and options that you gave"


def _fail(message: str, code: int) -> int:
    note(f"sbridge: {message}")
    return code
