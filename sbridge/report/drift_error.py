"""Where in time a drift differs from the true one: the density of the path KL.

KL(P*‖P_û) = ∫ k(t) dt with k(t) = (1/4ε) E_{P*}|u* − û|², and the same with the backward drifts for the law seen from
t = 1 (Girsanov).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sbridge.bridge import Bridge, ExactBridge
from sbridge.problem import Problem
from sbridge.report.content import Exhibit, Material
from sbridge.report.style import WIDTH, canvas, colours, dashes, styled, time_axis

__all__ = ["DriftError", "drift_errors", "drift_gaps"]

_TIMES = torch.linspace(0.01, 0.99, 50)
_POINTS = 500


@dataclass(frozen=True)
class DriftError:
    """k(t) of every method, forward and backward."""

    slug = "drift_error"
    title = "Drift error against time"

    def applies(self, material: Material) -> bool:
        return material.problem.truth is not None and bool(material.methods)

    def exhibit(self, material: Material) -> Exhibit:
        caption = (
            f"k(t) = E|û − u*|²/(4ε) on {_POINTS} paths of the exact bridge, û the method's drift and u* the exact "
            "one, with a band of ± 2 standard errors. The area under a curve is the KL divergence of the true path "
            "law from the method's, in nats; the legend gives it for .01 ≤ t ≤ .99."
        )
        return Exhibit(drift_errors(material.problem, material.methods, material.generator()), caption)


def drift_gaps(bridge: Bridge, truth: ExactBridge, x0: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """|û − u*|²/(4ε) of forward and backward drift at 50 times, each (50, n), on exact paths from x0 (n, d)."""
    x1 = truth.endpoints(x0, generator)
    forward, backward = [], []
    for t in _TIMES:
        x = truth.between(t, x0, x1, generator)
        forward.append((bridge.forward_drift(t, x) - truth.forward_drift(t, x)).square().sum(-1))
        backward.append((bridge.backward_drift(t, x) - truth.backward_drift(t, x)).square().sum(-1))
    return torch.stack(forward) / (4 * truth.epsilon), torch.stack(backward) / (4 * truth.epsilon)


@styled
def drift_errors(problem: Problem, bridges: Mapping[str, Bridge], generator: torch.Generator) -> Figure:
    """Two panels, forward and backward drift, one curve for each method."""
    assert problem.truth is not None
    figure, axes = canvas(1, 2, (WIDTH / 2, WIDTH / 2.9), sharey=True)
    methods = list(bridges)
    state = generator.get_state()
    for name, bridge in bridges.items():
        generator.set_state(state)  # the same paths for every method
        gaps = drift_gaps(bridge, problem.truth, problem.test0[:_POINTS], generator)
        for ax, gap in zip(axes[0], gaps, strict=True):
            _curve(ax, gap, name, colours(methods)[name], dashes(methods)[name])
    for ax, title in zip(axes[0], ("forward drift", "backward drift"), strict=True):
        time_axis(ax)
        ax.set(title=title, yscale="log", xlim=(0, 1))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.legend()
    axes[0, 0].set_ylabel("k(t) (nats per unit time)")
    return figure


def _curve(ax: Axes, gap: Tensor, name: str, colour: str, dash: object) -> None:
    mean, error = gap.mean(1), gap.std(1) / gap.shape[1] ** 0.5
    area = torch.trapezoid(mean, _TIMES).item()
    ax.plot(_TIMES, mean, color=colour, linestyle=dash, label=f"{name}: {area:.3g} nats")
    low, high = (mean - 2 * error).clamp(min=mean / 10), mean + 2 * error  # a logarithm has no zero
    ax.fill_between(_TIMES, low, high, color=colour, alpha=0.2, linewidth=0)
