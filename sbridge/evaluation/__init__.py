"""How good a bridge is, compared with the exact one and with other methods."""

from sbridge.evaluation.certificate.estimate import certify
from sbridge.evaluation.comparison import Candidate, Evaluator, Fitted, compare
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
    "Candidate",
    "Column",
    "Comparison",
    "Effort",
    "Evaluator",
    "Fitted",
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
