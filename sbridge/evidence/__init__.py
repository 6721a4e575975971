"""Evidence: how good a bridge is, beside the truth and beside other methods."""

from sbridge.evidence.certificate import certify
from sbridge.evidence.comparison import Fitted, Judge, Method, compare
from sbridge.evidence.distances import bures_wasserstein, energy_distance, sliced_wasserstein, wasserstein
from sbridge.evidence.metrics import bw_uvp, cbw_uvp, cbw_uvp_exact, kinetic_energy, path_kl
from sbridge.evidence.table import COLUMNS, FLOOR, TRUTH, Column, Comparison, Effort, merge

__all__ = [
    "COLUMNS",
    "FLOOR",
    "TRUTH",
    "Column",
    "Comparison",
    "Effort",
    "Fitted",
    "Judge",
    "Method",
    "bures_wasserstein",
    "bw_uvp",
    "cbw_uvp",
    "cbw_uvp_exact",
    "certify",
    "compare",
    "energy_distance",
    "kinetic_energy",
    "merge",
    "path_kl",
    "sliced_wasserstein",
    "wasserstein",
]
