"""What the drifts of a mixture potential's bridge have in common: the potential's components."""

from __future__ import annotations

from torch import Tensor

from sbridge.fields import Field

__all__ = ["MixtureField", "MixtureShapes"]


class MixtureShapes(Field):
    """A field of a mixture potential, without the weights.

    Args:
        centres: r, (K, d).
        variances: diagonals of V, (K, d).
        epsilon: ε.
    """

    centres: Tensor
    variances: Tensor

    def __init__(self, centres: Tensor, variances: Tensor, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.register_buffer("centres", centres)
        self.register_buffer("variances", variances)

    @property
    def dim(self) -> int:
        return self.centres.shape[1]

    @property
    def slopes(self) -> Tensor:
        """S = V/2ε, (K, d)."""
        return self.variances / (2 * self.epsilon)

    def expected_exponents(self, mean: Tensor, variance: Tensor) -> Tensor:
        """E[log f_k − log w_k] at t = 0 under a Gaussian (..., d), up to a constant, (..., K)."""
        square = (mean.square() + variance) @ (self.slopes - 1).T + 2 * mean @ self.centres.T
        return square / (4 * self.epsilon)

    def expansion(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of z and z² in log f_k at mean + √variance z, each (n, K, d)."""
        tilts = ((self.slopes - 1) * mean[:, None] + self.centres) * variance.sqrt()[:, None]
        return tilts / (2 * self.epsilon), (self.slopes - 1) * variance[:, None] / (4 * self.epsilon)


class MixtureField(MixtureShapes):
    """A field of a mixture potential.

    Args:
        weights: w, (K,), positive.
        centres: r, (K, d).
        variances: diagonals of V, (K, d).
        epsilon: ε.
    """

    weights: Tensor

    def __init__(self, weights: Tensor, centres: Tensor, variances: Tensor, epsilon: float) -> None:
        super().__init__(centres, variances, epsilon)
        self.register_buffer("weights", weights)
