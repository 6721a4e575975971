"""SchrodingerBridge: the package's door in the shape of a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sbridge.arrays import Array, as_points
from sbridge.bridge import Bridge, Direction
from sbridge.densities import Base
from sbridge.display import training_display
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.statement import Certificate
from sbridge.likelihood import End, LogDensity
from sbridge.problem import Problem
from sbridge.solvers import Solver
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.regression import Regression

__all__ = ["SchrodingerBridge", "device_named"]


class SchrodingerBridge(BaseEstimator):
    """The Schrödinger bridge between two samples, for dX = u dt + √(2ε) dW.

    Before the fit each dataset is centred and both are divided by one scale, which leaves the bridge what it is and ε
    in the units of the data (`sbridge.problem.Frame`).

    Args:
        epsilon: ε, in squared units of the data.  √(2ε) is the standard deviation of the noise a point meets on its
            way.
        solver: what finds the bridge; by default max–min over the interpolant (`sbridge.MaxMin`).
        random_state: seed of the fit.
        device: where to fit, as torch names it ("cpu", "cuda", "cuda:1").
        verbose: whether a training shows how far it is, on stderr.

    Attributes:
        bridge_: the fitted `sbridge.Bridge`, which also has everything below.
    """

    bridge_: Bridge

    def __init__(
        self,
        epsilon: float = 0.5,
        solver: Solver | None = None,
        random_state: int = 0,
        device: str = "cpu",
        verbose: bool = False,
    ) -> None:
        self.epsilon, self.solver, self.random_state, self.device = epsilon, solver, random_state, device
        self.verbose = verbose

    def fit(self, x0: NDArray[Any] | Tensor, x1: NDArray[Any] | Tensor) -> SchrodingerBridge:
        """Find the bridge from x0 (n0, d) to x1 (n1, d).

        Raises:
            InputError: shapes disagree, a value is no finite number, fewer than 10 points, ε is not positive, or the
                device is not there.
            DivergenceError: the training became unstable.
        """
        device = device_named(self.device)
        start, end = (as_points(x).to(device) for x in (x0, x1))
        end = end.to(start)
        self._x0, self._x1 = start, end
        problem = Problem(start, end, self.epsilon, start, end)
        solver = MaxMin() if self.solver is None else self.solver
        if self.verbose and isinstance(solver, Regression):
            self.bridge_ = _watched(solver, problem, self.random_state)
        else:
            self.bridge_ = solver.solve(problem, self.random_state)
        return self

    def transport(self, x: Array, direction: Direction = "forward", **options: Any) -> Array:
        """Move points x (n, d) from one end to the other; options as in `Bridge.transport`."""
        return self._fitted().transport(x, direction, **options)

    def trajectories(self, x: Array, times: Sequence[float], **options: Any) -> Array:
        """Paths through x (n, d) at times[0], (len(times), n, d); options as in `Bridge.trajectories`."""
        return self._fitted().trajectories(x, times, **options)

    def forward_drift(self, t: float | Array, x: Array) -> Array:
        """b_F(t, x) of dX = b_F dt + √(2ε) dW: t a number or (n, 1), x (n, d) → (n, d)."""
        return self._fitted().forward_drift(t, x)

    def backward_drift(self, t: float | Array, x: Array) -> Array:
        """b_B(t, x) of the process seen from t = 1: t a number or (n, 1), x (n, d) → (n, d)."""
        return self._fitted().backward_drift(t, x)

    def velocity(self, t: float | Array, x: Array) -> Array:
        """b = (b_F + b_B)/2: t a number or (n, 1), x (n, d) → (n, d)."""
        return self._fitted().velocity(t, x)

    def score(self, t: float | Array, x: Array) -> Array:
        """s = ∇log ρ_t: t a number or (n, 1), x (n, d) → (n, d).  Not scikit-learn's goodness of fit."""
        return self._fitted().score(t, x)

    def log_prob(self, x: Array, at: End = "x1", *, base: Base | None = None, **options: Any) -> LogDensity[Array]:
        """log ρ̂ at points x (n, d), in nats; options as in `Bridge.log_prob`.

        Without a base, it is a Gaussian mixture fitted to the training points of the other end.
        """
        return self._fitted().log_prob(x, at, base=self._base(at) if base is None else base, **options)

    def cross_entropy(self, x: Array, at: End = "x1", *, base: Base | None = None, **options: Any) -> Estimate:
        """−E log ρ̂ over the law of the points x (n, d), in nats; arguments as in `log_prob`."""
        return self._fitted().cross_entropy(x, at, base=self._base(at) if base is None else base, **options)

    def certificate(self, x0: Array, x1: Array, random_state: int | None = None) -> Certificate:
        """How far the fit is from a Schrödinger bridge, in nats; arguments as in `Bridge.certificate`.

        Keep some points apart from the fit and give them here.  There is no default, because on the points it was
        fitted to the bridge looks better than it is.
        """
        return self._fitted().certificate(x0, x1, random_state)

    def save(self, path: str | Path) -> None:
        """Write the fitted bridge to a safetensors file, for `Bridge.load`."""
        self._fitted().save(path)

    def _base(self, at: End) -> Tensor:
        check_is_fitted(self)
        return self._x0 if at == "x1" else self._x1

    def _fitted(self) -> Bridge:
        check_is_fitted(self)
        return self.bridge_


def _watched(solver: Regression, problem: Problem, random_state: int) -> Bridge:
    """What `solver.solve` gives, with a display of the training."""
    training = solver.start(problem, random_state)
    with training_display(solver.name, 0, training.steps) as update:
        for progress in training:
            update(progress)
    return training.bridge()


def device_named(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        InputError: there is no such device, or torch was built without it.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} is not available ({reason}); use cpu") from error
    return torch.device(name)
