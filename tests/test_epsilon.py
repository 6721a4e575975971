"""Choosing ε: the range follows from the partners of normal laws, a sweep is monotone, and units are converted."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from members import read_csv
from numpy.typing import NDArray

import sbridge
from sbridge.cli.question import in_our_epsilon
from sbridge.epsilon import EpsilonRange, EpsilonSweep, sweep_epsilon, with_epsilon
from sbridge.errors import InputError
from sbridge.potentials.solver import MixturePotential
from sbridge.problem import Problem
from sbridge.report.epsilon import write_epsilon_page
from sbridge.units import epsilon_named, geomloss_blur, pot_reg, process_sigma


def cloud(n: int, seed: int, dim: int = 1, scale: float = 1.0) -> NDArray[np.float64]:
    return scale * np.random.default_rng(seed).normal(size=(n, dim))


def problem(n: int = 1000, dim: int = 1, scale: float = 1.0, epsilon: float = 1.0) -> Problem:
    x0, x1 = (torch.from_numpy(cloud(n, seed, dim, scale)) for seed in (0, 1))
    return Problem(x0, x1, epsilon, x0, x1)


@pytest.mark.parametrize(("dim", "scale"), [(1, 1.0), (2, 3.0)])
def test_the_upper_end_is_where_half_of_the_points_are_partners(dim: int, scale: float) -> None:
    """exp(−I) = (1 − c²)^(d/2) = ½ with c the correlation of both ends, and ε = (1 − c²)/2c for unit spreads."""
    found = EpsilonRange.of(problem(dim=dim, scale=scale))
    rest = 0.5 ** (2 / dim)
    assert found.high == pytest.approx(scale**2 * rest / (2 * sqrt(1 - rest)), rel=0.15)
    assert found.low < found.choice <= min(found.high, 1.1 * scale**2 / 2)
    assert (found.fewest, found.among) == (10, 1000)


def test_a_small_sample_asks_for_fewer_partners() -> None:
    found = EpsilonRange.of(problem(n=40))
    assert (found.fewest, found.among) == (4, 40)
    assert found.low < found.choice < found.high


@pytest.fixture(scope="module")
def swept() -> EpsilonSweep:
    return sweep_epsilon(cloud(1000, 0, 2), cloud(1000, 1, 2) * [0.5, 1.5] + 3, [2.0, 0.02, 0.2])


def test_a_sweep_shows_what_rises_and_falls_with_epsilon(swept: EpsilonSweep) -> None:
    """More noise: more partners, more energy, less straight flow; the dual is the energy where the fit is exact."""
    assert [fit.epsilon for fit in swept.fits] == [0.02, 0.2, 2.0]
    partners, energies, straight = (
        [get(fit) for fit in swept.fits]
        for get in (lambda f: f.partners, lambda f: f.energy.value, lambda f: -f.straightness)
    )
    assert partners == sorted(partners) and energies == sorted(energies) and straight == sorted(straight)
    for fit in swept.fits:
        assert abs(fit.dual.value - fit.energy.value) < 4 * (fit.dual.standard_error + fit.energy.standard_error)
        assert abs(fit.ends) < 0.05
    assert -straight[0] == pytest.approx(1, abs=0.01)
    page = swept._repr_html_()
    assert page.count("<tr>") == 4 and "Recommended: " in page


def test_the_flow_between_gaussians_is_as_straight_as_its_closed_form(swept: EpsilonSweep) -> None:
    """The spread of each column goes through σ_t² = (1−t)²a² + t²b² + 2t(1−t)(cab + ε), and the flow is x σ_t/a."""
    t, epsilon = np.linspace(0, 1, 2001), 2.0
    moved, energy = 9.0 * 2, 9.0 * 2
    for a, b in ((1.0, 0.5), (1.0, 1.5)):
        covariance = sqrt(a**2 * b**2 + epsilon**2) - epsilon
        spread = np.sqrt((1 - t) ** 2 * a**2 + t**2 * b**2 + 2 * t * (1 - t) * (covariance + epsilon))
        moved, energy = moved + (b - a) ** 2, energy + np.trapezoid(np.gradient(spread, t) ** 2, t)
    assert swept.fits[-1].straightness == pytest.approx(moved / energy, rel=0.1)


def test_a_page_has_the_table_and_the_figure(swept: EpsilonSweep, tmp_path: Path) -> None:
    page = write_epsilon_page(tmp_path, "clouds", swept, "sbridge epsilon …").read_text(encoding="utf-8")
    assert [row["ε"] for row in read_csv(tmp_path / "epsilon.csv")] == ["0.02", "0.2", "2"]
    assert "Recommended" in page and "straightness" in page
    assert (tmp_path / "figures" / "epsilon-1.svg").exists()


@pytest.mark.parametrize(
    "text",
    [
        "0.1",
        "1e-1",
        *(f"{n}={f(0.1)}" for n, f in (("reg", pot_reg), ("blur", geomloss_blur), ("sigma", process_sigma))),
    ],
)
def test_epsilon_is_read_in_the_units_of_other_libraries(text: str) -> None:
    assert epsilon_named(text) == pytest.approx(0.1)
    assert with_epsilon(problem(), text)[0].epsilon == pytest.approx(0.1)
    for words in (["recover", "--epsilon", text, "--x0", "a=b"], ["recover", f"--epsilon={text}", "--x0", "a=b"]):
        before, option, value, *rest = in_our_epsilon(words)
        assert (before, option, rest) == ("recover", "--epsilon", ["--x0", "a=b"])
        assert float(value) == pytest.approx(0.1)


@pytest.mark.parametrize("text", ["", "much", "reg=", "reg=much", "tau=1", "=1"])
def test_other_words_are_no_epsilon(text: str) -> None:
    with pytest.raises(InputError, match="epsilon must be a number, auto, or one of reg=…, blur=…, sigma=…, not"):
        with_epsilon(problem(), text)


def test_an_epsilon_of_zero_is_not_swept() -> None:
    with pytest.raises(InputError, match="positive"):
        sweep_epsilon(cloud(50, 0), cloud(50, 1), [0.0, 1.0])


def test_epsilon_per_time_is_the_mean_of_the_legs_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Twice the time between all samples halves it."""
    points = [cloud(400, k, 2) for k in range(3)]
    for times in ([0.0, 1.0, 4.0], [0.0, 2.0, 8.0]):
        model = sbridge.Snapshots(epsilon="auto", solver=MixturePotential(1)).fit(points, times)
        assert "chosen: ε = " in capsys.readouterr().err
        alone = [sbridge.SchrodingerBridge("auto", MixturePotential(1)).fit(*two).epsilon_ for two in pairwise(points)]
        wanted = np.prod(np.array(alone) / np.diff(times)) ** 0.5
        assert model.epsilon_ == model.chain_.epsilon == pytest.approx(wanted)
        capsys.readouterr()


def test_the_estimator_chooses_an_epsilon_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """The one of the range, in standardised units where the columns are standardised."""
    x0, x1 = cloud(400, 0, 2), cloud(400, 1, 2)
    scales = np.array([1, 1000])
    model = sbridge.SchrodingerBridge(epsilon="auto", solver=MixturePotential(1))
    found = model.fit(x0, x1).epsilon_
    said = capsys.readouterr().err
    assert said.startswith("chosen: ε = ") and "partners" in said
    wanted = EpsilonRange.of(Problem(*map(torch.from_numpy, (x0, x1)), 1.0, *map(torch.from_numpy, (x0, x1)))).choice
    assert found == model.bridge_.epsilon == wanted
    scaled = sbridge.SchrodingerBridge(epsilon="auto", solver=MixturePotential(1), standardise="columns")
    assert scaled.fit(x0 * scales, x1 * scales).epsilon_ == pytest.approx(found, rel=0.1)
    assert model.set_params(epsilon="reg=0.4").fit(x0, x1).epsilon_ == pytest.approx(0.1)
