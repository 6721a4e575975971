"""Backward drift of a mixture potential's process that starts from a Gaussian mixture: both directions of one process.

With e = 2ε, S_k = V_k/e and f_k(x₀) = w_k exp((x₀·(S_k − I)x₀ + 2 r_k·x₀)/2e), the process of the potential λ started
from ρ₀ = Σ_j π_j N(m_j, C_j), C_j diagonal, has X_0 given x_t = x distributed as Σ_j h_j with

    h_j(x₀) ∝ π_j N(x₀ | m_j, C_j) N(x | x₀, et)/Σ_k f_k(x₀),

and b_B(t, x) = E[b_B(0, X_0) | x_t = x] with b_B(0, ·) = ∇λ(0, ·) − e∇log ρ₀.  As in `potentials.backward`, for every
probability vector p Jensen's inequality bounds h_j by Z_p times a Gaussian q_p of precision (1 + tκ)/et and mean
(x − tρ)/(1 + tκ), κ = e/C_j − 1 + Σ p_k S_k and ρ = Σ p_k r_k − e m_j/C_j; h_j is sampled from the tightest of them by
importance at fixed Sobol nodes, with weights in (0, 1].  With y = E_{h_j} Σ f̂_k ((S_k − Σ p_l S_l) x₀ + r_k), f̂_k the
shares of f_k, component j's drift is (κx + y − e m_j/C_j)/(1 + tκ); there is no division by t.  b_B is its mean over j,
each with probability ∝ π_j times its integral.

All that is needed of x₀ are the log f_k.  In up to three dimensions the nodes are those of x₀; in more, where they are
sums of many terms, the log f_k are taken to be jointly normal with their exact mean and covariance, so that nodes of
few dimensions serve any d.  (They are exactly normal where all components share one V.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, pi

import torch
from torch import Tensor

from sbridge.potentials.backward import covariance, normal_nodes, tightest
from sbridge.potentials.family import MixtureShapes
from sbridge.potentials.fit import Cells, Parameters, clusters, log_sum_and_shares
from sbridge.potentials.selection import Judged, Split, first_peak

__all__ = ["MixtureReversal", "fit_gaussians"]

_NODES, _LEAST_NODES = 256, 64  # in all, but at least so many for each component of ρ0
_EXACT_DIM = 3
_DIRECTIONS = 16  # of the largest swings of log f, for nodes: Sobol points beyond are no better than random ones
_ACTIVE = 8  # components in p, the likeliest: any p gives a bound, and Newton's equations grow with them
_ITERATIONS = 4
_STEPS = (1.0, 0.5, 0.1, 0.0)
_GAUSSIANS = (1, 2, 4, 8)
_EM_STEPS, _LAST_EM_STEPS = 20, 3  # on a part of the points, and on all
_SOON = 1e-10  # least t of a spread: where it is zero, the axes of the swings are none and have no slope
_ELEMENTS = 2**20  # of the largest tensor held at once


class MixtureReversal(MixtureShapes):
    """The process of a mixture potential from a mixture of Gaussians, seen from t = 1.

    Args:
        log_weights, centres, variances: of the potential: log w (K,), r (K, d) and the diagonals of V (K, d).
        epsilon: ε.
        start_log_weights, start_means, start_variances: of ρ0: log π (J,), m (J, d) and the diagonals of C (J, d).
    """

    log_weights: Tensor
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
    ) -> None:
        super().__init__(centres, variances, epsilon)
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("start_log_weights", start_log_weights)
        self.register_buffer("start_means", start_means)
        self.register_buffer("start_variances", start_variances)
        dim = self.dim if self.dim <= _EXACT_DIM else min(len(log_weights), _DIRECTIONS)
        count = max(_LEAST_NODES, _NODES >> (len(start_means) - 1).bit_length())
        self.register_buffer("nodes", normal_nodes(count, dim, seed=0).to(centres), persistent=False)

    def starts(self, n: int, generator: torch.Generator) -> Tensor:
        """Points of ρ₀, (n, d)."""
        j = torch.multinomial(self.start_log_weights.exp(), n, replacement=True, generator=generator)
        z = torch.randn(n, self.dim, dtype=self.centres.dtype, device=self.centres.device, generator=generator)
        return self.start_means[j] + self.start_variances[j].sqrt() * z

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        times, rows = t.expand(*x.shape[:-1], 1).reshape(-1, 1), x.reshape(-1, x.shape[-1])
        block = max(1, _ELEMENTS // (len(self.nodes) * len(self.log_weights) * len(self.start_means)))
        parts = zip(torch.split(times, block), torch.split(rows, block), strict=True)
        return torch.cat([self._drift(*part) for part in parts]).reshape(x.shape)

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Mean over the components of ρ0, each of which is a row of its own for every point."""
        points, starts = len(x), len(self.start_means)
        pull = 2 * self.epsilon / self.start_variances
        rows = _Rows(
            t.repeat_interleave(starts, 0), x.repeat_interleave(starts, 0), pull.repeat(points, 1),
            (pull * self.start_means).repeat(points, 1),
        )  # fmt: skip
        with torch.no_grad():  # any p serves, so none of the answer's slope comes through it
            active = self._tightest(rows)
        drifts, log_mass = self._component_drifts(rows, active)
        norm = (torch.log(2 * pi * self.start_variances) + self.start_means.square() / self.start_variances).sum(1) / 2
        shares = torch.softmax(log_mass.view(points, starts) + self.start_log_weights - norm, dim=1)
        return (shares[..., None] * drifts.view(points, starts, -1)).sum(1)

    def _component_drifts(self, rows: _Rows, active: _Active) -> tuple[Tensor, Tensor]:
        """Drift (N, d) and log of the integral of h_j, up to what all points share, (N,)."""
        p = self._everywhere(active)
        kappa, mean, variance = self._proposal(rows, p)
        log_f, load = self._at_nodes(mean, variance, p)
        log_sum = torch.logsumexp(log_f, dim=1)
        log_weight = (p[:, None] @ log_f)[:, 0] - log_sum
        shares = (log_f - log_sum[:, None]).exp() * torch.softmax(log_weight, dim=-1)[:, None]  # N, K, nodes
        totals, swings = shares.sum(-1), (shares @ self.nodes) @ load.mT
        places = totals[..., None] * mean[:, None] + swings * variance.sqrt()[:, None]
        y = totals @ self.centres + (places * (self.slopes - (p @ self.slopes)[:, None])).sum(1)
        drift = (kappa * rows.x + y - rows.pulled_mean) / (1 + rows.t * kappa)
        log_ratio = torch.logsumexp(log_weight, dim=-1) - log(len(self.nodes))
        entropy = -(active.log_p.exp() * active.log_p).sum(-1)
        return drift, self._log_bound(rows, active) + entropy + log_ratio

    def _proposal(self, rows: _Rows, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """κ, and mean and variance of q_p, each (..., d)."""
        kappa = rows.pull - 1 + p @ self.slopes
        scale = 1 + rows.t * kappa
        mean = (rows.x - rows.t * (p @ self.centres - rows.pulled_mean)) / scale
        return kappa, mean, 2 * self.epsilon * rows.t.clamp_min(_SOON) / scale

    def _at_nodes(self, mean: Tensor, variance: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """log f_k at the nodes u, (N, K, nodes), and A (N, d, directions) of E[z | u] = Au, x0 = mean + √variance z."""
        tilts, curves = self.expansion(mean, variance)
        if self.dim <= _EXACT_DIM:
            middle = self._expected_log_f(mean, torch.zeros_like(mean))[..., None]
            log_f = middle + tilts @ self.nodes.T + curves @ self.nodes.square().T
            return log_f, torch.eye(self.dim).to(mean).expand(len(mean), -1, -1)
        # What is common to all log f_k cancels; without it the covariance has only what matters.
        tilts, curves = (value - p[:, None] @ value for value in (tilts, curves))
        sizes, axes = torch.linalg.eigh(tilts @ tilts.mT + 2 * curves @ curves.mT)
        kept = slice(-self.nodes.shape[1], None)
        root, axes = sizes[:, None, kept].clamp(min=1e-12).sqrt().flip(-1), axes[..., kept].flip(-1)
        swings = (axes * root) @ self.nodes.T
        return self._expected_log_f(mean, variance)[..., None] + swings, tilts.mT @ (axes / root)

    def _expected_log_f(self, mean: Tensor, variance: Tensor) -> Tensor:
        """E log f_k under a Gaussian, (..., K)."""
        return self.log_weights + self.expected_exponents(mean, variance)

    def _tightest(self, rows: _Rows) -> _Active:
        """The p of the smallest log Z_p, by Newton's method with a line search."""
        first = self._likeliest(rows)

        def log_f(log_p: Tensor) -> tuple[Tensor, Tensor]:
            active = replace(first, log_p=log_p)
            _, mean, variance = self._proposal(rows, self._everywhere(active))
            expected = self._expected_log_f(mean, variance).gather(1, active.k)
            return expected, covariance(*(active.of(value) for value in self.expansion(mean, variance)))

        def log_bounds(trials: Tensor) -> Tensor:
            return torch.stack([self._log_bound(rows, replace(first, log_p=log_p)) for log_p in trials])

        return replace(first, log_p=tightest(first.log_p, log_f, log_bounds, _ITERATIONS, _STEPS))

    def _likeliest(self, rows: _Rows) -> _Active:
        """The components that p is made of, with their first shares."""
        here = torch.log_softmax(self._expected_log_f(rows.x, torch.zeros_like(rows.x)), dim=-1)
        _, mean, variance = self._proposal(rows, torch.softmax(here, dim=-1))
        there = torch.log_softmax(self._expected_log_f(mean, variance), dim=-1)
        k = torch.maximum(here, there).topk(min(_ACTIVE, here.shape[1]), dim=-1).indices
        return _Active(k, torch.log_softmax(here.gather(1, k), dim=-1))

    def _everywhere(self, active: _Active) -> Tensor:
        """p of all components, (N, K)."""
        p = active.log_p.exp()
        return p.new_zeros(len(p), len(self.log_weights)).scatter(1, active.k, p)

    def _log_bound(self, rows: _Rows, active: _Active) -> Tensor:
        """log Z_p up to what does not depend on p, x and t, (N,)."""
        p = self._everywhere(active)
        kappa, centre = self._proposal(rows, p)[0], p @ self.centres - rows.pulled_mean
        scale = 1 + rows.t * kappa
        quadratic = rows.t * centre.square() - 2 * rows.x * centre - kappa * rows.x.square()
        value = (quadratic / (2 * self.epsilon * scale) - scale.log()).sum(-1) / 2
        return (active.log_p.exp() * (active.log_p - self.log_weights[active.k])).sum(-1) + value


@dataclass(frozen=True)
class _Active:
    """p by the components where it is not zero: their numbers k and log p_k, (N, active) each."""

    k: Tensor
    log_p: Tensor

    def of(self, values: Tensor) -> Tensor:
        """Of (N, K, d) what belongs to these components, (N, active, d)."""
        return values.gather(1, self.k[..., None].expand(-1, -1, values.shape[-1]))


@dataclass(frozen=True)
class _Rows:
    """Times (N, 1), points (N, d), and e/C and e m/C of one component of ρ0 each, (N, d)."""

    t: Tensor
    x: Tensor
    pull: Tensor
    pulled_mean: Tensor


def fit_gaussians(x: Split, random_state: int) -> Cells:
    """A mixture of 1, 2, 4 or 8 diagonal Gaussians, by expectation–maximisation.

    Their number is chosen by the likelihood of the points kept apart.
    """
    counts = [count for count in _GAUSSIANS if count == 1 or 10 * count <= len(x.part)]
    fits = (_maximised(clusters(x.part, count, 1, random_state), x.part, _EM_STEPS) for count in counts)
    judged = (Judged(cells, (log_sum_and_shares(_log_normals(cells, x.apart))[0],)) for cells in fits)
    return _maximised(first_peak(judged, margin=1.0).fit, x.all, _LAST_EM_STEPS)


def _maximised(cells: Cells, x: Tensor, steps: int) -> Cells:
    for _ in range(steps):
        cells = Cells.of(torch.softmax(_log_normals(cells, x), dim=0), x)
    return cells


def _log_normals(cells: Cells, x: Tensor) -> Tensor:
    """log of each component's share of the density, (K, n)."""
    return Parameters(cells.masses.log(), cells.means, cells.variances).log_terms1(x, 1.0)
