"""How the regression losses control the Kullback–Leibler divergence of the generated law.

ρ_t is the law of an interpolant, with velocity b, score s and drift b_F = b + εs; b̂ and ŝ are a model's fields, and ρ̂_1
is the law at t = 1 of what the model generates from ρ_0.  With E the expectation over ρ_t, the gaps

    gap_b = ½∫E|b̂ − b|²dt,    gap_s = ½∫E|ŝ − s|²dt

are the excess of the quadratic losses of `sbridge.objectives` over their minima (`gap`).  They bound the forward SDE,

    KL(ρ_1‖ρ̂_1) ≤ ∫E|b̂_F − b_F|²/(4ε) dt                                                   (`path_gap`)
                ≤ gap_b/ε + ε gap_s                                                          (`sde_bound`)

which is smallest at ε* = √(gap_b/gap_s) (`best_diffusion`), where it is 2√(gap_b gap_s).  The first line is Girsanov's
divergence of the path laws, and ε may depend on t there; the second is |p + q|² ≤ 2|p|² + 2|q|².  The same step with
b_F = v + (ε − γγ̇)s and v = b + γγ̇s, the velocity of the mean, gives `mean_velocity_bound`.  The paper has half of
the second line, which p = q violates.  ρ̂_1 of the probability-flow ODE is not controlled by gap_b alone:

    KL(ρ_1‖ρ̂_1) = ∫E[(∇log ρ̂_t − ∇log ρ_t)·(b̂ − b)]dt                                      (`flow_kl`)
                ≤ √(2 gap_b) (∫E|∇log ρ̂_t − ∇log ρ_t|²dt)^½                                   (`flow_bound`, `fisher`)

where ∇log ρ̂_t, the score of the model's own law, is carried along the flow of b̂ (`carried_score`) and grows with the
gradient of b̂, which the losses do not contain.

All values are averages over points of the exact law: t (n, 1) uniform in [0, 1], best stratified, and x (n, d), a
point of ρ_t in each row.  Their standard errors take the rows for independent: too careful for stratified times.

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, section 2.4.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor

from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.fields import VectorField
from sbridge.interpolants import Interpolant, with_rate
from sbridge.sampling import RK4, Diffusion, Integrator, integrate

__all__ = ["best_diffusion", "carried_score", "diffusion_at", "fisher", "flow_bound", "flow_kl", "gap"]
__all__ += ["mean_velocity_bound", "path_gap", "sde_bound"]


def gap(field: VectorField, exact: VectorField, t: Tensor, x: Tensor) -> Estimate:
    """½∫E|f̂ − f|²dt, the excess of the quadratic loss of f̂ over its minimum.

    Args:
        field, exact: f̂ and f, called with (t, x).
        t, x: (n, 1) or () and (n, d), as at the head of this module.

    Raises:
        InputError: t or x has another shape.
    """
    return Estimate.of(_square_gap(field, exact, t, x) / 2)


def path_gap(drift: VectorField, exact_drift: VectorField, epsilon: Diffusion, t: Tensor, x: Tensor) -> Estimate:
    """∫E|b̂_F − b_F|²/(4ε) dt, in nats: the divergence of the SDEs' path laws, which bounds that of their ends.

    Args:
        drift, exact_drift: b̂_F and b_F = b + εs for this ε, called with (t, x).
        epsilon: ε > 0 of the SDE, a number or a function of t that keeps its shape.
        t, x: (n, 1) or () and (n, d), as at the head of this module.

    Raises:
        InputError: ε is not positive, or t or x has another shape.
    """
    return Estimate.of(_square_gap(drift, exact_drift, t, x) / (4 * diffusion_at(epsilon, t).squeeze(-1)))


def sde_bound(gap_b: Estimate, gap_s: Estimate, epsilon: float) -> Estimate:
    """gap_b/ε + ε gap_s ≥ KL(ρ_1‖ρ̂_1) of the SDE with this ε, in nats; the paper has half of it.

    The gaps may come from the same points: their standard errors are added, not their squares.

    Raises:
        InputError: ε is not positive.
    """
    level = float(diffusion_at(epsilon, torch.zeros(())))
    value = gap_b.value / level + level * gap_s.value
    return Estimate(value, gap_b.standard_error / level + level * gap_s.standard_error)


def best_diffusion(gap_b: Estimate, gap_s: Estimate) -> Estimate:
    """ε* = √(gap_b/gap_s), at which `sde_bound` is smallest.

    Raises:
        InputError: a gap is not positive; without one, the bound falls to zero at ε = 0 or ∞.
    """
    best = sqrt(_positive("gap_b", gap_b) / _positive("gap_s", gap_s))
    return Estimate(best, best / 2 * (_relative_error(gap_b) + _relative_error(gap_s)))


def mean_velocity_bound(
    mean_velocity: VectorField,
    exact_mean_velocity: VectorField,
    score: VectorField,
    exact_score: VectorField,
    interpolant: Interpolant,
    epsilon: Diffusion,
    t: Tensor,
    x: Tensor,
) -> Estimate:
    """∫E[|v̂ − v|² + (ε − γγ̇)²|ŝ − s|²]/(2ε) dt ≥ KL(ρ_1‖ρ̂_1) of the SDE with drift v̂ + (ε − γγ̇)ŝ, in nats.

    With a constant ε it is gap_v/ε + (1/2ε)∫(ε − γγ̇)²E|ŝ − s|²dt.  A denoiser η̂ enters as ŝ = −η̂/γ.

    Args:
        mean_velocity, exact_mean_velocity: v̂ and v = E[∂tI | x_t], called with (t, x).
        score, exact_score: ŝ and s.
        interpolant: whose γ² it is.
        epsilon: ε > 0 of the SDE, a number or a function of t that keeps its shape.
        t, x: (n, 1) or () and (n, d), as at the head of this module.

    Raises:
        InputError: ε is not positive, or t or x has another shape.
    """
    level = diffusion_at(epsilon, t).squeeze(-1)
    with torch.no_grad():
        share = level - with_rate(interpolant.variance, t)[1].squeeze(-1) / 2  # γγ̇ = ½ dγ²/dt
    velocity_part = _square_gap(mean_velocity, exact_mean_velocity, t, x)
    return Estimate.of((velocity_part + share.square() * _square_gap(score, exact_score, t, x)) / (2 * level))


def carried_score(
    velocity: VectorField,
    base_score: Callable[[Tensor], Tensor],
    t: Tensor,
    x: Tensor,
    steps: int = 50,
    stepper: Integrator = RK4,
) -> Tensor:
    """∇log ρ̂_t(x), the score of the law into which the flow of b̂ carries ρ_0, (n, d).

    x flows back to time 0; then x and q = ∇log ρ̂ flow forward together: Ẋ = b̂, q̇ = −(∇b̂)ᵀq − ∇(∇·b̂).  The latter is
    one gradient, of b̂·q + ∇·b̂, and the divergence takes d more: for small d.  Every row has its own time t: the
    equations are solved on τ ∈ [0, 1] with time tτ.

    `functools.partial(carried_score, velocity, base_score)` is a field, as `fisher` and `flow_kl` take it.

    Args:
        velocity: b̂, called with (t, x), twice differentiable in x.
        base_score: x ↦ ∇log ρ_0(x).
        t, x: (n, 1) or () and (n, d).
        steps: steps from 0 to t of every row.

    Raises:
        InputError: t or x has another shape.
    """
    _check_points(t, x)
    silent = torch.Generator(x.device)  # a flow has no noise to draw

    def flow(tau: Tensor, y: Tensor) -> Tensor:
        return t * velocity(t * tau, y)

    def carry(tau: Tensor, state: Tensor) -> Tensor:
        value, change = _with_pull(velocity, t * tau, *state.chunk(2, dim=-1))
        return t * torch.cat([value, -change], dim=-1)

    with torch.no_grad():
        *_, start = integrate(flow, x, (1.0, 0.0), 0.0, steps, stepper, silent)
        *_, end = integrate(carry, torch.cat([start, base_score(start)], -1), (0.0, 1.0), 0.0, steps, stepper, silent)
    return end.chunk(2, dim=-1)[1]


def fisher(model_score: VectorField, exact_score: VectorField, t: Tensor, x: Tensor) -> Estimate:
    """∫E|∇log ρ̂_t − ∇log ρ_t|²dt, the Fisher divergence of ρ_t from the model's own law, over time.

    Args:
        model_score: ∇log ρ̂_t, of the law and not a regressed ŝ (`carried_score`).
        exact_score: s = ∇log ρ_t.
        t, x: (n, 1) or () and (n, d), as at the head of this module.

    Raises:
        InputError: t or x has another shape.
    """
    return Estimate.of(_square_gap(model_score, exact_score, t, x))


def flow_kl(
    velocity: VectorField,
    exact_velocity: VectorField,
    model_score: VectorField,
    exact_score: VectorField,
    t: Tensor,
    x: Tensor,
) -> Estimate:
    """∫E[(∇log ρ̂_t − ∇log ρ_t)·(b̂ − b)]dt = KL(ρ_1‖ρ̂_1) of the probability-flow ODE, in nats.

    Args:
        velocity, exact_velocity: b̂ and b, called with (t, x).
        model_score, exact_score: as in `fisher`.
        t, x: (n, 1) or () and (n, d), as at the head of this module.

    Raises:
        InputError: t or x has another shape.
    """
    pairing = _difference(model_score, exact_score, t, x) * _difference(velocity, exact_velocity, t, x)
    return Estimate.of(pairing.sum(-1))


def flow_bound(gap_b: Estimate, fisher: Estimate) -> Estimate:
    """√(2 gap_b · Fisher) ≥ KL(ρ_1‖ρ̂_1) of the probability-flow ODE, in nats, by Cauchy's inequality.

    Raises:
        InputError: gap_b or the Fisher divergence is not positive.
    """
    value = sqrt(2 * _positive("gap_b", gap_b) * _positive("fisher", fisher))
    return Estimate(value, value / 2 * (_relative_error(gap_b) + _relative_error(fisher)))


def diffusion_at(epsilon: Diffusion, t: Tensor) -> Tensor:
    """ε at the times t, of t's shape unless the function itself has another.

    Raises:
        InputError: it is not positive and finite everywhere.
    """
    level = epsilon(t) if callable(epsilon) else torch.full_like(t, epsilon)
    if not (level.isfinite() & (level > 0)).all():
        given = "a value of the function" if callable(epsilon) else epsilon
        raise InputError(f"epsilon must be a positive number, not {given}; the ODE has bounds of its own (flow_bound)")
    return level


def _with_pull(velocity: VectorField, t: Tensor, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """b and ∇(b·q + ∇·b) = (∇b)ᵀq + ∇(∇·b), by reverse mode twice."""
    with torch.enable_grad():
        place = x.detach().requires_grad_()
        value = velocity(t, place) + 0 * place  # so that a field that does not depend on x has a gradient too
        slopes = [torch.autograd.grad(value[:, i].sum(), place, create_graph=True)[0][:, i] for i in range(x.shape[1])]
        (change,) = torch.autograd.grad((value * q).sum() + torch.stack(slopes).sum(), place)
    return value.detach(), change


def _difference(field: VectorField, exact: VectorField, t: Tensor, x: Tensor) -> Tensor:
    _check_points(t, x)
    with torch.no_grad():
        return field(t, x) - exact(t, x)


def _square_gap(field: VectorField, exact: VectorField, t: Tensor, x: Tensor) -> Tensor:
    return _difference(field, exact, t, x).square().sum(-1)


def _check_points(t: Tensor, x: Tensor) -> None:
    if x.ndim != 2 or len(x) < 2:
        raise InputError(f"x must have shape (n, d) with n ≥ 2 points in rows, not {tuple(x.shape)}")
    if t.shape not in {(), (len(x), 1)}:
        raise InputError(f"t must have shape () or ({len(x)}, 1), a time for each point, not {tuple(t.shape)}")


def _positive(name: str, estimate: Estimate) -> float:
    if not estimate.value > 0:
        raise InputError(f"{name} must be positive, not {estimate.value}; estimate it on more points")
    return estimate.value


def _relative_error(estimate: Estimate) -> float:
    return estimate.standard_error / estimate.value
