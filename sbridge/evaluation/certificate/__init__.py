"""How far a bridge is from a Schrödinger bridge, without knowing one."""

from sbridge.evaluation.certificate.columns import Columns
from sbridge.evaluation.certificate.estimate import SMALLEST, certify
from sbridge.evaluation.certificate.statement import Certificate

__all__ = ["SMALLEST", "Certificate", "Columns", "certify"]
