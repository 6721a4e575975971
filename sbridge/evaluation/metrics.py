"""How far a bridge is from the true one, and what it costs to run.

Path KL            KL(P*‖P_û) = (1/4ε) E_{P*} ∫|u* − û|² dt           (Girsanov; ε of dX = u dt + √(2ε) dW)
Kinetic energy     KE = ½ E ∫|û|² dt along û's own paths; the Schrödinger bridge has the least for its two ends
Path energy        |KE/KE* − 1|, KE* that of the bridge                (Tong et al., arXiv 2307.03672, "normalised")
BW₂²-UVP           100 · BW²(moments of the endpoint) / (½ Var ρ1)     (Korotin et al., arXiv 2106.01954, section 4)
cBW₂²-UVP          the same of the endpoint given x0, mean over x0     (Gushchin et al., arXiv 2306.10161, section 5)
Diagonal KL        mean over times of KL(N(m̂, diag V̂)‖N(m, diag V))    (Shi et al., arXiv 2303.16852, Gaussian bridges)

Var ρ1 is the trace of ρ1's covariance.  Monte Carlo figures come with their standard error over starting points.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sbridge.arrays import drawn_seed
from sbridge.bridge import Bridge, Direction, ExactBridge
from sbridge.estimates import Estimate
from sbridge.evaluation.distances import bures_wasserstein, moments
from sbridge.problems.gaussian import GaussianBridge
from sbridge.sampling import EULER, Simulation, graded

__all__ = ["HORIZON", "bw_uvp", "cbw_uvp", "cbw_uvp_exact", "cbw_uvp_floor", "diagonal_kl", "endpoint_covariance_error"]
__all__ += ["exact_energy", "exact_paths", "kinetic_energy", "move", "own_paths", "path_energy", "path_kl"]
__all__ += ["path_kl_by_time"]

HORIZON = 0.99  # where path KL stops: u* = (E[x1|x_t] − x)/(1−t) of a plug-in has no limit at t = 1
_BATCH = 4096  # points moved at once; more of them leave a processor's cache and take twice as long


def path_kl(bridge: Bridge, truth: ExactBridge, x0: Tensor, generator: torch.Generator, times: int = 32) -> Estimate:
    """KL(P*‖P_û) in nats, up to t = .99, of the forward process.

    Args:
        bridge: û is its forward drift.
        truth: P*.
        x0: true starting points (n, d); an exact path is drawn from each.
        generator: source of the paths and times.
        times: random times per path, one in each of as many equal parts of [0, .99].
    """
    return path_kl_by_time(bridge, truth, x0, generator, 1, times)[0]


def path_kl_by_time(
    bridge: Bridge, truth: ExactBridge, x0: Tensor, generator: torch.Generator, parts: int, times: int = 32
) -> list[Estimate]:
    """The shares of equal parts of [0, .99] in `path_kl`, in nats.

    Args:
        bridge, truth, x0, generator: as `path_kl`'s.
        parts: how many there are.
        times: random times per path in each of them.
    """
    totals = torch.zeros(parts, len(x0), dtype=torch.float64, device=x0.device)
    for number, (t, x) in enumerate(_along_exact_paths(truth, x0, generator, parts * times, HORIZON)):
        error = truth.forward_drift(t, x) - bridge.forward_drift(t, x)
        totals[number // times] += error.double().square().sum(-1)
    return [Estimate.of(HORIZON / (4 * truth.epsilon * parts * times) * total) for total in totals]


def _along_exact_paths(
    truth: ExactBridge, x0: Tensor, generator: torch.Generator, times: int, horizon: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """A random time of each path, (n, 1), and its place then, (n, d), for each of equal parts of [0, horizon]."""
    x1 = truth.endpoints(x0, generator)
    for part in range(times):
        uniform = torch.rand(len(x0), 1, dtype=x0.dtype, device=x0.device, generator=generator)
        t = horizon * (part + uniform) / times
        yield t, truth.between(t, x0, x1, generator)


def kinetic_energy(bridge: Bridge, x0: Tensor, generator: torch.Generator, steps: int = 100) -> Estimate:
    """½ E∫|û|²dt, in squared units of the data, along the bridge's own paths from x0 (n, d).

    It is the exact energy of the Euler–Maruyama process of `steps` steps that `Bridge.transport` runs, which differs
    from the continuous process's by O(1/steps).
    """
    return Estimate.of(torch.cat([_path_energy(bridge, part, generator, steps) for part in torch.split(x0, _BATCH)]))


def _path_energy(bridge: Bridge, x0: Tensor, generator: torch.Generator, steps: int) -> Tensor:
    energy = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
    times = graded(0.0, 1.0, steps)
    lengths = iter(times.diff().tolist())

    def drift(t: Tensor, x: Tensor) -> Tensor:
        u = bridge.forward_drift(t, x)
        energy.add_(u.double().square().sum(-1), alpha=next(lengths) / 2)
        return u

    EULER.advance(drift, x0, times, bridge.epsilon, generator)
    return energy


def exact_energy(truth: ExactBridge, x0: Tensor, generator: torch.Generator, times: int = 32) -> Estimate:
    """½ E∫|u*|²dt along exact paths from x0 (n, d), at random times: the kinetic energy's floor."""
    total = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
    for t, x in _along_exact_paths(truth, x0, generator, times, 1.0):
        total += truth.forward_drift(t, x).double().square().sum(-1)
    return Estimate.of(total / (2 * times))


def path_energy(energy: Estimate, exact: float) -> Estimate:
    """|KE/KE* − 1| of a kinetic energy and the bridge's own, KE*."""
    return Estimate(abs(energy.value / exact - 1), energy.standard_error / exact)


def move(
    bridge: Bridge,
    x: Tensor,
    generator: torch.Generator,
    simulation: Simulation = Simulation(),
    direction: Direction = "forward",
) -> Tensor:
    """Points x (n, d) moved to the other end, in batches of 4,096 whatever the simulation says.

    Raises:
        DivergenceError: a moved point has infinite or NaN coordinates.
    """
    seed = drawn_seed(generator)
    return bridge.transport(x, direction, simulation, seed, batch=_BATCH)


def own_paths(
    bridge: Bridge, x0: Tensor, generator: torch.Generator, times: int = 20, simulation: Simulation = Simulation()
) -> Tensor:
    """Simulated forward paths from x0 (n, d) at times 0, 1/times, …, 1: (times + 1, n, d)."""
    seed = drawn_seed(generator)
    grid = [k / times for k in range(times + 1)]
    return bridge.trajectories(x0, grid, simulation, seed, batch=_BATCH)


def exact_paths(truth: ExactBridge, x0: Tensor, generator: torch.Generator, times: int = 20) -> Tensor:
    """The same of the exact bridge, drawn from its plan."""
    x1, grid = truth.endpoints(x0, generator), torch.linspace(0, 1, times + 1, dtype=x0.dtype, device=x0.device)
    return torch.stack([truth.between(t, x0, x1, generator) for t in grid])


def diagonal_kl(paths: Tensor, truth: GaussianBridge) -> float:
    """Mean over times of KL(N(m̂, diag V̂)‖N(m, diag V)), in nats, from the sample's moments to the true marginals'.

    Sampling alone makes it d/n, whatever the time: the floor.

    Args:
        paths: n paths at equally spaced times from 0 to 1, (times + 1, n, d); t = 0, which is given, is left out.
    """
    grid = torch.linspace(0, 1, len(paths), dtype=torch.float64)
    gaps = [_diagonal_gap(x.double(), *truth.marginal(float(t))) for t, x in zip(grid[1:], paths[1:], strict=True)]
    return float(torch.stack(gaps).mean())


def _diagonal_gap(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    variance = covariance.diagonal().double()
    ratio = x.var(0) / variance
    return 0.5 * (ratio - 1 - ratio.log() + (x.mean(0) - mean).square() / variance).sum()


def endpoint_covariance_error(x0: Tensor, x1: Tensor, truth: GaussianBridge) -> float:
    """|tr Ĉ/tr C − 1|, in percent, of the covariance between both ends x0, x1 (n, d) of paths and of the exact plan."""
    unit = torch.eye(x0.shape[1], dtype=truth.mean0.dtype, device=x0.device)
    slope = truth.conditional_moments(truth.mean0 + unit)[0] - truth.mean1
    away0, away1 = (x.double() - x.double().mean(0) for x in (x0, x1))
    found = (away0 * away1).sum() / (len(x0) - 1)
    return 100 * abs(float(found / (truth.cov0 @ slope).trace()) - 1)


def bw_uvp(samples: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """BW₂²-UVP, in percent, of samples (n, d) against the true mean (d,) and covariance (d, d) of ρ1."""
    return float(200 * bures_wasserstein(*moments(samples), mean, covariance) / covariance.trace())


def cbw_uvp(
    bridge: Bridge,
    truth: ExactBridge,
    x0: Tensor,
    per_point: int,
    generator: torch.Generator,
    simulation: Simulation = Simulation(),
) -> Estimate:
    """cBW₂²-UVP, in percent, with the bridge's conditional moments estimated from `per_point` endpoints for each x0.

    Their sampling error adds a floor of order d/per_point that even the truth has: `cbw_uvp_floor`.

    Args:
        x0: starting points (n, d); about 200 are enough.
        per_point: endpoints simulated from each.
        simulation: of the endpoints; the measure is of the bridge's own process, so D stays ε.
    """
    ends = move(bridge, x0.repeat_interleave(per_point, dim=0), generator, simulation)
    return _conditional_uvp(truth, x0, *moments(ends.reshape(len(x0), per_point, -1)))


def cbw_uvp_floor(truth: ExactBridge, x0: Tensor, per_point: int, generator: torch.Generator) -> Estimate:
    """What `cbw_uvp` gives for endpoints drawn from the exact plan itself."""
    ends = truth.endpoints(x0.repeat_interleave(per_point, dim=0), generator)
    return _conditional_uvp(truth, x0, *moments(ends.reshape(len(x0), per_point, -1)))


def cbw_uvp_exact(bridge: ExactBridge, truth: ExactBridge, x0: Tensor) -> Estimate:
    """cBW₂²-UVP, in percent, of a bridge that knows its own conditional moments: nothing is sampled but x0 (n, d)."""
    return _conditional_uvp(truth, x0, *bridge.conditional_moments(x0))


def _conditional_uvp(truth: ExactBridge, x0: Tensor, mean: Tensor, covariance: Tensor) -> Estimate:
    gap = bures_wasserstein(mean, covariance, *truth.conditional_moments(x0))
    return Estimate.of(200 * gap / truth.endpoint_moments()[1].trace())
