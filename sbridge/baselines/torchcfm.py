"""[SF]²M by its authors' package torchcfm, to check the reimplementation in `baselines.score_flow`.

torchcfm's `SchrodingerBridgeConditionalFlowMatcher` gives the plan between minibatches, x_t, the conditional flow u°
and λ(t); the two losses are those of its tutorial for stochastic bridges.  Only the random numbers are drawn here, from
one generator, and the points are in double precision, because its plans underflow at smaller ε.

Tong, Malkin, Fatras, Atanackovic, Zhang, Huguet, Wolf, Bengio, arXiv 2307.03672.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sbridge.baselines.matching import brownian_bridges
from sbridge.baselines.score_flow import NETWORK, MinibatchPot, flow_and_score_losses
from sbridge.couplings.base import rows_of
from sbridge.errors import InputError
from sbridge.networks import NetworkFactory
from sbridge.solvers.data import Data
from sbridge.solvers.method import Batch, MakeCoupling, Method, TrainingState
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.units import process_sigma

__all__ = ["TorchCfm", "TorchCfmMethod"]


@dataclass(frozen=True)
class TorchCfm(NetworkSolver):
    """[SF]²M with the batches of torchcfm, on this package's network, optimiser and averaging.

    Its times reach 0 and 1, where u° is unbounded: now and then one batch sets a training back.

    Args:
        coupling: gives the held-out pairs of the checks; torchcfm draws the training pairs.
        ot_method: torchcfm's plan between minibatches; "sinkhorn" is the one of the Schrödinger bridge, "exact" its
            default.

    The other arguments are `NetworkSolver`'s.

    Raises:
        InputError: torchcfm is not installed, or ε is too small for POT's plans (when started).
    """

    name: ClassVar[str] = "torchcfm [SF]²M"

    coupling: MakeCoupling = MinibatchPot
    network: NetworkFactory = NETWORK
    ot_method: Literal["sinkhorn", "exact"] = "sinkhorn"

    def method(self, data: Data) -> TorchCfmMethod:
        """torchcfm's batches."""
        return TorchCfmMethod(self, data)


class TorchCfmMethod(Method):
    """Matching of velocity and score on torchcfm's batches; the held-out points of the checks are this package's."""

    def __init__(self, settings: TorchCfm, data: Data) -> None:
        self.interpolant, self.draws = brownian_bridges(settings, data, group=1)
        self.data, self.round_steps, self.batch = data, settings.round_steps, settings.batch
        self.matcher = _matcher(data.epsilon, settings.ot_method)

    def batches(self, training: TrainingState) -> Iterator[Batch]:
        for _ in range(self.round_steps):
            t, x, flow, z, weight = self.ingredients()
            yield Batch(t, x, partial(flow_and_score_losses, flow=flow, z=z, weight=weight))

    def ingredients(self) -> list[Tensor]:
        """t (n, 1), x_t (n, d), u° (n, d), z (n, d) and λ (n, 1)."""
        n = self.batch
        a, b = (rows_of(x, n, self.data.generator).double() for x in (self.data.x0, self.data.x1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # at small ε POT says of every batch that its plan has not converged
            plan = torch.as_tensor(self.matcher.ot_sampler.get_map(a, b), device=a.device)
        cells = torch.multinomial(plan.flatten(), n, replacement=True, generator=self.data.generator)
        x0, x1 = a[cells // n], b[cells % n]
        t = torch.rand(n, generator=self.data.generator, dtype=a.dtype, device=a.device)
        z = torch.randn(a.shape, generator=self.data.generator, dtype=a.dtype, device=a.device)
        x = self.matcher.sample_xt(x0, x1, t, z)
        flow, weight = self.matcher.compute_conditional_flow(x0, x1, t, x), self.matcher.compute_lambda(t)
        return [part.float() for part in (t[:, None], x, flow, z, weight[:, None])]


def _matcher(epsilon: float, ot_method: str) -> Any:
    try:
        from torchcfm import SchrodingerBridgeConditionalFlowMatcher
    except ImportError as error:
        raise InputError("this needs torchcfm: pip install --no-deps torchcfm==1.0.7") from error
    return SchrodingerBridgeConditionalFlowMatcher(process_sigma(epsilon), ot_method)
