"""The solvers that are compared, all with the same networks, batches, averages and schedule.

A new one is one line of `ENTRIES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sbridge.auto import Auto
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

__all__ = ["ENTRIES", "Entry", "chosen"]


@dataclass(frozen=True)
class Entry:
    """A solver in the benchmark.

    Args:
        key: its name in commands and files.
        title: its name in tables and figures.
        solver: the solver with its settings; one that trains gets its number of steps from the budget.
    """

    key: str
    title: str
    solver: Solver


_ENTRIES = (
    Entry("auto", "auto", Auto()),
    Entry("maxmin", "max–min", MaxMin()),
    Entry("maxmin-product", "max–min, product coupling", MaxMin(coupling=Independent)),
    Entry("maxmin-potential", "max–min on the potential", MaxMin(prior=MixturePotential(8))),
    Entry("fixed", "fixed interpolant", Regression()),
    Entry("self-consistent", "self-consistent coupling", Regression(coupling=SelfConsistent)),
    Entry("whole-plan", "max–min, whole plan", MaxMin(coupling=WholePlan)),
    Entry("imf", "DSBM-IMF (own)", MarkovianFitting()),
    Entry("sf2m", "[SF]²M (own)", ScoreFlowMatching()),
    Entry("torchcfm", "torchcfm [SF]²M", TorchCfm()),
    Entry("potential", "mixture potential", MixturePotential()),
    Entry("pot", "POT Sinkhorn", PotSinkhorn()),
    Entry("geomloss", "GeomLoss Sinkhorn", GeomlossSinkhorn()),
    Entry("blockwise", "blockwise Sinkhorn", BlockwiseSinkhorn()),
)

ENTRIES: dict[str, Entry] = {entry.key: entry for entry in _ENTRIES}
"""All entries by their keys, in the order of tables and colours."""


def chosen(keys: Sequence[str]) -> list[Entry]:
    """The entries with these keys; all of them, if no key is given.

    Raises:
        InputError: a key is unknown.
    """
    unknown = [key for key in keys if key not in ENTRIES]
    if unknown:
        raise InputError(f"there is no method {unknown[0]!r}; choose from {', '.join(ENTRIES)}")
    return [ENTRIES[key] for key in keys or ENTRIES]
