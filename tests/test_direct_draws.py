"""Paths of mixture potentials drawn from their exact law: the law of the simulated paths, without steps."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sbridge.bridge import Bridge, Direction
from sbridge.evaluation.distances import energy_p_value
from sbridge.potentials import FullMixturePotential, MixturePotential, backward
from sbridge.problem import Problem
from sbridge.problems.mixture import Mixture

KINDS = {"diagonal": MixturePotential, "full": FullMixturePotential}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
EVERY_WAY = pytest.mark.parametrize("direction", ["forward", "backward"])
TIMES = {"forward": (0.0, 0.3, 1.0), "backward": (1.0, 0.4, 0.0)}
LATE_TIMES = {"forward": (0.4, 0.7, 1.0), "backward": (0.6, 0.3, 0.0)}
PATHS = 1000


@cache
def _problem() -> Problem:
    """Points away from the origin and of another scale than the fit's own coordinates."""
    problem = Mixture(dim=2, epsilon=0.2, samples=4000, test_samples=2 * PATHS).build()
    moved = (2 * x + torch.tensor([5.0, -3.0]) for x in (problem.x0, problem.x1, problem.test0, problem.test1))
    x0, x1, test0, test1 = moved
    return Problem(x0, x1, 4 * problem.epsilon, test0, test1)


@cache
def _bridge(kind: str) -> Bridge:
    return KINDS[kind](5).solve(_problem())


def _starts(direction: str) -> tuple[Tensor, Tensor]:
    problem = _problem()
    first, second = (problem.test0 if direction == "forward" else problem.test1).chunk(2)
    return first, second


def _joint(paths: Tensor) -> Tensor:
    """All states of a path side by side, (times, n, d) → (n, times d)."""
    return paths.transpose(0, 1).flatten(1)


def _p_value(first: Tensor, second: Tensor) -> float:
    return energy_p_value(_joint(first), _joint(second), torch.Generator().manual_seed(0))


@EVERY_KIND
@EVERY_WAY
@pytest.mark.parametrize("times", [TIMES, LATE_TIMES], ids=["from the end", "from between"])
def test_drawn_paths_have_the_law_of_simulated_ones(
    kind: str, direction: Direction, times: dict[str, tuple[float, ...]]
) -> None:
    """By the joint law of a path's states from one start; a law that is wider by a quarter is told apart."""
    bridge = _bridge(kind)
    for start in _starts(direction)[0][:2]:
        x = start.expand(PATHS, -1)
        path = {"times": times[direction], "start": times[direction][0]}
        drawn = bridge.trajectories(x, **path, random_state=0)
        assert torch.equal(drawn[0], x)
        simulated = bridge.trajectories(x, **path, steps=200, random_state=1)
        assert _p_value(drawn, simulated) > 0.01
        assert _p_value(drawn, simulated + 0.25 * (simulated - simulated.mean(1, keepdim=True))) < 0.01


@EVERY_KIND
@EVERY_WAY
def test_a_path_may_be_drawn_in_two_parts(kind: str, direction: Direction) -> None:
    """The law of the end given a state between is that of the process (Chapman and Kolmogorov)."""
    bridge, (first, second), times = _bridge(kind), _starts(direction), TIMES[direction]
    whole = bridge.trajectories(first, times, random_state=0)
    start = bridge.trajectories(second, times[:2], random_state=1)
    rest = bridge.trajectories(start[1], times[1:], random_state=2, start=times[1])
    assert _p_value(whole, torch.cat([start, rest[1:]])) > 0.01


@EVERY_KIND
@EVERY_WAY
def test_no_drift_is_evaluated_and_a_file_keeps_the_draws(tmp_path: Path, kind: str, direction: Direction) -> None:
    bridge, (x, _) = _bridge(kind), _starts(direction)
    bridge.save(tmp_path / "bridge.safetensors")
    loaded, calls = Bridge.load(tmp_path / "bridge.safetensors"), [0]

    def count(*_: object) -> None:
        calls[0] += 1

    for field in (loaded.forward_field, loaded.backward_field):
        field.register_forward_pre_hook(count)
    moved = loaded.transport(x, direction, random_state=3)
    assert calls == [0] and torch.equal(moved, bridge.transport(x, direction, random_state=3))
    loaded.transport(x[:2], direction, steps=7, random_state=3)
    assert calls == [7]


def test_a_loose_bound_costs_time_and_changes_no_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one component in place of eight the first proposals are hardly ever accepted for some points."""
    bridge, start = _bridge("diagonal"), _starts("backward")[0][0]
    x = start.expand(PATHS, -1)
    drawn = bridge.transport(x, "backward", random_state=0)
    monkeypatch.setattr(backward, "_SEARCHED", 1)
    loose = bridge.transport(x, "backward", random_state=1)
    assert energy_p_value(drawn, loose, torch.Generator().manual_seed(0)) > 0.01


def test_without_an_accepted_proposal_the_best_weighted_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so few rounds some points have none; the law is nearly the same."""
    bridge, start = _bridge("diagonal"), _starts("backward")[0][0]
    x = start.expand(PATHS, -1)
    drawn = bridge.transport(x, "backward", random_state=0)
    monkeypatch.setattr(backward, "_ROUNDS", (0, 8))
    resampled = bridge.transport(x, "backward", random_state=1)
    assert energy_p_value(drawn, resampled, torch.Generator().manual_seed(0)) > 0.01
