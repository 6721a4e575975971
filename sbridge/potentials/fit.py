"""Fit a mixture potential to two datasets: a fixed point of the dual's moment equations.

With e = 2ε and symmetric S_k the potential of `potentials.field` has, up to a constant, λ(0, x) = e log Σ_k f_k(x) and
λ(1, y) = |y|²/2 + e log Σ_k g_k(y), log f_k = log w_k + (x·(S_k − I)x + 2 r_k·x)/2e and g_k = w_k N(y | r_k, eS_k).  It
is fitted by maximising the dual D = E λ(1, x1) − E λ(0, x0).  Let f̂_k and ĝ_k be the shares of component k in the two
sums.  Its mass, mean and variance on either side are those of the points there, weighted by its shares; variances of
few points are then shrunk (`shrinkage`).  The derivatives of D vanish if

    E f̂_k = E ĝ_k,    mean1 = S_k mean0 + r_k,    variance1 = S_k² variance0 + e S_k:

each component is the Gaussian bridge between its two cells.  With the moments held fixed this is solved by

    S_k = 2 variance1/(e + √(e² + 4 variance0 variance1)),    r_k = mean1 − S_k mean0,

for diagonal S_k; `full` has the same with matrices.

The masses are balanced by Newton's method on log w with ĝ fixed, which raises a lower bound of D (as in
expectation–maximisation).  Where no mixture potential describes the data exactly, the plain fixed point can lower D,
and at small ε all components can collapse into one.  So a step is halved until D increases; the next step first tries
twice that length if it had not to be halved, but never more than the full step.

The potential and its dual: Korotin, Gushchin, Burnaev, arXiv 2310.01174 (LightSB), who use gradient descent.  The fixed
point was developed for this package.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import pi
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sbridge.potentials.selection import Weighted
from sbridge.potentials.shrinkage import shrunk_variances
from sbridge.weights import effective_sizes

__all__ = ["LEAST_VARIANCE", "ROWS", "Ascent", "Cells", "Parameters", "State", "clusters", "log_sum_and_shares"]

ROWS = 4096  # points at once: a block of features fits in the processor's cache
_NEWTON_STEPS, _LINE_SEARCH, _RIDGE, _NEAR = 12, 15, 1e-5, 1e-4
_HALVINGS = 6
_TOLERANCE = 1e-6  # nats: single precision does not tell apart two duals that close
_KMEANS_STEPS = 10
LEAST_VARIANCE = 1e-6  # of a cell, in units of the data's variance: single precision resolves no less


@dataclass(frozen=True)
class Cells:
    """Masses (K,), means and variances (K, d) of the components on one side, in float64."""

    masses: Tensor
    means: Tensor
    variances: Tensor

    @classmethod
    def of(cls, shares: Tensor, x: Tensor) -> Cells:
        """From the shares (K, n) of points x (n, d), each times the weight of the point, of mean one."""
        sums = x.new_zeros(2, len(shares), x.shape[1], dtype=torch.float64)
        for share, rows in zip(shares.split(ROWS, dim=1), x.split(ROWS), strict=True):
            sums += torch.stack([share @ rows, share @ rows.square()])
        totals = shares.double().sum(1).clamp(min=torch.finfo(x.dtype).tiny)
        means, squares = sums / totals[:, None]
        variances = (squares - means.square()).clamp(min=LEAST_VARIANCE)
        return cls(totals / len(x), means, shrunk_variances(variances, effective_sizes(shares)))


@dataclass(frozen=True)
class Parameters:
    """log w (K,), r (K, d) and the diagonals of S (K, d) of a mixture potential, in float64."""

    cells: ClassVar[type[Cells]] = Cells

    log_weights: Tensor
    centres: Tensor
    slopes: Tensor

    @classmethod
    def joining(cls, cells0: Cells, cells1: Cells, e: float) -> Parameters:
        """Equal weights, and the S and r of the Gaussian bridges between cells."""
        rest = (e**2 + 4 * cells0.variances * cells1.variances).sqrt()
        slopes = 2 * cells1.variances / (e + rest)
        return cls(torch.zeros_like(cells1.masses), cells1.means - slopes * cells0.means, slopes)

    def towards(self, other: Parameters, share: float) -> Parameters:
        """The parameters at a share of the way to others; S is interpolated geometrically."""
        return replace(
            self,
            log_weights=torch.lerp(self.log_weights, other.log_weights, share),
            centres=torch.lerp(self.centres, other.centres, share),
            slopes=torch.lerp(self.slopes.log(), other.slopes.log(), share).exp(),
        )

    def log_terms0(self, x: Tensor, e: float) -> Tensor:
        """log f_k(x), (K, n), in x's dtype."""
        return _quadratic(x, self.log_weights, self.centres / e, (self.slopes - 1) / (2 * e))

    def log_terms1(self, y: Tensor, e: float) -> Tensor:
        """log g_k(y), (K, n), in y's dtype."""
        inverse = 1 / (e * self.slopes)
        norm = (self.centres.square() * inverse - torch.log(inverse / (2 * pi))).sum(1) / 2
        return _quadratic(y, self.log_weights - norm, self.centres * inverse, -inverse / 2)


@dataclass(frozen=True)
class State:
    """Parameters with balanced masses, D/e up to a constant, and the moments of both sides."""

    parameters: Parameters
    dual: float
    cells0: Cells
    cells1: Cells


class Ascent:
    """States of increasing dual on two datasets; each step costs one pass over them.

    Args:
        x0, x1: points, (n0, d) and (n1, d), of about unit variance, and their weights.
        e: 2ε.
        start: parameters to begin with.
    """

    def __init__(self, x0: Weighted, x1: Weighted, e: float, start: Parameters) -> None:
        self.x0, self.x1, self.e, self.share = x0, x1, e, 1.0  # of the way that is tried first
        self.state = self._state(start)

    def states(self, steps: int) -> Iterator[State]:
        """The state and at most `steps` more: it ends where no step in the fixed point's direction raises the dual."""
        yield self.state
        for _ in range(steps):
            better = self._better()
            if better is None:
                return
            self.state = better
            yield better

    def _better(self) -> State | None:
        old, target = self.state, self._target()
        for share in [self.share * 0.5**halvings for halvings in range(_HALVINGS)]:
            new = self._state(old.parameters.towards(target, share))
            if new.dual > old.dual:
                self.share = min(1.0, 2 * share) if share == self.share else share
                return new
            if new.dual > old.dual - _TOLERANCE:
                break
        return None

    def _target(self) -> Parameters:
        """The parameters that solve the moment equations with the present moments; log w is balanced afterwards."""
        now = self.state
        return replace(now.parameters.joining(now.cells0, now.cells1, self.e), log_weights=now.parameters.log_weights)

    def _state(self, start: Parameters) -> State:
        (x0, w0), (x1, w1) = ((side.x, side.weights) for side in (self.x0, self.x1))
        terms0, terms1 = start.log_terms0(x0, self.e), start.log_terms1(x1, self.e)
        shift = _balance(terms0, (torch.softmax(terms1, dim=0) * w1).double().mean(1), w0)
        for terms in (terms0, terms1):
            terms += shift.to(terms)[:, None]
        (log_sum0, shares0), (log_sum1, shares1) = log_sum_and_shares(terms0), log_sum_and_shares(terms1)
        dual = ((w1 * log_sum1).double().mean() - (w0 * log_sum0).double().mean()).item()
        parameters = replace(start, log_weights=start.log_weights + shift)
        return State(parameters, dual, start.cells.of(shares0 * w0, x0), start.cells.of(shares1 * w1, x1))


def log_sum_and_shares(terms: Tensor) -> tuple[Tensor, Tensor]:
    """log Σ_k exp terms_k (n,) and the shares of its terms (K, n).

    The largest share is exp(largest term − log-sum).  This is several times faster than torch.logsumexp, whose
    exponentials are slow where they are almost zero.
    """
    shares = torch.softmax(terms, dim=0)
    return terms.amax(0) - shares.amax(0).log(), shares


def _quadratic(x: Tensor, constant: Tensor, tilt: Tensor, curve: Tensor) -> Tensor:
    """constant_k + tilt_k·x + curve_k·x², (K, n), of points x (n, d)."""
    constant, tilt, curve = (value.to(x) for value in (constant[:, None], tilt, curve))
    values = x.new_empty(len(tilt), len(x))
    for start in range(0, len(x), ROWS):
        rows = x[start : start + ROWS].T
        values[:, start : start + ROWS] = torch.addmm(constant + tilt @ rows, curve, rows.square())
    return values


def _balance(terms: Tensor, masses: Tensor, weights: Tensor) -> Tensor:
    """The shifts of the terms (K, n) that turn the mean shares of weighted points (n,) into the masses (K,), by Newton.

    It minimises E log Σ_k exp(terms_k + shift_k) − masses·shift with a line search.  Where every point belongs to one
    component only, the second derivative is zero, and the ridge bounds the step.
    """

    def tried(shift: Tensor) -> tuple[float, Tensor]:
        log_sum, shares = log_sum_and_shares(terms + shift.to(terms)[:, None])
        return ((weights * log_sum).double().mean() - masses @ shift).item(), shares

    shift = torch.zeros_like(masses)
    value, shares = tried(shift)
    for _ in range(_NEWTON_STEPS):
        weighted = shares * weights
        found, gram = weighted.double().mean(1), (weighted @ shares.T).double() / shares.shape[1]
        step = torch.linalg.solve(torch.diag(found + _RIDGE) - gram, masses - found)
        for quarterings in range(_LINE_SEARCH):
            new = shift + 0.25**quarterings * step
            new_value, new_shares = tried(new)
            if new_value < value + _TOLERANCE:
                break
        shift, value, shares = new, new_value, new_shares
        if (masses - found).abs().max() < _NEAR:  # the error before the step; after it, about the square
            break
    return shift - torch.logsumexp(shift, dim=0)


def clusters(x: Weighted, count: int, starts: int, random_state: int, kind: type[Cells] = Cells) -> Cells:
    """Cells of k-means from greedy k-means++ (scikit-learn), the tightest of `starts` runs.

    Of fewer different points than cells, some cells are empty; scikit-learn's warning of that is not passed on.
    """
    from sklearn.cluster import KMeans  # here, because scikit-learn takes long to import
    from sklearn.exceptions import ConvergenceWarning

    means = KMeans(count, n_init=starts, max_iter=_KMEANS_STEPS, random_state=random_state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = means.fit(x.x.cpu().numpy(), sample_weight=x.weights.cpu().numpy()).labels_
    shares = one_hot(torch.as_tensor(labels, device=x.x.device).long(), count).T.to(x.x)
    return kind.of(shares * x.weights, x.x)
