"""Monte Carlo figures with their standard errors, and how they are printed."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from torch import Tensor

__all__ = ["Estimate", "rounded", "with_error"]


@dataclass(frozen=True)
class Estimate:
    """A Monte Carlo figure and its standard error."""

    value: float
    standard_error: float

    def __str__(self) -> str:
        return with_error(self.value, self.standard_error)

    @staticmethod
    def of(draws: Tensor, weights: Tensor | None = None) -> Estimate:
        """The mean of independent draws (n,), which may have weights (n,)."""
        if weights is None:
            return Estimate(float(draws.mean()), float(draws.std()) / sqrt(len(draws)))
        shares = weights.to(draws) / weights.to(draws).sum()
        mean = shares @ draws
        return Estimate(float(mean), float((shares * (draws - mean)).norm()))


def rounded(value: float) -> str:
    """Three digits; from 1,000 to a million, all in front of the point."""
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"


def with_error(value: float, error: float) -> str:
    """Value ± error to the same place: "7.3 ± 0.6", "0.00040 ± 0.00002", "578 ± 20", "(4.0 ± 0.2)e-07".

    The place is that of the error's one digit, but not left of the point, nor beyond 10⁻⁵ of the value.
    """
    if error == 0:
        return f"{rounded(value)} ± 0"
    top = _exponent(max(abs(value), error))
    if not -4 <= top < 6:
        return f"({with_error(value / 10.0**top, error / 10.0**top)})e{top:+03d}"
    place = min(-_exponent(error), 5 - top)
    decimals = max(0, place)
    shown = round(value, decimals) + 0.0  # never −0
    return f"{shown:.{decimals}f} ± {round(error, place):.{decimals}f}"


def _exponent(size: float) -> int:
    """Of ten, after rounding to one digit."""
    return int(f"{size:.0e}".partition("e")[2])
