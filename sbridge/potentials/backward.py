"""Backward drift of a mixture potential's process that starts from a Gaussian mixture.

With e = 2ε, S_k = V_k/e and f_k(x₀) = w_k exp((x₀·(S_k − I)x₀ + 2 r_k·x₀)/2e), the process of the potential λ started
from ρ₀ = Σ_j π_j N(m_j, C_j), C_j diagonal, has X_0 given X_t = x distributed as Σ_j h_j with

    h_j(x₀) ∝ π_j N(x₀ | m_j, C_j) N(x | x₀, et)/Σ_k f_k(x₀),

which is not a mixture, because of the sum in the denominator.  b_B(·, X_t) is a martingale of the reversed process, so
b_B(t, x) = E[b_B(0, X_0) | X_t = x] with b_B(0, ·) = ∇λ(0, ·) − e∇log ρ₀, and there is no division by t.

Sampling h_j.  For every probability vector p, Σ_k f_k ≥ Π_k (f_k/p_k)^{p_k} (Jensen).  Hence h_j ≤ Z_p q_p with a
Gaussian q_p of precision (1 + tκ)/et and mean (x − tρ)/(1 + tκ), where κ = e/C_j − 1 + Σ p_k S_k and
ρ = Σ p_k r_k − e m_j/C_j.  h_j is sampled by importance from q_p, with weights in (0, 1], for the p of the smallest
bound Z_p.  log Z_p is convex in p, smallest where p_k ∝ exp E_{q_p} log f_k, and Newton's method finds it.

The drift.  With f̂_k the shares of f_k and y = E_{h_j} Σ f̂_k ((S_k − Σ p_l S_l) x₀ + r_k), component j's drift is
(κx + y − e m_j/C_j)/(1 + tκ).  b_B is its mean over j, each with probability ∝ π_j times the integral of h_j.

The nodes.  Averages over h_j are computed at fixed Sobol nodes of x₀ where d ≤ 3.  Where d > 3 they are nodes of the
vector of all log f_k, which is all that y needs of x₀.  Under q_p it is exactly normal where all components share one
V.  Elsewhere we approximate it by the normal law of the same moments, unless `exact` asks for nodes of x₀.

Exact draws of X_0 need no nodes: propose j and x₀ from Σ_j Z_j q_j, and accept with probability h_j/(Z_j q_j).  Where a
point has no accepted proposal among thousands (about one point in a thousand of real data in 50 dimensions), one of
them is chosen by these weights, which is nearly exact (importance resampling; Rubin 1988).

The importance sampling was developed for this package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

from sbridge.potentials.family import MixtureField
from sbridge.potentials.newton import BoundEffort, covariance, newton
from sbridge.potentials.nodes import normal_nodes, principal_root

__all__ = ["MixtureBackward"]

_DIRECT_DIM = 3  # largest d in which the nodes are always those of x0
_NORMAL_DIRECTIONS = 16  # of log f in the approximation: in more, Sobol points are no better than random ones
_SEARCHED = 8  # most components with p_k > 0: any p gives a bound, and the cost of the search grows as their cube
_SEARCHED_LAST = 64  # for exact draws that the first p accepts too rarely
_ROUNDS = (100, 4000)  # of proposals, with either p
_LEAST_NODES = 64  # for each component of ρ0
_LEAST_TIME = 1e-10  # least t in √(et), whose derivative at zero is infinite
_ELEMENTS = 2**20  # of the largest tensor in memory
_DRAWN_AT_ONCE = 256  # points


_USUAL = BoundEffort(256, 4, (1.0, 0.5, 0.1, 0.0))
_EXACT = BoundEffort(2048, 12, (1.0, 0.5, 0.25, 0.1, 0.03, 0.0))


class MixtureBackward(MixtureField):
    """The process of a mixture potential from a mixture of Gaussians, seen from t = 1.

    A quasi-Monte-Carlo estimate with fixed nodes, so that equal points get equal answers.  With `exact`, its mean
    squared error over 4ε on the benchmark's problems, in nats of path divergence per unit time, is at most 1e-6 at
    2ε ≥ 1 in any d; at 2ε = 0.1 it is 5e-5 for d = 2 and up to 2e-3 for d = 16 and 128.  Without, it is up to 200 times
    as large, and the evaluation takes a quarter of the time.

    Args:
        log_weights, centres, variances: of the potential: log w (K,), r (K, d) and the diagonals of V (K, d).
        epsilon: ε.
        start_log_weights, start_means, start_variances: of ρ0: log π (J,), m (J, d) and the diagonals of C (J, d).
        exact: 2,048 nodes in place of 256, a longer search for p, and no normal approximation.
    """

    start_log_weights: Tensor
    start_means: Tensor
    start_variances: Tensor
    nodes: Tensor

    def __init__(
        self,
        log_weights: Tensor,
        centres: Tensor,
        variances: Tensor,
        epsilon: float,
        start_log_weights: Tensor,
        start_means: Tensor,
        start_variances: Tensor,
        exact: bool = False,
    ) -> None:
        super().__init__(log_weights, centres, variances, epsilon)
        self.register_buffer("start_log_weights", start_log_weights)
        self.register_buffer("start_means", start_means)
        self.register_buffer("start_variances", start_variances)
        self.exact, self.effort = exact, _EXACT if exact else _USUAL
        self.shared = bool((variances == variances[0]).all())
        self.direct = self.dim <= _DIRECT_DIM or (exact and not self.shared)
        count = max(_LEAST_NODES, self.effort.nodes >> (len(start_means) - 1).bit_length())
        self.register_buffer("nodes", normal_nodes(count, self._directions(), 0).to(centres), persistent=False)

    def _directions(self) -> int:
        if self.direct:
            return self.dim
        return min(self.centres.shape) if self.shared else min(len(self.centres), _NORMAL_DIRECTIONS)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.cat([self._drift(*part) for part in self._blocks(t, x)]).reshape(x.shape)

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ̃(t, x) = e log ∫ρ₀(x₀)/Σ_k f_k(x₀) N(x | x₀, et) dx₀, (...,), of the process in reversed time: b_B = −∇λ̃.

        The process is the Schrödinger bridge of λ̃ between its two ends, seen from t = 1.
        """
        found = [torch.logsumexp(self._of_components(*part)[1], dim=1) for part in self._blocks(t, x)]
        return 2 * self.epsilon * torch.cat(found).reshape(x.shape[:-1])

    def _blocks(self, t: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Times (n, 1) and points (n, d), so many that they fit into memory."""
        times, points = t.expand(*x.shape[:-1], 1).reshape(-1, 1), x.reshape(-1, x.shape[-1])
        count = len(self.start_means) * len(self.log_weights) * (self.dim + len(self.log_weights))
        return zip(*(torch.split(value, max(1, _ELEMENTS // count)) for value in (times, points)), strict=True)

    @property
    def known_end(self) -> float:
        return 0.0

    def draw_end(self, t: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        parts = zip(t.expand(len(x), 1).split(_DRAWN_AT_ONCE), x.split(_DRAWN_AT_ONCE), strict=True)
        return torch.cat([self._drawn(times, points, generator) for times, points in parts])

    def _drawn(self, t: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """By rejection; the few points for which p is far from the tightest get a p of more components."""
        ends, waiting = torch.empty_like(x), torch.arange(len(x), device=x.device)
        stages = zip((_SEARCHED, _SEARCHED_LAST), (self.effort, _EXACT), _ROUNDS, strict=True)
        for searched, effort, rounds in stages:
            rows, p = self._proposals(t[waiting], x[waiting], searched, effort)
            ends[waiting], left = self._accepted(rows, p, rounds, generator)
            waiting = waiting[left]
            if not len(waiting):
                break
        return ends

    def _accepted(self, rows: _Rows, p: Tensor, rounds: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws (n, d), and which of them were not accepted in so many rounds.

        These are one of all their proposals, with probability in proportion to its chance: the largest of the log
        chances with Gumbel noise.
        """
        _, mean, variance = self._proposal(rows, p)
        entropy = torch.special.entr(p).sum(1)
        log_bound = (self._log_bound(rows, p) - entropy).view(-1, len(self.start_means))
        shares = torch.softmax(log_bound + self._log_starts(), dim=1)
        points, starts = shares.shape
        ends, waiting = mean.new_empty(points, self.dim), torch.arange(points, device=mean.device)
        best = mean.new_full((points,), -torch.inf)
        for _ in range(rounds):
            row = waiting * starts + torch.multinomial(shares[waiting], 1, generator=generator)[:, 0]
            z = torch.randn(len(row), self.dim, dtype=mean.dtype, device=mean.device, generator=generator)
            place = mean[row] + variance[row].sqrt() * z
            log_f = self._expected_log_f(place, torch.zeros_like(place))
            log_chance = (p[row] * log_f).sum(1) + entropy[row] - torch.logsumexp(log_f, dim=1)
            uniform = torch.rand(2, len(row), dtype=mean.dtype, device=mean.device, generator=generator)
            accepted, key = uniform[0].log() < log_chance, log_chance - (-uniform[1].log()).log()
            kept = accepted | (key > best[waiting])
            ends[waiting[kept]], best[waiting[kept]] = place[kept], key[kept]
            waiting = waiting[~accepted]
            if not len(waiting):
                break
        return ends, waiting

    def _proposals(self, t: Tensor, x: Tensor, searched: int, effort: BoundEffort) -> tuple[_Rows, Tensor]:
        """A row for each point and component of ρ0, and its p."""
        points, starts = len(x), len(self.start_means)
        pull = 2 * self.epsilon / self.start_variances
        each = (t.repeat_interleave(starts, 0), x.repeat_interleave(starts, 0))
        rows = _Rows(*each, pull.repeat(points, 1), (pull * self.start_means).repeat(points, 1))
        with torch.no_grad():  # every p gives the same answer, so its gradient adds nothing
            return rows, self._tightest(rows, searched, effort)

    def _log_starts(self) -> Tensor:
        """log π_j, with the parts of N(x₀ | m_j, C_j) that do not depend on x₀, (J,)."""
        away = self.start_means.square() / self.start_variances
        return self.start_log_weights - (torch.log(2 * pi * self.start_variances) + away).sum(1) / 2

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Mean over the components of ρ0."""
        drifts, log_masses = self._of_components(t, x)
        return (torch.softmax(log_masses, dim=1)[..., None] * drifts).sum(1)

    def _of_components(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Drift (n, J, d) and log of the integral of h_j (n, J) of the components of ρ0."""
        points, starts = len(x), len(self.start_means)
        rows, p = self._proposals(t, x, _SEARCHED, self.effort)
        block = max(1, _ELEMENTS // (len(self.nodes) * len(self.log_weights)))
        found = [self._component_drifts(*part) for part in zip(rows.split(block), p.split(block), strict=True)]
        drifts, log_masses = (torch.cat(values).view(points, starts, -1) for values in zip(*found, strict=True))
        return drifts, log_masses[..., 0] + self._log_starts()

    def _component_drifts(self, rows: _Rows, p: Tensor) -> tuple[Tensor, Tensor]:
        """Drift (N, d), and log of the integral of h_j without the part that does not depend on x or p (N,)."""
        kappa, mean, variance = self._proposal(rows, p)
        log_f, load = self._at_nodes(mean, variance, p)
        log_f = log_f - log_f.amax(1, keepdim=True)  # N, K, nodes
        f = log_f.exp()
        total = f.sum(1)
        log_weight = (p[:, None] @ log_f)[:, 0] - total.log()
        shares = f * (torch.softmax(log_weight, dim=-1) / total)[:, None]
        totals = shares.sum(-1)
        y = totals @ self.centres
        if not self.shared:
            places = totals[..., None] * mean[:, None] + (shares @ self.nodes) @ load.mT * variance.sqrt()[:, None]
            y = y + (places * (self.slopes - (p @ self.slopes)[:, None])).sum(1)
        log_ratio = torch.logsumexp(log_weight, dim=-1) - log(len(self.nodes))
        drift = (kappa * rows.x + y - rows.pulled_mean) / (1 + rows.t * kappa)
        return drift, self._log_bound(rows, p) + log_ratio

    def _proposal(self, rows: _Rows, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """κ, and mean and variance of q_p, each (..., d)."""
        kappa = rows.pull - 1 + p @ self.slopes
        scale = 1 + rows.t * kappa
        mean = (rows.x - rows.t * (p @ self.centres - rows.pulled_mean)) / scale
        return kappa, mean, 2 * self.epsilon * rows.t.clamp_min(_LEAST_TIME) / scale

    def _log_bound(self, rows: _Rows, p: Tensor) -> Tensor:
        """log Z_p − Σ p_k log p_k up to a constant, (...,)."""
        kappa, centre = self._proposal(rows, p)[0], p @ self.centres - rows.pulled_mean
        scale = 1 + rows.t * kappa
        quadratic = rows.t * centre.square() - 2 * rows.x * centre - kappa * rows.x.square()
        return (quadratic / (2 * self.epsilon * scale) - scale.log()).sum(-1) / 2 - p @ self.log_weights

    def _at_nodes(self, mean: Tensor, variance: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """log f_k at the nodes u, (N, K, nodes), and A (N, d, directions) of E[z | u] = Au, x0 = mean + √variance z."""
        tilts, curves = self._expansion(mean, variance)
        if self.direct:
            middle = self._expected_log_f(mean, torch.zeros_like(mean))[..., None]
            log_f = middle + tilts @ self.nodes.T + curves @ self.nodes.square().T
            return log_f, torch.eye(self.dim).to(mean).expand(len(mean), -1, -1)
        # A term common to all log f_k cancels in the shares, so only the differences need directions of their own.
        tilts, curves = (value - p[:, None] @ value for value in (tilts, curves))
        root, inverse = principal_root(covariance(tilts, curves), self.nodes.shape[1])
        return self._expected_log_f(mean, variance)[..., None] + root @ self.nodes.T, tilts.mT @ inverse

    def _expected_log_f(self, mean: Tensor, variance: Tensor) -> Tensor:
        """E log f_k under a Gaussian (..., d), up to a constant, (..., K)."""
        square = (mean.square() + variance) @ (self.slopes - 1).T + 2 * mean @ self.centres.T
        return self.log_weights + square / (4 * self.epsilon)

    def _expansion(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of z and z² in log f_k at mean + √variance z, each (n, K, d)."""
        tilts = ((self.slopes - 1) * mean[:, None] + self.centres) * variance.sqrt()[:, None]
        return tilts / (2 * self.epsilon), (self.slopes - 1) * variance[:, None] / (4 * self.epsilon)

    def _tightest(self, rows: _Rows, searched: int, effort: BoundEffort) -> Tensor:
        """The p of the smallest log Z_p, (N, K), among those of the likeliest components."""
        k, start = self._likeliest(rows, searched)

        def everywhere(log_p: Tensor) -> Tensor:
            p = log_p.new_zeros(*log_p.shape[:-1], len(self.log_weights))
            return p.scatter(-1, k.expand(log_p.shape), log_p.exp())

        def log_f(log_p: Tensor) -> tuple[Tensor, Tensor]:
            _, mean, variance = self._proposal(rows, everywhere(log_p))
            places = k[..., None].expand(-1, -1, self.dim)
            expansion = (value.gather(1, places) for value in self._expansion(mean, variance))
            return self._expected_log_f(mean, variance).gather(1, k), covariance(*expansion)

        def log_bound(log_p: Tensor) -> Tensor:
            return (log_p.exp() * log_p).sum(-1) + self._log_bound(rows, everywhere(log_p))

        return everywhere(newton(start, log_f, log_bound, effort))

    def _likeliest(self, rows: _Rows, searched: int) -> tuple[Tensor, Tensor]:
        """The components that p is made of, and log p to start with, (N, searched) each."""
        here = torch.log_softmax(self._expected_log_f(rows.x, torch.zeros_like(rows.x)), dim=-1)
        _, mean, variance = self._proposal(rows, here.exp())
        there = torch.log_softmax(self._expected_log_f(mean, variance), dim=-1)
        k = torch.maximum(here, there).topk(min(searched, here.shape[1]), dim=-1).indices
        return k, torch.log_softmax(here.gather(1, k), dim=-1)


@dataclass(frozen=True)
class _Rows:
    """Times (N, 1), points (N, d), and e/C and e m/C of one component of ρ0 each, (N, d)."""

    t: Tensor
    x: Tensor
    pull: Tensor
    pulled_mean: Tensor

    def split(self, count: int) -> list[_Rows]:
        parts = (value.split(count) for value in (self.t, self.x, self.pull, self.pulled_mean))
        return [_Rows(*part) for part in zip(*parts, strict=True)]
