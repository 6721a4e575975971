"""Log-densities and cross-entropies of a bridge, at either end.

A model is two drifts b_F, b_B and ε, with b = (b_F + b_B)/2 and s = (b_F − b_B)/2ε.  Its density at one end, a = 1
("x1") or a = 0 ("x0"), follows from the density of the other end c = 1 − a, the base.  With σ = c − a, integrals over
dt signed, those over |dt| not, and noise N = √(2ε) W,

    probability flow  log ρ̂(x) = log base(X_c) + ∫_a^c ∇·b dt,              Ẋ = b from X_a = x;
    Feynman–Kac       ρ̂(x) = E exp(log base(Y_c) + ∫_a^c ∇·f dt),           dY = f dt + dN;
    tilted            ρ̂(x) = E exp(log base(X_c) + ∫_a^c ∇·b dt − ε∫|s|²|dt| − ∫ s∘dN),   dX = (b + σεs) dt + dN.

f = b − σεs is the drift of the process that ends at a: b_F at x1, b_B at x0.  Tilted paths run with the drift of its
reversal; their weights are Girsanov's, in Stratonovich form (Itô's has ∇·f and the left-point integral).  Both
expectations are the density of the law that f carries from the base, whatever s is.  If s is that law's own score, the
tilted weight is ρ̂(x) on every path; else its mean logarithm is below log ρ̂, by Jensen's inequality.  The flow's law is
that of f only if s is the score: else flow and paths are two models, with two densities.

Noise comes in evenly over a step, so that a path is an ordinary differential equation, solved along with its weight's
(Wong and Zakai, Annals of Mathematical Statistics 36, 1965: the limit is Stratonovich's).  With an exact score the
weight is constant along *any* smooth path, so a stepper of high order leaves little spread: hence RK4 with few steps.

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, on density estimation and cross-entropies (flow and Feynman–Kac).
"""

from __future__ import annotations

from sbridge.errors import InputError
from sbridge.likelihood.base import DensityMethod, End, LogDensity, Model, bits_per_dimension, cross_entropy
from sbridge.likelihood.divergences import Divergence, Exact, Hutchinson
from sbridge.likelihood.flow import ProbabilityFlow
from sbridge.likelihood.paths import FeynmanKac, PathMethod, Tilted, TiltedBound

__all__ = ["METHODS", "DensityMethod", "Divergence", "End", "Exact", "FeynmanKac", "Hutchinson", "LogDensity", "Model"]
__all__ += ["PathMethod", "ProbabilityFlow", "Tilted", "TiltedBound", "density_method"]
__all__ += ["bits_per_dimension", "cross_entropy"]

METHODS: dict[str, DensityMethod] = {
    "ode": ProbabilityFlow(),
    "sde": Tilted(),
    "feynman-kac": FeynmanKac(),
    "tilted-bound": TiltedBound(),
}
"""Every method, with its default settings, by its name."""


def density_method(method: str | DensityMethod) -> DensityMethod:
    """A method, or the one of that name in `METHODS`.

    Raises:
        InputError: there is none of that name.
    """
    if isinstance(method, str) and method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, or an object of such a kind, not {method!r}")
    return METHODS[method] if isinstance(method, str) else method
