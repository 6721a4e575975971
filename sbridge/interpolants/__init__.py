"""Stochastic interpolants x_t = I(t, x0, x1) + γ(t) z (Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797)."""

from typing import Annotated

from sbridge.checks import Named
from sbridge.interpolants.base import Interpolant, Path, with_rate
from sbridge.interpolants.closed import ClosedForm, EncoderDecoder, Linear, Mirror, Trigonometric, TwoSided
from sbridge.interpolants.framed import FramedInterpolant
from sbridge.interpolants.gammas import Brownian, Gamma, Parabolic, SineSquared
from sbridge.interpolants.learned import LearnedGamma, LearnedMean
from sbridge.interpolants.one_sided import OneSided, OneSidedLinear, OneSidedTrigonometric, VariancePreserving

__all__ = [
    "GAMMAS",
    "INTERPOLANTS",
    "Brownian",
    "ClosedForm",
    "EncoderDecoder",
    "FramedInterpolant",
    "Gamma",
    "GammaKind",
    "Interpolant",
    "InterpolantKind",
    "LearnedGamma",
    "LearnedMean",
    "Linear",
    "Mirror",
    "OneSided",
    "OneSidedLinear",
    "OneSidedTrigonometric",
    "Parabolic",
    "Path",
    "SineSquared",
    "Trigonometric",
    "TwoSided",
    "VariancePreserving",
    "with_rate",
]

INTERPOLANTS: dict[str, type[ClosedForm]] = {
    "linear": Linear,
    "trigonometric": Trigonometric,
    "encoder-decoder": EncoderDecoder,
    "mirror": Mirror,
    "one-sided-linear": OneSidedLinear,
    "one-sided-trigonometric": OneSidedTrigonometric,
    "variance-preserving": VariancePreserving,
}
"""By their names on the command line, which solvers take too."""

GAMMAS: dict[str, type[Gamma]] = {"brownian": Brownian, "parabolic": Parabolic, "sine-squared": SineSquared}
"""By their names, in the same way."""

InterpolantKind = Annotated[type[ClosedForm], Named(INTERPOLANTS, ClosedForm)]
GammaKind = Annotated[type[Gamma], Named(GAMMAS, Gamma)]
