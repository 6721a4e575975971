"""What the two drifts of a mixture potential's bridge have in common: the potential's parameters."""

from __future__ import annotations

from torch import Tensor

from sbridge.fields import Field

__all__ = ["MixtureField"]


class MixtureField(Field):
    """A field of a mixture potential.

    Args:
        weights: w, (K,), positive.
        centres: r, (K, d).
        variances: diagonals of V, (K, d).
        epsilon: ε.
    """

    weights: Tensor
    centres: Tensor
    variances: Tensor

    def __init__(self, weights: Tensor, centres: Tensor, variances: Tensor, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.register_buffer("weights", weights)
        self.register_buffer("centres", centres)
        self.register_buffer("variances", variances)

    @property
    def dim(self) -> int:
        return self.centres.shape[1]

    @property
    def slopes(self) -> Tensor:
        """S = V/2ε, (K, d)."""
        return self.variances / (2 * self.epsilon)
