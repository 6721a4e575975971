"""The training of both drifts of a bridge: one loop for all methods.

A *round* is a few gradient steps.  After each the average of the weights is updated, over a window that grows with the
training, and the method may act: max–min moves its interpolant.  The average is checked 50 times on held-out points,
and an answer rule decides which of the checked averages is returned.

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, sections 2 and 6 (the objectives).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from math import cos, pi
from typing import Any, cast
from zlib import crc32

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sbridge.bridge import Bridge
from sbridge.errors import DivergenceError
from sbridge.fields import Confined, Drifts
from sbridge.solvers.answer import MakeRule, Weights
from sbridge.solvers.base import Progress
from sbridge.solvers.data import Data
from sbridge.solvers.held_out import Monitor, drift_losses, drift_targets
from sbridge.solvers.method import Batch, Method

__all__ = ["Progress", "Schedule", "Training", "warm_cosine"]

_CHECKS = 50  # in a whole training
_FAR = 10.0  # times the scale of a held-out loss: no fit is there

Schedule = Callable[[float], float]
"""The share of the highest rate after a fraction of the steps."""


def warm_cosine(fraction: float) -> float:
    """Linear over 5 % of the steps, then half a cosine to zero."""
    return min(1.0, 20 * fraction + 1e-3) * (1 + cos(pi * min(1.0, fraction))) / 2


class Training:
    """A fit in progress: iterate over it, stop at any time; `bridge()` is the answer so far.

    Args:
        data: the points.
        method: gives the batches.
        drifts: the network that is trained, (t, x) ↦ (b_F, b_B) side by side.
        optimiser: of the network's weights.
        schedule: of its rate.
        answer: makes the rule that chooses the weights to return.
        steps: gradient steps in all; may be changed between rounds, to fit a budget of time.
        memory: the share of the rounds so far over which the weights are averaged.

    Attributes:
        step: gradient steps done.
        history: the values of every check.
        remark: why it ended before its last step; empty if it did not.
        generator: of all random numbers.
    """

    def __init__(
        self,
        data: Data,
        method: Method,
        drifts: Drifts,
        optimiser: Optimizer,
        schedule: Schedule,
        answer: MakeRule,
        steps: int,
        memory: float,
    ) -> None:
        self.data, self.method, self.drifts, self.optimiser = data, method, drifts, optimiser
        self.steps, self.memory, self.generator = steps, memory, data.generator
        self.step = 0
        self.schedule = LambdaLR(optimiser, lambda step: schedule(step / self.steps))
        self.monitor = Monitor(method.reference_path(data), data.epsilon)
        self.average = AveragedModel(drifts, multi_avg_fn=self._averaged_weights)
        self.losses: list[Tensor] = []  # of the steps since the last check
        self.history: list[dict[str, float]] = []
        self.answer, self.remark = answer(copy.deepcopy(self.weights())), ""

    def __iter__(self) -> Iterator[Progress]:
        """Train to the end: while the rate is high the held-out loss may rise, and fall again with the rate.

        Where it rises far while the training loss falls, the network learns the points by heart, and the training ends.

        Raises:
            DivergenceError: the training became unstable; `bridge()` is its last good state.
        """
        while self.step < self.steps and not self.remark:
            self.round()
            if self.step * _CHECKS // self.steps > len(self.history):
                self.check()
            yield Progress(self.step, self.steps, self.history[-1] if self.history else {})

    def round(self) -> None:
        """The steps of one round, an update of the average, and what the method does after it."""
        for batch in self.method.batches(self):
            self.advance(batch)
        self.average.update_parameters(self.drifts)
        self.method.after_round(self)

    def advance(self, batch: Batch) -> None:
        """A gradient step on the mean of a batch's losses."""
        losses = batch.losses(self.drifts(batch.t, batch.x))
        loss = losses.mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        self.method.learn(batch.t, losses.detach())
        self.losses.append(loss.detach())
        self.step += 1

    def check(self) -> None:
        """Evaluate the average on held-out points and append the values to `history`.

        The losses are the objective of both drifts in nats: `training_loss` is that of the last steps (in the method's
        own units), `held_out_loss` is on fresh held-out pairs of the same interpolant, `reference_loss` on the fixed
        path by which the answer is chosen.  `kinetic_energy` is ½E∫|b_F|²dt on the held-out pairs, in the problem's
        units.

        Raises:
            DivergenceError: a value is not finite, or the reference loss is far above that of any fit.
        """
        path, epsilon = self.method.check_path(self), self.data.epsilon
        with torch.no_grad():
            drifts = self.averaged(path.t, path.x)
        held_out = drift_losses(drifts, drift_targets(path, epsilon), epsilon).mean()
        speed = drifts.chunk(2, dim=-1)[0].square().sum(-1, keepdim=True)
        energy = self.data.frame.kinetic_energy((0.5 * self.method.per_time(path.t) * speed).mean())
        reference_losses = self.monitor.losses(self.averaged)
        values = torch.stack([torch.stack(self.losses).mean(), held_out, reference_losses.mean(), energy]).tolist()
        names = ("training_loss", "held_out_loss", "reference_loss", "kinetic_energy")
        self._heed(values)
        self.losses.clear()
        self.history.append({"step": float(self.step), **dict(zip(names, values, strict=True))})
        if self.method.past_plans:
            self.answer.kept = copy.deepcopy(self.weights())
        else:
            self.answer.offer(reference_losses, self.weights())

    def _heed(self, values: list[float]) -> None:
        """End a training that learns by heart, and refuse one that diverges."""
        finite, far = bool(torch.tensor(values).isfinite().all()), values[2] > _FAR * self.monitor.scale
        if finite and far and self.history and values[0] <= self.history[0]["training_loss"]:
            self.remark = (
                f"the network learned its few points by heart and stopped at step {self.step}, where the held-out loss "
                f"was {values[2]:.3g}; its best weights before that are kept"
            )
        elif far or not finite:
            raise DivergenceError(
                f"the training became unstable at step {self.step} (held-out loss {values[2]:.3g}); its last "
                "good state is kept. Lower the rates or train more drift steps for each step of the interpolant."
            )

    @property
    def averaged(self) -> Drifts:
        """The drifts of the averaged weights."""
        return self._confined(cast(Drifts, self.average.module))

    def weights(self) -> Weights:
        """The averaged drifts and the interpolant."""
        return {"drifts": self.average.module.state_dict(), "interpolant": self.method.interpolant.state_dict()}

    def bridge(self) -> Bridge:
        """The answer so far, in the problem's units."""
        drifts, interpolant = self._confined(self.kept_drifts()), copy.deepcopy(self.method.interpolant)
        interpolant.load_state_dict(self.answer.kept["interpolant"])
        return self.data.bridge(drifts, interpolant, self.remark)

    def kept_drifts(self) -> Drifts:
        """The drifts of the answer so far, in the coordinates of the data."""
        pair = copy.deepcopy(cast(Drifts, self.average.module))
        pair.load_state_dict(self.answer.kept["drifts"])
        return pair

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to resume as if never stopped, to the last bit on a CPU."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        plain = {"step": self.step, "losses": self.losses, "history": self.history, "remark": self.remark}
        return {**parts, **plain, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a `state_dict` of a training with the same settings and problem.

        A generator's state does not fit another kind of device; there random numbers continue as different ones.
        """
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.losses, self.history = state["step"], list(state["losses"]), list(state["history"])
        self.remark = state["remark"]
        drawn = state["generator"].cpu()
        if len(drawn) == len(self.generator.get_state()):
            self.generator.set_state(drawn)
        else:
            self.generator.manual_seed(crc32(drawn.numpy().tobytes()))

    def _averaged_weights(self, old: Any, new: Any, count: Any) -> None:
        """A moving average over the last of the rounds so far, so that it is as good at any time as at the end."""
        rounds_back = max(1.0, self.memory * (float(count) + 1))
        get_ema_multi_avg_fn(1 - 1 / rounds_back)(old, new, count)

    def _confined(self, drifts: Drifts) -> Drifts:
        """Predicted endpoints stay within 1.5 × the data radius, where they are means of data."""
        return Confined(drifts, self.data.reach) if self.method.brownian else drifts

    def _parts(self) -> dict[str, Any]:
        names = ["drifts", "average", "optimiser", "schedule", "answer"]
        return {**{name: getattr(self, name) for name in names}, **self.method.parts()}
