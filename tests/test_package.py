"""The package's names are imported when they are used, and importing it costs little."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sbridge


def _typed_names() -> dict[str, str]:
    """Names of the imports that type checkers see, and the modules they are taken from."""
    assert sbridge.__file__
    nodes = ast.walk(ast.parse(Path(sbridge.__file__).read_text()))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_every_name_is_the_one_that_type_checkers_see() -> None:
    typed = _typed_names()
    for name in sbridge.__all__:
        assert getattr(sbridge, name) is getattr(sys.modules[typed[name]], name)
    assert set(sbridge.__all__) <= set(dir(sbridge))


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="module 'sbridge' has no attribute 'Brige'"):
        _ = sbridge.Brige


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import sbridge", ["torch", "sklearn", "scipy", "pandas", "polars", "matplotlib", "ot", "geomloss", "rich"]),
        ("from sbridge import Bridge, Problem, Simulation", ["sklearn", "scipy.stats", "pandas", "polars", "ot"]),
        ("from sbridge import MaxMin", ["matplotlib", "polars", "ot", "geomloss", "ray"]),
        ("from sbridge import SchrodingerBridge", ["matplotlib", "polars", "ot", "geomloss", "ray"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_imports_load_no_library_that_they_do_not_need(statement: str, absent: list[str]) -> None:
    program = f"import sys\n{statement}\nprint(*sorted(set(sys.modules) & set({absent!r})))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []
