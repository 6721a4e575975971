"""The fit: its training curves, the learned interpolant, and where in time its drifts differ from the true ones.

KL(P*‖P_û) = ∫ k(t) dt with k(t) = (1/4ε) E_{P*}|u* − û|², and the same with the backward drifts for the law seen from
t = 1 (Girsanov).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sbridge.bridge import Bridge, ExactBridge
from sbridge.interpolants import Brownian, Interpolant, Linear
from sbridge.problem import Problem
from sbridge.report.material import Exhibit, Material
from sbridge.report.points import view_of
from sbridge.report.style import DATA0, DATA1, GREY, WIDTH, canvas, colours, dashes, styled, time_axis

__all__ = ["drift_error", "drift_gaps", "interpolant", "training_curves"]

Pairs = tuple[Tensor, Tensor]

_DRAWN_PAIRS = 10
_INTERPOLANT_TIMES = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None, None]
_GAP_TIMES = torch.linspace(0.01, 0.99, 50)
_GAP_POINTS = 500
_OWN, _FIXED = "loss on the current interpolant", "loss on fixed points"
_CURVES = {
    "held_out_loss": (_OWN, "nats, up to a constant", "held-out points", "-"),
    "training_loss": (_OWN, "nats, up to a constant", "training points", (0, (3, 1.5))),
    "reference_loss": (_FIXED, "nats, up to a constant", "held-out points", "-"),
    "kinetic_energy": ("kinetic energy", "squared data units", "held-out points", "-"),
}  # column of the history → title of its panel, unit, points, line style
_MEANINGS = {
    _OWN: "the regression loss of both drifts on the interpolant of that step, which changes while it is learned; "
    "where held-out and training points diverge, the fit overfits",
    _FIXED: "the same loss on held-out points that stay the same, for max–min those of a Sinkhorn bridge: up to a "
    "constant it is the path KL to that bridge, and it chooses the weights that are returned",
    "kinetic energy": "½E∫|b|²dt of the forward drift b on held-out pairs; of all processes between these ends the "
    "bridge has the least",
}


def training_curves(material: Material) -> Exhibit | None:
    """A panel for each monitored value, against the step."""
    history = material.history
    columns = [] if history is None else [column for column in _CURVES if column in history.columns]
    if history is None or not columns:
        return None
    titles = dict.fromkeys(_CURVES[column][0] for column in columns)
    meanings = (f"{title.capitalize()}: {_MEANINGS[title]}." for title in titles)
    caption = " ".join([f"Values monitored while {material.fitted} was trained.", *meanings])
    curves = history.select("step", *columns)
    return Exhibit("training", "The fit", _curve_panels(curves, colours([material.fitted])[material.fitted]), caption)


@styled
def _curve_panels(history: pl.DataFrame, colour: str) -> Figure:
    titles = list(dict.fromkeys(_CURVES[column][0] for column in history.columns[1:]))
    width = WIDTH / max(len(titles), 2)
    figure, axes = canvas(1, len(titles), (width, 0.85 * width))
    panels = dict(zip(titles, axes[0], strict=True))
    for column in history.columns[1:]:
        title, unit, points, style = _CURVES[column]
        panels[title].plot(history["step"], history[column], color=colour, linestyle=style, label=points)
        panels[title].set(title=title, xlabel="step", ylabel=unit)
    for ax in axes[0]:
        if len(ax.lines) > 1:
            ax.legend()
    return figure


def interpolant(material: Material) -> Exhibit | None:
    """Mean and noise of the first learned interpolant, beside the straight one."""
    learned = {name: bridge.interpolant for name, bridge in material.methods.items()}
    found = next(((name, one) for name, one in learned.items() if one is not None), None)
    if found is None:
        return None
    name, one = found
    caption = (
        f"x_t = I(t, x0, x1) + γ(t) z of {name} (colour), beside I = (1−t) x0 + t x1 and γ² = 2εt(1−t) (grey, dashed). "
        f"Above: I for {_DRAWN_PAIRS} pairs of a held-out x0 (orange) and an x1 (blue), on the left paired by the "
        "fitted process, on the right independently. Below: the distance of I from the straight line over all such "
        "pairs, and γ². Many interpolants have the same law of x_t; only that law and the drift that follows from it "
        "have a meaning, not a single path."
    )
    pairs = _pairs(material, material.paths.forward[name])
    figure = _interpolant_panels(material.problem, one, pairs, colours(list(material.methods))[name])
    return Exhibit("interpolant", "The interpolant", figure, caption)


def _pairs(material: Material, paths: Tensor) -> dict[str, Pairs]:
    test0, test1 = material.problem.test0, material.problem.test1
    n, generator = paths.shape[1], material.generator()
    first, second = (torch.randint(len(test), (n,), generator=generator) for test in (test0, test1))
    return {"pairs of the process": (paths[0], paths[-1]), "independent pairs": (test0[first], test1[second])}


@styled
def _interpolant_panels(problem: Problem, learned: Interpolant, pairs: Mapping[str, Pairs], colour: str) -> Figure:
    """Above, paths of two kinds of pairs; below, the distance from the straight line, and γ²."""
    straight = Linear(Brownian(problem.epsilon))
    figure, axes = canvas(2, 2, (WIDTH / 2, WIDTH / 2.9))
    for ax, (kind, (x0, x1)), style in zip(axes[0], pairs.items(), ("-", ":"), strict=True):
        plain, found = _means(straight, x0, x1), _means(learned, x0, x1)
        _draw_means(ax, problem, plain, GREY, "--")
        _draw_means(ax, problem, found, colour, "-")
        ax.set_title(kind)
        departure = (found - plain).square().sum(-1).mean(-1).sqrt()
        axes[1, 0].plot(_INTERPOLANT_TIMES.flatten(), departure, color=colour, linestyle=style, label=kind)
    axes[1, 0].set(ylabel="r.m.s. |I − straight line|\n(data units)", ylim=(0, None))
    _variances(axes[1, 1], learned, straight, colour)
    for ax in axes[1]:
        time_axis(ax)
        ax.legend(loc="lower center")
    return figure


def _means(interpolant: Interpolant, x0: Tensor, x1: Tensor) -> Tensor:
    """I at 101 times, (101, n, d)."""
    with torch.no_grad():
        like = next(iter(interpolant.state_dict().values()), x0)
        times, *ends = (x.to(like) for x in (_INTERPOLANT_TIMES, x0, x1))
        return interpolant.mean(times, *(x.expand(len(times), -1, -1) for x in ends))


def _draw_means(ax: Axes, problem: Problem, means: Tensor, colour: str, style: str) -> None:
    view = view_of(problem)
    shown = view.project(_INTERPOLANT_TIMES.flatten().tolist(), means[:, :_DRAWN_PAIRS])
    ax.plot(shown[..., 0], shown[..., 1], color=colour, linestyle=style, linewidth=1)
    for end, ink in ((0, DATA0), (-1, DATA1)):
        ax.scatter(shown[end, :, 0], shown[end, :, 1], s=16, color=ink, edgecolors="white", linewidths=0.4, zorder=3)
    view.frame(ax, problem)
    ax.set(xlabel=view.labels[0], ylabel=view.labels[1])


def _variances(ax: Axes, learned: Interpolant, straight: Interpolant, colour: str) -> None:
    t = _INTERPOLANT_TIMES.flatten()
    with torch.no_grad():
        ax.plot(t, learned.variance(_INTERPOLANT_TIMES).flatten(), color=colour, label="learned")
        ax.plot(t, straight.variance(_INTERPOLANT_TIMES).flatten(), color=GREY, linestyle="--", label="2εt(1−t)")
    ax.set(ylabel="γ² (squared data units)", ylim=(0, None))


def drift_error(material: Material) -> Exhibit | None:
    """k(t) of every method, forward and backward, where the exact bridge is known."""
    truth = material.problem.truth
    if truth is None or not material.methods:
        return None
    caption = (
        f"k(t) = E|û − u*|²/(4ε) on {_GAP_POINTS} paths of the exact bridge, where û is the method's drift and u* the "
        "exact one, with a band of ± 2 standard errors. The area under a curve is the KL divergence of the true path "
        "law from the method's, in nats; the legend gives it for .01 ≤ t ≤ .99."
    )
    starts = material.problem.test0[:_GAP_POINTS]
    gaps = {name: drift_gaps(one, truth, starts, material.generator()) for name, one in material.methods.items()}
    return Exhibit("drift_error", "Drift error against time", _gap_panels(gaps), caption)


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
def _gap_panels(gaps: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    methods = list(gaps)
    figure, axes = canvas(1, 2, (WIDTH / 2, WIDTH / 2.9), sharey=True)
    for k, title in enumerate(("forward drift", "backward drift")):
        ax = axes[0, k]
        for name in methods:
            _draw_gap(ax, gaps[name][k], name, color=colours(methods)[name], linestyle=dashes(methods)[name])
        time_axis(ax)
        ax.set(title=title, yscale="log", xlim=(0, 1))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.legend()
    axes[0, 0].set_ylabel("k(t) (nats per unit time)")
    return figure


def _draw_gap(ax: Axes, gap: Tensor, name: str, **look: Any) -> None:
    mean, error = gap.mean(1), gap.std(1) / gap.shape[1] ** 0.5
    area = torch.trapezoid(mean, _GAP_TIMES).item()
    (line,) = ax.plot(_GAP_TIMES, mean, label=f"{name}: {area:.3g} nats", **look)
    low, high = (mean - 2 * error).clamp(min=mean / 10), mean + 2 * error  # a logarithm has no zero
    ax.fill_between(_GAP_TIMES, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
