"""Benchmarks: many solvers on problems with a known truth, in equal time, each in its own process.

`cells_of` lists the cells of some cases, solvers, budgets and seeds; `bench` computes them and writes the table:

    cells = cells_of(Mixtures(dims=(2, 16)).cases(), chosen(["maxmin", "pot"]), budgets=(30, 120), seeds=(0, 1))
    table = bench(cells, "results/mine", jobs=2)
"""

from sbridge.bench.cells import Cell, cells_of
from sbridge.bench.entries import ENTRIES, Entry, chosen
from sbridge.bench.plugins import add_plugins
from sbridge.bench.run import bench
from sbridge.bench.suites import SUITES, AnyShape, Case, Finite, Gaussians, Mixtures, PlanarShapes, Quick, Real, Suite

__all__ = ["ENTRIES", "SUITES", "AnyShape", "Case", "Cell", "Entry", "Finite", "Gaussians", "Mixtures", "PlanarShapes"]
__all__ += ["Quick", "Real", "Suite", "add_plugins", "bench", "cells_of", "chosen"]
