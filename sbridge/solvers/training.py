"""The training of both drifts of an interpolant, step by step.

The law of x_t = I(t, x0, x1) + γ(t) z is that of the diffusions with drifts b ± εs, each the minimiser of its quadratic
objective (`sbridge.objectives.Drift`).  One network answers for both.  Batches are groups of pairs that share a time;
within a group every pair serves with z and −z, and under Brownian noise the targets are Rao–Blackwellised
(`Path.conditioned`); times are stratified.  The answer is an average of the network's last weights, over a window that
grows with the training.

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, sections 2 and 6.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import cos, pi
from typing import Any, cast
from zlib import crc32

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sbridge.bridge import Bridge
from sbridge.couplings import Coupling, OnlineSinkhorn
from sbridge.errors import DivergenceError, InputError
from sbridge.fields import Confined, Corrected, DriftPair, Drifts, Half, Reversed, initialise
from sbridge.interpolants import Brownian, ClosedForm, Gamma, Interpolant, Linear, OneSided, Path
from sbridge.problem import Frame, Problem
from sbridge.solvers.base import Solver
from sbridge.solvers.draws import Draw, draw
from sbridge.solvers.monitor import POINTS, Monitor, Selection, antithetic_path, drift_losses, drift_targets, set_aside
from sbridge.solvers.soap import Soap
from sbridge.times import TimeDensity, Uniform

__all__ = ["Progress", "Recipe", "Training", "warm_cosine"]

_SMALLEST_EPSILON = 1e-4  # in units of the data's variance; single precision ends a little below
_NARROWEST = 0.05  # spread of a dataset that networks scale by, which may be a single point
_MARGIN = 1.5  # on how far the training points go
_DECAY = 0.01  # of the networks' matrices, over the rate; ten times as much is felt at small epsilon
_CHECKS = 50  # of the held-out points in a whole training
_CHECK_BATCHES = 8  # held-out pairs in a check, in batches


@dataclass(frozen=True)
class Progress:
    """Where a training stands: steps done, steps to do, and the values of its last check."""

    step: int
    steps: int
    values: dict[str, float]


@dataclass(frozen=True)
class Recipe:
    """How a training is done.

    Args:
        interpolant: the kind of interpolant, a class of `sbridge.interpolants`.  A one-sided one takes ρ0, which must
            be Gaussian noise, for its own noise; a mirror one needs two samples of one law.
        gamma: the size of its noise, for the problem's ε.
        times: the law of the times at which it is looked at, a class of `sbridge.times`.
        coupling: makes the rule that draws pairs from (x0, x1, epsilon).
        steps: gradient steps on the drifts.
        batch: points in a step.
        group: points that share a time; half as many pairs, each with z and −z.  Large groups leave less noise in the
            targets, small ones leave room for more times, of which few make a noisy step too, at large ε above all.
        round_steps: steps whose pairs and paths are drawn at once.
        rate: Soap's rate at its height; it rises over 5 % of the steps and falls to zero on half a cosine.
        memory: share of the training so far that the average of the weights looks back on.
        width, depth: size of the drift network.
        prior: a solver whose drifts the network is added to, such as `MixturePotential`.  It solves the problem, and
            for the backward drift the problem with x0 and x1 exchanged.

    Raises:
        InputError: a one-sided interpolant is given a gamma.
    """

    interpolant: type[ClosedForm] = Linear
    gamma: type[Gamma] = Brownian
    times: type[TimeDensity] = Uniform
    coupling: Callable[[Tensor, Tensor, float], Coupling] = OnlineSinkhorn
    steps: int = 6000
    batch: int = 512
    group: int = 16
    round_steps: int = 3
    rate: float = 0.012
    memory: float = 0.1
    width: int = 128
    depth: int = 6
    prior: Solver | None = None

    def __post_init__(self) -> None:
        if issubclass(self.interpolant, OneSided) and self.gamma is not Brownian:
            raise InputError(f"{self.interpolant.__name__} has a noise of its own and takes no other gamma")


def warm_cosine(fraction: float) -> float:
    """Share of the highest rate after this fraction of the steps: linear over 5 %, then half a cosine to zero."""
    return min(1.0, 20 * fraction + 1e-3) * (1 + cos(pi * min(1.0, fraction))) / 2


def _check_epsilon(epsilon: float, frame: Frame) -> None:
    variance = frame.scale**2
    least = _SMALLEST_EPSILON * variance
    if epsilon < least:
        raise InputError(
            f"epsilon = {epsilon:g} is too small for data of variance {variance:.2g}: the bridge "
            f"is transport almost without noise. Use at least {least:.1g}, or plain optimal transport."
        )


def _reach(*ends: Tensor) -> float:
    """How far from the origin points go, and half as far again for those not seen."""
    return _MARGIN * max(float(x.norm(dim=1).max()) for x in ends)


class Training:
    """A fit in progress: iterate over it, stop whenever; `bridge()` is the answer so far.

    Everything happens in the problem's `Frame`.  A tenth of the training points is set aside to check the averaged
    network on, and the answer is the latest average that is not significantly worse there than the best.

    Args:
        recipe: its settings.
        problem: whose x0, x1 and epsilon are used, on their device.
        random_state: seed of all randomness.
    """

    def __init__(self, recipe: Recipe, problem: Problem, random_state: int) -> None:
        self.recipe, self.frame = recipe, Frame.of(problem)
        _check_epsilon(problem.epsilon, self.frame)
        inside = self.frame.inside(problem)
        self.epsilon = inside.epsilon
        self.generator = torch.Generator(inside.x0.device).manual_seed(random_state)
        (x0, check0), (x1, check1) = (set_aside(x.float(), self.generator) for x in (inside.x0, inside.x1))
        recipe.interpolant.admit(x0, x1)
        spread0, spread1 = (max(_NARROWEST, x.var(0).mean().sqrt().item()) for x in (x0, x1))
        self.base = recipe.interpolant.make(recipe.gamma(self.epsilon), spread0)
        self.coupling = recipe.coupling(x0, x1, self.epsilon)
        self.check_coupling = recipe.coupling(check0, check1, self.epsilon)
        self.monitor = Monitor(self.reference_path(check0, check1), self.epsilon)
        self.reach = _reach(x0, x1)
        size = (inside.dim, spread0, spread1, self.epsilon, recipe.width, recipe.depth)
        network = DriftPair(*size, silent=recipe.prior is not None)
        self.interpolant = self.make_interpolant(inside.dim, spread0, spread1)
        for drawn in (network, self.interpolant):
            initialise(drawn, torch.Generator().manual_seed(random_state))
            drawn.to(x0)
        self.pair = self.on_prior(network, Problem(x0, x1, self.epsilon, x0, x1), random_state)
        self.times = recipe.times(self.interpolant).to(x0)
        self._start()

    def _start(self) -> None:
        """The state of the descent before its first step."""
        self.step, self.steps = 0, self.recipe.steps  # who has a budget of time may change what is to be done
        self.average = AveragedModel(self.pair, multi_avg_fn=self._averaging)
        self.optimiser = Soap(self.pair.parameters(), lr=self.recipe.rate, decay=_DECAY)
        self.schedule = LambdaLR(self.optimiser, lambda step: warm_cosine(step / self.steps))
        self.losses: list[Tensor] = []  # of the steps since the last check
        self.history: list[dict[str, float]] = []
        self.selection = Selection(copy.deepcopy(self.weights()))

    def _averaging(self, old: Any, new: Any, count: Any) -> None:
        """An average over the last of the rounds so far, so that it is as good at any time as at the end."""
        rounds_back = max(1.0, self.recipe.memory * self.step / self.recipe.round_steps)
        get_ema_multi_avg_fn(1 - 1 / rounds_back)(old, new, count)

    def reference_path(self, x0: Tensor, x1: Tensor) -> Path:
        """Held-out points to choose the answer by: those of the interpolant itself."""
        pairs = self.check_coupling.reference(POINTS, self.generator)
        return antithetic_path(self.base, *pairs, self.generator)

    def on_prior(self, network: DriftPair, problem: Problem, random_state: int) -> Drifts:
        """The network, or its sum with the prior's drifts on the training points."""
        prior = self.recipe.prior
        if prior is None:
            return network
        both = (prior.solve(one, random_state).to(problem.x0) for one in (problem, problem.exchanged()))
        there, back = (bridge.forward_field for bridge in both)
        return Corrected(there, Reversed(back), network)

    def make_interpolant(self, dim: int, spread0: float, spread1: float) -> Interpolant:
        """The interpolant whose drifts are fitted."""
        return self.base

    def __iter__(self) -> Iterator[Progress]:
        """Train to the end: while the rate is high the held-out loss may rise, and come down again as the rate falls.

        Raises:
            DivergenceError: the training became unstable; `bridge()` is its last good state.
        """
        while self.step < self.steps:
            self.coupling.follow(self.averaged, self.generator)
            self.round()
            if self.step * _CHECKS // self.steps > len(self.history):
                self.check()
            yield Progress(self.step, self.steps, self.history[-1] if self.history else {})

    def round(self) -> None:
        """Some gradient steps on the drifts."""
        self.descend(self.draw(self.coupling, self.recipe.round_steps))

    def descend(self, draw: Draw) -> None:
        """A gradient step on the drifts with each batch of a draw, and a step of their average."""
        path = self.training_path(draw)
        targets = drift_targets(path, self.epsilon)
        size = self.recipe.batch // self.recipe.group
        for t, x, target in zip(path.t.split(size), path.x.split(size), targets.split(size), strict=True):
            self.advance(t, drift_losses(self.pair(t, x), target, self.epsilon))
        self.average.update_parameters(self.pair)

    def advance(self, t: Tensor, losses: Tensor) -> None:
        """A gradient step on the mean of a batch's losses at times t."""
        loss = losses.mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        self.times.learn(t, losses.detach())
        self.losses.append(loss.detach())
        self.step += 1

    def training_path(self, draw: Draw) -> Path:
        """Points of the interpolant with their targets' ingredients, in groups: (groups, group, d)."""
        with torch.no_grad():
            path = self.interpolant.path(*draw)
            # Near the ends conditioning brings back some of the ε/γ that ±z cancel, too much where γ vanishes faster.
            return path.conditioned() if self.recipe.gamma is Brownian else path.antithetic()

    def draw(self, coupling: Coupling, batches: int) -> Draw:
        """Times, pairs and noises for that many batches."""
        recipe = self.recipe
        return draw(coupling, self.times, batches, recipe.batch // recipe.group, recipe.group // 2, self.generator)

    def check(self) -> None:
        """Evaluator the average on held-out points and enter the values in `history`.

        All losses are both drifts' objectives in nats: `training_loss` over the last steps, `held_out_loss` on
        held-out pairs of the same interpolant (both at times of the training's law), `reference_loss` on the fixed
        `reference_path`.  `kinetic_energy` is ½E∫|b_F|²dt on the held-out pairs, in the problem's units.

        Raises:
            DivergenceError: a value is not finite, or the reference loss is far from where any fit has it.
        """
        self.check_coupling.follow(self.averaged, self.generator)
        path = self.training_path(self.draw(self.check_coupling, _CHECK_BATCHES))
        with torch.no_grad():
            drifts = self.averaged(path.t, path.x)
        held_out = drift_losses(drifts, drift_targets(path, self.epsilon), self.epsilon).mean()
        speed = drifts.chunk(2, dim=-1)[0].square().sum(-1, keepdim=True)
        energy = self.frame.kinetic_energy((0.5 * self.times.per_time(path.t) * speed).mean())
        reference_losses = self.monitor.losses(self.averaged)
        values = torch.stack([torch.stack(self.losses).mean(), held_out, reference_losses.mean(), energy]).tolist()
        names = ("training_loss", "held_out_loss", "reference_loss", "kinetic_energy")
        self._refuse_divergence(values)
        self.losses.clear()
        self.history.append({"step": float(self.step), **dict(zip(names, values, strict=True))})
        self.selection.offer(reference_losses, self.weights())

    def _refuse_divergence(self, values: list[float]) -> None:
        if values[2] > 10 * self.monitor.scale or not torch.tensor(values).isfinite().all():
            raise DivergenceError(
                f"the training became unstable at step {self.step} (held-out loss {values[2]:.3g}); its last "
                "good state is kept. Lower the rates or train more drift steps for each step of the interpolant."
            )

    @property
    def averaged(self) -> Drifts:
        """The drifts of the averaged weights."""
        return self._confined(cast(Drifts, self.average.module))

    def _confined(self, drifts: Drifts) -> Drifts:
        """Kept from leading out of the data, where the interpolant is, or is to be, one of Brownian bridges."""
        brownian = self.recipe.interpolant is Linear and self.recipe.gamma is Brownian
        return Confined(drifts, self.reach) if brownian else drifts

    def weights(self) -> dict[str, Any]:
        """The averaged drifts and the interpolant."""
        return {"pair": self.average.module.state_dict(), "interpolant": self.interpolant.state_dict()}

    def bridge(self) -> Bridge:
        """The answer so far, in the problem's units."""
        pair, interpolant = copy.deepcopy(self.average.module), copy.deepcopy(self.interpolant)
        pair.load_state_dict(self.selection.kept["pair"])
        interpolant.load_state_dict(self.selection.kept["interpolant"])
        drifts = self._confined(cast(Drifts, pair))
        answer = Bridge(Half(drifts, 0), Half(drifts, 1), self.epsilon, interpolant)
        return self.frame.outside(answer).requires_grad_(False).eval()

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on as if never stopped, to the last bit on a CPU."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        plain = {"step": self.step, "losses": self.losses, "history": self.history}
        return {**parts, **plain, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of a training with the same settings and problem.

        On another kind of device than it was made on, random numbers go on as other ones.
        """
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.losses, self.history = state["step"], list(state["losses"]), list(state["history"])
        drawn = state["generator"].cpu()
        if len(drawn) == len(self.generator.get_state()):
            self.generator.set_state(drawn)
        else:
            self.generator.manual_seed(crc32(drawn.numpy().tobytes()))

    def _parts(self) -> dict[str, Any]:
        names = ["pair", "interpolant", "average", "optimiser", "schedule", "coupling", "check_coupling", "times"]
        return {name: getattr(self, name) for name in [*names, "selection"]}
