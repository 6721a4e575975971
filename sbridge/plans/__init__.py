"""Entropic plans between two samples, by Sinkhorn's algorithm in the log domain.

One normalisation everywhere.  With c_ij = |x_i−y_j|²/4ε and potentials f, g in units of 2ε the plan is

    π_ij = exp(f_i + g_j − c_ij)/(n0 n1),

so that f and g are functions of the points and do not grow with the sizes n0 and n1 of the samples.  Weights of the
points, where there are any, stand in the place of 1/n0 and 1/n1.

`cost` holds the costs and one Sinkhorn iteration, `iteration` the loops over it, `plan` what users call.
"""

from sbridge.plans.cost import scaled_cost
from sbridge.plans.iteration import annealed_potential
from sbridge.plans.plan import (
    Drawn,
    Plan,
    drawn_partners,
    effective_partners,
    entropic_plan,
    entropic_plans,
    extended,
    plan_energy,
    refined,
)

__all__ = ["Drawn", "Plan", "annealed_potential", "drawn_partners", "effective_partners", "entropic_plan"]
__all__ += ["entropic_plans", "extended", "plan_energy", "refined", "scaled_cost"]
