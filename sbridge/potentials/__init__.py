"""Mixture potentials: Schrödinger bridges in closed form, known exactly or fitted to data.

field      ∇λ, λ and the plan of a potential with diagonal covariances; full: with full ones
backward   the backward drift, from a Gaussian mixture
exact      the bridge of a known potential from N(0, s²I)
fit        the fixed point that fits a potential; selection: choosing among fits; gaussians: the law of the start
solver     the solvers; bridge: what they return
"""

from sbridge.potentials.backward import MixtureBackward
from sbridge.potentials.bridge import PotentialBridge
from sbridge.potentials.exact import MixtureBridge
from sbridge.potentials.field import MixtureDrift
from sbridge.potentials.full import FullMixtureDrift
from sbridge.potentials.solver import FullMixturePotential, MixturePotential

__all__ = [
    "FullMixtureDrift",
    "FullMixturePotential",
    "MixtureBackward",
    "MixtureBridge",
    "MixtureDrift",
    "MixturePotential",
    "PotentialBridge",
]
