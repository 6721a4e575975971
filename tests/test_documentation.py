"""The documentation is true: its Python runs, its commands exist, its links lead to files, its lists are complete."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_architecture import LAYERS

import sbridge
from sbridge import Bridge, Problem
from sbridge.cli.arguments import parse
from sbridge.evaluation import Effort, Evaluator
from sbridge.solvers import NetworkSolver

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
}

READ = {name: text for name, text in DOCUMENTS.items() if not name.startswith("docs/examples/")}
"""Those whose blocks are tried here; tests/test_examples.py does what the examples say, in their order."""

_STEPS = 20  # of a training


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


@pytest.fixture
def short_fits(monkeypatch: pytest.MonkeyPatch, little_care: None) -> None:
    """Trainings, certificates and comparisons of a few steps: the examples are tried, not the fits."""
    solve = NetworkSolver.solve

    def solve_briefly(solver: NetworkSolver, problem: Problem, *settings: Any, **more: Any) -> Bridge:
        return solve(replace(solver, steps=min(solver.steps, _STEPS)), problem, *settings, **more)

    monkeypatch.setattr(NetworkSolver, "solve", solve_briefly)
    small, of = Effort(200, 200, 32, 20, 8, 20, 20), Evaluator.of
    monkeypatch.setattr(Evaluator, "of", staticmethod(lambda problem, seed, _: of(problem, seed, small)))


def _with_python() -> list[object]:
    slow = {"docs/cluster.md": [pytest.mark.slow]}  # it starts Ray
    names = [name for name, text in READ.items() if blocks(text, "python")]
    return [pytest.param(name, marks=slow.get(name, [])) for name in names]


@pytest.mark.parametrize("name", _with_python())
@pytest.mark.usefixtures("short_fits")
def test_python_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a document in their order, as one session."""
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {"__name__": "documentation"}
    for code in blocks(DOCUMENTS[name], "python"):
        exec(compile(code, name, "exec", dont_inherit=True), session)


@pytest.mark.parametrize("code", blocks(DOCUMENTS["CONTRIBUTING.md"], "python"))
def test_examples_are_short(code: str) -> None:
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 20


@pytest.mark.parametrize("words", [words for text in READ.values() for words in commands(text)], ids=shlex.join)
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
    """Figures are drawn when the site is built; a strict build misses none of them."""
    links = [link for link in re.findall(r"\]\((?!https?:)([^)#]+)", DOCUMENTS[name]) if "figures/" not in link]
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []


def test_every_figure_is_shown() -> None:
    drawn = re.findall(r"^@figure\ndef (\w+)", (ROOT / "docs" / "figures.py").read_text(), flags=re.MULTILINE)
    shown = {name for text in DOCUMENTS.values() for name in re.findall(r"figures/(\w+)\.svg", text)}
    assert shown == set(drawn)


def test_every_public_name_is_in_the_api_pages() -> None:
    text = "".join(text for name, text in DOCUMENTS.items() if name.startswith("docs/api/"))
    assert [name for name in sbridge.__all__ if not re.search(rf"^::: sbridge\.{name}$", text, re.MULTILINE)] == []


def test_the_readme_is_short() -> None:
    assert len(DOCUMENTS["README.md"].splitlines()) <= 120


def test_tables_in_documents_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    results = importlib.import_module("results")
    for name in results.FILLED:
        assert results.filled(DOCUMENTS[name]) == DOCUMENTS[name], "run python docs/results.py"


def test_the_list_of_layers_is_that_of_the_imports() -> None:
    (listed,) = blocks(DOCUMENTS["CONTRIBUTING.md"], "text")
    assert listed.split() == LAYERS, "copy LAYERS of tests/test_architecture.py to CONTRIBUTING.md"


def test_make_results_names_every_experiment() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    questions = [path.stem for path in EXPERIMENTS if "__main__" in path.read_text(encoding="utf-8")]
    assert len(questions) > 10
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


def test_tables_are_made_of_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    results = importlib.import_module("results")
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert "make results" in results.TABLES["results"]() and "make results" in results.TABLES["all"]()
    folder = tmp_path / "compare" / "mixture"
    folder.mkdir(parents=True)
    (folder / "table.csv").write_text(
        "case,method,path_kl,path_kl_se,path_kl_spread\n"
        "mixture d=16 ε=0.5,max–min,0.0312,0.001,0.002\nmixture d=16 ε=0.5,floor (two true samples),0.0,,\n"
    )
    (folder / "table.md").write_text("| a table |\n")
    few, everything = results.TABLES["results"](), results.TABLES["all"]()
    assert "| max–min | 0.031 ± 0.002 |" in few and "path KL (nats):" in few
    assert "in equal training time" in everything and "| a table |" in everything


@pytest.mark.parametrize("name", ["docs/tutorial.md", "docs/how-to/judge.md"])
def test_a_page_is_a_notebook(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    text = importlib.import_module("notebooks").notebook(DOCUMENTS[name])
    cells = json.loads(text)["cells"]
    assert [cell["source"] + "\n" for cell in cells if cell["cell_type"] == "code"] == blocks(DOCUMENTS[name], "python")
    assert ".md)" not in text


def test_one_version_everywhere() -> None:
    places = {"pyproject.toml": 'version = "(.+)"', "CITATION.cff": "version: (.+)", "CHANGELOG.md": "## (.+)"}
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in places}
    found = [re.findall(f"^{pattern}$", texts[name], re.MULTILINE)[0] for name, pattern in places.items()]
    assert found == [sbridge.__version__] * len(places)
