"""Question: what does the search over I and γ change, where the interpolant to start from is not that of the bridge?

    python experiments/maxmin.py
    python experiments/maxmin.py --starts "twice the noise" --seconds 20 --out runs/demo-maxmin   # part of `make demo`

The setting of theorem 3.13: independent pairs, no plan.  x0 has the shape of moons, x1 of a spiral, and their bridge is
known.  "Nothing learned" is the regression on the interpolant as it stands: its process joins the two laws, but with
more energy than the bridge.  Every fit has the same time.  The path KL needs the truth; the dual value does not, and
rises by as much.  The bridge can be reached by I alone if γ² is at most
2ε t(1−t), the noise of a Brownian bridge.  Where it starts above that bound, γ must be learned too.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
import tyro
from common import COLOURS, RESULTS, Cell, Rows, save
from matplotlib.figure import Figure
from torch import Tensor

from sbridge import Bridge, Independent, MaxMin, Problem, Regression
from sbridge.estimates import Estimate
from sbridge.evaluation import energy_distance
from sbridge.evaluation.comparison import Evaluator
from sbridge.evaluation.metrics import exact_energy, kinetic_energy, path_kl
from sbridge.interpolants import Brownian, Gamma, SineSquared
from sbridge.problems.shapes import Shapes
from sbridge.solvers.budget import Trained, fitted_within

EPSILON, SAMPLES, JUDGED, SHOWN = 0.1, 50_000, 4000, 1500


class Noisy(Brownian):
    """Twice the Brownian standard deviation."""

    def forward(self, t: Tensor) -> Tensor:
        variance: Tensor = 4 * super().forward(t)
        return variance


STARTS: dict[str, type[Gamma]] = {"Brownian": Brownian, "sine squared": SineSquared, "twice the noise": Noisy}
LEARNED = {"nothing": (False, False), "I": (True, False), "γ": (False, True), "I and γ": (True, True)}
TITLES = {"start": "γ to start from", "learned": "learned", "forward": "path KL (nats)", "dual": "dual value (nats)"}
TITLES |= {"energy": "KE / KE*", "middle": "energy distance at t = ½", "steps": "steps", "seconds": "s"}


def solver(gamma: type[Gamma], mean: bool, noise: bool) -> Trained:
    """Max–min over what is learned, or the regression where nothing is."""
    if mean or noise:
        return MaxMin(gamma=gamma, coupling=Independent, learn_mean=mean, learn_gamma=noise)
    return Regression(gamma=gamma, coupling=Independent)


def name(start: str, learned: str) -> str:
    return f"{start}, {learned}".replace(" ", "-")


def judged(problem: Problem, start: str, learned: str, seconds: float, out: Path) -> dict[str, Cell]:
    """A fit, kept as a file, and its distances from the truth."""
    assert problem.truth is not None
    fit = fitted_within(solver(STARTS[start], *LEARNED[learned]), problem, seconds)
    fit.bridge.save(out / f"{name(start, learned)}.safetensors")
    generator = torch.Generator().manual_seed(1)
    x0 = problem.test0[:JUDGED]
    blocks = Evaluator.of(problem).dual(fit.bridge)
    exact = exact_energy(problem.truth, x0, generator)
    return {
        "forward": path_kl(fit.bridge, problem.truth, x0, generator),
        "dual": Estimate.of(torch.tensor(blocks)) if blocks else "",
        "energy": kinetic_energy(fit.bridge, x0, generator).value / exact.value,
        "middle": energy_distance(halfway(fit.bridge, x0), middle(problem, x0)),
        "steps": str(fit.steps),
        "seconds": fit.seconds,
    }


def halfway(bridge: Bridge, x0: Tensor) -> Tensor:
    """Points of the fit's own process at t = ½."""
    return bridge.transport(x0, until=0.5, random_state=1)


def middle(problem: Problem, x0: Tensor) -> Tensor:
    """Points of the exact bridge at t = ½."""
    assert problem.truth is not None
    generator, half = torch.Generator().manual_seed(2), torch.tensor(0.5, dtype=x0.dtype)
    return problem.truth.between(half, x0, problem.truth.endpoints(x0, generator), generator)


def picture(problem: Problem, start: str, out: Path) -> Figure:
    """The points at t = ½ of three fits and of the truth, and the noise that was learned."""
    figure, t = Figure(figsize=(12, 2.8), layout="constrained"), torch.linspace(0, 1, 101)[:, None]
    *panels, curves = figure.subplots(1, 5)
    x0, shown = problem.test0[:SHOWN], ("nothing", "I", "I and γ")
    points = {"the exact bridge": middle(problem, x0)}
    for place, learned in enumerate(shown):
        bridge = Bridge.load(out / f"{name(start, learned)}.safetensors")
        points[f"learned: {learned}"] = halfway(bridge, x0)
        assert bridge.interpolant is not None
        gamma = bridge.interpolant.variance(t).detach().sqrt()
        curves.plot(t, gamma, color=COLOURS[place], label=f"learned: {learned}")
    for axes, (title, x) in zip(panels, points.items(), strict=True):
        axes.plot(*x.T, ".", markersize=1.5, color=COLOURS[0 if title.startswith("the") else 1])
        axes.set(title=title, xticks=[], yticks=[], aspect="equal")
        axes.sharex(panels[0])
        axes.sharey(panels[0])
    curves.plot(t, Brownian(EPSILON)(t).sqrt(), "--", color="0.5", label="Brownian bridge")
    curves.set(title="γ(t)", xlabel="t")
    curves.legend(fontsize="x-small")
    return figure


def main(starts: tuple[str, ...] = tuple(STARTS), seconds: float = 60.0, out: Path = RESULTS / "maxmin") -> None:
    torch.set_num_threads(1)
    problem = Shapes(laws=("moons:spiral",), dim=2, epsilon=EPSILON, samples=SAMPLES, test_samples=JUDGED).build()
    rows = Rows(out, "maxmin")
    for start in starts:
        for learned in LEARNED:
            rows.once(partial(judged, problem, start, learned, seconds, out), start=start, learned=learned)
        save(picture(problem, start, out), out / f"{start.replace(' ', '-')}.png")
    rows.table(TITLES)


if __name__ == "__main__":
    tyro.cli(main)
