"""SchrodingerBridge: a scikit-learn estimator for the Schrödinger bridge between two samples."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sbridge.arrays import Array, RandomState, seed_of
from sbridge.auto import SOLVERS, Auto, within
from sbridge.bridge import Bridge, Direction
from sbridge.checks import Elsewhere, Named, checked, checked_arguments, checked_value
from sbridge.densities import Base
from sbridge.display import note, training_display
from sbridge.epsilon import with_epsilon
from sbridge.errors import DataWarning, InputError
from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.statement import Certificate
from sbridge.evaluation.value import reference_for, values
from sbridge.inspection import inspect_points
from sbridge.likelihood import End, LogDensity
from sbridge.parameters import nested_parameters, with_parameters
from sbridge.points import Points, points_of
from sbridge.problem import Frame, Problem
from sbridge.sampling import Simulation
from sbridge.solvers.base import Listener, Progress, Solver
from sbridge.solvers.budget import Budget
from sbridge.spread import warn_of_ends
from sbridge.standardise import Standardise, as_fitted, places_as_fitted, standardised
from sbridge.weights import SampleWeights, effective_size, repeated, thinned, weighted

__all__ = ["SchrodingerBridge", "SolverParameters", "device_named", "posed_with_weights"]

Own = TypeVar("Own", bound="SolverParameters")


class SolverParameters(BaseEstimator):
    """An estimator whose parameters include the settings of its solver, as solver__name."""

    solver: str | Solver | type[Solver]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments; with `deep`, the solver's settings too, as solver__name."""
        params: dict[str, Any] = super().get_params(deep=False)
        nested = nested_parameters(self._named_solver()) if deep else {}
        return {**params, **{f"solver__{name}": value for name, value in nested.items()}}

    def set_params(self: Own, **params: Any) -> Own:
        """Change parameters, solver__name for a setting of the solver.

        Raises:
            ValueError: there is no parameter or setting of that name, or the solver refuses the value.
        """
        prefix = "solver__"
        super().set_params(**{name: value for name, value in params.items() if not name.startswith(prefix)})
        settings = {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
        if settings:
            self.solver = with_parameters(self._made_solver(), settings)
        return self

    def _named_solver(self) -> Any:
        """The solver of that name; anything else as it is."""
        return SOLVERS.get(self.solver, self.solver) if isinstance(self.solver, str) else self.solver

    def _made_solver(self) -> Solver:
        named = checked_value("solver", Annotated[Any, Named(SOLVERS)], self._named_solver())
        made: Solver = checked_value("solver", Solver, named() if isinstance(named, type) else named)
        return made


class SchrodingerBridge(SolverParameters):
    """The Schrödinger bridge between two samples, for dX = u dt + √(2ε) dW.

    Before the fit each dataset is centred and both are divided by one scale.  The bridge stays the same, and ε is in
    the units of the data (`sbridge.problem.Frame`).

    A solver's own settings are parameters too: `set_params(solver__network__steps=500)`.  With as many points in x0 as
    in x1, scikit-learn's searches work with x0 as X and x1 as y: `GridSearchCV(model, {"epsilon": [0.1, 1.0]}).fit(x0,
    x1)`.  They compare the settings by `score`.

    Args:
        epsilon: ε, in squared units of the data.  √(2ε) is the standard deviation of the noise on a path.  "auto"
            chooses it from the data and says so (`sbridge.epsilon`); "reg=0.4", "blur=0.4" and "sigma=0.4" are the
            parameters of POT, GeomLoss and torchcfm.
        solver: the method, its class or its name: "auto", "potential", "full-potential", "maxmin" or "fixed".  By
            default `sbridge.Auto`, which tries several and keeps the best.
        random_state: seed of the fit: a whole number, a NumPy generator, or None for a new seed every time.
        device: where to fit, as torch names it ("cpu", "cuda", "cuda:1").
        verbose: whether to show a table of the data and the progress of a training on stderr.
        standardise: "columns" divides every column by its standard deviation before the fit, "whiten" also removes the
            correlations.  The answers stay in the units of the data, but ε is then in squared standard deviations:
            √(2ε) times each column's standard deviation is its noise (`sbridge.standardise`).

    Attributes:
        bridge_ (Bridge): the fitted `sbridge.Bridge`, which also has everything below.
        epsilon_ (float): ε, as a number.
        tried_ (Account): a table of what the solver tried and kept (`sbridge.auto.Account`); None where it does not
            choose.
        history_ (list): the values of each check of the training, a dictionary for each; empty without a training.
        n_features_in_ (int): dimension d of the data.
        effective_sizes_ (list): (Σw)²/Σw² on both sides: so many points of equal weight know as much of a mean.
            They are printed where `verbose` is set and there are weights.
        feature_names_in_ (array): names of the d columns, where the data had some; columns are then matched by name.
    """

    bridge_: Bridge

    def __init__(
        self,
        epsilon: float | str = 0.5,
        solver: Annotated[str | Solver | type[Solver], Elsewhere()] = Auto(),
        random_state: RandomState = 0,
        device: str = "cpu",
        verbose: bool = False,
        standardise: Standardise | None = None,
    ) -> None:
        self.epsilon, self.solver, self.random_state, self.device = epsilon, solver, random_state, device
        self.verbose, self.standardise = verbose, standardise

    @checked
    def fit(
        self,
        x0: Any,
        x1: Any,
        callbacks: Sequence[Listener] = (),
        sample_weight: tuple[Any, Any] = (None, None),
        budget: Budget | None = None,
    ) -> SchrodingerBridge:
        """Find the bridge from x0 (n0, d) to x1 (n1, d).

        Args:
            x0, x1: the two samples, of any kind that `sbridge.points_of` takes; a row is a point.
            callbacks: functions that are given each `Progress` of the training.
            sample_weight: weights of the points on both sides, (n0,) and (n1,), which need no normalisation.  None on a
                side means equal weights, or those of `Points`; a point of weight zero is left out.
            budget: seconds of wall time that the solver may take, or a text such as "90s", "2min" or "1h"; for `Auto`
                and for solvers that train.

        Raises:
            InputError: shapes or column names disagree, a value is missing or infinite, a sample has fewer than 10
                points, a weight is negative, ε is not positive, a column cannot be standardised, or the device is not
                available.
            DivergenceError: the training became unstable.

        Warns:
            DataWarning: the data or ε are likely to give a wrong or useless answer.
            SpreadWarning: the paths of the fit end with another spread than the data.
        """
        checked_arguments(type(self), vars(self))
        device, solver = device_named(self.device), self._made_solver()
        solver = solver if budget is None else within(solver, budget)
        posed = posed_with_weights(points_of(x0, label="x0"), points_of(x1, label="x1"), sample_weight).to(device)
        asked, choice = with_epsilon(posed, self.epsilon, self.standardise)
        if choice:
            note(choice)
        problem, outside = standardised(asked, self.standardise)
        self._inspect(asked, problem)
        self._remember_question(asked)
        self.history_: list[dict[str, float]] = []
        with ExitStack() as stack:
            display = [stack.enter_context(training_display(solver.name))] if self.verbose else []
            listeners = [self._remember, *display, *callbacks]
            self.bridge_ = outside(solver.solve(problem, seed_of(self.random_state), listeners))
        self.bridge_.columns = asked.columns  # also of a bridge by a solver that does not know names
        self.tried_: object = self.bridge_.tried
        if self.verbose and self.tried_ is not None:
            note(str(self.tried_))
        warn_of_ends(self.bridge_, asked, stacklevel=3)  # this, `checked` and the caller
        # The caller may change the arrays from now on.
        self._samples = (asked.x0.clone(), asked.weights0), (asked.x1.clone(), asked.weights1)
        return self

    def _inspect(self, problem: Problem, inside: Problem) -> None:
        Frame.of(inside)  # refuses points that do not vary at all
        found = inspect_points(problem, inside)
        if self.verbose:
            note(str(found))
        for warning in found.warnings:
            warnings.warn(warning, DataWarning, stacklevel=4)  # fit, `checked` and the caller

    def _remember_question(self, asked: Problem) -> None:
        self.n_features_in_, self.epsilon_ = asked.dim, asked.epsilon
        sides = zip((asked.x0, asked.x1), asked.weights, strict=True)
        self.effective_sizes_ = [float(len(x)) if w is None else effective_size(w) for x, w in sides]
        if self.verbose and asked.weights != (None, None):
            note("effective sample sizes: {:.0f} and {:.0f}".format(*self.effective_sizes_))
        self._remember_names(asked.columns)

    def _remember_names(self, columns: tuple[str, ...] | None) -> None:
        """scikit-learn's rule: there is no `feature_names_in_` after a fit without names."""
        if columns is not None:
            self.feature_names_in_: NDArray[Any] = np.array(columns, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _remember(self, progress: Progress) -> None:
        """Keep the values of each check once; `progress` repeats them until the next check."""
        if progress.values and progress.values not in self.history_[-1:]:
            self.history_.append(dict(progress.values))

    @checked
    def score(self, x0: Array, x1: Array, sample_weight: tuple[Any, Any] = (None, None)) -> float:
        """Goodness of fit: the value of the fit's forward process on points x0 (n0, d) and x1 (n1, d), in nats.

        The higher, the better.  Only differences between fits on the same points have a meaning: by so many nats one is
        nearer to the bridge of the data than the other (`sbridge.evaluation.value`).  Points with weights
        (n0,), (n1,) are thinned to their effective number.
        """
        bridge = self._fitted()
        start, end = _thinned([places_as_fitted(bridge, x) for x in (x0, x1)], sample_weight)
        found, seed = as_fitted(bridge), seed_of(self.random_state)
        reference = reference_for(Problem(start, end, found.epsilon, start, end), seed)
        return fmean(values(found, reference, start, end, seed))

    def transport(
        self,
        x: Array,
        direction: Direction = "forward",
        simulation: Simulation | None = None,
        random_state: RandomState = None,
        until: float | None = None,
        **options: Any,
    ) -> Array:
        """Move points x (n, d) to the other end, or to time `until`, (n, d); arguments as in `Bridge.transport`."""
        return self._fitted().transport(x, direction, simulation, random_state, until, **options)

    def at(self, x: Array, t: float, start: float = 0.0, **options: Any) -> Array:
        """Move points x (n, d), which stand at time `start`, to time t, (n, d); options as in `Bridge.at`."""
        return self._fitted().at(x, t, start, **options)

    def trajectories(
        self,
        x: Array,
        times: Sequence[float],
        simulation: Simulation | None = None,
        random_state: RandomState = None,
        start: float | None = None,
        **options: Any,
    ) -> Array:
        """Paths through points x (n, d), (len(times), n, d); arguments as in `Bridge.trajectories`."""
        return self._fitted().trajectories(x, times, simulation, random_state, start, **options)

    def forward_drift(self, t: Any, x: Array) -> Array:
        """b_F(t, x) of dX = b_F dt + √(2ε) dW: t a number or (n, 1), x (n, d) → (n, d)."""
        return self._fitted().forward_drift(t, x)

    def backward_drift(self, t: Any, x: Array) -> Array:
        """b_B(t, x) of the process seen from t = 1: t a number or (n, 1), x (n, d) → (n, d)."""
        return self._fitted().backward_drift(t, x)

    def velocity(self, t: Any, x: Array) -> Array:
        """b = (b_F + b_B)/2: t a number or (n, 1), x (n, d) → (n, d)."""
        return self._fitted().velocity(t, x)

    def marginal_score(self, t: Any, x: Array) -> Array:
        """s = ∇log ρ_t, the score of the law at time t: t a number or (n, 1), x (n, d) → (n, d)."""
        return self._fitted().marginal_score(t, x)

    def log_prob(self, x: Array, at: End = "x1", *, base: Base | None = None, **options: Any) -> LogDensity[Array]:
        """log ρ̂ at points x (n, d), in nats; options as in `Bridge.log_prob`.

        Without a base, it is a Gaussian mixture fitted to the training points of the other end.
        """
        return self._fitted().log_prob(x, at, base=self._base(at) if base is None else base, **options)

    def cross_entropy(self, x: Array, at: End = "x1", *, base: Base | None = None, **options: Any) -> Estimate:
        """−E log ρ̂ over the law of the points x (n, d), in nats; arguments as in `log_prob`."""
        return self._fitted().cross_entropy(x, at, base=self._base(at) if base is None else base, **options)

    @checked
    def certificate(
        self,
        x0: Array,
        x1: Array,
        random_state: RandomState = None,
        sample_weight: tuple[Any, Any] = (None, None),
    ) -> Certificate:
        """How far the fit is from a Schrödinger bridge, in nats; arguments as in `Bridge.certificate`.

        Give it points that were not used in the fit.  There is no default, because on its training points the bridge
        looks better than it is.  Points with weights (n0,), (n1,) are thinned to their effective number.
        """
        bridge = self._fitted()
        start, end = _thinned([bridge.question(x).values for x in (x0, x1)], sample_weight)
        return bridge.certificate(start, end, random_state)

    @checked
    def report(self, folder: str | Path, x0: Array, x1: Array) -> Path:
        """Write a run folder with a page about the fit on held-out points (n0, d), (n1, d); returns the page's path.

        The arguments and errors are those of `sbridge.write_report`, which also compares several fits.
        """
        from sbridge.report.written import write_report  # here, because matplotlib takes long to import

        bridge = self._fitted()
        (start, w0), (end, w1) = self._samples
        test0, test1 = (bridge.tensor(x).to(start) for x in (x0, x1))
        names = None if bridge.columns is None else tuple(bridge.columns)
        problem = Problem(start, end, bridge.epsilon, test0, test1, columns=names, weights0=w0, weights1=w1)
        name = self._made_solver().name
        return write_report({name: self}, problem, folder, seed_of(self.random_state), self.standardise)

    def save(self, path: str | Path) -> None:
        """Write the fitted bridge to a safetensors file, for `Bridge.load`."""
        self._fitted().save(path)

    @checked
    def sample(self, end: End) -> Tensor:
        """The training points of an end, (n, d); points with weights are repeated in proportion to them."""
        check_is_fitted(self)
        x, weights = self._samples[0 if end == "x0" else 1]
        return repeated(x, weights, 4, torch.Generator(x.device).manual_seed(0))

    def _base(self, at: End) -> Tensor:
        return self.sample("x0" if at == "x1" else "x1")

    def _fitted(self) -> Bridge:
        check_is_fitted(self)
        return self.bridge_


def posed_with_weights(x0: Points, x1: Points, weights: tuple[SampleWeights, SampleWeights]) -> Problem:
    """The problem of both samples with their weights and ε = 1, without the points of weight zero."""
    problem = Problem.of(x0, x1, 1.0)
    given = (own if w is None else w for w, own in zip(weights, problem.weights, strict=True))
    (start, w0), (end, w1) = (
        weighted(x, w, f"weights{side}")
        for side, (x, w) in enumerate(zip((problem.x0, problem.x1), given, strict=True))
    )
    return replace(problem, x0=start, x1=end, test0=start, test1=end, weights0=w0, weights1=w1)


def _thinned(samples: Sequence[Tensor], weights: tuple[SampleWeights, SampleWeights]) -> list[Tensor]:
    """Points of equal weight, as many as the weighted ones of both sides are worth, by a fixed seed."""
    generator = torch.Generator(samples[0].device).manual_seed(0)
    return [thinned(*weighted(x, w), generator) for x, w in zip(samples, weights, strict=True)]


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
