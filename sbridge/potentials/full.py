"""Mixture potentials whose components have full covariances.

The moment equations of `fit` with matrices: with A = variance0 and B = variance1 of a cell, S solves
S A S + e S = B, hence

    S = A^{−½} ((A^½ B A^½ + ¼e² I)^½ − ½e I) A^{−½},

the slope of the Gaussian bridge between N(·, A) and N(·, B).  With S = Q diag(s) Qᵀ each component is a diagonal one in
the coordinates Qᵀx.  A step towards other parameters interpolates log S linearly (log-Euclidean).

Second moments and quadratic forms of a few components are fastest component by component.  Those of many are linear in
the products x_i x_j, i ≤ j, which all components share: one matrix product, up to ten times faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log, pi
from typing import ClassVar

import torch
from torch import Tensor

from sbridge.potentials.field import MixtureDrift
from sbridge.potentials.fit import LEAST_VARIANCE, ROWS, Cells, Parameters
from sbridge.potentials.shrinkage import shrunk_eigenvalues, shrunk_variances
from sbridge.weights import effective_sizes

__all__ = ["FullCells", "FullMixtureDrift", "FullParameters"]

_PRODUCTS_DIM = 32  # in more dimensions the products of a block of points no longer fit in the processor's cache


class FullCells(Cells):
    """Masses (K,), means (K, d) and covariances (K, d, d) of the components on one side, in float64."""

    @classmethod
    def of(cls, shares: Tensor, x: Tensor) -> FullCells:
        count, dim = len(shares), x.shape[1]
        first, second = x.new_zeros(count, dim, dtype=torch.float64), x.new_zeros(count, dim, dim, dtype=torch.float64)
        moments = _moments_by_products if _many(count, dim) else _moments_one_by_one
        for share, rows in zip(shares.split(ROWS, dim=1), x.split(ROWS), strict=True):
            first += share @ rows
            second += moments(share, rows)
        totals = shares.double().sum(1).clamp(min=torch.finfo(x.dtype).tiny)
        means = first / totals[:, None]
        covs = second / totals[:, None, None] - means[:, :, None] * means[:, None, :]
        return cls(totals / len(x), means, _shrunk(covs, effective_sizes(shares)))


@dataclass(frozen=True)
class FullParameters(Parameters):
    """log w (K,), r (K, d) and S (K, d, d) of a mixture potential, in float64."""

    cells: ClassVar[type[Cells]] = FullCells

    @classmethod
    def joining(cls, cells0: Cells, cells1: Cells, e: float) -> FullParameters:
        root, inverse = _mapped(cells0.variances, torch.sqrt), _mapped(cells0.variances, torch.rsqrt)
        middle = _mapped(root @ cells1.variances @ root, lambda size: _slope(size.clamp(min=0), e))
        slopes = _symmetric(inverse @ middle @ inverse)
        centres = cells1.means - (slopes @ cells0.means[..., None])[..., 0]
        return cls(torch.zeros_like(cells1.masses), centres, slopes)

    def towards(self, other: Parameters, share: float) -> FullParameters:
        ours, theirs = (_mapped(slopes, torch.log) for slopes in (self.slopes, other.slopes))
        return replace(
            self,
            log_weights=torch.lerp(self.log_weights, other.log_weights, share),
            centres=torch.lerp(self.centres, other.centres, share),
            slopes=_mapped(torch.lerp(ours, theirs, share), torch.exp),
        )

    def log_terms0(self, x: Tensor, e: float) -> Tensor:
        curves = self.slopes - torch.eye(x.shape[1]).to(self.slopes)
        return _quadratic(x, self.log_weights, self.centres / e, curves / (2 * e))

    def log_terms1(self, y: Tensor, e: float) -> Tensor:
        sizes, axes = torch.linalg.eigh(self.slopes)
        inverse = (axes / (e * sizes)[:, None]) @ axes.mT
        tilts = (inverse @ self.centres[..., None])[..., 0]
        norm = ((self.centres * tilts).sum(1) + sizes.log().sum(1) + y.shape[1] * log(2 * pi * e)) / 2
        return _quadratic(y, self.log_weights - norm, tilts, -inverse / 2)


class FullMixtureDrift(MixtureDrift):
    """∇λ of a mixture potential with full covariances V_k = Q_k diag(v_k) Q_kᵀ.

    Args:
        log_weights, centres, variances: log w (K,), Qᵀr (K, d) and the eigenvalues v (K, d).
        epsilon: ε.
        axes: Q, the eigenvectors of V in columns, (K, d, d).
    """

    axes: Tensor

    def __init__(self, log_weights: Tensor, centres: Tensor, variances: Tensor, epsilon: float, axes: Tensor) -> None:
        super().__init__(log_weights, centres, variances, epsilon)
        self.register_buffer("axes", axes)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        shares, (curves, tilts) = torch.softmax(self.log_terms(t, x), dim=-1), self._shape(t)
        return self._out(shares[..., None] * (curves * self._turned(x) + tilts)).sum(-2)

    def log_terms(self, t: Tensor, x: Tensor) -> Tensor:
        (curves, tilts), places = self._shape(t), self._turned(x)
        return self._log_terms(t, (places * (curves * places + 2 * tilts)).sum(-1))

    def means(self, x0: Tensor) -> Tensor:
        return self._out(self.centres + self.slopes * self._turned(x0))

    def _ends(self, k: Tensor, t: Tensor, x: Tensor, z: Tensor) -> Tensor:
        turned = super()._ends(k, t, _by_component(x, k, self.axes), z)
        return _by_component(turned, k, self.axes.mT)

    def _within(self, shares: Tensor) -> Tensor:
        covs = (self.axes * self.variances[:, None]) @ self.axes.mT
        return torch.einsum("nk,kde->nde", shares, covs)

    def _turned(self, x: Tensor) -> Tensor:
        """Qᵀx in every component's coordinates, (..., K, d)."""
        return torch.einsum("...d,kde->...ke", x, self.axes)

    def _out(self, places: Tensor) -> Tensor:
        """Back from there, (..., K, d)."""
        return torch.einsum("...ke,kde->...kd", places, self.axes)


def _shrunk(covs: Tensor, points: Tensor) -> Tensor:
    """Covariances (K, d, d) of samples of so many points, with shrunk eigenvalues, and then shrunk variances.

    The columns' variances have small errors, and shrunk eigenvalues would make those of all columns alike.
    """
    found = _mapped(covs, lambda sizes: shrunk_eigenvalues(sizes.clamp(min=LEAST_VARIANCE), points))
    variances = [one.diagonal(dim1=1, dim2=2).clamp(min=LEAST_VARIANCE) for one in (covs, found)]
    scales = (shrunk_variances(variances[0], points) / variances[1]).sqrt()
    return scales[:, :, None] * found * scales[:, None, :]


def _by_component(x: Tensor, k: Tensor, matrices: Tensor) -> Tensor:
    """Rows of x (n, d) times the matrix of their component k (n,), (n, d), without a matrix for each row."""
    found = torch.empty_like(x)
    for component, matrix in enumerate(matrices):
        rows = k == component
        found[rows] = x[rows] @ matrix
    return found


def _slope(square: Tensor, e: float) -> Tensor:
    """√(square + ¼e²) − ½e, without cancellation."""
    return square / ((square + e**2 / 4).sqrt() + e / 2)


def _mapped(matrices: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of symmetric matrices (K, d, d), by their eigenvalues."""
    sizes, axes = torch.linalg.eigh(_symmetric(matrices))
    mapped: Tensor = (axes * function(sizes)[:, None]) @ axes.mT
    return mapped


def _symmetric(matrices: Tensor) -> Tensor:
    return (matrices + matrices.mT) / 2


def _quadratic(x: Tensor, constant: Tensor, tilt: Tensor, curve: Tensor) -> Tensor:
    """constant_k + tilt_k·x + x·curve_k x, (K, n), of points x (n, d)."""
    constant, tilt, curve = (value.to(x) for value in (constant[:, None], tilt, curve))
    squares = _squares_by_products if _many(*tilt.shape) else _squares_one_by_one
    return torch.cat([constant + tilt @ rows.T + squares(curve, rows) for rows in x.split(ROWS)], dim=1)


def _many(count: int, dim: int) -> bool:
    """Whether so many components are faster by products."""
    return dim <= _PRODUCTS_DIM and 2 * count > dim


def _moments_one_by_one(shares: Tensor, x: Tensor) -> Tensor:
    """Sums of share · x xᵀ over the points x (n, d), (K, d, d)."""
    return torch.stack([(one[:, None] * x).T @ x for one in shares])


def _moments_by_products(shares: Tensor, x: Tensor) -> Tensor:
    sums = shares @ _products(x).T
    i, j = torch.triu_indices(*x.shape[1:] * 2, device=x.device)
    moments = sums.new_empty(len(sums), *x.shape[1:] * 2)
    moments[:, i, j] = moments[:, j, i] = sums
    return moments


def _squares_one_by_one(matrices: Tensor, x: Tensor) -> Tensor:
    """x·M_k x of symmetric matrices (K, d, d) and points x (n, d), (K, n)."""
    return ((x @ matrices) * x).sum(-1)


def _squares_by_products(matrices: Tensor, x: Tensor) -> Tensor:
    i, j = torch.triu_indices(*matrices.shape[1:], device=x.device)
    halves = torch.where(i == j, 0.5, 1.0).to(matrices)
    return ((matrices + matrices.mT)[:, i, j] * halves) @ _products(x)


def _products(x: Tensor) -> Tensor:
    """x_i x_j for i ≤ j of points x (n, d), (d(d + 1)/2, n)."""
    columns = x.T.contiguous()
    return torch.cat([columns[i:] * column for i, column in enumerate(columns)])
