"""Draw the figures of the documentation into docs/figures/, the same ones every time.

    python docs/figures.py
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sbridge import Bridge, Brownian, EncoderDecoder, Linear, MixturePotential, Problem, Trigonometric
from sbridge.interpolants import ClosedForm, Gamma, SineSquared
from sbridge.likelihood import FeynmanKac, TiltedBound
from sbridge.problems.gaussian import GaussianBridge
from sbridge.problems.mixture import Mixture
from sbridge.report.style import PALETTE
from sbridge.theory.control import best_diffusion, gap, sde_bound
from sbridge.theory.line import Line, diffusion_law, kl
from sbridge.theory.oracle import MixtureOracle

FOLDER = Path(__file__).parent / "figures"
BLUE, ORANGE, GREEN = PALETTE[:3]
GREY = "#888888"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "sbridge",
}
FIGURES: dict[str, Callable[[], Figure]] = {}


def figure(draw: Callable[[], Figure]) -> Callable[[], Figure]:
    """Name a figure by its function."""
    FIGURES[draw.__name__] = draw
    return draw


def panels(count: int, width: float = 7.2, height: float = 2.6, **options: object) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side."""
    whole = Figure(figsize=(width, height), layout="constrained")
    return whole, list(whole.subplots(1, count, squeeze=False, **options)[0])  # type: ignore[arg-type]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clusters(epsilon: float, n: int = 1500) -> Problem:
    """The samples of the tutorial: a cloud and three clusters."""
    generator = seeded()
    centres = torch.tensor([[3.0, 2.5], [4.5, 0.0], [3.0, -2.5]])
    x0 = torch.randn(n, 2, generator=generator) * 0.7 - torch.tensor([4.0, 0.0])
    x1 = centres[torch.arange(n) % 3] + 0.5 * torch.randn(n, 2, generator=generator)
    return Problem(x0, x1, epsilon, x0, x1)


def show_points(ax: Axes, x: Tensor, colour: str, label: str) -> None:
    ax.plot(*x[:400].T, ".", color=colour, markersize=2.5, label=label, zorder=3)


@figure
def tutorial() -> Figure:
    """Both samples, the points that were moved, and some paths."""
    problem = clusters(0.2)
    bridge = MixturePotential().solve(problem)
    whole, (left, right) = panels(2, height=2.4, sharex=True, sharey=True)
    show_points(left, problem.x0, ORANGE, "x0")
    show_points(left, problem.x1, BLUE, "x1")
    paths = bridge.trajectories(problem.x0[:60], np.linspace(0, 1, 60).tolist(), random_state=0)
    right.plot(*paths.permute(2, 0, 1), color=GREY, linewidth=0.4)
    show_points(right, bridge.transport(problem.x0, random_state=1), GREEN, "x0 moved to t = 1")
    left.set_title("two samples")
    right.set_title("paths of the bridge, and where they end")
    for ax in (left, right):
        ax.set_aspect("equal")
        ax.legend(loc="upper left", markerscale=3, fontsize=8)
    return whole


@figure
def epsilon() -> Figure:
    """Paths for three noise levels."""
    levels = (0.005, 0.1, 2.0)
    whole, axes = panels(3, height=2.2, sharex=True, sharey=True)
    for ax, level in zip(axes, levels, strict=True):
        problem = clusters(level)
        bridge = MixturePotential(8).solve(problem)
        paths = bridge.trajectories(problem.x0[:40], np.linspace(0, 1, 80).tolist(), random_state=0)
        ax.plot(*paths.permute(2, 0, 1), color=GREY, linewidth=0.4)
        show_points(ax, problem.x0, ORANGE, "x0")
        show_points(ax, problem.x1, BLUE, "x1")
        ax.set(title=f"ε = {level:g},  √(2ε) = {sqrt(2 * level):.2g}", aspect="equal")
    return whole


@figure
def interpolants() -> Figure:
    """x_t of one pair: its mean, and the band of one standard deviation of the noise."""
    kinds: list[tuple[str, type[ClosedForm], type[Gamma]]] = [
        ("Linear, Brownian noise", Linear, Brownian),
        ("Trigonometric, Brownian noise", Trigonometric, Brownian),
        ("EncoderDecoder, SineSquared noise", EncoderDecoder, SineSquared),
    ]
    whole, axes = panels(3, height=2.2, sharey=True)
    t = torch.linspace(1e-4, 1 - 1e-4, 201)[:, None]
    for ax, (title, kind, gamma) in zip(axes, kinds, strict=True):
        ends = torch.full_like(t, -2), torch.full_like(t, 1.5)
        path = kind.make(gamma(0.5), 1.0).path(t, *ends, torch.ones_like(t)).detach()
        mean, spread = path.mean[:, 0].numpy(), path.gamma[:, 0].numpy()
        ax.fill_between(t[:, 0].numpy(), mean - spread, mean + spread, color=BLUE, alpha=0.2, linewidth=0)
        ax.plot(t[:, 0].numpy(), mean, color=BLUE)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("t")
    axes[0].set_ylabel("mean I, and ± γ")
    return whole


def on_a_line() -> MixtureOracle:
    """From one Gaussian to two, on a line, in double precision."""
    one, two = torch.ones(1).double(), torch.full((2,), 0.5).double()
    left, right = torch.zeros(1, 1).double(), torch.tensor([[-2.0], [2.0]]).double()
    wide, narrow = torch.full((1, 1, 1), 1.0).double(), torch.full((2, 1, 1), 0.1).double()
    return MixtureOracle(Linear(Brownian(0.5)), one, left, wide, two, right, narrow)


def drawn_ends(exact: MixtureOracle, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Independent x0, x1 and z of that problem, (n, 1) each."""
    x0, z, noise = torch.randn(3, n, 1, generator=seeded()).double()
    side = torch.where(torch.rand(n, 1, generator=seeded(1)) < 0.5, -2.0, 2.0).double()
    return x0, side + sqrt(0.1) * noise, z


@figure
def objectives() -> Figure:
    """Targets at one time, and the field that is their mean at every place."""
    exact, t = on_a_line(), torch.tensor(0.4).double()
    path = exact.interpolant.path(t, *drawn_ends(exact, 1500)).detach()
    place = torch.linspace(-3, 3, 200).double()[:, None]
    targets = {
        "velocity": (path.mean_rate + path.gamma_rate * path.z, exact.velocity),
        "denoiser": (path.z, exact.denoiser),
        "score": (-path.z / path.gamma, exact.score),
    }
    whole, axes = panels(3, height=2.3)
    for ax, (name, (target, field)) in zip(axes, targets.items(), strict=True):
        ax.plot(path.x[:, 0], target[:, 0], ".", color=GREY, markersize=1.5, label="targets")
        ax.plot(place[:, 0], field(t, place)[:, 0], color=ORANGE, label="their mean")
        ax.set(title=name, xlabel="x", xlim=(-3, 3), ylim=(-6, 6))
    axes[0].legend(loc="lower left", fontsize=8, markerscale=4)
    return whole


def line_bridge(exact: MixtureOracle, level: float) -> Bridge:
    """The process of the interpolant as a bridge of diffusion `level`."""

    class Drift(torch.nn.Module):
        data_spread, known_end, dim = 1.0, None, 1

        def __init__(self, sign: float) -> None:
            super().__init__()
            self.sign = sign

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return exact.drift(t, x, self.sign * level)

    return Bridge(Drift(1.0), Drift(-1.0), level)  # type: ignore[arg-type]


@figure
def equations() -> Figure:
    """The flow, the forward and the backward equation: other paths, one law at every time."""
    exact = on_a_line()
    bridge, times = line_bridge(exact, 0.5), np.linspace(0, 1, 101).tolist()
    x0, x1, _ = (x[:1500] for x in drawn_ends(exact, 3000))
    runs = {
        "flow": bridge.trajectories(x0, times, diffusion=0.0),
        "forward": bridge.trajectories(x0, times, random_state=0),
        "backward": bridge.trajectories(x1, times[::-1], random_state=0).flip(0),
    }
    whole, axes = panels(4, height=2.3, width=7.6)
    for ax, (name, paths) in zip(axes, runs.items(), strict=False):
        ax.plot(times, paths[:, :40, 0], color=BLUE, linewidth=0.4)
        ax.set(title=name, xlabel="t", ylim=(-4, 4))
    axes[0].set_ylabel("x")
    for colour, (name, paths) in zip((BLUE, ORANGE, GREEN), runs.items(), strict=True):
        axes[3].hist(paths[50, :, 0].numpy(), bins=30, range=(-4, 4), histtype="step", color=colour, label=name)
    axes[3].set(title="law at t = ½", xlabel="x", yticks=[])
    axes[3].legend(fontsize=7, loc="upper right", handlelength=1)
    axes[3].set_ylim(top=axes[3].get_ylim()[1] * 1.5)
    return whole


@figure
def likelihood() -> Figure:
    """Density of a Gaussian bridge's end by three methods, next to the exact one."""
    zero, one = torch.zeros(1).double(), torch.eye(1).double()
    bridge = GaussianBridge(zero, one, zero + 1, 0.25 * one, 0.1)
    base = torch.distributions.MultivariateNormal(zero, one)
    true = torch.distributions.MultivariateNormal(zero + 1, 0.25 * one)
    x = torch.linspace(-0.8, 2.8, 25).double()[:, None]
    whole, (ax,) = panels(1, width=4.8, height=2.6)
    ax.plot(x, true.log_prob(x), color=GREY, linewidth=3, alpha=0.5, label="exact")
    methods = {"ode": "ode", "feynman-kac": FeynmanKac(paths=64), "tilted bound": TiltedBound(paths=64)}
    for mark, colour, (name, method) in zip("x+.", (BLUE, ORANGE, GREEN), methods.items(), strict=True):
        found = bridge.log_prob(x, base=base, method=method, random_state=0)
        ax.plot(x, found.value, mark, color=colour, label=name, markersize=5)
    ax.set(xlabel="x", ylabel="log-density (nats)", ylim=(-8, 0.5))
    ax.legend(fontsize=8, loc="lower center")
    return whole


@figure
def control() -> Figure:
    """The divergence of the generated law and its bound, for several noise levels of the SDE."""
    exact, line = on_a_line(), Line(-8, 8, 320)
    t = (torch.arange(2000).double()[:, None] + 0.5) / 2000
    x = exact.interpolant.path(t, *drawn_ends(exact, 2000)).x

    def off_b(t: Tensor, x: Tensor) -> Tensor:
        return exact.velocity(t, x) + 0.3 * torch.sin(2 * x)

    def off_s(t: Tensor, x: Tensor) -> Tensor:
        return exact.score(t, x) - 0.3

    gaps = gap(off_b, exact.velocity, t, x), gap(off_s, exact.score, t, x)
    levels = np.geomspace(0.1, 5, 9)
    end = exact.log_density(torch.ones(()).double(), line.centres)
    start = torch.distributions.Normal(0.0, 1.0)

    def law(level: float) -> Tensor:
        def drift(t: Tensor, x: Tensor) -> Tensor:
            return off_b(t, x) + level * off_s(t, x)

        return diffusion_law(drift, lambda x: start.log_prob(x)[:, 0], level, line, steps=50)

    whole, (ax,) = panels(1, width=4.8, height=2.6)
    ax.loglog(levels, [sde_bound(*gaps, level).value for level in levels], color=ORANGE, label="bound by both losses")
    ax.loglog(levels, [float(kl(end, law(level), line)) for level in levels], "o", color=BLUE, label="KL(ρ₁‖ρ̂₁)")
    ax.axvline(best_diffusion(*gaps).value, color=GREY, linewidth=0.8, linestyle="--", label="ε*")
    ax.set(xlabel="ε of the SDE", ylabel="nats")
    ax.legend(fontsize=8)
    return whole


def kinetic_energy(size: float, level: float) -> float:
    """½E∫|b_F|²dt of x_t = (1−t)x0 + t·x1 + γz between independent N(0, 1), with γ² = size·t(1−t).

    b_F = −kx with the variance v of x_t and k = (ε − v̇/2)/v, so the energy is ½∫(ε − v̇/2)²/v dt.
    """
    t = (np.arange(2000) + 0.5) / 2000
    variance, rate = (1 - t) ** 2 + t**2 + size * t * (1 - t), (size - 2) * (1 - 2 * t)
    return float(np.mean((level - rate / 2) ** 2 / variance) / 2)


@figure
def maxmin() -> Figure:
    """The energy of an interpolant's process is least where the process is the bridge."""
    level = 0.1
    sizes = np.linspace(0.1, 4, 80)
    best = 2 * sqrt(1 + level**2)
    zero, one = torch.zeros(1).double(), torch.eye(1).double()
    least = GaussianBridge(zero, one, zero, one, level).kinetic_energy().value
    whole, (left, right) = panels(2, height=2.5)
    left.plot(sizes, [kinetic_energy(size, level) for size in sizes], color=BLUE)
    left.axhline(least, color=GREY, linewidth=0.8, linestyle="--")
    left.plot([best], [least], "o", color=ORANGE)
    left.annotate("the Schrödinger bridge", (best, least), (1.1, 0.09), arrowprops={"arrowstyle": "-", "color": GREY})
    left.set(xlabel="a, where γ² = a t(1−t)", ylabel="energy of the process", ylim=(0, None))
    t = np.linspace(0, 1, 101)
    for size, colour, name in ((2 * level, BLUE, "linear, γ² = 2ε t(1−t)"), (best, ORANGE, "bridge")):
        right.plot(t, (1 - t) ** 2 + t**2 + size * t * (1 - t), color=colour, label=name)
    right.set(xlabel="t", ylabel="variance of x_t", ylim=(0, 1.2))
    right.legend(fontsize=8, loc="lower left")
    return whole


@figure
def duality() -> Figure:
    """The dual value rises to the energy of the bridge, and what is missing is the divergence."""
    problem = Mixture(dim=2, epsilon=0.5, samples=3000, test_samples=5000).build()
    counts = (1, 2, 3, 4, 5, 8)
    duals = [MixturePotential(k).solve(problem).dual_on(problem.test0, problem.test1) for k in counts]
    assert problem.truth is not None
    exact = problem.truth.kinetic_energy().value
    whole, (ax,) = panels(1, width=4.8, height=2.6)
    values, errors = [dual.value for dual in duals], [2 * dual.standard_error for dual in duals]
    ax.errorbar(counts, values, errors, fmt="o", color=BLUE, capsize=2, label="dual D on held-out points (± 2 s.e.)")
    ax.axhline(exact, color=ORANGE, label="energy KE* of the bridge")
    ax.annotate("2ε KL(P*‖P)", (1, (values[0] + exact) / 2), (1.4, (values[0] + exact) / 2), va="center", color=GREY)
    ax.annotate("", (1, exact), (1, values[0]), arrowprops={"arrowstyle": "<->", "color": GREY})
    ax.set(xlabel="components of the potential", ylabel="squared units of the data")
    ax.legend(fontsize=8, loc="lower right")
    return whole


@figure
def oracle() -> Figure:
    """Density and flow of an interpolant between mixtures on a line."""
    exact = on_a_line()
    times, places = torch.linspace(0.005, 0.995, 100).double(), torch.linspace(-3.5, 3.5, 141).double()
    t, x = times[:, None, None].expand(-1, 141, 1), places[None, :, None].expand(100, -1, 1)
    density, velocity = exact.log_density(t, x).exp(), exact.velocity(t, x)[..., 0]
    whole, (ax,) = panels(1, width=4.8, height=2.6)
    ax.imshow(density.T, origin="lower", extent=(0, 1, -3.5, 3.5), aspect="auto", cmap="Blues")
    flat = times.numpy(), places.numpy(), np.ones((141, 100)), velocity.T.numpy()
    ax.streamplot(*flat, color=ORANGE, linewidth=0.6, arrowsize=0.6, density=0.8)
    ax.set(xlabel="t", ylabel="x", xlim=(0, 1), ylim=(-3.5, 3.5), title="density, and the flow of the velocity b")
    return whole


if __name__ == "__main__":
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    with rc_context(STYLE):
        for name, draw in FIGURES.items():
            draw().savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
