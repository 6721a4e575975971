"""The mixture-potential solver: a potential in closed form, fitted in about a second.

λ = 2ε log φ with φ of K Gaussian components (`field`) is fitted to both datasets by maximising the dual
D(λ) = E λ(1, x1) − E λ(0, x0) ≤ KE* (`fit`).  The forward process from any ρ₀ is then the exact Schrödinger bridge
between ρ₀ and its own law at t = 1, and its divergence is KL(P*‖P_λ) = (KE* − D(λ))/2ε nats, with P* the bridge of the
data.  D on held-out points chooses K and the iteration.

With diagonal covariances the backward drift is that of the same process, b_B = b_F − 2ε∇log ρ_t, started from a
Gaussian mixture fitted to x0 (`backward`).  With full covariances it is the forward drift of a second potential, fitted
with x0 and x1 exchanged.  This is cheaper to evaluate and exact between Gaussians.  But the backward process of a
mixture potential is in general not a mixture potential; on the mixture benchmark such a drift is far from the true one.

The potential and its dual: Korotin, Gushchin, Burnaev, arXiv 2310.01174 (LightSB).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sbridge.checks import Checked, Count, Fraction, Seed, checked
from sbridge.errors import InputError
from sbridge.fields import Field, Framed, Reversed
from sbridge.potentials.backward import MixtureBackward
from sbridge.potentials.bridge import PotentialBridge
from sbridge.potentials.field import MixtureDrift
from sbridge.potentials.fit import Ascent, Parameters, clusters, log_sum_and_shares
from sbridge.potentials.full import FullMixtureDrift, FullParameters
from sbridge.potentials.gaussians import fit_gaussians
from sbridge.potentials.selection import Scored, Split, first_peak, simplest
from sbridge.problem import Frame, Problem
from sbridge.solvers.base import Listener
from sbridge.weights import repeated

__all__ = ["FullMixturePotential", "MixturePotential", "potentials_for"]

_PART = 20_000  # most points per side for the first iterations, and for the held-out dual
_FIRST, _LAST, _LAST_IN_PLANE = 20, 10, 40  # most iterations: on the part, on all points, and on all in a plane
_FIRST_WORK, _LAST_WORK = 160_000, 2_500_000  # most points per side × components
_FEW_DIMS = 4  # where many components pay: the choice of their number needs twice as many points
_COUNTS = (1, 2, 3, 5, 8, 12, 20, 32, 50, 80)
_STRIDE = 3  # every third of them is tried first
_PER_COMPONENT = 10  # points
_STARTS = 4096  # points of x0 stored with the bridge
_FULL_DIM = 16  # largest d for mixtures with full covariances
_GAUSSIAN_DIM = 512  # for one of them


@dataclass(frozen=True)
class MixturePotential(Checked):
    """Fit a mixture potential: the fastest solver, and the most accurate where K Gaussians can describe the bridge.

    Use it where x1 has clusters, and as a first answer anywhere.  Curved data, or data with several scales, need many
    components; networks can do better there.

    Args:
        components: K; None chooses one of 1 … 80 by the dual on held-out points.
        starts: number of k-means runs; the one with the smallest inertia is the start.
        held_out: fraction of the points not fitted to, at most 20,000 per side.

    Raises:
        InputError: components or starts is below one, or held_out is not between 0 and 1.
    """

    name: ClassVar[str] = "mixture potential"
    _parameters: ClassVar[type[Parameters]] = Parameters

    components: Count | None = None
    starts: Count = 4
    held_out: Fraction = 0.1

    @checked
    def solve(self, problem: Problem, random_state: Seed = 0, listeners: Sequence[Listener] = ()) -> PotentialBridge:
        """The bridge of the potential with the highest dual on held-out points.

        Raises:
            InputError: there are fewer than ten points for each component.
        """
        frame, x0, x1 = self._split(problem, torch.Generator().manual_seed(random_state))
        epsilon = problem.epsilon / frame.scale**2
        found = self._best(x0, x1, 2 * epsilon, random_state)
        backward = self._backward(found, epsilon, x0, x1, random_state)
        return _bridge(self._drift(found, epsilon), backward, frame, problem, x0, x1)

    def _best(self, x0: Split, x1: Split, e: float, random_state: int) -> Parameters:
        best = _chosen(lambda count: self._fit(x0, x1, e, count, random_state), self._counts(len(x1.all)))
        most = _LAST_WORK // len(best.centres)
        steps = _LAST_IN_PLANE if _dim(x1) <= 2 else _LAST
        return _climbed(Ascent(x0.all.cut(0, most), x1.all.cut(0, most), e, best), steps, x0, x1).fit

    def _split(self, problem: Problem, generator: torch.Generator) -> tuple[Frame, Split, Split]:
        """Both datasets, in the frame of a part of them, which is faster; any frame gives the same answer."""
        orders = [torch.randperm(len(x), generator=generator).to(x.device) for x in (problem.x0, problem.x1)]
        frame = Frame.of(_some(problem, *(order[:_PART] for order in orders)))
        cuts = [min(_PART, max(2, round(self.held_out * len(order))), len(order) - 2) for order in orders]
        shifts = (frame.shift0, frame.shift1)
        x0, x1 = (
            Split.of(x, weights, order, cut, _PART, shift, frame.scale)
            for x, weights, order, cut, shift in zip(
                (problem.x0, problem.x1), problem.weights, orders, cuts, shifts, strict=True
            )
        )
        return frame, x0, x1

    def _counts(self, points: int) -> list[int]:
        most = points // _PER_COMPONENT
        if self.components is None:
            return [count for count in _COUNTS if count <= max(1, most)]
        if self.components > max(1, most):
            raise InputError(f"{self.components} components need {_PER_COMPONENT} points each, but x1 has {points}")
        return [self.components]

    def _fit(self, x0: Split, x1: Split, e: float, count: int, random_state: int) -> Scored[Parameters]:
        kind = self._parameters
        most = (2 if _dim(x1) <= _FEW_DIMS else 1) * _FIRST_WORK // count
        part0, part1 = x0.part.cut(0, most), x1.part.cut(0, most)
        whole = kind.cells.of(part0.weights[None], part0.x)
        start = kind.joining(whole, clusters(part1, count, self.starts, random_state, kind.cells), e)
        return _climbed(Ascent(part0, part1, e, start), _FIRST, x0, x1)

    def _drift(self, found: Parameters, epsilon: float) -> MixtureDrift:
        return MixtureDrift(_normalised(found), found.centres, 2 * epsilon * found.slopes, epsilon)

    def _backward(self, found: Parameters, epsilon: float, x0: Split, x1: Split, random_state: int) -> Field:
        law = fit_gaussians(x0, random_state)
        start = (law.masses.log(), law.means, law.variances)
        return MixtureBackward(_normalised(found), found.centres, 2 * epsilon * found.slopes, epsilon, *start)


@dataclass(frozen=True)
class FullMixturePotential(MixturePotential):
    """Fit a mixture potential with full covariances, for correlated data in up to about sixteen dimensions.

    Its cost grows with d² per point and component.  Arguments and errors are those of `MixturePotential`.
    """

    name: ClassVar[str] = "full mixture potential"
    _parameters: ClassVar[type[Parameters]] = FullParameters

    def _drift(self, found: Parameters, epsilon: float) -> MixtureDrift:
        sizes, axes = torch.linalg.eigh(found.slopes)
        centres = (axes.mT @ found.centres[..., None])[..., 0]
        return FullMixtureDrift(_normalised(found), centres, 2 * epsilon * sizes, epsilon, axes)

    def _backward(self, found: Parameters, epsilon: float, x0: Split, x1: Split, random_state: int) -> Field:
        return Reversed(self._drift(self._best(x1, x0, 2 * epsilon, random_state), epsilon))


def potentials_for(x0: Tensor, x1: Tensor) -> list[MixturePotential]:
    """The mixture potentials to try on samples (n0, d) and (n1, d), from cheap to dear.

    Full covariances serve correlated data.  In more than sixteen dimensions one component has them, a Gaussian, where
    there are more points than dimensions.
    """
    dim = x0.shape[1]
    if dim <= _FULL_DIM:
        return [MixturePotential(), FullMixturePotential()]
    if dim <= min(_GAUSSIAN_DIM, len(x0) - 1, len(x1) - 1):
        return [FullMixturePotential(1), MixturePotential()]
    return [MixturePotential()]


def _chosen(fit: Callable[[int], Scored[Parameters]], counts: Sequence[int]) -> Parameters:
    """The best fit of every third count, and of the counts between that one and its neighbours.

    Data of one mean and covariance gain nothing from two or three components, and much from twenty.
    """
    found = {count: fit(count) for count in counts[::_STRIDE]}
    first = simplest(found.values())
    place = next(place for place, count in enumerate(counts) if found.get(count) is first)
    near = counts[max(0, place - _STRIDE + 1) : place + _STRIDE]
    found |= {count: fit(count) for count in near if count not in found}
    return simplest(found[count] for count in sorted(found)).fit


def _dim(side: Split) -> int:
    return side.all.x.shape[1]


def _normalised(found: Parameters) -> Tensor:
    """log w with Σ w = 1, because single precision loses digits in large numbers."""
    return torch.log_softmax(found.log_weights, dim=0)


def _climbed(ascent: Ascent, steps: int, x0: Split, x1: Split) -> Scored[Parameters]:
    """The state of the ascent with the highest dual on held-out points: E log Σ g_k(x1) − E log Σ f_k(x0)."""

    def scored(parameters: Parameters) -> Scored[Parameters]:
        terms = parameters.log_terms1(x1.held_out.x, ascent.e), parameters.log_terms0(x0.held_out.x, ascent.e)
        end, start = (log_sum_and_shares(side)[0] for side in terms)
        return Scored(parameters, (end, -start), (x1.held_out.weights, x0.held_out.weights))

    return first_peak(scored(state.parameters) for state in ascent.states(steps))


def _bridge(
    forward: MixtureDrift, backward: Field, frame: Frame, problem: Problem, x0: Split, x1: Split
) -> PotentialBridge:
    """The bridge in the precision of the problem's points, with the dual on the held-out points."""
    like = problem.x0
    drifts = (forward.to(like), backward.to(like))
    there, back = (Framed(field, frame.shift0, frame.shift1, frame.scale) for field in drifts)
    few = x0.all.cut(0, _STARTS)
    known = None if problem.weights0 is None else few.weights
    starts = repeated(few.x, known, 1, torch.Generator(few.x.device).manual_seed(0))
    bridge = PotentialBridge(there, back, problem.epsilon, frame.points_outside(starts, 0, like.dtype), 0.0, 0.0)
    out0, out1 = (frame.points_outside(side.held_out.x, end, torch.float64) for end, side in enumerate((x0, x1)))
    held_out = bridge.dual_on(out0, out1, x0.held_out.weights, x1.held_out.weights)
    bridge.columns = problem.columns
    bridge.dual, bridge.dual_error = held_out.value, held_out.standard_error
    return bridge


def _some(problem: Problem, rows0: Tensor, rows1: Tensor) -> Problem:
    """The problem with some of its training points."""
    weights0, weights1 = (
        None if w is None else w[rows] for w, rows in zip(problem.weights, (rows0, rows1), strict=True)
    )
    x0, x1 = problem.x0[rows0], problem.x1[rows1]
    return replace(problem, x0=x0, x1=x1, weights0=weights0, weights1=weights1)
