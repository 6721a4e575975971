"""Evidence: how good a bridge is, beside the truth and beside other methods."""

from sbridge.evaluation.certificate.estimate import certify
from sbridge.evaluation.comparison import Fitted, Judge, Method, compare
from sbridge.evaluation.distances import (
    bures_wasserstein,
    energy_distance,
    energy_p_value,
    sliced_wasserstein,
    wasserstein,
)
from sbridge.evaluation.metrics import (
    bw_uvp,
    cbw_uvp,
    cbw_uvp_exact,
    diagonal_kl,
    endpoint_covariance_error,
    kinetic_energy,
    path_energy,
    path_kl,
)
from sbridge.evaluation.table import COLUMNS, FLOOR, TRUTH, Column, Comparison, Effort, column_named, merge

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
    "column_named",
    "compare",
    "diagonal_kl",
    "endpoint_covariance_error",
    "energy_distance",
    "energy_p_value",
    "kinetic_energy",
    "merge",
    "path_energy",
    "path_kl",
    "sliced_wasserstein",
    "wasserstein",
]
