"""Growth: weights of the points of a snapshot, by unbalanced transport to the next one.

Cells divide and die, so a kind that is rare at one time may be common at the next without a cell having moved.  With
the cost c = |x−y|²/2 the weights are the first marginal of

    min over π with second marginal b of  E_π c + 2ε KL(π | a ⊗ b) + ρ KL(π₁ | a),

in units of the cost: where transport costs more by ρ, a point's weight falls by about a factor of e.  In units of 2ε
and with κ = ρ/(ρ + 2ε), Sinkhorn's iteration has f ← κf̃ in the place of f ← f̃, and the weights are a exp(−(1−κ)f̃).
Their sum is one at the solution; every iteration shifts f̃ so that it is (Séjourné, Vialard, Peyré, AISTATS 2022).

Chizat, Peyré, Schmitzer, Vialard, Math. Comp. 87 (2018); for cells: Schiebinger et al., Cell 176 (2019).
"""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from sbridge.errors import InputError
from sbridge.plans import extended
from sbridge.weights import check_weights, shares_of

__all__ = ["growth_weights"]

_TOLERANCE, _ITERATIONS = 1e-3, 1000


def growth_weights(
    x0: Tensor,
    x1: Tensor,
    epsilon: float,
    relaxation: float,
    weights0: Tensor | None = None,
    weights1: Tensor | None = None,
) -> Tensor:
    """Weights of x0 (n0, d) with the mean one, (n0,), for the bridge to x1 (n1, d).

    Args:
        epsilon: ε of the bridge in unit time.
        relaxation: ρ > 0, in squared units of the data; for ρ → ∞ the weights stay as they are.
        weights0, weights1: of the points before, (n0,) and (n1,).

    Raises:
        InputError: the relaxation is not positive, or the iteration does not converge.
    """
    if not 0 < relaxation < inf:
        raise InputError(f"the relaxation of growth must be a positive number, not {relaxation}")
    for label, weights, x in (("weights0", weights0, x0), ("weights1", weights1, x1)):
        if weights is not None:
            check_weights(label, weights, x)
    rest = 2 * epsilon / (relaxation + 2 * epsilon)  # 1 − κ
    shares = shares_of(x0, weights0)
    g, last = torch.zeros(len(x1), dtype=torch.float64, device=x1.device), shares
    for _ in range(_ITERATIONS):
        potential = extended(x0, x1, g, epsilon, weights1)
        log_weights = shares.log() - rest * potential
        total = torch.logsumexp(log_weights, dim=0)
        found = (log_weights - total).exp()
        if (found - last).abs().sum() < _TOLERANCE * rest:
            return found * len(x0)
        last, f = found, (1 - rest) * (potential + total / rest)
        g = extended(x1, x0, f, epsilon, weights0)
    raise InputError(f"growth does not converge at epsilon = {epsilon:g} in unit time; use a larger epsilon")
