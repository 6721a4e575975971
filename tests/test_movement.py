"""What moves: displacements and energies of a known bridge, column by column, and through loadings."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

import sbridge
from sbridge.errors import InputError
from sbridge.movement import what_moves
from sbridge.problems.gaussian import GaussianBridge
from sbridge.report.movement import movement_figure
from sbridge.standardise import StandardisedBridge

EPSILON = 0.3
MEANS = torch.tensor([[0.0, 1.0, 5.0], [2.0, 1.0, 4.0]]).double()
SPREADS = torch.tensor([[1.0, 2.0, 0.1], [0.5, 2.0, 0.1]]).double()
BRIDGE = GaussianBridge(MEANS[0], torch.diag(SPREADS[0] ** 2), MEANS[1], torch.diag(SPREADS[1] ** 2), EPSILON)
X0 = MEANS[0] + SPREADS[0] * torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)).double()
NAMES = ("height", "weight", "pulse")


def test_the_largest_displacement_for_its_spread_comes_first() -> None:
    found = what_moves(BRIDGE, X0, NAMES)
    assert [mover.name for mover in found.movers] == ["pulse", "height", "weight"]
    for mover in found.movers:
        k = NAMES.index(mover.name)
        wanted = (MEANS[1] - MEANS[0])[k].item()
        assert abs(mover.displacement.value - wanted) < 4 * mover.displacement.standard_error
        assert mover.spreads == pytest.approx(wanted / SPREADS[0, k].item(), abs=0.1)
    assert [mover.name for mover in found.top(1).movers] == ["pulse"]


def test_the_energy_of_each_column_is_that_of_its_own_bridge() -> None:
    """Independent columns are bridges of their own: ½E∫u² is half of the squared speed."""
    found = {mover.name: mover for mover in what_moves(BRIDGE, X0, NAMES).movers}
    energies = [_energy(k) for k in range(3)]
    for k, name in enumerate(NAMES):
        assert found[name].speed ** 2 / 2 == pytest.approx(energies[k], rel=0.1)
        assert found[name].share == pytest.approx(energies[k] / sum(energies), rel=0.1)


def _energy(k: int) -> float:
    law = [value for end in (0, 1) for value in (MEANS[end, k : k + 1], SPREADS[end, k].square()[None, None])]
    return GaussianBridge(*law, EPSILON).kinetic_energy().value


def test_variables_behind_the_columns_move_by_their_loadings() -> None:
    loadings = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, -1.0], [0.0, 0.0, 0.0]]).double()
    genes = ("a", "b", "c", "none")
    own = {mover.name: mover for mover in what_moves(BRIDGE, X0, NAMES).movers}
    found = {mover.name: mover for mover in what_moves(BRIDGE, X0.numpy(), genes, loadings.numpy()).movers}
    assert found["a"].displacement.value == pytest.approx(own["height"].displacement.value)
    assert found["b"].displacement.value == pytest.approx(2 * own["pulse"].displacement.value)
    assert found["b"].displacement.standard_error == pytest.approx(2 * own["pulse"].displacement.standard_error)
    assert found["c"].spread == pytest.approx(sqrt(1 + 0.1**2), rel=0.05)
    assert (found["none"].spreads, found["none"].speed) == (0, 0)


def test_the_table_and_the_picture_have_every_mover() -> None:
    found = what_moves(BRIDGE, X0, NAMES)
    page = found._repr_html_()
    assert all(name in found.to_markdown() and name in page for name in NAMES)
    (axes,) = movement_figure(found).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [mover.name for mover in found.movers][::-1]


@pytest.mark.parametrize(
    ("columns", "loadings", "message"),
    [
        (("a",), None, "there are 1 names for 3 variables"),
        ((), torch.ones(4, 2), r"loadings must have shape \(k, 3\)"),
        (("a",), torch.ones(4, 3), "there are 1 names for 4 variables"),
    ],
)
def test_names_and_loadings_fit_the_data(columns: tuple[str, ...], loadings: Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        what_moves(BRIDGE, X0, columns, loadings)


def test_the_energy_of_unlike_columns_is_shared_in_the_coordinates_of_the_fit() -> None:
    """In other units of one column its share is the same, and so are all shares."""
    units = torch.tensor([1.0, 1.0, 1000.0]).double()
    scale = torch.diag(SPREADS[0])
    own = StandardisedBridge(_inner(), MEANS[0], scale)
    other = StandardisedBridge(_inner(), MEANS[0] * units, scale * units)
    shares, others = (
        {m.name: m.share for m in what_moves(b, x, NAMES).movers} for b, x in ((own, X0), (other, X0 * units))
    )
    assert shares == pytest.approx(others, rel=1e-6)
    energies = {m.name: m.speed**2 for m in what_moves(_inner(), (X0 - MEANS[0]) / SPREADS[0], NAMES).movers}
    assert shares == pytest.approx(
        {name: energy / sum(energies.values()) for name, energy in energies.items()}, rel=1e-6
    )


def _inner() -> GaussianBridge:
    """The bridge in spreads of x0."""
    means, spreads = (MEANS - MEANS[0]) / SPREADS[0], SPREADS / SPREADS[0]
    laws = [law for end in (0, 1) for law in (means[end], torch.diag(spreads[end] ** 2))]
    return GaussianBridge(*laws, EPSILON)


def test_genes_are_found_by_a_key_of_varm() -> None:
    """In the order of the bridge's columns, of which the components may have more."""
    anndata = pytest.importorskip("anndata")
    loadings = np.random.default_rng(0).normal(size=(7, 5))
    cells = anndata.AnnData(np.zeros((len(X0), 7), np.float32), obsm={"X_pca": np.zeros((len(X0), 5))})
    cells.var_names = [f"gene{k}" for k in range(7)]
    cells.obsm["X_pca"][:, [3, 0, 1]] = X0.numpy()
    cells.varm["PCs"] = loadings
    bridge = GaussianBridge(MEANS[0], torch.diag(SPREADS[0] ** 2), MEANS[1], torch.diag(SPREADS[1] ** 2), EPSILON)
    bridge.columns = ("PC4", "PC1", "PC2")
    asked = sbridge.points_of(cells, bridge.columns, rep="X_pca")
    assert what_moves(bridge, asked, loadings="PCs") == what_moves(
        bridge, X0, list(cells.var_names), loadings[:, [3, 0, 1]]
    )
    for wrong, key, message in ((asked, "PC", "it has PCs"), (X0, "PCs", "only an AnnData")):
        with pytest.raises(InputError, match=message):
            what_moves(bridge, wrong, loadings=key)
