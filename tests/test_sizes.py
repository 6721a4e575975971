"""What a small file unpacks to, or claims to hold, is refused before memory is taken for it."""

from __future__ import annotations

import gzip
import hashlib
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.sparse
import torch

from sbridge.arrays import as_tensor
from sbridge.checks import files
from sbridge.errors import InputError
from sbridge.io import read_points, read_training, save_training
from sbridge.problems.gaussian import Gaussian
from sbridge.solvers.regression import Regression

NUMBERS = 2_000_000
MEMORY = 8 * NUMBERS  # bytes: a quarter of it holds a quarter of the numbers


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of a few megabytes."""
    monkeypatch.setattr(files, "_memory", lambda: MEMORY)


def npz(path: Path) -> None:
    np.savez_compressed(path, x=np.zeros((NUMBERS // 2, 2)))


def gz(path: Path) -> None:
    path.write_bytes(gzip.compress(b"a,b\n" + b"0,0\n" * NUMBERS))


def parquet(path: Path) -> None:
    pl.DataFrame({"a": np.zeros(NUMBERS), "b": np.zeros(NUMBERS)}).write_parquet(path)


def h5ad(path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    anndata.AnnData(np.zeros((1000, NUMBERS // 1000))).write_h5ad(path, compression="gzip")


BOMBS: dict[str, Callable[[Path], None]] = {"npz": npz, "csv.gz": gz, "tsv.gz": gz, "parquet": parquet, "h5ad": h5ad}


@pytest.mark.parametrize("suffix", BOMBS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_file_that_unpacks_to_too_much_is_refused(suffix: str, tmp_path: Path, little_memory: None) -> None:
    path = tmp_path / f"bomb.{suffix}"
    BOMBS[suffix](path)
    assert path.stat().st_size < MEMORY / 4
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"would take .* GB, too much for the memory of this machine"):
            read_points(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", BOMBS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_same_file_is_read_where_there_is_memory(suffix: str, tmp_path: Path) -> None:
    BOMBS[suffix](tmp_path / f"x.{suffix}")
    assert not read_points(tmp_path / f"x.{suffix}").values.any()


def test_a_large_text_is_refused(tmp_path: Path, little_memory: None) -> None:
    (tmp_path / "x.csv").write_bytes(b"a,b\n" + b"0,0\n" * NUMBERS)
    with pytest.raises(InputError, match="too much for the memory"):
        read_points(tmp_path / "x.csv")


def test_a_sparse_array_is_refused_if_its_zeros_fill_memory(little_memory: None) -> None:
    with pytest.raises(InputError, match="a sparse array with its zeros would take"):
        as_tensor(scipy.sparse.csr_matrix((NUMBERS, NUMBERS)))


def test_where_the_system_does_not_say_its_memory_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(files.os, "sysconf_names")
    files.check_memory("this", 1e30)
    monkeypatch.undo()
    with pytest.raises(InputError, match="this would take"):
        files.check_memory("this", 1e30)


def test_a_checkpoint_that_unpacks_to_more_than_it_has_is_refused(tmp_path: Path) -> None:
    training = Regression(steps=6, batch=32).start(Gaussian(samples=40, test_samples=40).build())
    save_training(tmp_path / "whole.pt", training)
    assert read_training(tmp_path / "whole.pt")["step"] == 0
    _save_packed(tmp_path / "packed.pt")
    with pytest.raises(InputError, match=r"claims to hold .* bytes, but has"):
        read_training(tmp_path / "packed.pt")


def _save_packed(path: Path) -> None:
    """A checkpoint with a right checksum, whose zeros are packed."""
    buffer, packed = BytesIO(), BytesIO()
    torch.save({"training": torch.zeros(NUMBERS)}, buffer)
    with zipfile.ZipFile(buffer) as before, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as after:
        for entry in before.infolist():
            after.writestr(entry.filename, before.read(entry))
    state = packed.getvalue()
    head = {"format": 1, "sbridge": "0", "sha256": hashlib.sha256(state).hexdigest()}
    path.write_bytes(json.dumps(head).encode() + b"\n" + state)
