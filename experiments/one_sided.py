"""Claim: from Gaussian noise a one-sided interpolant, whose noise is x0 itself, generates a planar law as well as a
two-sided one from the same budget; one fit serves the probability flow and every diffusion, large ones less accurately.

    .venv/bin/python experiments/one_sided.py

Two moons from N(0, I), with `SchrodingerBridge.fit`; held-out data judge the points, beside the floor of true samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from bench import RESULTS
from figures import COLOURS, Rows, energy_floor, scatter, square, w2
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sbridge import Bridge, Independent, Regression, SchrodingerBridge
from sbridge.evaluation import energy_distance
from sbridge.interpolants import ClosedForm, Linear, OneSidedLinear, OneSidedTrigonometric, VariancePreserving
from sbridge.problems.planar import moons, normal
from sbridge.sampling import Diffusion

FOLDER, FITS, EPSILON = RESULTS / "one_sided", RESULTS.parent / "runs" / "one_sided", 0.5
TRAINING, JUDGED = 30_000, 4000
INTERPOLANTS: dict[str, type[ClosedForm]] = {
    "one-sided linear": OneSidedLinear,
    "one-sided trigonometric": OneSidedTrigonometric,
    "variance preserving": VariancePreserving,
    "two-sided linear (baseline)": Linear,
}


def falling(t: Tensor) -> Tensor:
    """D = 1 − t."""
    return 1 - t


def arched(t: Tensor) -> Tensor:
    """D = 2t(1−t)."""
    return 2 * t * (1 - t)


@dataclass(frozen=True)
class Sampler:
    """How points are generated."""

    name: str
    diffusion: Diffusion
    quiet_end: bool = False

    def points(self, bridge: Bridge, x0: Tensor, steps: int) -> Tensor:
        """Generated points (n, d)."""
        return bridge.transport(x0, diffusion=self.diffusion, steps=steps, random_state=7, quiet_end=self.quiet_end)


CONSTANT = [
    Sampler(f"SDE, D = {level:g}{end}", level, bool(end)) for level in (0.1, 0.5, 2.0) for end in ("", ", quiet end")
]
SAMPLERS = [Sampler("ODE", 0.0), *CONSTANT, Sampler("SDE, D = 1−t", falling), Sampler("SDE, D = 2t(1−t)", arched)]
STEPS = (50, 100)
NOTE = """
Energy distances are between 4,000 generated and as many held-out points; between two true samples of that size they
have a standard deviation of {deviation:.2g}, and 95 % of them lie below {floor:.2g}: the floor. W2 is a mean over four
blocks of 1,000, ± its standard error; its floor, the row of other true points, is far from zero. Steps are Euler's.
One fit (one seed) for each interpolant; all rows start from the same noise and are judged by the same data.

The probability flow is at the floor everywhere. With 50 steps D = 2 is above it in every column and D = 1−t in three of
four; with 100, D = 2 in two. With a quiet end the last step is one of the probability flow. It gains nothing on these
wide moons (noise 0.6): at D = 2 and 50 steps it is a little worse in every column, by less than the floor's deviation.
"""


def points(seed: int) -> tuple[Tensor, Tensor]:
    """Held-out noise and data."""
    generator = torch.Generator().manual_seed(seed)
    return normal(JUDGED, generator), moons(JUDGED, generator)


def fitted(name: str, path: Path) -> Bridge:
    """The fit of that interpolant, done once."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(0)
        noise, data = normal(TRAINING, generator), moons(TRAINING, generator)
        solver = Regression(
            interpolant=INTERPOLANTS[name], coupling=Independent, steps=4000, batch=256, group=64, rate=3e-3
        )
        SchrodingerBridge(epsilon=EPSILON, solver=solver).fit(noise, data).save(path)
    return Bridge.load(path)


def wide(rows: Rows, metric: str, title: str) -> str:
    """A table of one metric: a row for each sampler, a column for each interpolant."""
    columns = {"sampler": title, "steps": "Euler steps", **{name: name for name in INTERPOLANTS}}
    table = []
    for sampler, steps in product(SAMPLERS, STEPS):
        key = {"sampler": sampler.name, "steps": str(steps)}
        line = dict(key)
        for name in INTERPOLANTS:
            (row,) = rows.find(interpolant=name, **key)
            line |= {name: row[metric], f"{name}_se": row.get(f"{metric}_se", "")}
        table.append(line)
    for reference in ("other true points", "noise as it is"):
        (row,) = rows.find(interpolant=reference)
        values = {name: row[metric] for name in INTERPOLANTS}
        errors = {f"{name}_se": row.get(f"{metric}_se", "") for name in INTERPOLANTS}
        table.append({"sampler": reference, "steps": "", **values, **errors})
    return Rows(FOLDER, metric, columns).markdown(table)


def lines(axes: Axes, bridge: Bridge, x0: Tensor, diffusion: float, colour: str) -> None:
    """Some trajectories over the data."""
    times = [k / 100 for k in range(101)]
    paths = bridge.trajectories(x0[:25], times, diffusion=diffusion, random_state=3)
    axes.plot(*paths.permute(2, 0, 1).numpy(), color=colour, linewidth=0.7)
    axes.scatter(x0[:25, 0].numpy(), x0[:25, 1].numpy(), color="black", s=8, zorder=3)
    axes.set_title(f"paths, D = {diffusion:g}", fontsize=9)


def picture(bridges: dict[str, Bridge]) -> Figure:
    """Trajectories and generated points of every interpolant, over the held-out data."""
    figure = Figure(figsize=(11, 2.9 * len(bridges)), layout="constrained")
    noise, data = points(1)
    for row, (name, bridge) in zip(figure.subplots(len(bridges), 4), bridges.items(), strict=True):
        for axes in row[:2]:
            scatter(axes, data, "#BBBBBB", "")
        lines(row[0], bridge, noise, 0.0, COLOURS[0])
        lines(row[1], bridge, noise, EPSILON, COLOURS[1])
        scatter(row[2], Sampler("", 0.0).points(bridge, noise, 100), COLOURS[0], "generated, ODE, 100 steps")
        blurred = Sampler("", 2.0).points(bridge, noise, 50)
        scatter(row[3], blurred, COLOURS[1], "generated, SDE, D = 2, 50 steps")
        for axes in row:
            square(axes, torch.cat([data, noise]))
        row[0].set_ylabel(name, fontsize=10)
    figure.supxlabel("grey: held-out data; black: starting points, N(0, I); data's units", fontsize=9)
    return figure


def main() -> None:
    torch.set_num_threads(1)
    rows = Rows(FOLDER, "distances", {})
    (noise, data), (_, again) = points(1), points(2)
    for name, found in (("other true points", again), ("noise as it is", noise)):
        if rows.missing(interpolant=name):
            rows.add(interpolant=name, sampler="", steps="", energy=energy_distance(found, data), w2=w2(found, data))
    bridges = {name: fitted(name, FITS / f"{kind.__name__}.safetensors") for name, kind in INTERPOLANTS.items()}
    for (name, bridge), sampler, steps in product(bridges.items(), SAMPLERS, STEPS):
        key = {"interpolant": name, "sampler": sampler.name, "steps": str(steps)}
        if rows.missing(**key):
            found = sampler.points(bridge, noise, steps)
            rows.add(**key, energy=energy_distance(found, data), w2=w2(found, data))
    picture(bridges).savefig(FOLDER / "samples.png", dpi=130)
    floor = energy_floor(moons, JUDGED)
    tables = wide(rows, "energy", "energy distance"), wide(rows, "w2", "W2")
    rows.write(*tables, NOTE.format(floor=floor.value, deviation=floor.standard_error))


if __name__ == "__main__":
    main()
