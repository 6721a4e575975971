"""The fit: its training curves, the learned interpolant, and where in time its drifts differ from the true ones.

KL(P*‖P_û) = ∫ k(t) dt with k(t) = (1/4ε) E_{P*}|u* − û|², and the same with the backward drifts for the law seen from
t = 1 (Girsanov).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sbridge.bridge import Bridge, ExactBridge
from sbridge.interpolants import Brownian, Interpolant, Linear
from sbridge.report.coordinates import Coordinate, columns_of, principal
from sbridge.report.material import Exhibit, Material
from sbridge.report.style import DATA0, DATA1, GREY, colours, dashes, panel, plain_powers, short, styled, time_axis

__all__ = ["drift_error", "drift_gaps", "interpolant", "training_curves"]

Pairs = tuple[Tensor, Tensor]

_DRAWN_PAIRS = 10
_PAIRS = 500
_FEWEST_CHECKS = 2  # that make a curve
_INTERPOLANT_TIMES = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None, None]
_GAP_TIMES = torch.linspace(0.01, 0.99, 50)
_GAP_POINTS = 500
_OWN, _FIXED = "loss on the current interpolant", "loss on fixed points"
_CURVES = {
    "held_out_loss": (_OWN, "nats, up to a constant", "held-out points", "-"),
    "training_loss": (_OWN, "nats, up to a constant", "training points", (0, (3, 1.5))),
    "reference_loss": (_FIXED, "nats, up to a constant", "held-out points", "-"),
    "kinetic_energy": ("kinetic energy", "squared units of the data", "held-out points", "-"),
}  # column of the history → title of its panel, unit, points, line style
_MEANINGS = {
    _OWN: "the error of both drifts on the interpolant of that step, which changes while it is learned; where the two "
    "lines part, the network learns its training points by heart",
    _FIXED: "the same error on held-out points that stay the same. The weights with the lowest value are returned",
    "kinetic energy": "½E∫|b|²dt of the forward drift b. The Schrödinger bridge has the least of all processes between "
    "these ends",
}


def training_curves(material: Material) -> Exhibit | None:
    """A panel for each monitored value that was computed more than once, against the step."""
    history = material.history
    columns = [] if history is None else [column for column in _CURVES if column in history.columns]
    if history is None or len(history) < _FEWEST_CHECKS or not columns:
        return None
    titles = list(dict.fromkeys(_CURVES[column][0] for column in columns))
    caption = " ".join(f"{title[0].upper()}{title[1:]}: {_MEANINGS[title]}." for title in titles)
    colour = colours([material.fitted])[material.fitted]
    panels = [_curves(history, [name for name in columns if _CURVES[name][0] == title], colour) for title in titles]
    return Exhibit("training", f"The training of {material.fitted}", caption, panels)


@styled
def _curves(history: pl.DataFrame, columns: Sequence[str], colour: str) -> Figure:
    figure, ax = panel()
    for column in columns:
        title, unit, points, style = _CURVES[column]
        ax.plot(history["step"], history[column], color=colour, linestyle=style, label=points)
        ax.set(title=title, xlabel="step of the training", ylabel=unit)
    if len(columns) > 1:
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def interpolant(material: Material) -> Exhibit | None:
    """Mean and noise of the first learned interpolant, beside the straight one."""
    learned = {name: bridge.interpolant for name, bridge in material.methods.items()}
    found = next(((name, one) for name, one in learned.items() if one is not None), None)
    if found is None:
        return None
    name, one = found
    caption = (
        "An interpolant x_t = I(t, x0, x1) + γ(t) z goes from a point x0 to a point x1, with noise z between. Colour: "
        f"that of {name}. Grey, dashed: the straight one, I = (1−t) x0 + t x1 and γ² = 2εt(1−t). The first two "
        f"pictures show I for {_DRAWN_PAIRS} pairs. The third has the distance of I from the straight line over "
        f"{_PAIRS} pairs, the last γ². A single path means nothing: many interpolants give the same law of x_t."
    )
    figures = _interpolant_panels(material, one, _pairs(material, name), colours(list(material.methods))[name])
    return Exhibit("interpolant", "The interpolant", caption, figures)


def _pairs(material: Material, name: str) -> dict[str, Pairs]:
    generator, problem = material.generator(), material.problem
    first, second = (torch.randint(len(x), (_PAIRS,), generator=generator) for x in (problem.test0, problem.test1))
    x0 = problem.test0[first]
    x1 = material.methods[name].transport(x0, random_state=0)
    return {"pairs of the process": (x0, x1), "independent pairs": (x0, problem.test1[second])}


@styled
def _interpolant_panels(
    material: Material, learned: Interpolant, pairs: Mapping[str, Pairs], colour: str
) -> list[Figure]:
    """Paths of two kinds of pairs, the distance from the straight line, and γ²."""
    straight, figures = Linear(Brownian(material.problem.epsilon)), []
    distance, ax = panel()
    for (kind, (x0, x1)), style in zip(pairs.items(), ("-", ":"), strict=True):
        plain, found = _means(straight, x0, x1), _means(learned, x0, x1)
        figures.append(_drawn(material, kind, {(GREY, "--"): plain, (colour, "-"): found}))
        departure = (found - plain).square().sum(-1).mean(-1).sqrt()
        ax.plot(_INTERPOLANT_TIMES.flatten(), departure, color=colour, linestyle=style, label=kind)
    ax.set(ylabel="distance from the straight line", ylim=(0, None))
    time_axis(ax)
    distance.legend(loc="outside lower center", ncols=2)
    return [*figures, distance, _variances(learned, straight, colour)]


def _means(interpolant: Interpolant, x0: Tensor, x1: Tensor) -> Tensor:
    """I at 101 times, (101, n, d)."""
    with torch.no_grad():
        like = next(iter(interpolant.state_dict().values()), x0)
        times, *ends = (x.to(like) for x in (_INTERPOLANT_TIMES, x0, x1))
        return interpolant.mean(times, *(x.expand(len(times), -1, -1) for x in ends))


def _drawn(material: Material, kind: str, means: Mapping[tuple[str, str], Tensor]) -> Figure:
    """Ten paths of each colour and line style."""
    figure, ax = panel()
    axes = _plane(material)
    for (colour, style), paths in means.items():
        shown = paths[:, :_DRAWN_PAIRS]
        x, y = (_INTERPOLANT_TIMES.expand(shown.shape)[..., 0] if axis is None else axis.of(shown) for axis in axes)
        ax.plot(x, y, color=colour, linestyle=style, linewidth=1)
        for end, ink in ((0, DATA0), (-1, DATA1)):
            ax.scatter(x[end], y[end], s=16, color=ink, edgecolors="white", linewidths=0.4, zorder=3)
    ax.set(title=kind, xlabel="time t" if axes[0] is None else axes[0].name, ylabel=axes[1].name)
    return figure


def _plane(material: Material) -> tuple[Coordinate | None, Coordinate]:
    """Both axes of a picture of paths; None is time."""
    problem = material.problem
    if problem.dim == 1:
        return None, columns_of(problem)[0]
    columns, samples = columns_of(problem), (problem.test0, problem.test1)
    first, second = columns if problem.dim == 2 else principal(samples, columns)
    return first, second


def _variances(learned: Interpolant, straight: Interpolant, colour: str) -> Figure:
    figure, ax = panel()
    t = _INTERPOLANT_TIMES.flatten()
    with torch.no_grad():
        ax.plot(t, learned.variance(_INTERPOLANT_TIMES).flatten(), color=colour, label="learned")
        ax.plot(t, straight.variance(_INTERPOLANT_TIMES).flatten(), color=GREY, linestyle="--", label="2εt(1−t)")
    ax.set(ylabel="γ² (squared units of the data)", ylim=(0, None))
    time_axis(ax)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def drift_error(material: Material) -> Exhibit | None:
    """k(t) of every method, forward and backward, where the exact bridge is known."""
    truth = material.problem.truth
    if truth is None or not material.methods:
        return None
    caption = (
        "How wrong the drift û of each method is at time t, beside the exact drift u*: "
        f"k(t) = E|û − u*|²/(4ε) on {_GAP_POINTS} paths of the exact bridge, with two standard errors. The area under "
        "a curve is the KL divergence of the true paths from the method's, in nats; the legend gives it."
    )
    starts = material.problem.test0[:_GAP_POINTS]
    gaps = {name: drift_gaps(one, truth, starts, material.generator()) for name, one in material.methods.items()}
    return Exhibit("drift_error", "Error of the drift in time", caption, _gap_panels(gaps))


def drift_gaps(bridge: Bridge, truth: ExactBridge, x0: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """|û − u*|²/(4ε) of forward and backward drift at 50 times, each (50, n), on exact paths from x0 (n, d)."""
    x1 = truth.endpoints(x0, generator)
    forward, backward = [], []
    for t in _GAP_TIMES:
        x = truth.between(t, x0, x1, generator)
        forward.append((bridge.forward_drift(t, x) - truth.forward_drift(t, x)).square().sum(-1))
        backward.append((bridge.backward_drift(t, x) - truth.backward_drift(t, x)).square().sum(-1))
    return torch.stack(forward) / (4 * truth.epsilon), torch.stack(backward) / (4 * truth.epsilon)


@styled
def _gap_panels(gaps: Mapping[str, tuple[Tensor, Tensor]]) -> list[Figure]:
    methods, figures = list(gaps), []
    for k, title in enumerate(("forward drift", "backward drift")):
        figure, ax = panel()
        for name in methods:
            _draw_gap(ax, gaps[name][k], name, color=colours(methods)[name], linestyle=dashes(methods)[name])
        time_axis(ax)
        ax.set(title=title, yscale="log", xlim=(0, 1), ylabel="k(t), nats per unit of time")
        plain_powers(ax.yaxis)
        figure.legend(loc="outside lower center", ncols=2)
        figures.append(figure)
    return figures


def _draw_gap(ax: Axes, gap: Tensor, name: str, **look: Any) -> None:
    mean, error = gap.mean(1), gap.std(1) / gap.shape[1] ** 0.5
    area = torch.trapezoid(mean, _GAP_TIMES).item()
    (line,) = ax.plot(_GAP_TIMES, mean, label=f"{short(name)}: {area:.3g}", **look)
    low, high = (mean - 2 * error).clamp(min=mean / 10), mean + 2 * error  # a logarithm has no zero
    ax.fill_between(_GAP_TIMES, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
