"""Standardised coordinates z = (x − c)A⁻¹ with a symmetric A: unlike columns get equal spreads before the fit.

A is diagonal, the columns' standard deviations (`columns`), or the root of the covariance (`whiten`), with the mean
variances and covariances of both datasets.  The bridge is fitted in z, where dZ = v dt + √(2ε) dW.  So ε is in squared
standard deviations, and the noise of x is √(2ε)A dW: √(2ε) times each column's scale.  A drift v(t, z) of z is the
drift vA of x, a density ρ(z) is ρ(z)/det A, and divergences of path laws are the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from sbridge.arrays import Array, RandomState, seed_of
from sbridge.bridge import Bridge
from sbridge.densities import Base, as_density, is_law
from sbridge.errors import InputError
from sbridge.fields import Rescaled, moved_pair
from sbridge.likelihood import DensityMethod, End, LogDensity
from sbridge.points import Points
from sbridge.problem import Problem
from sbridge.sampling import Simulation
from sbridge.weights import shares_of

if TYPE_CHECKING:
    from sbridge.evaluation.certificate import Certificate
    from sbridge.solvers.base import Listener

__all__ = ["Standardise", "StandardisedBridge", "as_fitted", "places_as_fitted", "standardised"]

Standardise = Literal["columns", "whiten"]
"""columns: divide each column by its standard deviation; whiten: remove the columns' correlations too."""

_FLAT = 1e-10  # of the largest eigenvalue, below which columns are linearly dependent


def standardised(problem: Problem, kind: Standardise | None) -> tuple[Problem, Callable[[Bridge], Bridge]]:
    """The problem in standardised coordinates, and the function that gives a bridge of it back in the user's units.

    The new problem has the same number for ε, in squared standard deviations, and no exact bridge.

    Args:
        problem: its training points give the scales.
        kind: columns or whiten; None changes nothing.

    Raises:
        InputError: there is no such kind, a column is constant, or (whiten) columns are linearly dependent.
    """
    if kind is None:
        return problem, lambda bridge: bridge
    if kind not in get_args(Standardise):
        raise InputError(f"standardise must be one of {', '.join(get_args(Standardise))}, or None, not {kind!r}")
    (mean0, covariance0), (mean1, covariance1) = (
        _moments(problem.x0, problem.weights0),
        _moments(problem.x1, problem.weights1),
    )
    centre, scale = (mean0 + mean1) / 2, _scale((covariance0 + covariance1) / 2, kind, problem.columns)
    inverse = torch.linalg.inv(scale)
    points = {
        label: ((getattr(problem, label).double() - centre) @ inverse).to(problem.x0)
        for label in ("x0", "x1", "test0", "test1")
    }
    inside = replace(problem, **points, name=f"{problem.name} (standardised)", truth=None)
    return inside, partial(StandardisedBridge, centre=centre, scale=scale)


def as_fitted(bridge: Bridge) -> Bridge:
    """The bridge in the coordinates in which it was fitted."""
    return bridge.inner if isinstance(bridge, StandardisedBridge) else bridge


def places_as_fitted(bridge: Bridge, x: Array) -> Tensor:
    """The points x (n, d), which are in the user's units, in the coordinates of `as_fitted`."""
    if isinstance(bridge, StandardisedBridge):
        return bridge.inner.tensor(bridge._standard(bridge.question(x)).values)
    return bridge.tensor(x)


def _moments(x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of points (n, d) in double precision."""
    y = x.double()
    return shares_of(x, weights) @ y, torch.atleast_2d(y.T.cov(aweights=weights))


def _scale(covariance: Tensor, kind: Standardise, names: Sequence[str] | None) -> Tensor:
    """A (d, d)."""
    flat = [k for k, variance in enumerate(covariance.diagonal().tolist()) if variance == 0]
    if flat:
        listed = ", ".join(names[k] if names else f"c{k}" for k in flat)
        raise InputError(f"column {listed} is constant in both datasets and has no scale: leave it out to standardise")
    if kind == "columns":
        return torch.diag(covariance.diagonal().sqrt())
    sizes, axes = torch.linalg.eigh(covariance)
    if sizes[0] < _FLAT * sizes[-1]:
        raise InputError("some columns are linearly dependent and cannot be whitened: standardise by columns instead")
    root: Tensor = (axes * sizes.sqrt()) @ axes.T
    return root


class StandardisedBridge(Bridge):
    """A bridge that was fitted in standardised coordinates, in the user's units.

    Points, drifts, velocities, scores and densities are in the user's units.  ε, and the diffusion of a simulation, are
    in squared standard deviations: the noise of a path is √(2ε)A dW.

    Args:
        inner: the bridge of z.
        centre, scale: c (d,) and A (d, d).
    """

    def __init__(self, inner: Bridge, centre: Tensor, scale: Tensor) -> None:
        def move(field: Any) -> Rescaled:
            return Rescaled(field, centre, scale)

        super().__init__(*moved_pair(inner.forward_field, inner.backward_field, move), inner.epsilon)
        self.inner, self.remark, self.columns, self.tried = inner, inner.remark, inner.columns, inner.tried
        self.centre: Tensor
        self.scale: Tensor
        self.inverse: Tensor
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)
        self.register_buffer("inverse", torch.linalg.inv(scale), persistent=False)

    @property
    def scales(self) -> Tensor:
        """The standard deviation that each column was divided by, (d,); √(2ε) times it is the column's noise."""
        return self.scale.square().sum(0).sqrt()

    def certificate(
        self, x0: Array, x1: Array, random_state: RandomState = None, listeners: Sequence[Listener] = ()
    ) -> Certificate:
        from sbridge.evaluation.certificate import Columns, certify  # here, because certificates are made of bridges

        start, end = (places_as_fitted(self, x) for x in (x0, x1))
        columns = Columns(self.columns or (), self._outside)
        return certify(self.inner, start, end, seed_of(random_state), listeners, columns=columns)

    def _states(
        self,
        asked: Points,
        times: Sequence[float],
        simulation: Simulation | None,
        random_state: RandomState,
        start: float | None,
        **options: Any,
    ) -> Tensor:
        states = self.inner._states(self._standard(asked), times, simulation, random_state, start, **options)
        return self._outside(states)

    def _score(self, t: Tensor, x: Tensor) -> Tensor:
        """The drifts of x differ by 2εs A², with s its score."""
        return (super()._score(t, x).to(self.inverse) @ self.inverse @ self.inverse).to(x)

    def _log_density(
        self, asked: Points, at: End, base: Base, method: str | DensityMethod, random_state: RandomState
    ) -> LogDensity[Tensor]:
        law = as_density(base if is_law(base) else self.question(base).values, self._inward(asked))
        inside = _Density(law.name, lambda z: law.log_prob(self._outside(z)) + self.scale.logdet())
        found = self.inner._log_density(self._standard(asked), at, inside, method, random_state)
        return LogDensity(found.value - self.scale.logdet(), found.standard_error, found.base)

    def _standard(self, asked: Points) -> Points:
        """The points in z, in double precision."""
        return replace(asked, values=(self._inward(asked) - self.centre) @ self.inverse)

    def _outside(self, z: Tensor) -> Tensor:
        """x of points z (..., d), in double precision."""
        return z.to(self.scale) @ self.scale + self.centre


@dataclass(frozen=True)
class _Density:
    """A log-density with the name of another."""

    name: str
    log_prob: Callable[[Tensor], Tensor]
