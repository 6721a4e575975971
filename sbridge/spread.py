"""Whether the paths of a fit end where the data are, as far as a second or so can tell.

Points of one end are moved to the other by the fit, and the standard deviations of all columns are compared with those
of the data there.  log(s_fit/s_data) has the standard error √(Σ (κ − 1)/4n) over both samples, κ the kurtosis of each.
What differs by more than 15 % and by four standard errors is said.  That it is silent proves nothing: see
`Bridge.certificate`.
"""

from __future__ import annotations

import warnings
from math import log

import torch
from torch import Tensor

from sbridge.bridge import Bridge, Direction
from sbridge.errors import DivergenceError, SpreadWarning
from sbridge.problem import Frame, Problem
from sbridge.sampling import Simulation, steps_for

__all__ = ["faults_of_ends", "warn_of_ends"]

_POINTS = 500  # moved each way
_COMPARED = 50_000  # points of the data, at most
_STEPS = 25  # of their paths, and more where the noise is wide
_TOLERANCE = log(1.15)
_ERRORS = 4.0


def warn_of_ends(bridge: Bridge, problem: Problem, stacklevel: int = 2) -> None:
    """Warn where paths of a fit end with another spread than the data.

    Args:
        bridge: the fit.
        problem: of the fit, in the same units; its held-out points are moved, and compared with.
        stacklevel: of `warnings.warn`.

    Warns:
        SpreadWarning: a column's standard deviation is off.
    """
    for fault in faults_of_ends(bridge, problem):
        warnings.warn(fault, SpreadWarning, stacklevel=stacklevel + 1)


def faults_of_ends(bridge: Bridge, problem: Problem) -> list[str]:
    """A sentence for each direction whose ends have another spread than the data."""
    x0, x1 = (problem.test0, problem.test1) if problem.weights == (None, None) else problem.equal_points()
    sides: list[tuple[Direction, Tensor, Tensor]] = [("forward", x0, x1), ("backward", x1, x0)]
    found = [_fault(bridge, problem, way, _some(x, _POINTS), _some(y, _COMPARED)) for way, x, y in sides]
    return [fault for fault in found if fault]


def _some(x: Tensor, most: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return x[torch.randperm(len(x), generator=generator)[:most].to(x.device)]


def _fault(bridge: Bridge, problem: Problem, direction: Direction, start: Tensor, data: Tensor) -> str:
    """What is wrong with the ends of one direction; empty if nothing is seen."""
    try:
        end = bridge.transport(start, direction, _simulation(bridge, problem, direction), random_state=0)
    except DivergenceError as error:
        return f"{direction}: {error}"
    ratios, errors = _log_ratios(end.double(), data.double())
    off = ratios.abs() > _TOLERANCE + _ERRORS * errors
    return _sentence(direction, ratios, off, problem.columns) if off.any() else ""


def _simulation(bridge: Bridge, problem: Problem, direction: Direction) -> Simulation | None:
    """Few steps; none where the end can be drawn from its law."""
    field = bridge.forward_field if direction == "forward" else bridge.backward_field
    if field.known_end is not None:
        return None
    return Simulation(max(_STEPS, steps_for(bridge.epsilon, Frame.of(problem).scale) // 4))


def _log_ratios(end: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
    """log(s_fit/s_data) of every column and its standard error, (d,) each; columns that do not vary say nothing."""
    (spread0, error0), (spread1, error1) = _spread(end), _spread(data)
    ratios = (spread0 / spread1).log()
    return torch.where(spread1 > 0, ratios, 0), (error0 + error1).sqrt()


def _spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviations (d,), and the variances of their logarithms."""
    centred = x - x.mean(0)
    variance = centred.square().mean(0)
    kurtosis = centred.pow(4).mean(0) / variance.square().clamp(min=torch.finfo(x.dtype).tiny)
    return variance.sqrt(), (kurtosis - 1).clamp(min=0) / (4 * len(x))


def _sentence(direction: Direction, ratios: Tensor, off: Tensor, columns: tuple[str, ...] | None) -> str:
    worst = int(torch.where(off, ratios.abs(), -1).argmax())
    name, end = columns[worst] if columns else f"c{worst}", "x1" if direction == "forward" else "x0"
    times = float(ratios[worst].exp())
    others = f"; {int(off.sum())} of {len(off)} columns are off by more than 15 %" if len(off) > 1 else ""
    return (
        f"{direction} paths end {times:.3g} times as wide as {end} in column {name}{others}. Train for more steps, "
        "give more points, or take another solver; Bridge.certificate measures how far off the fit is"
    )
