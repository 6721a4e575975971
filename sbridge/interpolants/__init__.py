"""Stochastic interpolants x_t = I(t, x0, x1) + γ(t) z (Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797)."""

from sbridge.interpolants.base import Interpolant, Path, with_rate
from sbridge.interpolants.closed import ClosedForm, EncoderDecoder, Linear, Mirror, Trigonometric, TwoSided
from sbridge.interpolants.framed import FramedInterpolant
from sbridge.interpolants.gammas import Brownian, Gamma, Parabolic, SineSquared
from sbridge.interpolants.learned import LearnedGamma, LearnedMean
from sbridge.interpolants.one_sided import OneSided, OneSidedLinear, OneSidedTrigonometric, VariancePreserving

__all__ = [
    "Brownian",
    "ClosedForm",
    "EncoderDecoder",
    "FramedInterpolant",
    "Gamma",
    "Interpolant",
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
