"""What the experiments on control share: a mixture on a line with exact fields, fits of it, and tables kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from sbridge import Bridge, Linear, Problem
from sbridge.estimates import Estimate
from sbridge.fields import VectorField
from sbridge.interpolants import Brownian
from sbridge.storage import replace_atomically
from sbridge.theory.conversions import score_from_drifts, velocity_from_drifts
from sbridge.theory.line import Line, diffusion_law, kl
from sbridge.theory.oracle import MixtureOracle

EPSILON = 0.3  # of the interpolant
SAMPLING = torch.logspace(-1.7, 0.7, 13, dtype=torch.float64)
"""ε of sampling, 0.02 to 5."""

Row = dict[str, float]


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


ZERO, ONE = tensor(0.0), tensor(1.0)
TRUTH = MixtureOracle(
    Linear(Brownian(EPSILON)),
    *(tensor([0.4, 0.6]), tensor([[-1.0], [1.5]]), tensor([[[0.3]], [[0.2]]])),
    *(tensor([0.7, 0.3]), tensor([[2.0], [-2.0]]), tensor([[[0.1]], [[0.5]]])),
)
START = partial(TRUTH.log_density, ZERO)


def divergence(law: Tensor, line: Line) -> Tensor:
    """KL(ρ_1‖law) of log densities on a line."""
    return kl(TRUTH.log_density(ONE, line.centres), law, line)


def keep(path: Path, key: str, values: Iterable[float], compute: Callable[[float], list[Row]]) -> pl.DataFrame:
    """The table in a CSV file with the rows of every value of its column `key`; those already there stay."""
    table = pl.read_csv(path) if path.exists() else pl.DataFrame()
    for value in values:
        if table.is_empty() or value not in table[key].to_list():
            print(f"{path.stem}: {key} = {value:g}", flush=True)
            new = pl.DataFrame([{key: float(value), **row} for row in compute(value)])
            table = pl.concat([table, new], how="diagonal")
            replace_atomically(path, table.write_csv)
    return table


def rows(**columns: Tensor) -> list[Row]:
    return [dict(zip(columns, row, strict=True)) for row in torch.stack(list(columns.values()), -1).tolist()]


def spread(**estimates: Estimate) -> Row:
    """Every estimate's value under its name, and its standard error under name_se."""
    row: Row = {}
    for name, estimate in estimates.items():
        row |= {name: estimate.value, f"{name}_se": estimate.standard_error}
    return row


def ends(oracle: MixtureOracle, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Independent points of both ends, (n, d)."""
    zero, one = (oracle.weights0, oracle.means0, oracle.covs0), (oracle.weights1, oracle.means1, oracle.covs1)
    return mixture(*zero, n, generator), mixture(*one, n, generator)


def mixture(weights: Tensor, means: Tensor, covs: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Points of Σ w_k N(m_k, C_k), (n, d)."""
    k = torch.multinomial(weights, n, replacement=True, generator=generator)
    z = torch.randn(n, means.shape[1], dtype=means.dtype, generator=generator)
    return means[k] + (torch.linalg.cholesky(covs)[k] @ z[..., None])[..., 0]


def points(oracle: MixtureOracle, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Stratified times (n, 1) and points of ρ_t (n, d)."""
    generator = torch.Generator().manual_seed(seed)
    t = (torch.arange(n, dtype=torch.float64) + torch.rand(n, dtype=torch.float64, generator=generator))[:, None] / n
    x0, x1 = ends(oracle, n, generator)
    z = torch.randn(x0.shape, dtype=torch.float64, generator=generator)
    return t, oracle.interpolant.path(t, x0, x1, z).x.detach()


def problem(oracle: MixtureOracle) -> Problem:
    """20,000 points of both ends, and 8,000 held out."""
    generator = torch.Generator().manual_seed(0)
    (x0, x1), (test0, test1) = (ends(oracle, n, generator) for n in (20_000, 8000))
    return Problem(x0, x1, EPSILON, test0, test1)


def fields(bridge: Bridge) -> tuple[VectorField, VectorField]:
    """b̂ and ŝ of a bridge, as functions of tensors."""
    drifts = (bridge.forward_field, bridge.backward_field)
    return velocity_from_drifts(*drifts), score_from_drifts(*drifts, bridge.epsilon)


def sampled(velocity: VectorField, score: VectorField, levels: Tensor, line: Line) -> Tensor:
    """Divergence of the SDE at every sampling ε, (levels,)."""

    def drift(t: Tensor, x: Tensor) -> Tensor:
        return velocity(t, x) + levels[:, None, None] * score(t, x)

    return divergence(diffusion_law(drift, START, lambda t: levels[:, None], line, 100), line)
