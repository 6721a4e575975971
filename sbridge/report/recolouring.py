"""Two photographs exchange their colours: the bridge between their pixels, applied to every pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from sbridge.bridge import Bridge, Direction
from sbridge.problems.datasets import Photos
from sbridge.report.material import Exhibit, Material
from sbridge.report.style import DPI, WIDTH, styled
from sbridge.sampling import HEUN, Simulation

__all__ = ["Moved", "Pictures", "conditional_mean", "flow", "process", "recolouring"]

Pictures = tuple[Tensor, Tensor]

_DIRECTIONS: tuple[Direction, Direction] = ("forward", "backward")
_TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
_FLOW_STEPS = 12  # of Heun: within 2/255 of the limit for 99 % of colours
_PROCESS_STEPS = 16  # of Euler–Maruyama
_BATCH = 8192  # pixels; larger batches leave a processor's cache and take twice as long
_READING = (
    "Above: on the way, along the probability flow of the fitted bridge, which has the bridge's colours at every time. "
    "It has no noise: equal colours stay equal. Below, at the other end. Process: each pixel has noise of its own, "
    "which shows as grain. Mean: each colour goes to the mean of its ends, which has no grain, but less contrast than "
    "the other picture. The baselines are shown by their means, which are quick to compute. Colours out of range are "
    "clipped, only to show them."
)


@dataclass(frozen=True)
class Moved:
    """A picture at several times of its move.

    Args:
        stages: (times, height, width, 3), the last at the other end.
        seconds: time to move all its pixels.
    """

    stages: Tensor
    seconds: float


def recolouring(material: Material, pictures: Callable[[], Pictures] = Photos.pictures) -> Exhibit | None:
    """Both pictures recoloured by every method, where the run is of `Photos`.

    Args:
        material: the run.
        pictures: gives the two pictures whose pixels are the data, (height, width, 3) with values in [0, 1].
    """
    problem = material.run.config["settings"].get("problem", {})
    if problem.get("class") != Photos.__name__ or material.fitted not in material.bridges:
        return None
    both, name = pictures(), material.fitted
    moving = _both(flow, material.bridges[name], both)
    arrived = {f"{name}: process": _both(process, material.bridges[name], both)} | {
        f"{other}: mean": _both(conditional_mean, bridge, both) for other, bridge in material.bridges.items()
    }
    pixels = sum(picture[..., 0].numel() for picture in both)
    ways = {f"{name}: flow": moving, **arrived}
    return Exhibit(
        "recolouring",
        "The pictures, recoloured",
        f"All {pixels:,} pixels of the two pictures, each a point in the space of colours, were moved. {_READING}",
        [_figure(moving, arrived, f"{name}: flow")],
        [
            {"to move all pixels of both pictures": way, "seconds": f"{sum(one.seconds for one in found):.1f}"}
            for way, found in ways.items()
        ],
    )


def _both(move: Callable[[Bridge, Tensor, Direction], Moved], bridge: Bridge, pictures: Pictures) -> list[Moved]:
    return [move(bridge, picture, direction) for picture, direction in zip(pictures, _DIRECTIONS, strict=True)]


def flow(bridge: Bridge, picture: Tensor, direction: Direction) -> Moved:
    """Every pixel of a picture (height, width, 3) moved along the probability-flow ODE, at five times."""
    times = _TIMES if direction == "forward" else _TIMES[::-1]
    return _moved_by_colour(
        picture, lambda colours: bridge.trajectories(colours, times, Simulation(_FLOW_STEPS, 0.0, HEUN, _BATCH))
    )


def conditional_mean(bridge: Bridge, picture: Tensor, direction: Direction) -> Moved:
    """The mean endpoint of every pixel x: E[x1 | x0 = x] = x + b_F(0, x), or E[x0 | x1 = x] = x − b_B(1, x).

    This holds for the Schrödinger bridge, whose drift is (E[x1 | x_t] − x)/(1 − t).
    """

    def mean(colours: Tensor) -> Tensor:
        if direction == "forward":
            return (colours + bridge.forward_drift(0.0, colours))[None]
        return (colours - bridge.backward_drift(1.0, colours))[None]

    return _moved_by_colour(picture, mean)


def process(bridge: Bridge, picture: Tensor, direction: Direction) -> Moved:
    """Every pixel moved by the bridge's own process."""
    start = perf_counter()
    pixels = picture.reshape(-1, 3)
    ends = bridge.transport(pixels, direction, Simulation(_PROCESS_STEPS, batch=_BATCH), random_state=0)
    return Moved(ends.reshape(1, *picture.shape), perf_counter() - start)


def _moved_by_colour(picture: Tensor, move: Callable[[Tensor], Tensor]) -> Moved:
    """Apply a deterministic move (n, 3) → (times, n, 3) once to each distinct colour."""
    start = perf_counter()
    colours, which = torch.unique(picture.reshape(-1, 3), dim=0, return_inverse=True)
    stages = move(colours)[:, which].reshape(-1, *picture.shape)
    return Moved(stages, perf_counter() - start)


@styled
def _figure(moving: Sequence[Moved], arrived: Mapping[str, Sequence[Moved]], name: str) -> Figure:
    """Above, both pictures on the way; below, at the other end by several methods.  One row for each direction."""
    height, width = moving[0].stages.shape[1:3]
    sizes = [2 * WIDTH / n * height / width + 0.5 for n in (len(_TIMES), len(arrived))]
    figure = Figure(figsize=(WIDTH, sum(sizes)), dpi=DPI, layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=sizes)[:, 0]
    labels = ("start", "¼ of the way", "½", "¾", "the other end")
    _pictures(top, {label: [one.stages[k] for one in moving] for k, label in enumerate(labels)})
    _pictures(bottom, {label: [one.stages[-1] for one in both] for label, both in arrived.items()})
    top.suptitle(f"on the way ({name})")
    bottom.suptitle("at the other end")
    return figure


def _pictures(part: SubFigure, columns: Mapping[str, Sequence[Tensor]]) -> None:
    axes = part.subplots(2, len(columns), squeeze=False)
    for column, (label, pictures) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(label)
        for ax, picture in zip(column, pictures, strict=True):
            ax.imshow(picture.clamp(0, 1).numpy())
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    for ax, direction in zip(axes[:, 0], _DIRECTIONS, strict=True):
        ax.set_ylabel(direction)
