"""Every library's parameter for the Schrödinger bridge of our ε, and back.

Ours: dX = u dt + √(2ε) dW.  Given x0 the reference process ends at density ∝ exp(−|x0−x1|²/4ε), so the bridge's plan is

    argmin over π with the two marginals of  E_π ½|x0−x1|² + 2ε KL(π | ρ0⊗ρ1),

and a plan of any library is ours when its cost divided by its own regularisation is |x0−x1|²/4ε.  This is the one place
where such a parameter is computed.

Léonard, arXiv 1308.0215 (the static problem); the libraries' own documentation for what each minimises.
"""

from __future__ import annotations

from math import sqrt

from sbridge.checks import Positive, checked_value
from sbridge.errors import InputError

__all__ = ["eot_epsilon", "geomloss_blur", "geomloss_reg", "ott_epsilon", "pot_reg", "pot_reg_half", "process_sigma"]
__all__ += ["epsilon_from_eot_epsilon", "epsilon_from_geomloss_blur", "epsilon_from_geomloss_reg"]
__all__ += ["epsilon_from_ott_epsilon", "epsilon_from_pot_reg", "epsilon_from_pot_reg_half"]
__all__ += ["epsilon_from_process_sigma", "epsilon_named"]


def pot_reg(epsilon: float) -> float:
    """`reg` of POT with its default cost: minimises ⟨π, |x−y|²⟩ + reg Σ π log π."""
    return 4 * epsilon


def epsilon_from_pot_reg(reg: float) -> float:
    """Inverse of `pot_reg`."""
    return reg / 4


def pot_reg_half(epsilon: float) -> float:
    """`reg` of POT with a cost matrix of ½|x−y|²: minimises ⟨π, ½|x−y|²⟩ + reg Σ π log π."""
    return 2 * epsilon


def epsilon_from_pot_reg_half(reg: float) -> float:
    """Inverse of `pot_reg_half`."""
    return reg / 2


def geomloss_blur(epsilon: float) -> float:
    """`blur` (a length) of GeomLoss `SamplesLoss("sinkhorn", p=2)`: ⟨π, ½|x−y|²⟩ + blur² KL(π | a⊗b).

    Only with `debias=False` are its potentials those of this plan.
    """
    return sqrt(2 * epsilon)


def epsilon_from_geomloss_blur(blur: float) -> float:
    """Inverse of `geomloss_blur`."""
    return blur**2 / 2


def geomloss_reg(epsilon: float) -> float:
    """`reg` of GeomLoss `ot.solve_sample`: minimises ⟨π, |x−y|²⟩ + reg KL(π | a⊗b)."""
    return 4 * epsilon


def epsilon_from_geomloss_reg(reg: float) -> float:
    """Inverse of `geomloss_reg`."""
    return reg / 4


def ott_epsilon(epsilon: float) -> float:
    """`epsilon` of OTT's `PointCloud` with its default cost: ⟨π, |x−y|²⟩ + epsilon KL(π | a⊗b)."""
    return 4 * epsilon


def epsilon_from_ott_epsilon(theirs: float) -> float:
    """Inverse of `ott_epsilon`."""
    return theirs / 4


def eot_epsilon(epsilon: float) -> float:
    """ε of LightSB and of the entropic transport benchmark: ⟨π, ½|x−y|²⟩ − ε_theirs H(π), dX = u dt + √ε_theirs dW."""
    return 2 * epsilon


def epsilon_from_eot_epsilon(theirs: float) -> float:
    """Inverse of `eot_epsilon`."""
    return theirs / 2


def process_sigma(epsilon: float) -> float:
    """σ of torchcfm and DSBM: dX = u dt + σ dW; torchcfm's Sinkhorn coupling has cost |x−y|² and reg 2σ²."""
    return sqrt(2 * epsilon)


def epsilon_from_process_sigma(sigma: float) -> float:
    """Inverse of `process_sigma`."""
    return sigma**2 / 2


_NAMED = {
    "reg": epsilon_from_pot_reg,
    "blur": epsilon_from_geomloss_blur,
    "sigma": epsilon_from_process_sigma,
}


def epsilon_named(text: str) -> float:
    """Our ε of a text: "0.1" is ε itself, "reg=0.4" POT's, "blur=0.4" GeomLoss's and "sigma=0.4" torchcfm's parameter.

    Raises:
        InputError: the text is none of these.
    """
    name, mark, value = text.rpartition("=")
    try:
        number = float(value)
        found: float = checked_value("epsilon", Positive, _NAMED[name](number) if mark else number)
        return found
    except InputError:
        raise
    except (KeyError, ValueError):
        units = ", ".join(f"{one}=…" for one in _NAMED)
        raise InputError(f"epsilon must be a number, auto, or one of {units}, not {text!r}") from None
