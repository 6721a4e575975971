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
from sbridge.display import noted_warnings
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
    return 0


def _fail(message: str, code: int) -> int:
    print(f"sbridge: {message}", file=sys.stderr)
    return code
