"""Benchmarks: many methods on problems with a known truth, in equal time, each in a process of its own.

`plan` lists the cells of some cases, methods, budgets and seeds; `bench` does them and draws the table:

    cells = plan(Mixtures(dims=(2, 16)).cases(), chosen(["maxmin", "pot"]), budgets=(30, 120), seeds=(0, 1))
    table = bench(cells, "results/mine", jobs=2)
"""

from sbridge.bench.cells import Cell, plan
from sbridge.bench.methods import METHODS, Method, chosen
from sbridge.bench.run import bench
from sbridge.bench.suites import SUITES, AnyShape, Case, Finite, Gaussians, Mixtures, Planar, Quick, Real, Suite

__all__ = [
    "METHODS",
    "SUITES",
    "AnyShape",
    "Case",
    "Cell",
    "Finite",
    "Gaussians",
    "Method",
    "Mixtures",
    "Planar",
    "Quick",
    "Real",
]
__all__ += ["Suite", "bench", "chosen", "plan"]
