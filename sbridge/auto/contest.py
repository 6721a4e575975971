"""A contest: contenders from cheap to dear, weighed on held-out points for each direction of time.

Closed forms are compared by their dual values, and a network with the best of them on pairs of held-out points
(`sbridge.evaluation.pairs`).  The answer is the blend of these two that is nearest to the bridge of the data.

A closed form's process is *the* bridge if and only if its end has the law of the data.  So a network is trained only
where the ends of the best closed form can be told from the data.  With few points they seldom can, and there a network
is no better.  But the pairs tell apart drifts whose ends look the same.  So with a budget the network is trained
anyway, if there are points enough for all of its steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch

from sbridge.auto.account import Account, Tried
from sbridge.auto.closed import families
from sbridge.auto.contenders import Contender, Learned, Network, Way, answer_of, best_in, fitted, trained
from sbridge.auto.held_out import HeldOut
from sbridge.bridge import Bridge
from sbridge.errors import DivergenceError, InputError
from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.statement import EndCheck
from sbridge.problem import Problem
from sbridge.solvers.base import Progress
from sbridge.solvers.budget import expecting, paced
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.solvers.training import Training

__all__ = ["Contest"]

_SAME = 0.05  # p-value from which two laws count as one
_PASSES = 100  # over the points: a network that sees them more often learns them by heart
_SHARE = 0.7  # of a budget of a minute or two, for the network: closed forms and comparisons take the rest


class Contest:
    """A fit in progress, to be used like a `sbridge.solvers.Training`: iterate over it, stop at any time.

    The closed forms are fitted when it is made, in seconds; the steps are those of the network.

    Args:
        network: makes the training of the network.
        budget: seconds of wall time for everything; None for no limit.
        problem: the data.
        random_state: seed of everything.

    Attributes:
        account: what was tried and kept; known from the first `bridge()` on.
        generator: on the device of the data.
    """

    account: Account

    def __init__(self, network: NetworkSolver, budget: float | None, problem: Problem, random_state: int) -> None:
        self.began, self.budget, self.columns = perf_counter(), budget, problem.columns
        self.generator = torch.Generator(problem.x0.device).manual_seed(random_state)
        out = HeldOut.of(problem, random_state)
        sides = out, out.exchanged()
        fits = (fitted(family, sides, random_state) for family in families(out.fitted))
        self.closed = [one for fit in fits for one in fit]
        self.best: tuple[Way, Way] = best_in(0, self.closed).ways[0], best_in(1, self.closed).ways[1]
        self.most = max(1, _PASSES * min(len(out.fitted.x0), len(out.fitted.x1)) // network.batch)
        timed = network if budget is None else expecting(network, _SHARE * budget)
        self.network = replace(timed, steps=min(timed.steps, self.most))
        self.network_seconds, self.stopped = 0.0, ""
        anyway = budget is not None and timed.steps <= self.most
        self.checks = [] if anyway else [way.side.check(way.field) for way in self.best]
        self.training = self._begun(out.fitted, random_state) if anyway or not all(map(_same, self.checks)) else None
        self.kept_step, self._kept = 0, None if self.training is None else self.training.answer.kept

    def _begun(self, problem: Problem, random_state: int) -> Training | None:
        """The training of the network; None, for a reason that the account has, where it does not fit the data."""
        try:
            return self.network.start(problem, random_state)
        except InputError as error:
            self.stopped = f"No network: {error}"
            return None

    @property
    def step(self) -> int:
        """Steps of the network done."""
        return 0 if self.training is None else self.training.step

    @property
    def steps(self) -> int:
        """Its steps in all."""
        return 0 if self.training is None else self.training.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        if self.training is not None:
            self.training.steps = min(steps, self.most)

    @property
    def history(self) -> list[dict[str, float]]:
        """The values of every check of the training; `kept` is 1 at the step whose weights it returns, 0 elsewhere."""
        rows = [] if self.training is None else self.training.history
        return [{**row, "kept": float(row["step"] == self.kept_step)} for row in rows]

    def __iter__(self) -> Iterator[Progress]:
        """Train the network, if there is something to win and time left.

        A training that becomes unstable ends; the account says so, and its last good state is judged like any other.
        """
        if self.training is None:
            return
        begin = perf_counter() - self.network_seconds
        try:
            for progress in self._paced(self.training):
                self._note_kept(self.training)
                self.network_seconds = perf_counter() - begin
                yield progress
        except DivergenceError as error:
            self.stopped = str(error)

    def bridge(self) -> Bridge:
        """The answer so far, in the problem's units."""
        network = self.trained()
        rows = [self._tried(one, network) for one in self.closed]
        if network is not None:
            rows.append(self._tried_network(network))
        self.account = Account(rows, self._ended())
        answer = answer_of(self.best, network)
        answer.columns, answer.tried = self.columns, self.account
        return answer

    def trained(self) -> Network | None:
        """The network as it is now, once it was checked."""
        if self.training is None or not self.training.history:
            return None
        return trained(self.training.bridge(), self.best)

    def state_dict(self) -> dict[str, Any]:
        """What cannot be computed again from the seed: the state of the training, and the time that has gone."""
        training = None if self.training is None else self.training.state_dict()
        seconds = {"seconds": perf_counter() - self.began, "network_seconds": self.network_seconds}
        return {"training": training, "kept_step": self.kept_step, "stopped": self.stopped, **seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a `state_dict` of a contest with the same settings and problem."""
        if state["training"] is None:
            self.training = None
        elif self.training is not None:
            self.training.load_state_dict(state["training"])
            self._kept = self.training.answer.kept
        self.kept_step, self.network_seconds, self.stopped = (
            state[name] for name in ("kept_step", "network_seconds", "stopped")
        )
        self.began = perf_counter() - state["seconds"]

    def _paced(self, training: Training) -> Iterator[Progress]:
        if self.budget is None:
            return iter(training)
        end = self.began + self.budget - self._comparison_of(training)
        return paced(training, end, self.most) if end > perf_counter() else iter(())

    def _comparison_of(self, training: Training) -> float:
        """Seconds that the comparison of the network will take, by the time of one with a tenth of the points."""
        begin = perf_counter()
        for way in trained(training.bridge(), self.best).ways:
            way.closed.side.few().leads(way.field, way.closed.field)
        (few, _), (points, _) = (side.ends for side in (self.best[0].side.few(), self.best[0].side))
        return len(points) / len(few) * (perf_counter() - begin)

    def _note_kept(self, training: Training) -> None:
        """Remember the step at which the training's rule last took new weights."""
        if training.answer.kept is not self._kept:
            self._kept, self.kept_step = training.answer.kept, int(training.history[-1]["step"])

    def _tried(self, one: Contender, network: Network | None) -> Tried:
        """The row of a closed form."""
        learned = (None, None) if network is None else network.ways
        rows = list(zip(one.ways, self.best, learned, strict=True))
        there, back = (_behind(*row) for row in rows)
        kept = [(1 - (way.share if way else 0.0)) * (own is best) for own, best, way in rows]
        return Tried(one.name, there, back, one.seconds, _words(kept))

    def _tried_network(self, network: Network) -> Tried:
        """The row of the network."""
        there, back = (way.behind for way in network.ways)
        kept = _words([way.share for way in network.ways])
        return Tried(self.network.name, there, back, self.network_seconds, kept)

    def _ended(self) -> str:
        """Why the contest ended."""
        training = self.training
        if training is None and self.stopped:
            return self.stopped
        if training is None:
            seen = " and ".join(f"{found.divergence} nats (p {found.p_value:.2g})" for found in self.checks)
            return f"No network: the ends of the best closed forms cannot be told from the data, {seen}."
        if not self.step:
            return "No network: there was no time for it."
        few = f", as many as {_PASSES} passes over the points" if self.steps == self.most else ""
        return " ".join(
            [
                f"The network did {self.step} steps{few}; its weights are of step {self.kept_step}.",
                self.stopped or training.remark,
            ]
        ).strip()


def _behind(way: Way, best: Way, learned: Learned | None) -> Estimate | None:
    """By how many nats a direction of a closed form is behind the answer, if it was compared."""
    if not way.compared:
        return None
    return best.ahead_of(way) if learned is None else learned.closed_behind(way)


def _words(shares: Sequence[float]) -> str:
    """What the answer has of a contender, forward and backward."""
    parts = zip(shares, ("forward", "backward"), strict=True)
    return " and ".join(way if share == 1 else f"{share:.0%} of {way}" for share, way in parts if share)


def _same(found: EndCheck) -> bool:
    """Whether a check tells no difference."""
    return found.p_value > _SAME
