"""Base densities: a bridge's log-density at one end needs the density at the other end.

A density is anything with a `name` and a `log_prob`.  One that is known is a torch `Distribution` or a plain function;
where only samples of the law are known, a Gaussian mixture is fitted to them, with 1 … 8 components by the Bayesian
information criterion (Schwarz, Annals of Statistics 6, 1978).  Its name says so, because every figure computed with it
depends on that fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

from sbridge.arrays import as_tensor
from sbridge.errors import InputError

__all__ = ["Base", "Density", "as_density", "fit_mixture", "is_law"]

_COMPONENTS = 8  # at most
_POINTS = 20_000  # to fit at most
_PER_COMPONENT = 10  # points at least
_ITERATIONS = 1000
_ADVICE = (
    "it must answer (n,) for points (n, d). For independent coordinates use "
    "torch.distributions.Independent(Normal(mean, deviation), 1) with mean and deviation of shape (d,), "
    "else MultivariateNormal"
)


@runtime_checkable
class Density(Protocol):
    """A normalised density on R^d."""

    @property
    def name(self) -> str:
        """Its name in tables."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Natural logarithm of the density at x (n, d) → (n,)."""


Base = Density | Distribution | Callable[[Tensor], Any] | Tensor | NDArray[Any]
"""What `as_density` takes: a density, a torch distribution, a function (n, d) → (n,), or samples (n, d) of the law."""


@dataclass(frozen=True)
class _Checked:
    """A function (n, d) → (n,) whose answers are checked."""

    name: str
    function: Callable[[Tensor], Any]

    def log_prob(self, x: Tensor) -> Tensor:
        """log density at x (n, d) → (n,).

        Raises:
            InputError: the function fails, answers with another shape, or with NaN or +∞.
        """
        value = self._ask(x)
        if value.shape != x.shape[:1]:
            shapes = f"{tuple(value.shape)} for points of shape {tuple(x.shape)}"
            raise InputError(f"the log-density of {self.name} has shape {shapes}; {_ADVICE}")
        bad = int((value.isnan() | (value == inf)).sum())
        if bad:
            raise InputError(f"the log-density of {self.name} is NaN or +∞ at {bad} of {len(x)} points; correct it")
        return value.to(x)

    def _ask(self, x: Tensor) -> Tensor:
        try:
            return as_tensor(self.function(x))
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            raise InputError(
                f"the log-density of {self.name} fails at points of shape {tuple(x.shape)}: {error}. It needs the "
                "points' dimension, dtype and device, and a torch distribution on a part of space validate_args=False"
            ) from error


def as_density(base: Base, like: Tensor) -> Density:
    """A density on the space of the points `like` (n, d).

    Args:
        base: a `Density`; a torch `Distribution` without batch shape; a function (n, d) → (n,); or samples (m, d),
            tensor or array, to which `fit_mixture` fits.
        like: points that have the density's dimension, dtype and device.

    Raises:
        InputError: the base is none of these, has another dimension, or its answers have a wrong shape or are NaN.
    """
    density = base if isinstance(base, _Checked) else _checked(base, like)
    density.log_prob(like[:2])
    return density


def is_law(base: Base) -> bool:
    """Whether the base gives a density itself; otherwise it is samples."""
    return isinstance(base, Distribution) or hasattr(base, "log_prob") or callable(base)


def _checked(base: Base, like: Tensor) -> _Checked:
    if isinstance(base, Distribution):
        _check_shapes(base, like.shape[1])
        return _Checked(type(getattr(base, "base_dist", base)).__name__, base.log_prob)
    if hasattr(base, "log_prob"):
        return _Checked(getattr(base, "name", type(base).__name__), base.log_prob)
    if callable(base):
        return _Checked(getattr(base, "__name__", type(base).__name__).strip("<>"), base)
    return _of_samples(as_tensor(base), like)


def _check_shapes(base: Distribution, dim: int) -> None:
    if base.batch_shape or base.event_shape != (dim,):
        shapes = f"batch shape {tuple(base.batch_shape)} and event shape {tuple(base.event_shape)}"
        raise InputError(f"the base {type(base).__name__} has {shapes}, but the points have d = {dim}; {_ADVICE}")


def _of_samples(samples: Tensor, like: Tensor) -> _Checked:
    if samples.ndim != 2 or samples.shape[1] != like.shape[1]:
        raise InputError(f"samples of the base must have shape (m, {like.shape[1]}), not {tuple(samples.shape)}")
    mixture = fit_mixture(samples.to(like))
    components, points = mixture.component_distribution.batch_shape[0], min(len(samples), _POINTS)
    plural = "s" if components > 1 else ""
    name = f"Gaussian mixture of {components} component{plural} fitted to {points} points"
    return _Checked(name, mixture.log_prob)


def fit_mixture(samples: Tensor) -> MixtureSameFamily:
    """The Gaussian mixture of full covariances and 1 … 8 components with the lowest BIC, on the samples' device.

    It is fitted by expectation–maximisation (scikit-learn) in coordinates of unit variance, to 20,000 points chosen at
    random where there are more, with at least 10 points for a component.  The same samples give the same mixture.

    Args:
        samples: (m, d), floating point.

    Raises:
        InputError: fewer than 10 points, a value that is not finite, or a coordinate that does not vary.
    """
    from sklearn.mixture import GaussianMixture  # here, because importing it takes long

    _check_samples(samples)
    rows = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))[:_POINTS]
    chosen = samples.detach()[rows].double()
    mean, deviation = chosen.mean(0), chosen.std(0)
    points = ((chosen - mean) / deviation).cpu().numpy()
    most = min(_COMPONENTS, len(points) // _PER_COMPONENT)
    fits = [GaussianMixture(k, max_iter=_ITERATIONS, random_state=0).fit(points) for k in range(1, most + 1)]
    best = min(fits, key=lambda fit: float(fit.bic(points)))
    means, covariances, weights = (
        torch.as_tensor(value, device=samples.device) for value in (best.means_, best.covariances_, best.weights_)
    )
    roots = deviation[:, None] * torch.linalg.cholesky(covariances)
    normals = MultivariateNormal((mean + deviation * means).to(samples), scale_tril=roots.to(samples))
    return MixtureSameFamily(Categorical(weights.to(samples)), normals)


def _check_samples(samples: Tensor) -> None:
    if len(samples) < _PER_COMPONENT:
        raise InputError(f"the base has {len(samples)} samples; a fit needs at least {_PER_COMPONENT}")
    if not samples.isfinite().all():
        raise InputError("samples of the base have NaN or infinite values; drop or fill them first")
    still = (samples == samples[0]).all(0).nonzero()[:, 0].tolist()
    if still:
        raise InputError(
            f"coordinates {still} of the base's samples do not vary, so they have no density: drop them from the data, "
            "or give a density as the base"
        )
