"""Draw the picture of the README: a max–min bridge from two moons to a ring of eight clusters.

    python docs/picture.py      # fits for some minutes, once; the bridge is kept in runs/picture.safetensors
"""

from __future__ import annotations

from io import BytesIO
from math import pi
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sbridge import Bridge, MaxMin, Problem

ROOT = Path(__file__).parents[1]
FITTED = ROOT / "runs" / "picture.safetensors"
PICTURE = ROOT / "docs" / "assets" / "bridge.webp"
EPSILON, STRANDS, FRAMES, SUBSTEPS, TAIL = 0.1, 600, 36, 4, 7
FIRST, OTHERS, LAST = 900, 60, 1600  # milliseconds that a frame is shown
SIZE, DPI = (8.0, 3.2), 100


def samples(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points of both shapes, side by side."""
    generator = torch.Generator().manual_seed(seed)
    angle, lower = pi * torch.rand(n, generator=generator), torch.arange(n) % 2
    moon = torch.stack([angle.cos() + lower - 0.5, (angle.sin() - 0.25) * (1 - 2 * lower)], dim=1)
    turn = pi / 4 * (torch.arange(n) % 8)
    ring = torch.stack([turn.cos(), turn.sin()], dim=1)
    noise0, noise1 = torch.randn(2, n, 2, generator=generator)
    x0 = moon * torch.tensor([3.2, 4.2]) + 0.22 * noise0 - torch.tensor([10.0, 0.0])
    return x0, 4.5 * ring + 0.35 * noise1 + torch.tensor([9.0, 0.0])


def fitted() -> Bridge:
    """The bridge, fitted once."""
    if not FITTED.exists():
        x0, x1 = samples(20_000, seed=0)
        FITTED.parent.mkdir(exist_ok=True)
        MaxMin().solve(Problem(x0, x1, EPSILON, x0, x1), listeners=[lambda at: print(at.step, end="\r")]).save(FITTED)
    return Bridge.load(FITTED)


def frame(paths: NDArray[np.float32], colours: NDArray[np.float64], place: int) -> Image.Image:
    """All paths, faint, and the points with their tails; after FRAMES the points rest and their tails catch up."""
    figure = Figure(figsize=SIZE, dpi=DPI)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.axis("off")
    low, high = paths.min((0, 1)), paths.max((0, 1))
    ax.set(xlim=(low[0] - 0.4, high[0] + 0.4), ylim=(low[1] - 0.3, high[1] + 0.3))
    now, start = SUBSTEPS * min(place, FRAMES), SUBSTEPS * max(0, place - TAIL)
    _draw(ax, paths, colours, 0.09, 0.5)
    _draw(ax, paths[start : now + 1], colours, 0.6, 0.8)
    ax.scatter(*paths[now].T, s=6, c=colours, linewidths=0, zorder=3)
    buffer = BytesIO()
    figure.savefig(buffer, facecolor="white")
    return Image.open(buffer).convert("RGB")


def _draw(ax: Axes, paths: NDArray[np.float32], colours: NDArray[np.float64], alpha: float, width: float) -> None:
    shades = np.concatenate([colours[:, :3], np.full((len(colours), 1), alpha)], axis=1)
    ax.add_collection(LineCollection(list(paths.swapaxes(0, 1)), colors=shades, linewidths=width))


def main() -> None:
    torch.set_num_threads(1)
    x0, _ = samples(STRANDS, seed=1)
    times = np.linspace(0, 1, SUBSTEPS * FRAMES + 1).tolist()
    paths = fitted().trajectories(x0, times, random_state=0, steps=SUBSTEPS * FRAMES).numpy()
    height = paths[0, :, 1]
    colours = colormaps["turbo"](0.08 + 0.84 * (height - height.min()) / np.ptp(height))
    frames = [frame(paths, colours, place) for place in range(FRAMES + TAIL + 1)]
    shown = [FIRST, *[OTHERS] * (len(frames) - 2), LAST]
    frames[0].save(PICTURE, save_all=True, append_images=frames[1:], duration=shown, loop=0, quality=55, method=6)


if __name__ == "__main__":
    main()
