"""Claim: a mirror interpolant carries a law to itself through a blurred version of it: points noise until t = ½ and
denoise from there, arrive distributed as they started, and forget their start as ε grows.

    .venv/bin/python experiments/mirror.py

Two moons, `fit(x, x)`; held-out points are moved to t = ½ and on to 1.  As ρ_t = ρ_(1−t), the exact probability flow
brings every point back to where it started, which tells how exact a fit is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from pathlib import Path

import torch
from bench import RESULTS
from figures import Cell, Rows, energy_floor, scatter, square
from matplotlib.figure import Figure
from torch import Tensor

from sbridge import Bridge, Independent, Regression, SchrodingerBridge
from sbridge.estimates import Estimate
from sbridge.evaluation import energy_distance
from sbridge.interpolants import Brownian, Gamma, Mirror, Parabolic, SineSquared
from sbridge.problems.planar import moons

FOLDER, FITS = RESULTS / "mirror", RESULTS.parent / "runs" / "mirror"
TRAINING, JUDGED, STEPS = 30_000, 4000, 100


@dataclass(frozen=True)
class Case:
    """A size and a shape of the noise."""

    epsilon: float
    gamma: type[Gamma] = Brownian

    @property
    def key(self) -> dict[str, str]:
        """What its row goes by."""
        return {"gamma": self.gamma.__name__, "epsilon": f"{self.epsilon:g}"}

    def fitted(self) -> Bridge:
        """The fit, done once."""
        path: Path = FITS / f"{self.gamma.__name__}_{self.epsilon:g}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            x = moons(TRAINING, torch.Generator().manual_seed(0))
            solver = Regression(
                interpolant=Mirror, gamma=self.gamma, coupling=Independent, steps=3000, batch=256, group=64, rate=3e-3
            )
            SchrodingerBridge(epsilon=self.epsilon, solver=solver).fit(x, x).save(path)
        return Bridge.load(path)

    def journey(self, x: Tensor) -> Tensor:
        """Points at t = 0, ½ and 1 of the process of diffusion ε, (3, n, 2)."""
        return self.fitted().trajectories(x, (0.0, 0.5, 1.0), steps=STEPS, random_state=5)


SMALL_TO_LARGE = [Case(0.05), Case(0.5), Case(2.0), Case(8.0)]
CASES = [*SMALL_TO_LARGE, Case(0.5, Parabolic), Case(0.5, SineSquared)]
TITLES = {
    "gamma": "γ",
    "epsilon": "ε",
    "end": "energy distance to the data: t = 1",
    "middle": "t = ½",
    "middle_exact": "t = ½, to exact x_½",
    "travel": "E\\|x₁−x₀\\|",
    "free": "√(πε)",
    "correlation": "correlation of x₁ with x₀",
    "returned": "E\\|x₁−x₀\\| of the ODE",
}
NOTE = """
Data's units. Energy distances are to 4,000 held-out points; between two true samples of that size they have a standard
deviation of {deviation:.2g}, and 95 % of them lie below {floor:.2g}: the floor. √(πε) is how far free Brownian motion
of the same diffusion goes, the limit for small ε. Exact x_½ is a held-out point with noise γ(½) z. The ODE's last
column is zero for exact fields: what is there is the fit's and the Euler steps' error. The row of independent pairs is
where travel and correlation end for large ε.
"""


def held_out(seed: int) -> Tensor:
    """Points of the law, (n, 2)."""
    return moons(JUDGED, torch.Generator().manual_seed(seed))


def travel(a: Tensor, b: Tensor) -> dict[str, Cell]:
    """How far b (n, 2) is from a, and how much it still depends on it: the mean correlation of coordinates."""
    centred = [x - x.mean(0) for x in (a, b)]
    r = float((centred[0] * centred[1]).mean(0).div(a.std(0) * b.std(0)).mean())
    return {"travel": Estimate.of((b - a).norm(dim=1)), "correlation": Estimate(r, (1 - r**2) / sqrt(len(a)))}


def judged(case: Case) -> dict[str, Cell]:
    """A row of the table."""
    start, other = held_out(1), held_out(2)
    bridge = case.fitted()
    _, middle, end = case.journey(start)
    assert bridge.interpolant is not None
    z = torch.randn(JUDGED, 2, generator=torch.Generator().manual_seed(4))
    half = other + bridge.interpolant.variance(torch.tensor([0.5])).sqrt() * z
    returned = bridge.transport(start, diffusion=0.0, steps=STEPS)
    ends = {"end": energy_distance(end, other), "middle": energy_distance(middle, other)}
    ends["middle_exact"] = energy_distance(middle, half)
    back = Estimate.of((returned - start).norm(dim=1))
    return {**ends, "returned": back, **travel(start, end), "free": sqrt(pi * case.epsilon)}


def references() -> dict[str, Cell]:
    """The row of pairs that know nothing of each other."""
    start, other, third = (held_out(seed) for seed in (1, 2, 3))
    return {"gamma": "independent pairs", "end": energy_distance(third, other), **travel(start, third)}


def picture() -> Figure:
    """Where points are at t = 0, ½ and 1, coloured by their start."""
    figure = Figure(figsize=(8, 2.7 * len(SMALL_TO_LARGE)), layout="constrained")
    start = held_out(1)
    shown = torch.cat([start, SMALL_TO_LARGE[2].journey(start)[1]])
    for row, case in zip(figure.subplots(len(SMALL_TO_LARGE), 3), SMALL_TO_LARGE, strict=True):
        for axes, x, t in zip(row, case.journey(start), ("0", "½", "1"), strict=True):
            scatter(axes, x, start[:, 0].numpy(), f"t = {t}")
            square(axes, shown)
        row[0].set_ylabel(f"ε = {case.epsilon:g}", fontsize=10)
    figure.supxlabel("held-out points, coloured by the x-coordinate they started from; data's units", fontsize=9)
    return figure


def main() -> None:
    torch.set_num_threads(1)
    rows = Rows(FOLDER, "journeys", TITLES)
    for case in CASES:
        if rows.missing(**case.key):
            rows.add(**case.key, **judged(case))
    if rows.missing(gamma="independent pairs"):
        rows.add(**references())
    picture().savefig(FOLDER / "journeys.png", dpi=140)
    floor = energy_floor(moons, JUDGED)
    rows.write(NOTE.format(floor=floor.value, deviation=floor.standard_error))


if __name__ == "__main__":
    main()
