"""The discrete plan between two samples as a bridge: Sinkhorn's algorithm by POT, by GeomLoss and by `sbridge.plans`.

The entropic plan between weighted points is P_ij = u_i v_j exp(−|x_i−y_j|²/4ε).  Put a Brownian bridge on each pair:
the kernel factors at x_t, so that given x_t = x the end is y_j with probability w_j ∝ v_j exp(−|x−y_j|²/4ε(1−t)),
whatever u is, and the forward drift is

    u(t, x) = (Σ_j w_j y_j − x)/(1−t).

The process seen from t = 1 has the same drift in τ = 1−t with u_i and x_i in the place of v_j and y_j.

Pooladian & Niles-Weed, arXiv 2408.11686 (the plug-in drift); Cuturi 2013 (Sinkhorn).  Use it where there are many
points for the dimension and ε; otherwise the plug-in process ends on the data points.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log, sqrt
from time import perf_counter
from typing import ClassVar

import torch
from torch import Tensor

from sbridge.bridge import Bridge
from sbridge.checks import Checked, Count, Positive, Seed, checked
from sbridge.fields import Field, Framed, Reversed
from sbridge.plans import Plan, entropic_plan
from sbridge.problem import Frame, Problem
from sbridge.solvers.base import Listener
from sbridge.units import geomloss_blur, pot_reg
from sbridge.weights import shares_of

__all__ = ["BlockwiseSinkhorn", "GeomlossSinkhorn", "PlanBridge", "PlugIn", "PotSinkhorn", "plug_in_bridge"]

_DISTANCES_AT_ONCE = 2**22  # in memory
_SMALLEST_REST = 1e-3  # of the time to t = 1
_BLURS = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)  # of the end points, in variances of the noise, for a potential
_SOME_POINTS = 512  # whose neighbours are looked for
_TIMED_ROWS = 256  # of an iteration, by which its time is estimated
_FIRST_BLUR = 1.1  # of GeomLoss's annealing, over the last


class PlugIn(Field):
    """The drift of a discrete plan towards its end points.

    t is at most 1 − 0.001: at t = 1 the weights collapse onto the nearest point y, and the drift towards it,
    (y − x)/(1−t), is infinite.  An Euler step that ends at t = 1 starts earlier and ends at Σ w_j y_j; methods with a
    stage at t = 1 itself, such as Heun, overshoot in their last step.

    Args:
        points: end points y, (m, d).
        log_scaling: log v of each, (m,), which includes the weight of the point.
        epsilon: ε.
    """

    def __init__(self, points: Tensor, log_scaling: Tensor, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.points: Tensor
        self.log_scaling: Tensor
        self.register_buffer("points", points)
        self.register_buffer("log_scaling", log_scaling)

    @property
    def dim(self) -> int:
        return self.points.shape[1]

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        rest = (1 - t).clamp(min=_SMALLEST_REST).expand(*x.shape[:-1], 1).reshape(-1, 1)
        rows = x.reshape(-1, x.shape[-1])
        parts = zip(rest.split(self._rows), rows.split(self._rows), strict=True)
        ends = torch.cat([self._end(*part) for part in parts])
        return ((ends - rows) / rest).reshape(x.shape)

    def _end(self, rest: Tensor, x: Tensor) -> Tensor:
        """E[x1 | x_t = x]."""
        return torch.softmax(self._logs(rest, x), dim=-1) @ self.points

    def _logs(self, rest: Tensor, x: Tensor) -> Tensor:
        """log v_j − |x−y_j|²/4ε(1−t) but for |x|², which is common to all points and drops out of a softmax."""
        nearness = x @ self.points.T - self.points.square().sum(1) / 2
        return self.log_scaling + nearness / (2 * self.epsilon * rest)

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ(t, x), (n,), of the plan whose end points are blurred: t (), x (n, d).

        exp λ/2ε = Σ_j v_j N(y_j; x, 2ε(1−t+δ)) is the potential of an exact bridge for every δ > 0.  At δ = 0 it would
        be infinite at the points, and −∞ elsewhere.  The process of the plan differs from that bridge only after
        t = 1 − δ, with the δ of `blur`.
        """
        rest = 1 - t + self.blur
        logs = torch.cat([self._logs(rest, part).logsumexp(1) for part in x.split(self._rows)])
        level = 2 * self.epsilon
        return level * (logs - self.dim / 2 * rest.log()) - x.square().sum(1) / (2 * rest)

    @cached_property
    def blur(self) -> float:
        """δ with which the blurred points give each of them, by all others, the highest likelihood.

        It is at most .01, because path divergences are measured up to t = .99.
        """
        some = self.points[:_SOME_POINTS]
        squares = torch.cdist(some, self.points).square()
        squares.fill_diagonal_(torch.inf)

        def likelihood(delta: float) -> float:
            logs = (-squares / (4 * self.epsilon * delta)).logsumexp(1)
            return float(logs.mean()) - self.dim / 2 * log(delta)

        return max(_BLURS, key=likelihood)

    @property
    def _rows(self) -> int:
        """As many places at once as memory takes."""
        return max(1, _DISTANCES_AT_ONCE // len(self.points))


class PlanBridge(Bridge):
    """The bridge of a discrete plan, both of whose fields are `PlugIn`s, perhaps in other coordinates.

    Args:
        forward_field, backward_field: the drifts.
        epsilon: ε.
        remark: what is to be said of the plan.
    """

    forward_field: Framed
    backward_field: Framed

    def __init__(self, forward_field: Field, backward_field: Field, epsilon: float, remark: str = "") -> None:
        super().__init__(forward_field, backward_field, epsilon, remark=remark)

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ(t, x) of the plan with blurred points (`PlugIn.potential`), (n,)."""
        inner = self.forward_field.inner
        assert isinstance(inner, PlugIn)
        return self.forward_field.potential(inner.potential, t, x)

    def backward_potential(self, t: Tensor, x: Tensor) -> Tensor:
        """The same of the backward process, as in `sbridge.potentials.PotentialBridge`."""
        turned = self.backward_field.inner
        assert isinstance(turned, Reversed) and isinstance(turned.inner, PlugIn)
        inner = turned.inner
        return self.backward_field.potential(lambda t, y: inner.potential(1 - t, y), t, x, back=True)


def plug_in_bridge(
    x0: Tensor,
    x1: Tensor,
    log_scaling: Tensor,
    epsilon: float,
    tolerance: float,
    weights0: Tensor | None = None,
    weights1: Tensor | None = None,
) -> Bridge:
    """The bridge of the plan between points with log v = `log_scaling` (n1,) on the x1 side.

    Half a Sinkhorn step gives the x0 side, so x0's marginal is exact and both directions belong to one plan.  Where the
    sum of absolute errors of x1's marginal exceeds `tolerance`, the bridge's remark says so.

    Args:
        x0, x1: points, (n0, d) and (n1, d), in float64; the bridge's fields are float32.
        weights0, weights1: of the points, (n0,) and (n1,); None means equal ones.
    """
    g = log_scaling - shares_of(x1, weights1).log()
    return _bridge_of(Plan.of_potential(x0, x1, epsilon, g, weights0, weights1), tolerance)


def _bridge_of(plan: Plan, tolerance: float) -> Bridge:
    forward, backward = (
        PlugIn(points.float(), (potential + shares_of(points, weights).log()).float(), plan.epsilon)
        for points, potential, weights in ((plan.x1, plan.g, plan.weights1), (plan.x0, plan.f, plan.weights0))
    )
    return Bridge(forward, Reversed(backward), plan.epsilon, remark=plan.remark(tolerance))


@dataclass(frozen=True)
class Sinkhorn(Checked):
    """The plan between random subsamples of both datasets.

    Args:
        points: points per side at most; the libraries' memory grows with the square.
        iterations: Sinkhorn iterations at most.
        tolerance: the sum of absolute errors of a marginal up to which a plan counts as converged.
    """

    name: ClassVar[str]
    attempts: ClassVar[float] = 1.0
    """How often all iterations are done at most."""

    points: Count = 2048
    iterations: Count = 1000
    tolerance: Positive = 1e-3

    def most_seconds(self, problem: Problem) -> float:
        """About how long a solve takes at most: as long as all iterations, by a part of one that is done here."""
        rows, columns = (min(self.points, len(x)) for x in (problem.x0, problem.x1))
        some = torch.zeros(min(rows, _TIMED_ROWS), columns, dtype=torch.float64)
        begin = perf_counter()
        for axis in (0, 1):
            torch.logsumexp(some, axis)
        return self.attempts * self.iterations * (perf_counter() - begin) * rows / len(some)

    @checked
    def solve(self, problem: Problem, random_state: Seed = 0, listeners: Sequence[Listener] = ()) -> Bridge:
        """The bridge of the plan.

        Warns:
            ConvergenceWarning: (of scikit-learn) the plan did not converge; the bridge's remark says how far it is off.
        """
        frame = Frame.of(problem)
        inside = frame.inside(problem)
        generator = torch.Generator().manual_seed(random_state)
        rows = [torch.randperm(len(x), generator=generator)[: self.points] for x in (inside.x0, inside.x1)]
        x0, x1 = (x[few].double() for x, few in zip((inside.x0, inside.x1), rows, strict=True))
        w0, w1 = (w if w is None else w[few] for w, few in zip(inside.weights, rows, strict=True))
        bridge = self._bridge(x0, x1, inside.epsilon, w0, w1)
        if bridge.remark:
            _warn(f"{self.name}: {bridge.remark}. Take a larger ε, more iterations or fewer points")
        found = frame.outside(bridge)
        answer = PlanBridge(found.forward_field, found.backward_field, found.epsilon, found.remark)
        answer.columns = found.columns
        return answer

    def _bridge(
        self, x0: Tensor, x1: Tensor, epsilon: float, weights0: Tensor | None, weights1: Tensor | None
    ) -> Bridge:
        raise NotImplementedError


class PotSinkhorn(Sinkhorn):
    """Sinkhorn in the log domain by POT (Flamary et al., JMLR 2021).

    The default method of `ot.sinkhorn` multiplies kernels that underflow at small ε, and returns a plan of zeros.
    """

    name = "POT Sinkhorn"

    def _bridge(
        self, x0: Tensor, x1: Tensor, epsilon: float, weights0: Tensor | None, weights1: Tensor | None
    ) -> Bridge:
        import ot

        # POT checks the Euclidean norm of the error; the sum of absolute errors is at most √n times that.
        _, found = ot.bregman.sinkhorn_log(
            shares_of(x0, weights0),
            shares_of(x1, weights1),
            torch.cdist(x0, x1).square(),
            pot_reg(epsilon),
            numItermax=self.iterations,
            stopThr=self.tolerance / sqrt(len(x1)),
            log=True,
            warn=False,
        )
        return plug_in_bridge(x0, x1, found["log_v"], epsilon, self.tolerance, weights0, weights1)


@dataclass(frozen=True)
class GeomlossSinkhorn(Sinkhorn):
    """Symmetric Sinkhorn by GeomLoss (Feydy, thesis 2020, algorithm 3.5).

    GeomLoss lowers its blur from `diameter` to the last value by the ratio `scaling`, one iteration for each value,
    and has no stopping rule.  Its result has an error ∝ 1 − scaling: from the data's diameter, a scaling of .99 leaves
    marginal errors of .001–.02.  From 1.1 times the last blur, as many iterations leave an error 10–1,000 times
    smaller.  Where the marginals show that the iterations were too few, four times as many are tried.  A thousand
    iterations take several times as long as POT's, hence fewer points.
    """

    name = "GeomLoss Sinkhorn"
    attempts = 1.5

    points: Count = 1024

    def _bridge(
        self, x0: Tensor, x1: Tensor, epsilon: float, weights0: Tensor | None, weights1: Tensor | None
    ) -> Bridge:
        for count in (self.iterations // 16, self.iterations // 4, self.iterations):
            log_scaling = geomloss_log_scaling(x0, x1, epsilon, max(1, count), weights0, weights1)
            bridge = plug_in_bridge(x0, x1, log_scaling, epsilon, self.tolerance, weights0, weights1)
            if not bridge.remark:
                break
        return bridge


@dataclass(frozen=True)
class BlockwiseSinkhorn(Sinkhorn):
    """The plan of `sbridge.plans`, never held as a matrix: 100,000 points per side take less than 2 GB.

    It is computed in single precision, which may not reach a tolerance below 1e-5.
    """

    name = "blockwise Sinkhorn"

    points: Count = 8192

    def _bridge(
        self, x0: Tensor, x1: Tensor, epsilon: float, weights0: Tensor | None, weights1: Tensor | None
    ) -> Bridge:
        plan = entropic_plan(x0.float(), x1.float(), epsilon, self.tolerance, self.iterations, weights0, weights1)
        return _bridge_of(plan, self.tolerance)


def geomloss_log_scaling(
    x0: Tensor,
    x1: Tensor,
    epsilon: float,
    iterations: int,
    weights0: Tensor | None = None,
    weights1: Tensor | None = None,
) -> Tensor:
    """log v (n1,) on the x1 side: GeomLoss's potential over its regularisation, plus the log weight of a point."""
    from geomloss import SamplesLoss

    blur = geomloss_blur(epsilon)
    loss = SamplesLoss(
        blur=blur,
        diameter=_FIRST_BLUR * blur,
        scaling=_FIRST_BLUR ** (-1 / iterations),
        debias=False,
        potentials=True,
        backend="tensorized",
    )
    with torch.no_grad():  # GeomLoss leaves gradients switched on; leaving this block restores the setting
        a, b = shares_of(x0, weights0), shares_of(x1, weights1)
        potential: Tensor = loss(a.to(x0), x0, b.to(x1), x1)[1]
    return potential.reshape(-1) / blur**2 + b.log()


def _warn(message: str) -> None:
    from sklearn.exceptions import ConvergenceWarning  # here, because scikit-learn takes long to import

    warnings.warn(message, ConvergenceWarning, stacklevel=3)
