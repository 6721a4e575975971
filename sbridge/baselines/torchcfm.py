"""[SF]²M by its authors' package torchcfm, as a third party's word on what `ScoreFlowMatching` reimplements.

torchcfm's `SchrodingerBridgeConditionalFlowMatcher` gives the plan between minibatches, x_t, the conditional flow u°
and λ(t); the two losses are those of its tutorial for stochastic bridges.  Only the random numbers are drawn here, from
one generator, and the points are in double precision, in which its plans underflow at smaller ε.

Tong, Malkin, Fatras, Atanackovic, Zhang, Huguet, Wolf, Bengio, arXiv 2307.03672.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sbridge.baselines.markovian import ScoreFlowMatching, ScoreFlowTraining, flow_and_score_losses
from sbridge.couplings.base import rows_of
from sbridge.errors import InputError
from sbridge.problem import Problem
from sbridge.units import process_sigma

__all__ = ["TorchCfm"]


@dataclass(frozen=True)
class TorchCfm(ScoreFlowMatching):
    """[SF]²M with the batches of torchcfm, on this package's network, optimiser and averaging.

    Its times reach 0 and 1, where u° is unbounded: now and then a batch sets a training back.

    Args:
        ot_method: its plan between minibatches; "sinkhorn" is the one of the Schrödinger bridge, "exact" its default.

    Raises:
        InputError: torchcfm is not installed, or ε is too small for POT's plans (when started).
    """

    ot_method: str = "sinkhorn"

    @property
    def name(self) -> str:
        """What tables call it."""
        return "torchcfm [SF]²M"

    def start(self, problem: Problem, random_state: int = 0) -> TorchCfmTraining:
        """A training to iterate over; each round of steps yields a `Progress`."""
        return TorchCfmTraining(self, problem, random_state)


class TorchCfmTraining(ScoreFlowTraining):
    """`ScoreFlowTraining` on torchcfm's batches; what is checked on is this package's."""

    recipe: TorchCfm

    def __init__(self, recipe: TorchCfm, problem: Problem, random_state: int) -> None:
        super().__init__(recipe, problem, random_state)
        self.matcher = _matcher(self.epsilon, recipe.ot_method)

    def round(self) -> None:
        for _ in range(self.recipe.round_steps):
            t, x, flow, z, weight = self.batch()
            self.advance(t, flow_and_score_losses(self.pair(t, x), flow, z, weight))
        self.average.update_parameters(self.pair)

    def batch(self) -> list[Tensor]:
        """t (n, 1), x_t (n, d), u° (n, d), z (n, d) and λ (n, 1)."""
        n = self.recipe.batch
        a, b = (rows_of(x, n, self.generator).double() for x in (self.coupling.x0, self.coupling.x1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # at small ε POT says of every batch that its plan has not converged
            plan = torch.as_tensor(self.matcher.ot_sampler.get_map(a, b), device=a.device)
        cells = torch.multinomial(plan.flatten(), n, replacement=True, generator=self.generator)
        x0, x1 = a[cells // n], b[cells % n]
        t = torch.rand(n, generator=self.generator, dtype=a.dtype, device=a.device)
        z = torch.randn(a.shape, generator=self.generator, dtype=a.dtype, device=a.device)
        x = self.matcher.sample_xt(x0, x1, t, z)
        flow, weight = self.matcher.compute_conditional_flow(x0, x1, t, x), self.matcher.compute_lambda(t)
        return [part.float() for part in (t[:, None], x, flow, z, weight[:, None])]


def _matcher(epsilon: float, ot_method: str) -> Any:
    try:
        from torchcfm import SchrodingerBridgeConditionalFlowMatcher
    except ImportError as error:
        raise InputError("this needs torchcfm: pip install --no-deps torchcfm==1.0.7") from error
    return SchrodingerBridgeConditionalFlowMatcher(process_sigma(epsilon), ot_method)
