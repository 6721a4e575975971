"""`sbridge snapshots`: the same bridge from files of each time and from one table, and its tables."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from members import read_csv

from sbridge import Chain, Simulation
from sbridge.cli import main

TIMES = (0.0, 0.1, 2.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files, and one shuffled table of the same points."""
    generator = np.random.default_rng(0)
    samples = [generator.normal(size=(300, 2)) + k for k in range(3)]
    for k, x in enumerate(samples):
        np.save(tmp_path / f"day{k}.npy", x)
    rows = [(time, *row) for time, x in zip(TIMES, samples, strict=True) for row in x]
    order = generator.permutation(len(rows))
    pl.DataFrame([rows[i] for i in order], schema=["day", "a", "b"], orient="row").write_csv(tmp_path / "days.csv")
    return tmp_path


def _options(folder: Path, name: str) -> list[str]:
    return ["--epsilon", "0.2", "--method", "potential", "--out", str(folder / name)]


def test_a_table_and_files_give_the_times_and_a_chain(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(folder / f"day{k}.npy") for k in range(3)]
    assert main(["snapshots", *files, "--times", "0,0.1,2.5", *_options(folder, "files")]) == 0
    table = [str(folder / "days.csv"), "--time-column", "day"]
    assert main(["snapshots", *table, *_options(folder, "table"), "--leave-out", "each"]) == 0
    for name in ("files", "table"):
        chain = Chain.load(folder / name / "chain.safetensors")
        assert chain.times == TIMES and chain.epsilon == pytest.approx(0.2)
        moved = chain.at(torch.zeros(2000, 2), 2.5, random_state=0)
        assert (moved.mean(0) - 2).abs().max() < 1.0
    legs = read_csv(folder / "table" / "legs.csv")
    assert [(row["from"], row["to"]) for row in legs] == [("0.0", "0.1"), ("0.1", "2.5")]
    assert all(abs(float(row[way])) < 0.4 for row in legs for way in ("forward", "backward"))
    assert {row["points from"] for row in legs} == {"240.0"}
    assert Chain.load(folder / "table" / "chain.safetensors").legs[0].columns == ["a", "b"]
    (joint,) = read_csv(folder / "table" / "joints.csv")
    assert joint["time"] == "0.1" and float(joint["score gap"]) < float(joint["score"])
    left_out = read_csv(folder / "table" / "left_out.csv")
    assert {row["time"] for row in left_out} == {"0.1"} and "mixture potential" in {row["method"] for row in left_out}
    assert not (folder / "files" / "left_out.csv").exists()
    shown = (folder / "table" / "chain.html").read_text(encoding="utf-8")
    parts = ("animation", "question", "legs", "joints", "left_out")
    assert re.findall('<section id="([a-z_]+)"', shown) == list(parts)
    data = json.loads(re.findall('id="animation-data">(.*?)</script>', shown)[0])
    assert [axis["name"] for axis in data["axes"]] == ["a", "b"] and set(TIMES) <= set(data["times"])
    assert [sample["time"] for sample in data["samples"]] == list(TIMES) and "n = 60" in shown
    printed = capsys.readouterr()
    assert "no certificate: x0 has 60 held-out points" in printed.err and "| from | to |" in printed.out


def test_points_move_along_a_chain_in_a_shell(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the same numbers as in Python, at times between and from either end; noise goes by the chain's own time."""
    table = [str(folder / "days.csv"), "--time-column", "day"]
    assert main(["snapshots", *table, *_options(folder, "run")]) == 0
    chain = Chain.load(folder / "run" / "chain.safetensors")
    points = pl.DataFrame({"b": np.linspace(-1, 1, 40), "a": np.zeros(40)})
    points.write_csv(folder / "new.csv")
    x = points.select("a", "b").to_numpy()

    def moved(*words: str) -> pl.DataFrame:
        out = folder / "moved.csv"
        asked = ["sample", str(folder / "run"), "--input", str(folder / "new.csv"), "--out", str(out)]
        assert main([*asked, *words]) == 0
        return pl.read_csv(out)

    end = moved()
    assert end.columns == ["row", "a", "b"]
    drawn = chain.trajectories(x, [2.5], Simulation(), random_state=0, start=0.0)
    np.testing.assert_allclose(end.select("a", "b").to_numpy(), drawn[0], atol=1e-9)
    back = moved("--direction", "backward", "--times", "1,0", "--seed", "1")
    assert back["t"].unique(maintain_order=True).to_list() == [1.0, 0.0]
    wanted = chain.trajectories(x, [1.0, 0.0], Simulation(), random_state=1, start=2.5)
    np.testing.assert_allclose(back.select("a", "b").to_numpy().reshape(2, 40, 2), wanted, atol=1e-9)
    still = moved("--start", "0.1", "--times", "2", "--diffusion", "0.2,0.6")
    wanted = chain.trajectories(x, [2.0], random_state=0, start=0.1, diffusion=lambda t: 0.2 + 0.16 * t)
    np.testing.assert_allclose(still.select("a", "b").to_numpy(), wanted[0], atol=1e-6)
    capsys.readouterr()
    wide = ["--input", str(folder / "day0.npy"), "--out", str(folder / "to.npy"), "--times", "0.05,3"]
    assert main(["sample", str(folder / "run"), *wide]) == 2
    assert "numbers in [0, 2.5]" in capsys.readouterr().err


@pytest.mark.slow
def test_one_network_for_all_legs(folder: Path) -> None:
    words = [
        "snapshots",
        str(folder / "days.csv"),
        "--time-column",
        "day",
        "--epsilon",
        "0.2",
        "--out",
        str(folder / "one"),
    ]
    assert main([*words, "--method", "fixed", "--one-network", "--steps", "40"]) == 0
    chain = Chain.load(folder / "one" / "chain.safetensors")
    networks = [{id(part) for part in leg.parameters()} for leg in chain.legs]
    assert chain.times == TIMES and networks[0] and networks[0] == networks[1]


@pytest.mark.slow
def test_cells_of_several_times_are_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Times in obs, coordinates in obsm; certificate and dual gap of each leg, with growth too."""
    anndata = pytest.importorskip("anndata")
    generator = np.random.default_rng(0)
    days = np.repeat([2, 3, 7], 520)
    cells = anndata.AnnData(np.zeros((len(days), 1), np.float32))
    cells.obsm["X_pca"] = generator.normal(size=(len(days), 3)) + days[:, None]
    cells.obs["day"] = [str(day) for day in days]  # as texts, which AnnData makes categories
    cells.write_h5ad(tmp_path / "cells.h5ad")
    words = ["recover", str(tmp_path / "cells.h5ad"), "--time-key", "day", "--rep", "X_pca", "--columns", "PC1..PC2"]
    for growth, out in (([], "plain"), (["--growth", "100"], "grown")):
        assert main([*words, *growth, *_options(tmp_path, out)]) == 0
        chain = Chain.load(tmp_path / out / "chain.safetensors")
        assert chain.times == (2.0, 3.0, 7.0) and list(chain.legs[0].columns or ()) == ["PC1", "PC2"]
        legs = read_csv(tmp_path / out / "legs.csv")
        assert all("±" in row["behind a mixture potential (nats)"] and row["certificate"].endswith(".") for row in legs)
        assert abs(float(legs[0]["forward"])) < 0.2
    capsys.readouterr()
    table = tmp_path / "words.csv"
    table.write_text("when,a\n" + "\n".join(f"day{k % 2},{k}" for k in range(50)))
    assert main(["snapshots", str(table), "--time-column", "when", *_options(tmp_path, "words")]) == 2
    assert "when must hold numbers, the times, but has 'day0'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["day0.npy"], "at least two"),
        (["day0.npy", "day1.npy", "--time-column", "day"], "one table of all times"),
        (["days.csv", "--time-column", "hour"], "has no column hour"),
        (["day0.npy", "day1.npy", "--times", "1,0"], "must rise"),
        (["day0.npy", "days.csv"], "has not the columns of"),
        (["day0.npy", "day1.npy", "day2.npy", "--leave-out", "some"], "must be a time or each, not some"),
        (["day0.npy", "day1.npy", "day2.npy", "--leave-out", "2"], "between two others to leave out"),
        (["day0.npy", "day1.npy", "day2.npy", "--leave-out", "1", "--growth", "1"], "without growth"),
        (["day0.npy", "day1.npy", "--one-network"], "--method potential fits each leg by itself"),
    ],
)
def test_what_cannot_be_done_is_said(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(folder / word) if "." in word and not word[0].isdigit() else word for word in words]
    assert main(["snapshots", *names, *_options(folder, "run")]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_empty_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["snapshots", str(folder / "day0.npy"), str(folder / "day1.npy"), "--epsilon", "1", "--out", str(folder)]
    assert main(words) == 2 and "is not empty" in capsys.readouterr().err
