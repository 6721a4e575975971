"""The methods of the benchmark, all on the same networks, batches, averages and schedule.

A new method is one line of `METHODS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sbridge.baselines.markovian import MarkovianFitting
from sbridge.baselines.score_flow import ScoreFlowMatching
from sbridge.baselines.sinkhorn import BlockwiseSinkhorn, GeomlossSinkhorn, PotSinkhorn
from sbridge.baselines.torchcfm import TorchCfm
from sbridge.couplings import Independent, SelfConsistent, WholePlan
from sbridge.errors import InputError
from sbridge.potentials.solver import MixturePotential
from sbridge.solvers import Solver
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.regression import Regression

__all__ = ["METHODS", "Method", "chosen"]


@dataclass(frozen=True)
class Method:
    """A solver in the benchmark.

    Args:
        key: what commands and files call it.
        title: what tables and figures call it.
        solver: its settings; those that train get their number of steps from the budget.
    """

    key: str
    title: str
    solver: Solver


_METHODS = (
    Method("maxmin", "max–min", MaxMin()),
    Method("maxmin-product", "max–min, product coupling", MaxMin(coupling=Independent)),
    Method("maxmin-potential", "max–min on the potential", MaxMin(prior=MixturePotential(8))),
    Method("fixed", "fixed interpolant", Regression()),
    Method("self-consistent", "self-consistent coupling", Regression(coupling=SelfConsistent)),
    Method("whole-plan", "max–min, whole plan", MaxMin(coupling=WholePlan)),
    Method("imf", "DSBM-IMF (own)", MarkovianFitting()),
    Method("sf2m", "[SF]²M (own)", ScoreFlowMatching()),
    Method("torchcfm", "torchcfm [SF]²M", TorchCfm()),
    Method("potential", "mixture potential", MixturePotential()),
    Method("pot", "POT Sinkhorn", PotSinkhorn()),
    Method("geomloss", "GeomLoss Sinkhorn", GeomlossSinkhorn()),
    Method("blockwise", "blockwise Sinkhorn", BlockwiseSinkhorn()),
)

METHODS: dict[str, Method] = {method.key: method for method in _METHODS}
"""Every method by its key, in the order of tables and colours."""


def chosen(keys: Sequence[str]) -> list[Method]:
    """The methods with these keys; all where there are none.

    Raises:
        InputError: there is no method of that key.
    """
    unknown = [key for key in keys if key not in METHODS]
    if unknown:
        raise InputError(f"there is no method {unknown[0]!r}; choose from {', '.join(METHODS)}")
    return [METHODS[key] for key in keys or METHODS]
