"""The fitted interpolant beside the straight one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sbridge.interpolants import Brownian, Interpolant, Linear
from sbridge.problem import Problem
from sbridge.report.content import Exhibit, Material
from sbridge.report.style import DATA0, DATA1, WIDTH, canvas, colours, styled, time_axis
from sbridge.report.views import view_of

__all__ = ["FittedInterpolant", "Pairs", "interpolants"]

Pairs = tuple[Tensor, Tensor]

_SHOWN = 10  # pairs drawn
_TIMES = torch.linspace(0, 1, 101)[:, None, None]
_GREY = "#777777"
_STYLES = ("-", ":")


@dataclass(frozen=True)
class FittedInterpolant:
    """Mean and noise of the fitted bridge's interpolant."""

    slug = "interpolant"
    title = "The interpolant"

    def applies(self, material: Material) -> bool:
        return any(bridge.interpolant is not None for bridge in material.methods.values())

    def exhibit(self, material: Material) -> Exhibit:
        name, learned = next(
            (name, bridge.interpolant) for name, bridge in material.methods.items() if bridge.interpolant is not None
        )
        caption = (
            f"x_t = I(t, x0, x1) + γ(t) z as {name} has it (colour), beside I = (1−t) x0 + t x1 and γ² = 2εt(1−t) "
            f"(grey, dashed). Above: I for {_SHOWN} pairs of a held-out x0 (orange) and an x1 (blue), on the left as "
            "the fitted process couples them, on the right drawn independently. Below: how far I is from the "
            "straight line over all such pairs, and γ². Many interpolants share one law, so no single path has a "
            "meaning of its own: what counts is the law of x_t and the drift that follows from it."
        )
        colour = colours(list(material.methods))[name]
        ends = material.journeys.forward[name]
        return Exhibit(interpolants(material.problem, learned, _pairs(material, ends), colour), caption)


def _pairs(material: Material, paths: Tensor) -> dict[str, Pairs]:
    test0, test1 = material.problem.test0, material.problem.test1
    n, generator = paths.shape[1], material.generator()
    order = (torch.randint(len(test), (n,), generator=generator) for test in (test0, test1))
    return {
        "pairs of the process": (paths[0], paths[-1]),
        "independent pairs": (test0[next(order)], test1[next(order)]),
    }


@styled
def interpolants(problem: Problem, learned: Interpolant, pairs: Mapping[str, Pairs], colour: str) -> Figure:
    """Above, paths of some pairs of each of two kinds; below, departure from the straight line, and γ²."""
    straight = Linear(Brownian(problem.epsilon))
    figure, axes = canvas(2, 2, (WIDTH / 2, WIDTH / 2.9))
    for ax, (kind, (x0, x1)), style in zip(axes[0], pairs.items(), _STYLES, strict=True):
        plain, found = _means(straight, x0, x1), _means(learned, x0, x1)
        _paths(ax, problem, plain, (_GREY, "--"))
        _paths(ax, problem, found, (colour, "-"))
        ax.set_title(kind)
        departure = (found - plain).square().sum(-1).mean(-1).sqrt()
        axes[1, 0].plot(_TIMES.flatten(), departure, color=colour, linestyle=style, label=kind)
    axes[1, 0].set(ylabel="r.m.s. |I − straight line|\n(data units)", ylim=(0, None))
    _variances(axes[1, 1], learned, straight, colour)
    for ax in axes[1]:
        time_axis(ax)
        ax.legend(loc="lower center")
    return figure


def _means(interpolant: Interpolant, x0: Tensor, x1: Tensor) -> Tensor:
    """I at 101 times, (101, n, d)."""
    with torch.no_grad():
        return interpolant.mean(_TIMES, *(x.float().expand(len(_TIMES), -1, -1) for x in (x0, x1)))


def _paths(ax: Axes, problem: Problem, means: Tensor, ink: tuple[str, str]) -> None:
    view = view_of(problem)
    shown = view.project(_TIMES.flatten().tolist(), means[:, :_SHOWN])
    ax.plot(shown[..., 0], shown[..., 1], color=ink[0], linestyle=ink[1], linewidth=1)
    for end, colour in ((0, DATA0), (-1, DATA1)):
        ax.scatter(shown[end, :, 0], shown[end, :, 1], s=16, color=colour, edgecolors="white", linewidths=0.4, zorder=3)
    view.frame(ax, problem)
    ax.set(xlabel=view.labels[0], ylabel=view.labels[1])


def _variances(ax: Axes, learned: Interpolant, straight: Interpolant, colour: str) -> None:
    t = _TIMES.flatten()
    with torch.no_grad():
        ax.plot(t, learned.variance(_TIMES).flatten(), color=colour, label="as fitted")
        ax.plot(t, straight.variance(_TIMES).flatten(), color=_GREY, linestyle="--", label="2εt(1−t)")
    ax.set(ylabel="γ² (squared data units)", ylim=(0, None))
