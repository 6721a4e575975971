"""The mixture-potential solver: an exact Schrödinger bridge of a potential in closed form, fitted in about a second.

λ = 2ε log φ with φ of K Gaussian components of diagonal covariance (`problems.mixture`) is fitted to both datasets by
raising the dual D(λ) = E λ(1, x1) − E λ(0, x0) ≤ KE*, by `fixed_point`.  The forward process from any ρ₀ is then the
exact Schrödinger bridge between ρ₀ and its own law at t = 1, and KL(bridge of the data‖it) = (KE* − D(λ))/2ε nats: the
better the endpoint, the better the whole process.  D on points kept apart from the fit chooses K, and where to stop.

The backward drift is that of the same process, b_B = b_F − 2ε∇log ρ_t with ρ_t its marginal from a Gaussian mixture
fitted to x0 (`reversal`).  A second potential fitted with x0 and x1 exchanged would be cheaper to evaluate, but its
family does not hold the truth when the first one's does: on `problems.mixture` its drift is far from the true one.

The potential and its dual: Korotin, Gushchin, Burnaev, arXiv 2310.01174 (LightSB).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sbridge.bridge import ExactBridge
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.fields import Framed
from sbridge.problem import Frame, Problem
from sbridge.problems.mixture import MixtureDrift
from sbridge.solvers.fixed_point import Ascent, Cells, Parameters, clusters, log_sum_and_shares
from sbridge.solvers.reversal import MixtureReversal, fit_gaussians
from sbridge.solvers.selection import Judged, Split, first_peak

__all__ = ["MixturePotential", "PotentialBridge", "PotentialDrift"]

_PART = 20_000  # points per side for the first iterations, and at most for judging
_FIRST, _LAST = 30, 3  # iterations at most, on the part and on all points
_COUNTS = (1, 2, 3, 5, 8, 12, 20, 32, 50)
_PER_COMPONENT = 10  # points
_STARTS = 2**14


class PotentialDrift(MixtureDrift):
    """∇λ of a mixture potential given log w: at small ε the weights themselves leave the range of floating point.

    Args:
        log_weights, centres, variances: log w (K,), r (K, d) and the diagonals of V (K, d).
        epsilon: ε.
    """

    log_weights: Tensor

    def __init__(self, log_weights: Tensor, centres: Tensor, variances: Tensor, epsilon: float) -> None:
        super().__init__(torch.ones_like(log_weights), centres, variances, epsilon)
        self.register_buffer("log_weights", log_weights)

    def log_terms(self, t: Tensor, x: Tensor) -> Tensor:
        return self.log_weights + super().log_terms(t, x)

    def plan(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Shares (n, K) and means (n, K, d) of the plan's components given x0; their variances are V."""
        shares = torch.softmax(self.log_terms(torch.zeros_like(x0[:1, :1]), x0), dim=-1)
        return shares, self.centres + self.slopes * x0[:, None]


class PotentialBridge(ExactBridge):
    """The bridge of a fitted mixture potential.

    Args:
        forward_field: a `PotentialDrift` in the coordinates of the fit, seen from the user's.
        backward_field: a `MixtureReversal`, likewise; its start is the ρ₀ of both.
        epsilon: ε.
        dual, dual_error: D(λ) on points kept apart from the fit, and its standard error.
    """

    forward_field: Framed
    backward_field: Framed

    def __init__(
        self, forward_field: Framed, backward_field: Framed, epsilon: float, dual: float, dual_error: float
    ) -> None:
        super().__init__(forward_field, backward_field, epsilon)
        self.dual, self.dual_error = dual, dual_error

    @property
    def drift(self) -> PotentialDrift:
        """∇λ in the coordinates of the fit."""
        assert isinstance(self.forward_field.inner, PotentialDrift)
        return self.forward_field.inner

    @property
    def reversal(self) -> MixtureReversal:
        """b_B in the coordinates of the fit."""
        assert isinstance(self.backward_field.inner, MixtureReversal)
        return self.backward_field.inner

    @property
    def components(self) -> int:
        """K."""
        return len(self.drift.log_weights)

    @property
    def held_out_dual(self) -> Estimate:
        """D(λ) ≤ KE* on points kept apart from the fit, in squared units of the data."""
        return Estimate(self.dual, self.dual_error)

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ(t, x), (n,): t a number in a tensor or (n, 1), x (n, d).  b_F = ∇λ, and ∂tλ + ½|∇λ|² + εΔλ = 0."""
        framed, shift = self.forward_field, self.forward_field.shift1 - self.forward_field.shift0
        y = self._inside(x, (1 - t) * framed.shift0 + t * framed.shift1)
        inner = self.drift.potential(t.to(y), y).to(x)
        return framed.scale**2 * inner + x @ shift.to(x) - (t * shift.square().sum() / 2).to(x).squeeze(-1)

    def dual_on(self, x0: Tensor, x1: Tensor) -> Estimate:
        """D(λ) = E λ(1, x1) − E λ(0, x0) ≤ KE* on any points (n0, d), (n1, d), in squared units of the data."""
        zero = torch.zeros((), dtype=x0.dtype, device=x0.device)
        start, end = Estimate.of(self.potential(zero, x0).double()), Estimate.of(self.potential(zero + 1, x1).double())
        return Estimate(end.value - start.value, (start.standard_error**2 + end.standard_error**2) ** 0.5)

    def endpoints(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        shares, means = self.drift.plan(self._inside(x0, self.forward_field.shift0))
        k = torch.multinomial(shares, 1, generator=generator)[:, 0]
        z = torch.randn(x0.shape, dtype=means.dtype, device=x0.device, generator=generator)
        y1 = means[torch.arange(len(k), device=k.device), k] + self.drift.variances[k].sqrt() * z
        return (self.forward_field.shift1 + self.forward_field.scale * y1).to(x0)

    def conditional_moments(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        shares, means = self.drift.plan(self._inside(x0, self.forward_field.shift0))
        mean = (shares[..., None] * means).sum(-2)
        away = means - mean[:, None]
        cov = (shares[..., None] * away).mT @ away + torch.diag_embed(shares @ self.drift.variances)
        framed = self.forward_field
        return (framed.shift1 + framed.scale * mean).to(x0), (framed.scale**2 * cov).to(x0)

    def endpoint_moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of the law at t = 1, by the exact moments given 16,384 points of ρ₀'s fit."""
        framed, start = self.forward_field, self.reversal.starts(_STARTS, torch.Generator().manual_seed(0))
        x0 = framed.shift0 + framed.scale * start
        means, covs = zip(*(self.conditional_moments(rows) for rows in x0.split(512)), strict=True)
        mean = torch.cat(means)
        return mean.mean(0), mean.T.cov() + torch.stack([cov.sum(0) for cov in covs]).sum(0) / len(mean)

    def _inside(self, x: Tensor, centre: Tensor) -> Tensor:
        return ((x - centre) / self.forward_field.scale).to(self.drift.centres)


@dataclass(frozen=True)
class MixturePotential:
    """Fit a mixture potential: the fastest solver, and the most accurate where K Gaussians can describe the bridge.

    Use it where x1 has clusters, and as a first answer anywhere; with curved or many-scaled data it needs many
    components, and networks can do better.

    Args:
        components: K; None chooses one of 1 … 50 by the dual on points kept apart.
        starts: k-means runs, of which the tightest is the start.
        held_out: fraction of the points kept apart, at most 20,000 per side.

    Raises:
        InputError: components or starts is below one, or held_out is not between 0 and 1.
    """

    name: ClassVar[str] = "mixture potential"

    components: int | None = None
    starts: int = 4
    held_out: float = 0.1

    def __post_init__(self) -> None:
        if self.components is not None and self.components < 1:
            raise InputError(f"components must be at least 1, or None to choose, not {self.components}")
        if self.starts < 1:
            raise InputError(f"starts must be at least 1, not {self.starts}")
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out must be a fraction between 0 and 1, not {self.held_out}")

    def solve(self, problem: Problem, random_state: int = 0) -> PotentialBridge:
        """The bridge of the potential with the highest dual on points kept apart.

        Raises:
            InputError: there are fewer than ten points for each component.
        """
        frame, x0, x1 = self._split(problem, torch.Generator().manual_seed(random_state))
        e = 2 * problem.epsilon / frame.scale**2
        fits = (self._fit(x0, x1, e, count, random_state) for count in self._counts(len(x1.all)))
        best = first_peak(fits, margin=1.0).fit
        finest = _climbed(Ascent(x0.all, x1.all, e, best), _LAST, x0, x1).fit
        return _bridge(finest, fit_gaussians(x0, random_state), frame, problem, x0.apart, x1.apart)

    def _split(self, problem: Problem, generator: torch.Generator) -> tuple[Frame, Split, Split]:
        """Both datasets in the frame of a part of them: which frame is immaterial, and it costs less."""
        orders = [torch.randperm(len(x), generator=generator).to(x.device) for x in (problem.x0, problem.x1)]
        few0, few1 = (x[order[:_PART]] for x, order in zip((problem.x0, problem.x1), orders, strict=True))
        frame = Frame.of(replace(problem, x0=few0, x1=few1))
        cuts = [min(_PART, max(2, round(self.held_out * len(order))), len(order) - 2) for order in orders]
        shifts = (frame.shift0, frame.shift1)
        x0, x1 = (
            Split.of(x, order, cut, _PART, shift, frame.scale)
            for x, order, cut, shift in zip((problem.x0, problem.x1), orders, cuts, shifts, strict=True)
        )
        return frame, x0, x1

    def _counts(self, points: int) -> Iterable[int]:
        most = points // _PER_COMPONENT
        if self.components is None:
            return [count for count in _COUNTS if count <= max(1, most)]
        if self.components > max(1, most):
            raise InputError(f"{self.components} components need {_PER_COMPONENT} points each, but x1 has {points}")
        return [self.components]

    def _fit(self, x0: Split, x1: Split, e: float, count: int, random_state: int) -> Judged[Parameters]:
        whole = Cells.of(torch.ones_like(x0.part[None, :, 0]), x0.part)
        start = Parameters.joining(whole, clusters(x1.part, count, self.starts, random_state), e)
        return _climbed(Ascent(x0.part, x1.part, e, start), _FIRST, x0, x1)


def _climbed(ascent: Ascent, steps: int, x0: Split, x1: Split) -> Judged[Parameters]:
    """The state of the ascent with the highest dual on the points kept apart: E log Σ g_k(x1) − E log Σ f_k(x0)."""

    def judged(parameters: Parameters) -> Judged[Parameters]:
        terms = parameters.log_terms1(x1.apart, ascent.e), parameters.log_terms0(x0.apart, ascent.e)
        end, start = (log_sum_and_shares(side)[0] for side in terms)
        return Judged(parameters, (end, -start))

    return first_peak((judged(state.parameters) for state in ascent.states(steps)), margin=0.0)


def _bridge(
    found: Parameters, start: Cells, frame: Frame, problem: Problem, apart0: Tensor, apart1: Tensor
) -> PotentialBridge:
    """In the precision of the problem's points."""
    epsilon = problem.epsilon / frame.scale**2
    like = problem.x0
    log_weights = torch.log_softmax(found.log_weights, dim=0)  # small numbers, for single precision
    log_w, r, v = (value.to(like) for value in (log_weights, found.centres, 2 * epsilon * found.slopes))
    law = (value.to(like) for value in (start.masses.log(), start.means, start.variances))
    forward, backward = PotentialDrift(log_w, r, v, epsilon), MixtureReversal(log_w, r, v, epsilon, *law)
    there, back = (Framed(field, frame.shift0, frame.shift1, frame.scale) for field in (forward, backward))
    bridge = PotentialBridge(there, back, problem.epsilon, 0.0, 0.0)
    x0, x1 = frame.shift0 + frame.scale * apart0, frame.shift1 + frame.scale * apart1
    held_out = bridge.dual_on(x0, x1)
    bridge.dual, bridge.dual_error = held_out.value, held_out.standard_error
    return bridge
