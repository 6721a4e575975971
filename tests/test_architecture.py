"""The layers of the package: a file may import only from those above its own, and nothing touches the global seed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sbridge

ROOT = Path(sbridge.__file__).parent
LAYERS = ["errors", "checks", "estimates", "arrays", "weights", "points", "parameters", "files", "sizes", "storage"]
LAYERS += ["tables", "units", "fields", "networks", "interpolants", "times", "plans", "sampling", "couplings"]
LAYERS += ["objectives", "densities", "likelihood", "bridge", "problem", "inspection", "spread", "standardise"]
LAYERS += ["movement", "solvers", "potentials", "baselines", "problems", "theory", "evaluation", "auto", "epsilon"]
LAYERS += ["display", "estimator", "snapshots", "io", "report", "bench", "tuning", "cli", "__main__", "experiments"]
LATE = {(name, late) for name in ("bridge", "standardise") for late in ("evaluation.certificate", "solvers.base")}
LATE |= {("estimator", "report.written")}
"""Imports that are made when a method is called, or for types only."""
GLOBAL_SEEDS = {"torch.manual_seed", "torch.seed", "torch.random.manual_seed", "torch.random.seed"}
GLOBAL_SEEDS |= {
    "torch.set_rng_state",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.default_generator.manual_seed",
}
GLOBAL_SEEDS |= {"np.random.seed", "numpy.random.seed", "random.seed"}


def _modules(root: Path) -> dict[str, ast.Module]:
    """Source tree of every module of a package, by its dotted name without the package's."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text())
    return found


def _imports(name: str, tree: ast.Module, package: str, modules: dict[str, ast.Module]) -> Iterator[str]:
    """Modules of the package that a module imports anywhere in its text, for typing only too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import in line {node.lineno}"
            wanted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for full in wanted:
            if full.split(".")[0] == package:
                yield _nearest(full.split(".")[1:], modules)


def _nearest(parts: list[str], modules: dict[str, ast.Module]) -> str:
    """The longest beginning of a dotted name that is a module; '' is the package itself."""
    while parts and ".".join(parts) not in modules:
        parts = parts[:-1]
    return ".".join(parts)


def _graph(root: Path) -> dict[str, set[str]]:
    modules = _modules(root)
    return {name: set(_imports(name, tree, root.name, modules)) for name, tree in modules.items()}


def _layer(name: str) -> int:
    return LAYERS.index(name.split(".")[0])


def _back_edges(graph: dict[str, set[str]]) -> list[str]:
    """Imports that go up: from a lower layer, or from the package's front door, which stands below everything."""
    inside = {name: used for name, used in graph.items() if name}
    return [
        f"{name} imports {other or 'the package itself'}"
        for name, used in inside.items()
        for other in sorted(used)
        if not other or (_layer(other) > _layer(name) and (name, other) not in LATE)
    ]


def _dotted(node: ast.expr) -> str:
    """'a.b.c' of an attribute, '' of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{_dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def _global_seeds(tree: ast.AST) -> list[int]:
    """Lines that set a global seed, unless its state is put back afterwards by `torch.random.fork_rng`."""
    if isinstance(tree, ast.With) and any("fork_rng" in ast.dump(item) for item in tree.items):
        return []
    here = [tree.lineno] if isinstance(tree, ast.Call) and _dotted(tree.func) in GLOBAL_SEEDS else []
    return here + [line for child in ast.iter_child_nodes(tree) for line in _global_seeds(child)]


GRAPH = _graph(ROOT)


def test_every_module_has_a_layer() -> None:
    assert {name.split(".")[0] for name in GRAPH if name} <= set(LAYERS)


def test_imports_go_one_way() -> None:
    assert _back_edges(GRAPH) == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """Within a package too, where all modules share a layer, and through imports for typing only."""
    late = {name: {other for one, other in LATE if one == name} for name in GRAPH}
    TopologicalSorter({name: used - {name} - late[name] for name, used in GRAPH.items() if name}).prepare()


def test_no_function_sets_a_global_seed() -> None:
    assert [name for name, tree in _modules(ROOT).items() if _global_seeds(tree)] == []


def _defined(tree: ast.Module) -> Iterator[str]:
    """Public classes, functions and constants at the top of a module; letters are type variables."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name) and len(target.id) > 1)


def test_no_public_name_means_two_things() -> None:
    modules = _modules(ROOT)
    names = [(one, name) for name, tree in modules.items() for one in _defined(tree) if not one.startswith("_")]
    places = {one: [name for other, name in names if other == one] for one, _ in names}
    assert {one: where for one, where in places.items() if len(where) > 1} == {}


def test_the_package_does_not_import_tests_or_experiments() -> None:
    roots = {
        full.split(".")[0]
        for tree in _modules(ROOT).values()
        for node in ast.walk(tree)
        for full in ([a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)])
        if full and isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert not roots & {"tests", "experiments", "conftest"}


def _package(root: Path, **sources: str) -> Path:
    folder = root / "sbridge"
    for name, source in {"__init__": "", **sources}.items():
        path = folder / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return folder


@pytest.mark.parametrize(
    "source",
    [
        "from sbridge.bridge import Bridge",
        "import sbridge.bridge",
        "from sbridge import bridge",
        "def f():\n    from sbridge.bridge import Bridge",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sbridge.bridge import Bridge",
        "from sbridge import __version__",
    ],
)
def test_back_edges_are_seen(tmp_path: Path, source: str) -> None:
    assert len(_back_edges(_graph(_package(tmp_path, bridge="", fields=source)))) == 1


def test_circles_within_a_layer_are_seen(tmp_path: Path) -> None:
    loop = {"solvers__in__a": "from sbridge.solvers.b import B", "solvers__in__b": "from sbridge.solvers import a"}
    graph = _graph(_package(tmp_path, solvers__in____init__="", **loop))
    assert _back_edges(graph) == []
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("source", ["torch.manual_seed(0)", "def f():\n    np.random.seed(1)"])
def test_global_seeds_are_seen(source: str) -> None:
    assert _global_seeds(ast.parse(source))
    assert not _global_seeds(ast.parse("torch.Generator().manual_seed(0)\ngenerator.manual_seed(1)"))
    assert not _global_seeds(ast.parse("with torch.random.fork_rng(devices=[]):\n    torch.manual_seed(0)"))
