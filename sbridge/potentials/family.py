"""The parameters that every field of a mixture potential has."""

from __future__ import annotations

from torch import Tensor

from sbridge.fields import Field

__all__ = ["MixtureField"]


class MixtureField(Field):
    """A field of a mixture potential; `potentials.field` has the formulas.

    It takes log w, because at small ε the weights themselves leave the range of floating point.

    Args:
        log_weights: log w, (K,).
        centres: r, (K, d).
        variances: diagonals of V, (K, d).
        epsilon: ε.
    """

    log_weights: Tensor
    centres: Tensor
    variances: Tensor

    def __init__(self, log_weights: Tensor, centres: Tensor, variances: Tensor, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("centres", centres)
        self.register_buffer("variances", variances)

    @property
    def dim(self) -> int:
        return self.centres.shape[1]

    @property
    def slopes(self) -> Tensor:
        """S = V/2ε, (K, d)."""
        return self.variances / (2 * self.epsilon)
