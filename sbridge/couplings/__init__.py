"""Couplings: how pairs (x0, x1) are drawn from two datasets.

The marginals are always the data's; what differs is the dependence, and with it how far a linear interpolant starts
from the Schrödinger bridge.
"""

from collections.abc import Callable
from typing import Annotated

from torch import Tensor

from sbridge.checks import Named
from sbridge.couplings.base import Coupling, Independent
from sbridge.couplings.minibatch import MinibatchSinkhorn
from sbridge.couplings.online import Ends, OnlineSinkhorn
from sbridge.couplings.self_consistent import SelfConsistent
from sbridge.couplings.whole import WholePlan

__all__ = ["COUPLINGS", "Coupling", "Ends", "Independent", "MakeCoupling", "MinibatchSinkhorn", "OnlineSinkhorn"]
__all__ += ["SelfConsistent", "WholePlan"]

COUPLINGS: dict[str, type[Coupling]] = {
    "sinkhorn": OnlineSinkhorn,
    "minibatch-sinkhorn": MinibatchSinkhorn,
    "independent": Independent,
    "whole-plan": WholePlan,
    "self-consistent": SelfConsistent,
}
"""By their names on the command line, which solvers take too."""

MakeCoupling = Annotated[Callable[[Tensor, Tensor, float], Coupling], Named(COUPLINGS, Coupling)]
"""Makes the rule that draws pairs from (x0, x1, epsilon): a class of this package, its name, or a partial of one."""
