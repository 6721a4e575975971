"""One time left out: rows against closed forms, and the reference rows."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from members import read_csv
from torch import Tensor

from sbridge import InputError, MixturePotential
from sbridge.snapshots import LeftOut, leave_one_out

FLOAT, TIMES = torch.float64, (0.0, 1.0, 4.0)
SHIFT = torch.tensor([4.0, 0.0], dtype=FLOAT)
BRIDGE, PLAN, STRAIGHT = "bridge", "midpoint of the exact plan", "independent straight lines"
BEFORE, AFTER, FLOOR = "neighbour before, as it is", "neighbour after, as it is", "floor (halves of the day)"


def _normal(n: int, seed: int) -> Tensor:
    return torch.randn(n, 2, dtype=FLOAT, generator=torch.Generator().manual_seed(seed))


@cache
def _snapshots() -> tuple[Tensor, ...]:
    """N(0, I) moves to N(4, I) by optimal transport: a quarter of the way at the time 1."""
    return tuple(share * SHIFT + _normal(n, k) for k, (share, n) in enumerate([(0, 700), (0.25, 600), (1, 800)]))


@cache
def _table(held_out: float = 0.0) -> LeftOut:
    return leave_one_out(_snapshots(), TIMES, 0.01, {BRIDGE: MixturePotential(1)}, held_out=held_out, matched=500)


def _value(name: str, column: str = "W2", held_out: float = 0.0) -> float:
    (row,) = (row for row in _table(held_out).rows if row["method"] == name)
    return float(row[column])


@pytest.mark.parametrize("column", ["W1", "W2", "sliced W2"])
def test_distances_of_shifted_laws(column: str) -> None:
    """The neighbours stand 1 and 3 away; the plan and the bridge are as near as two samples of the law."""
    size = 2**-0.5 if column == "sliced W2" else 1.0
    assert _value(BEFORE, column) == pytest.approx(1.0 * size, abs=0.1)
    assert _value(AFTER, column) == pytest.approx(3.0 * size, abs=0.1)
    assert _value(STRAIGHT, column) > 1.1 * _value(FLOOR, column)  # their variance is too small
    for name in (BRIDGE, PLAN):
        assert 0.4 * _value(FLOOR, column) < _value(name, column) < 1.5 * _value(FLOOR, column)


def test_energy_distance_tells_apart_what_differs() -> None:
    assert abs(_value(BRIDGE, "energy distance")) < 0.01 > abs(_value(FLOOR, "energy distance"))
    assert _value(BEFORE, "energy distance") > 0.3


def test_numbers_of_points_and_the_split_are_in_the_table(tmp_path: Path) -> None:
    sizes = {row["method"]: (row["points"], row["true points"], row["matched"]) for row in _table().rows}
    assert sizes[BRIDGE] == ("1500", "600", "500 and 500") and sizes[FLOOR] == ("300", "300", "300 and 300")
    assert sizes[PLAN][0] == sizes[PLAN][2].split()[0] == "500"
    assert {row["split"] for row in _table().rows} == {"all points"}
    held = {row["method"]: (row["points"], row["true points"], row["split"]) for row in _table(0.25).rows}
    assert held[BRIDGE] == ("375", "150", "25% held out") and held[AFTER] == ("200", "150", "25% held out")
    _table().to_csv(tmp_path / "table.csv")
    (row,) = (row for row in read_csv(tmp_path / "table.csv") if row["method"] == BRIDGE)
    assert float(row["W1"]) == pytest.approx(_value(BRIDGE, "W1")) and row["time"] == "1.0"
    assert _table().to_markdown().count("\n") == 2 + len(_table().rows)


def test_each_inner_time_is_left_out_in_turn_or_one_of_them() -> None:
    few = [x[:60] for x in (*_snapshots(), _snapshots()[2])]
    solvers = {BRIDGE: MixturePotential(1)}
    whole = leave_one_out(few, None, 0.01, solvers)
    assert [row["time"] for row in whole.rows if row["method"] == BRIDGE] == [1.0, 2.0]
    one = leave_one_out(few, None, 0.01, solvers, left_out=2.0)
    assert list(one.rows) == [row for row in whole.rows if row["time"] == 2.0]


@pytest.mark.parametrize("left_out", [0.0, 4.0, 2.0])
def test_only_a_time_between_two_others_can_be_left_out(left_out: float) -> None:
    with pytest.raises(InputError, match=r"between two others to leave out, one of \[1.0\]"):
        leave_one_out(_snapshots(), TIMES, 0.01, {}, left_out=left_out)


def test_two_snapshots_are_too_few() -> None:
    with pytest.raises(InputError, match="between two others"):
        leave_one_out(_snapshots()[:2], None, 0.01, {})


def test_weights_stand_for_repeated_points() -> None:
    """Exactly where no bridge is drawn, but for the floor: halves of repeated points have some in common."""
    few, solvers = [x[:250] for x in _snapshots()], {BRIDGE: MixturePotential(1)}
    copies = [1 + 2 * (x[:, 1] > 0) for x in few]
    repeated = [x.repeat_interleave(n, 0) for x, n in zip(few, copies, strict=True)]
    weighted, twice, plain = (
        {row["method"]: row for row in leave_one_out(samples, TIMES, 0.01, solvers, sample_weight=weights).rows}
        for samples, weights in ((few, [2.0 * n for n in copies]), (repeated, None), (few, None))
    )
    for column in ("W1", "W2", "sliced W2"):
        for method in (BEFORE, AFTER, PLAN):
            assert weighted[method][column] == pytest.approx(twice[method][column], rel=1e-5)
        assert weighted[BRIDGE][column] == pytest.approx(twice[BRIDGE][column], abs=0.1)
        assert weighted[AFTER][column] != pytest.approx(plain[AFTER][column], rel=1e-3)


def test_weights_are_asked_for_each_snapshot() -> None:
    with pytest.raises(InputError, match="for each of 3 snapshots"):
        leave_one_out(_snapshots(), TIMES, 0.01, {}, sample_weight=[None, None])


def test_what_needs_no_bridge_may_be_left_out() -> None:
    found = leave_one_out(_snapshots(), TIMES, 0.01, {BRIDGE: MixturePotential(1)}, matched=50, references=False)
    assert [row["method"] for row in found.rows] == [BRIDGE]
