"""How far a fit is from the Schrödinger bridge, without knowing it.

Let û be a drift, P_û its process from ρ₀, and P_λ that of a mixture potential λ, which solves the
Hamilton–Jacobi–Bellman equation exactly: P_λ is a Schrödinger bridge between ρ₀ and its own endpoint.  By Girsanov's
and Itô's theorems

    KL(P_û‖P_λ) = (1/4ε) E_û∫|û − ∇λ|²dt = {½E_û∫|û|²dt − E_û λ(1, X₁) + E λ(0, x₀)}/2ε,

and D(λ) = E λ(1, x₁) − E λ(0, x₀) ≤ KE*, so that for a process with the right endpoint the *dual gap*

    (½E_û∫|û|²dt − D(λ))/2ε = KL(P_û‖P_λ) ≥ KL(P_û‖bridge of the data).

**The reference's own error.**  λ is fitted to a sample.  With λ₁ and λ₂ fitted to disjoint halves, and paths of û from
points in neither, path by path

    ½(|û − ∇λ₁|² + |û − ∇λ₂|²) = (û − ∇λ₁)·(û − ∇λ₂) + ½|∇λ₁ − ∇λ₂|².

Divided by 4ε and integrated, the left side is the mean of KL(P_û‖P_λᵢ).  If ∇λᵢ = g + δᵢ with independent δᵢ of mean
zero, the product's expectation is |û − g|² and that of the last term E|δ|²: the first is the divergence from what the
fits scatter around (`kl`), the second what scattering adds to it (`own`).  What all fits miss alike, for want of
components, is in neither: it shows in the distance between the reference's endpoint and the data.

**Without a reference.**  The drift of a bridge is a martingale and a gradient along the process (`evaluation.walks`).
Whether b_F and b_B belong to one process cannot be seen in b_F − b_B − 2εs for a bridge whose score is made of the two;
but the laws that they lead to, from either end, must agree at all times.

**Backwards**, the same figures are those of −b_B in reversed time, with data exchanged.  A potential fitted that way is
another exact bridge, between the law of x1 and its own end at t = 0.  The bridge's own backward potential is in general
no mixture when the forward one is, so the two divergences may differ in how tight they are.

Girsanov and the dual: Léonard, arXiv 1308.0215; potentials: Korotin, Gushchin, Burnaev, arXiv 2310.01174.  The product
of two references is this package's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot

import torch
from torch import Tensor

from sbridge.arrays import seeded
from sbridge.bridge import Bridge
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.statement import Certificate, Distance, Meeting, Passage, Reference
from sbridge.evaluation.certificate.walks import Walk, martingale, rotation, run
from sbridge.evaluation.distances import relabelled_distances
from sbridge.fields import Reversed, VectorField
from sbridge.potentials.bridge import PotentialBridge
from sbridge.potentials.solver import FullMixturePotential, MixturePotential
from sbridge.problem import Problem

__all__ = ["SMALLEST", "certify"]

SMALLEST = 100  # points a side
_FULL_DIM = 10
_HELD_OUT, _PATHS = 4096, 2048  # at most, of a quarter of the points
_COMPARED, _PERMUTATIONS = 2000, 99  # points of either sample that a distance compares, at most


def certify(
    bridge: Bridge,
    x0: Tensor,
    x1: Tensor,
    random_state: int | None = None,
    reference: MixturePotential | None = None,
) -> Certificate:
    """The answer of `Bridge.certificate`, with a choice of references.

    Args:
        x0, x1: points of both ends, (n0, d) and (n1, d), of the bridge's type.
        random_state: seed of the halves, of the references' fits and of the paths.
        reference: how both references are fitted; by default with full covariances in up to 10 dimensions, which hold
            correlated data with few components, and with diagonal ones beyond.

    Raises:
        InputError: there are fewer than 100 points a side, or too few for the reference.
        DivergenceError: a path is not finite.
    """
    for label, x in (("x0", x0), ("x1", x1)):
        if len(x) < SMALLEST:
            raise InputError(f"{label} has {len(x)} points; a certificate needs at least {SMALLEST} a side")
    usual = FullMixturePotential() if x0.shape[1] <= _FULL_DIM else MixturePotential()
    generator, solver = seeded(random_state, x0.device), reference or usual
    start, end = EndPoints.of(x0, generator), EndPoints.of(x1, generator)
    with torch.no_grad():
        there = Examination.of(bridge.forward_field, bridge.epsilon, start, end, solver, generator)
        back = Examination.of(Reversed(bridge.backward_field), bridge.epsilon, end, start, solver, generator)
        quarter, half, three_quarters = (
            _distance(there.fine.at(share), back.fine.at(1 - share), generator) for share in (1 / 3, 1 / 2, 2 / 3)
        )
        meeting = Meeting(quarter, half, three_quarters)
        return Certificate(bridge.epsilon, there.passage(generator), back.passage(generator), meeting)


@dataclass(frozen=True)
class EndPoints:
    """The points of one end: two halves for the references, and a quarter at most to evaluate on."""

    halves: tuple[Tensor, Tensor]
    held_out: Tensor

    @staticmethod
    def of(x: Tensor, generator: torch.Generator) -> EndPoints:
        mixed = x[torch.randperm(len(x), generator=generator, device=x.device)]
        count = min(_HELD_OUT, len(x) // 4)
        first, second = mixed[count:].tensor_split(2)
        return EndPoints((first, second), mixed[:count])


@dataclass(frozen=True)
class Examination:
    """A process, its references, and its paths from the held-out points of its start."""

    start: EndPoints
    end: EndPoints
    references: Sequence[PotentialBridge]
    fine: Walk
    coarse: Walk

    @staticmethod
    def of(
        drift: VectorField,
        epsilon: float,
        start: EndPoints,
        end: EndPoints,
        solver: MixturePotential,
        generator: torch.Generator,
    ) -> Examination:
        """Fit the references and run the paths.

        Raises:
            DivergenceError: a path is not finite.
        """
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        references = [
            solver.solve(Problem(x0, x1, epsilon, start.held_out, end.held_out), seed)
            for x0, x1 in zip(start.halves, end.halves, strict=True)
        ]
        fields = [reference.forward_field for reference in references]
        fine, coarse = (Walk(drift, fields, epsilon, start.held_out[:_PATHS]) for _ in range(2))
        run(fine, coarse, generator)
        return Examination(start, end, references, fine, coarse)

    def passage(self, generator: torch.Generator) -> Passage:
        """All figures of the process."""
        fine, ends = self.fine, self.end.held_out
        starting, ending = self._potential(0.0, self.start.held_out), self._potential(1.0, ends)
        hjb, turning = martingale(fine, generator)
        return Passage(
            len(fine.x),
            Estimate.of(fine.cross),
            Estimate.of(fine.cross - self.coarse.cross),
            self._gap(starting[: len(fine.x)], ending),
            _distance(fine.x, ends, generator),
            hjb,
            rotation(fine, generator),
            turning,
            self._quality(_difference(ending, starting), generator),
        )

    def _gap(self, starting: Tensor, ending: Tensor) -> Estimate:
        """The dual gap, from λ(0, ·) at the paths' starts and λ(1, ·) at the held-out ends.

        With s the mean displacement of the data, E s·X₁ is taken from the energy and E s·x₁ from the potential.  They
        agree where the process ends like the data.  For distant datasets most of the noise is in them.
        """
        ends, e = self.end.held_out.double(), 2 * self.fine.epsilon
        s = ends.mean(0) - self.start.held_out.double().mean(0)
        fine, coarse = (walk.energy - walk.carried.double() @ s for walk in (self.fine, self.coarse))
        gap = _difference(2 * fine - coarse + starting, ending - ends @ s)  # extrapolated to steps of no length
        error = hypot(gap.standard_error, float((fine - coarse).mean()))
        return Estimate(gap.value / e, error / e)

    def _quality(self, dual: Estimate, generator: torch.Generator) -> Reference:
        """Of both references together: each ends where half of the held-out points lead it."""
        parts = zip(self.references, self.start.held_out.tensor_split(2), strict=True)
        moved = torch.cat([reference.endpoints(x0, generator) for reference, x0 in parts])
        shuffled = moved[torch.randperm(len(moved), generator=generator, device=moved.device)]
        first, second = (reference.components for reference in self.references)
        points0, points1 = len(self.start.halves[0]), len(self.end.halves[0])
        apart = _distance(shuffled, self.end.held_out, generator)
        return Reference(first, second, points0, points1, Estimate.of(self.fine.own), apart, dual)

    def _potential(self, t: float, x: Tensor) -> Tensor:
        """The mean of both potentials, (n,), in float64."""
        time = torch.tensor(t, dtype=x.dtype, device=x.device)
        return torch.stack([reference.potential(time, x).double() for reference in self.references]).mean(0)


def _distance(x: Tensor, y: Tensor, generator: torch.Generator) -> Distance:
    """The energy distance of x and y, and its 95 % quantile over relabellings of them."""
    found = relabelled_distances(x, y, generator, _COMPARED, _PERMUTATIONS)
    return Distance(float(found[0]), float(found[1:].quantile(0.95)))


def _difference(a: Tensor, b: Tensor) -> Estimate:
    """Of the means of independent draws."""
    one, two = Estimate.of(a), Estimate.of(b)
    return Estimate(one.value - two.value, hypot(one.standard_error, two.standard_error))
