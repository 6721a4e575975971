"""Data files of every kind are read as what they mean, come back as they were, and are refused in plain words."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from sbridge.errors import InputError
from sbridge.io import Answer, FileProblem, Reading, read_points, write_answer

TABLES = [".csv", ".tsv", ".csv.gz", ".parquet"]
SUFFIXES = [".npy", ".npz", *TABLES]
floats = st.floats(-(2.0**1000), 2.0**1000)
points = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=floats)


def cloud(n: int = 50, d: int = 2, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(size=(n, d))


def names(d: int) -> list[str]:
    return [f"gene {i}" for i in range(d)]


def table(path: Path) -> pl.DataFrame:
    """A file that was written, as polars reads it."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    return pl.read_csv(path, separator="\t" if ".tsv" in path.name else ",")


def write(path: Path, *lines: str, end: str = "\n") -> str:
    path.write_text(end.join(lines) + end)
    return str(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=30, deadline=None)
@given(x=points)
def test_points_survive_a_round_trip(tmp_path_factory: pytest.TempPathFactory, suffix: str, x: NDArray[Any]) -> None:
    """Double precision to the last bit, whatever the format; tables keep the columns' names."""
    path = tmp_path_factory.mktemp("points") / f"x{suffix}"
    write_answer(path, Answer(x, names(x.shape[1])))
    read = read_points(path)
    assert read.values.dtype == torch.float64
    np.testing.assert_array_equal(read.values.numpy(), x)
    assert read.columns == (tuple(names(x.shape[1])) if suffix in TABLES else None)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_times_are_the_leading_axis_of_arrays_and_a_column_of_tables(tmp_path: Path, suffix: str) -> None:
    times, path = [0.0, 0.25, 1.0], tmp_path / f"x{suffix}"
    x: NDArray[Any] = np.stack([cloud(5), cloud(5, seed=1), cloud(5, seed=2)])
    write_answer(path, Answer(x, ["a", "b"], times))
    if suffix in TABLES:
        assert table(path).columns == ["t", "a", "b"]
        for k, t in enumerate(times):
            np.testing.assert_array_equal(table(path).filter(pl.col("t") == t)[:, 1:].to_numpy(), x[k])
    elif suffix == ".npz":
        with np.load(path) as held:
            np.testing.assert_array_equal(held["x"], x)
            np.testing.assert_array_equal(held["t"], times)
    else:
        np.testing.assert_array_equal(np.load(path), x)


# Which columns are coordinates


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize(
    ("reading", "wanted"),
    [(Reading(columns=("c", "a")), None), (Reading(), ("c", "a")), (Reading(("b", "a", "c")), ("c", "a"))],
)
def test_columns_are_matched_by_name(
    tmp_path: Path, suffix: str, reading: Reading, wanted: tuple[str, ...] | None
) -> None:
    x = cloud(20, 3)
    write_answer(tmp_path / f"x{suffix}", Answer(x, ["a", "b", "c"]))
    read = read_points(tmp_path / f"x{suffix}", reading, wanted)
    np.testing.assert_array_equal(read.values.numpy(), x[:, [2, 0]])
    assert read.columns == ("c", "a")


def test_a_range_of_columns_counts_up(tmp_path: Path) -> None:
    order = ["PC1", "PC10", "PC11", "PC2", *(f"PC{k}" for k in range(3, 10))]
    x = cloud(20, 11)
    write_answer(tmp_path / "x.csv", Answer(x, order))
    read = read_points(tmp_path / "x.csv", Reading(columns=("PC2..PC10",)))
    assert read.columns == tuple(f"PC{k}" for k in range(2, 11))
    np.testing.assert_array_equal(read.values[:, -1].numpy(), x[:, 1])


def indexed() -> pd.DataFrame:
    """Two coordinates under an index with gaps."""
    frame = pd.DataFrame(cloud(20), columns=["height", "weight"])
    return frame[frame.index % 3 != 1]


@pytest.mark.parametrize(
    "save",
    [
        lambda frame, path: frame.to_csv(path.with_suffix(".csv")),
        lambda frame, path: pd.read_csv(frame.to_csv(path) or path).to_csv(path.with_suffix(".csv"), index=False),
        lambda frame, path: frame.to_parquet(path.with_suffix(".parquet")),
        lambda frame, path: frame.rename_axis("cell").to_parquet(path.with_suffix(".parquet")),
        lambda frame, path: frame.reset_index(names="row").to_csv(path.with_suffix(".csv"), index=False),
        lambda frame, path: frame.reset_index().to_parquet(path.with_suffix(".parquet"), index=False),
    ],
    ids=["csv", "csv twice", "parquet", "parquet with a named index", "row numbers of an answer", "reset index"],
)
def test_an_index_is_no_coordinate(tmp_path: Path, save: Callable[[pd.DataFrame, Path], Any]) -> None:
    save(indexed(), tmp_path / "x")
    read = read_points(next(path for path in tmp_path.glob("x.*")))
    assert read.columns == ("height", "weight")
    np.testing.assert_allclose(read.values.numpy(), indexed().to_numpy(), rtol=1e-12)
    assert read.carried is not None
    assert read.carried.to_series(0).cast(pl.Int64).to_list() == list(indexed().index)
    assert len(read.remarks) == 1 and "index" in read.remarks[0]


def test_an_answer_with_an_index_is_read_back(tmp_path: Path) -> None:
    indexed().to_csv(tmp_path / "x.csv")
    origin = read_points(tmp_path / "x.csv")
    write_answer(tmp_path / "y.csv", Answer(origin.values.numpy(), origin.columns or (), origin=origin))
    assert table(tmp_path / "y.csv").columns == ["row", "index", "height", "weight"]
    assert table(tmp_path / "y.csv")["index"].to_list() == list(indexed().index)
    assert read_points(tmp_path / "y.csv").columns == ("height", "weight")


@pytest.mark.parametrize(("first", "warned"), [(0, True), (1, True), (0.5, False)])
def test_a_named_column_that_counts_the_rows_is_kept_with_a_warning(tmp_path: Path, first: float, warned: bool) -> None:
    lines = [f"{first + k},{k % 7}" for k in range(20)]
    read = read_points(write(tmp_path / "x.csv", "visit,height", *lines))
    assert read.columns == ("visit", "height")
    assert [remark for remark in read.remarks if "--id visit" in remark] == list(read.remarks)
    assert bool(read.remarks) == warned


def test_ids_and_texts_are_carried_along(tmp_path: Path) -> None:
    lines = [f"00{k},g{k % 3},{k / 8},{-k}" for k in range(20)]
    path = write(tmp_path / "x.csv", "patient,group,height,weight", *lines)
    read = read_points(path, Reading(id="patient"))
    assert read.columns == ("height", "weight")
    assert read.carried is not None and read.carried.columns == ["patient", "group"]
    assert read.carried["patient"].to_list() == [f"00{k}" for k in range(20)]
    assert read.remarks == (f"{path}: group is carried along, not taken as coordinates",)


@pytest.mark.parametrize("suffix", TABLES)
def test_answers_carry_ids_and_row_numbers(tmp_path: Path, suffix: str) -> None:
    lines = [f"cell-{k},{'NA' if k == 4 else k / 8},{-k}" for k in range(20)]
    origin = read_points(write(tmp_path / "x.csv", "cell,height,weight", *lines), Reading(drop_missing=True))
    moved = origin.values.numpy() + 1
    write_answer(tmp_path / f"y{suffix}", Answer(moved, ["height", "weight"], origin=origin))
    written = table(tmp_path / f"y{suffix}")
    rows = [k for k in range(20) if k != 4]
    assert written.columns == ["row", "cell", "height", "weight"]
    assert written["row"].to_list() == rows
    assert written["cell"].to_list() == [f"cell-{k}" for k in rows]
    np.testing.assert_allclose(written["height"].to_numpy(), [k / 8 + 1 for k in rows])
    again = read_points(tmp_path / f"y{suffix}")
    assert again.columns == ("height", "weight")


@pytest.mark.parametrize("header", ["t,height", "height,b"])
def test_two_columns_of_one_name_are_not_written(tmp_path: Path, header: str) -> None:
    lines = [f"{'id' if 't' in header else ''}{k},{k / 8}" for k in range(5)]
    origin = read_points(write(tmp_path / "x.csv", header, *lines), Reading(columns=(header.split(",")[1],)))
    answer = Answer(np.ones((1, 5, 1)), ["height"], [1.0], origin)
    with pytest.raises(InputError, match="what is to be written has several columns of the name"):
        write_answer(tmp_path / "y.csv", answer)
    assert not (tmp_path / "y.csv").exists()


def test_one_file_holds_two_groups(tmp_path: Path) -> None:
    lines = [f"{'ab'[k % 2]},{k},{k / 2}" for k in range(200)]
    path = write(tmp_path / "x.csv", "stage,height,weight", *lines)
    reading = Reading(groupby="stage")
    odd = read_points(path, reading, group="b")
    np.testing.assert_array_equal(odd.values[:, 0].numpy(), np.arange(1, 200, 2))
    np.testing.assert_array_equal(odd.numbers, np.arange(1, 200, 2))
    problem = FileProblem(x0=path, epsilon=1.0, reading=reading, source="a", target="b").build()
    assert (len(problem.x0), len(problem.test1), problem.name, problem.columns) == (
        80,
        20,
        "a → b",
        ("height", "weight"),
    )
    assert bool((problem.x0[:, 0] % 2 == 0).all() and (problem.x1[:, 0] % 2 == 1).all())


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_group_is_no_coordinate_where_it_is_a_number(tmp_path: Path, suffix: str) -> None:
    pl.DataFrame({"day": [2, 7] * 10, "height": np.arange(20) / 8, "weight": np.ones(20)}).write_parquet(
        tmp_path / "x.parquet"
    )
    table(tmp_path / "x.parquet").write_csv(tmp_path / "x.csv")
    read = read_points(tmp_path / f"x{suffix}", Reading(groupby="day"), group="7")
    assert read.columns == ("height", "weight") and len(read) == 10
    assert read.carried is not None and set(map(str, read.carried["day"])) == {"7"}


# What a text file says


HEADERS: dict[str, tuple[list[str], tuple[str, ...] | None, int]] = {
    "names": (["height,weight", "1,2", "3,4"], ("height", "weight"), 2),
    "numbers are a point": (["1,0,2", "0,1,5", "3,3,3"], None, 3),
    "a number with an exponent is one too": (["1e-3,-2", "3,4"], None, 2),
    "a text above text is no header": (["g1,0.5,1.2", "g2,3,4"], None, 2),
    "names above text and numbers": (["group,height", "g1,1", "g2,2"], ("height",), 2),
    "0, 1 of pandas": (["0,1", "0.5,1.5", "2.5,3"], ("0", "1"), 2),
    "0, 1 of pandas after its index": ([",0,1", "0,5,6", "1,7,8", "2,1,1"], ("0", "1"), 3),
    "one gene has a number for a name": (["gene,7", "0.5,1.5", "2.5,3"], ("gene", "7"), 2),
    "a header that begins like a packed file": (["x^2,y^2", "1,2", "3,4"], ("x^2", "y^2"), 2),
    "a single column": (["height", "1.5", "2.5"], ("height",), 2),
    "an empty column at the end": (["height,weight,", "1,2,", "3,4,"], ("height", "weight"), 2),
}


@pytest.mark.parametrize(("lines", "columns", "n"), HEADERS.values(), ids=HEADERS.keys())
def test_the_first_line_is_a_header_or_a_point(
    tmp_path: Path, lines: list[str], columns: tuple[str, ...] | None, n: int
) -> None:
    read = read_points(write(tmp_path / "x.csv", *lines))
    assert read.columns == columns
    assert len(read) == n


def test_a_header_of_numbers_in_a_table_file_is_a_header(tmp_path: Path) -> None:
    pd.DataFrame(cloud(20)).rename(columns=str).to_parquet(tmp_path / "x.parquet")
    assert read_points(tmp_path / "x.parquet").columns == ("0", "1")


WAYS: dict[str, tuple[str, str, str, str, Reading]] = {
    "comma": (".csv", ",", ".", "\n", Reading()),
    "Windows": (".csv", ",", ".", "\r\n", Reading()),
    "tab": (".tsv", "\t", ".", "\n", Reading()),
    "tab in a .csv": (".csv", "\t", ".", "\n", Reading()),
    "semicolon": (".csv", ";", ".", "\n", Reading()),
    "semicolon, decimal comma": (".csv", ";", ",", "\n", Reading()),
    "tab, decimal comma": (".tsv", "\t", ",", "\n", Reading()),
    "named": (".csv", "|", ",", "\n", Reading(separator="|", decimal=",")),
    "named tab": (".csv", "\t", ".", "\n", Reading(separator="tab")),
    "spaces around": (".csv", " , ", ".", "\n", Reading(separator=",")),
}


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("suffix", "separator", "decimal", "end", "reading"), WAYS.values(), ids=WAYS.keys())
def test_every_way_to_write_a_table_gives_the_same_points(
    tmp_path: Path, suffix: str, separator: str, decimal: str, end: str, reading: Reading, packed: bool, header: bool
) -> None:
    x = cloud(20)
    lines = [separator.join(f"{value:.6f}".replace(".", decimal) for value in row) for row in x]
    content = end.join([separator.join(["height", "weight"])] * header + lines + ["", ""]).encode()
    path = tmp_path / f"x{suffix}{'.gz' * packed}"
    path.write_bytes(gzip.compress(content) if packed else content)
    read = read_points(path, reading)
    np.testing.assert_allclose(read.values.numpy(), x, atol=1e-6)
    assert read.columns == (("height", "weight") if header else None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_encodings_of_spreadsheets(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x.csv").write_text("Größe,β\n1,2\n3,4\n", encoding=encoding)
    assert read_points(tmp_path / "x.csv").columns == ("Größe", "β")


@pytest.mark.parametrize("name", ["data[1]", "data*", "data?", "{a,b}", "ε data"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_name_is_no_pattern(tmp_path: Path, name: str, suffix: str) -> None:
    for other in ("data1", "data", "datax", "a", "b"):
        write_answer(tmp_path / f"{other}{suffix}", Answer(cloud(20), ["a", "b"]))
    write_answer(tmp_path / f"{name}{suffix}", Answer(cloud(20) + 777, ["a", "b"]))
    np.testing.assert_array_equal(read_points(tmp_path / f"{name}{suffix}").values.numpy(), cloud(20) + 777)


@pytest.mark.parametrize("suffix", [".CSV", ".csv.GZ", ".Parquet", ".NPY"])
def test_suffixes_may_be_capitals(tmp_path: Path, suffix: str) -> None:
    write_answer(tmp_path / f"x{suffix}", Answer(cloud(20), ["a", "b"]))
    np.testing.assert_array_equal(read_points(tmp_path / f"x{suffix}").values.numpy(), cloud(20))


def test_numbers_keep_double_precision(tmp_path: Path) -> None:
    """Points around 1e8 keep their spread, also through the split into training and held-out points."""
    paths = []
    for name, shift in (("near", 0.0), ("far", 1e8)):
        np.save(tmp_path / f"{name}.npy", cloud(100) + shift)
        paths.append(str(tmp_path / f"{name}.npy"))
    near, far = (FileProblem(x0=path, x1=path, epsilon=1.0).build() for path in paths)
    np.testing.assert_allclose(far.x0.std(0).numpy(), near.x0.std(0).numpy(), rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.uint8, ">f8", np.longdouble, bool])
def test_any_real_numbers_are_read(tmp_path: Path, dtype: Any) -> None:
    x: NDArray[Any] = (np.arange(20).reshape(10, 2) % 7).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    np.testing.assert_array_equal(read_points(tmp_path / "x.npy").values.numpy(), x.astype(float))


def test_an_array_of_several_is_named_by_its_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", first=cloud(), second=cloud(seed=1))
    np.testing.assert_array_equal(read_points(f"{tmp_path}/x.npz:second").values.numpy(), cloud(seed=1))


# What is refused


def text(content: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(content)


def array(x: Any) -> Callable[[Path], Any]:
    return lambda path: np.save(path, x)


def with_value(value: float) -> NDArray[Any]:
    x = cloud(20)
    x[[3, 7], 1] = value
    return x


BAD_FILES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "missing": ("x.npy", lambda path: None, "no such file"),
    "empty": ("x.csv", text(""), "is empty"),
    "only empty lines": ("x.csv", text("\n\n"), "is empty"),
    "empty npy": ("x.npy", text(""), "is empty"),
    "no rows": ("x.csv", text("a,b\n"), "holds no points"),
    "no rows in an array": ("x.npy", array(np.empty((0, 2))), "shape (n, d)"),
    "unsupported": ("x.xlsx", text("1"), ".npy, .npz or .h5ad"),
    "no suffix": ("x", text("1"), "without a suffix"),
    "not an array": ("x.npy", text("hello"), "cannot be read"),
    "not an archive": ("x.npz", text("hello"), "cannot be read"),
    "not a table": ("x.parquet", text("hello"), "cannot be read"),
    "not compressed": ("x.csv.gz", text("a,b\n1,2\n"), "cannot be read"),
    "not UTF-8": ("x.csv", lambda path: path.write_bytes(b"Gr\xf6\xdfe,b\n1,2\n"), "save it as UTF-8"),
    "pickled": ("x.npy", array(np.array([[{}]], dtype=object)), "cannot be read"),
    "words": ("x.npy", array(np.array([["a", "b"]])), "not real numbers"),
    "complex": ("x.npy", array(np.ones((20, 2), complex)), "not real numbers"),
    "a line": ("x.npy", array(np.ones(20)), "shape (n, d)"),
    "three axes": ("x.npy", array(np.ones((20, 2, 2))), "shape (n, d)"),
    "NaN": ("x.npy", array(with_value(np.nan)), "2 of 20 rows have NaN or infinite values, the first is row 3"),
    "infinite": ("x.npy", array(with_value(np.inf)), "in column 1 counting from 0"),
    "infinite in a table": ("x.csv", text("a,b\n1,2\n3,inf\n"), "row 1 counting from 0, in column b"),
    "too large": ("x.csv", text("a,b\n1,2\n3,1e400\n"), "row 1 counting from 0, in column b"),
    "missing value": (
        "x.csv",
        text("a,b\n1,2\n3,\n"),
        "1 of 2 rows have missing values, the first in row 1 (line 3), column b",
    ),
    "missing in parquet": (
        "x.parquet",
        lambda path: pl.DataFrame({"a": [1, None]}).write_parquet(path),
        "in row 1 counting from 0, column a",
    ),
    "a line too short": ("x.csv", text("a,b\n1,2\n3\n"), "in row 1 (line 3), column b"),
    "an empty line": ("x.csv", text("a,b\n1,2\n\n3,4\n"), "in row 1 (line 3), column a"),
    "text column": ("x.csv", text("kind\nB cell\nT cell\n"), "no column of numbers; it has kind"),
    "text far down": (
        "x.csv",
        text("a,b\n" + "1,2\n" * 5000 + "1,x\n"),
        "column b holds no numbers but text, first 'x' in row 5000 (line 5002)",
    ),
    "thousands": ("x.csv", text('a,b\n1,2\n3,"1,234.5"\n'), "first '1,234.5' in row 1 (line 3)"),
    "dates": (
        "x.parquet",
        lambda path: (
            pl.DataFrame({"day": ["2020-01-01"]}).with_columns(pl.col("day").str.to_date()).write_parquet(path)
        ),
        "no column of numbers; it has day",
    ),
    "a header of numbers over whole numbers": ("x.csv", text("0,1\n1,1\n0,0\n"), "may be a header or a point"),
    "two columns of one name": ("x.csv", text("a,b,a\n1,2,3\n"), "several columns of the name a"),
    "a column without a name": ("x.csv", text("a,,c\n1,2,3\n"), "column 2 has no name"),
    "ragged": ("x.csv", text("a,b\n1,2\n1,2,3\n"), "line 3 has 3 cells separated by ',', the first line 2"),
    "a comment": ("x.csv", text("# made by hand\na,b\n1,2\n"), "line 2 has 2 cells separated by ',', the first line 1"),
    "several arrays": ("x.npz", lambda path: np.savez(path, a=cloud(), b=cloud()), "x.npz:KEY"),
}


@pytest.mark.parametrize(("name", "write", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files_are_refused_by_name(tmp_path: Path, name: str, write: Callable[[Path], Any], message: str) -> None:
    write(tmp_path / name)
    with pytest.raises(InputError) as caught:
        read_points(tmp_path / name)
    assert message in str(caught.value)
    assert name in str(caught.value)


def test_a_cell_may_have_a_line_break(tmp_path: Path) -> None:
    """Lines are not counted then."""
    path = write(tmp_path / "x.csv", "note,a,b", '"two\nlines, and, commas",1,2', "one,3,")
    with pytest.raises(InputError, match="row 1 counting from 0, column b"):
        read_points(path)
    assert read_points(path, Reading(drop_missing=True)).values.tolist() == [[1, 2]]


MISSING = ["", "NA", "NaN", "nan", "N/A", "null", "None", "<NA>", "#N/A", "-", "?"]


@pytest.mark.parametrize("mark", MISSING)
def test_rows_with_missing_values_are_left_out_on_request(tmp_path: Path, mark: str) -> None:
    path = write(tmp_path / "x.csv", "a,b", "1,2", f"3,{mark}", "5,6")
    with pytest.raises(InputError, match=r"row 1 \(line 3\), column b"):
        read_points(path)
    read = read_points(path, Reading(drop_missing=True))
    np.testing.assert_array_equal(read.values.numpy(), [[1, 2], [5, 6]])
    np.testing.assert_array_equal(read.numbers, [0, 2])
    assert read.remarks == (f"{path}: 1 of 3 rows have missing values and are left out: row 1 (line 3)",)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_arrays_and_tables_leave_them_out_too(tmp_path: Path, suffix: str) -> None:
    write_answer(tmp_path / f"x{suffix}", Answer(with_value(np.nan), ["a", "b"]))
    read = read_points(tmp_path / f"x{suffix}", Reading(drop_missing=True))
    assert len(read) == 18 and "2 of 20 rows" in read.remarks[0]


@pytest.mark.parametrize(
    ("source", "reading", "message"),
    [
        ("x.csv", Reading(columns=("a", "z")), "no column z. The columns are a, b; wanted are a, z"),
        ("x.csv", Reading(columns=("a2..a1",)), "no range of columns"),
        ("x.csv", Reading(id="name"), "no column name"),
        ("x.csv", Reading(separator=", "), "one character or tab"),
        ("x.csv", Reading(columns=("a", "b"), id="a"), "a cannot be both a coordinate"),
        ("x.npy", Reading(columns=("a",)), "--columns is for .csv, .tsv"),
        ("x.npy", Reading(id="a"), "--id is for .csv"),
        ("x.npz:y", Reading(), "no array 'y'"),
        ("y.npz:x", Reading(), "no such file"),
    ],
)
def test_what_a_file_does_not_hold_is_refused(tmp_path: Path, source: str, reading: Reading, message: str) -> None:
    for suffix in (".csv", ".npy", ".npz"):
        write_answer(tmp_path / f"x{suffix}", Answer(cloud(), ["a", "b"]))
    with pytest.raises(InputError, match=message):
        read_points(f"{tmp_path}/{source}", reading)


@pytest.mark.parametrize(
    ("column", "group", "message"),
    [
        ("stage", "c", "no group 'c' in stage; it has a, b"),
        ("day", "a", "no column day"),
        (None, "a", "give --groupby and the group"),
        ("stage", None, "give --groupby and the group"),
    ],
)
def test_groups_that_are_not_there_are_refused(
    tmp_path: Path, column: str | None, group: str | None, message: str
) -> None:
    path = write(tmp_path / "x.csv", "stage,height", "a,1", "b,2")
    with pytest.raises(InputError, match=message):
        read_points(path, Reading(groupby=column), group=group)


@pytest.mark.parametrize("name", ["x.txt", "x", "x.gz", "x.npy.gz"])
def test_files_of_another_kind_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"\.parquet"):
        write_answer(tmp_path / name, Answer(cloud(), ["a", "b"]))


# Two files


def pair(folder: Path, columns0: str, columns1: str) -> FileProblem:
    x = cloud(100, columns0.count(",") + 1)
    y = cloud(100, columns1.count(",") + 1, seed=1)
    for name, header, values in (("a", columns0, x), ("b", columns1, y)):
        write_answer(folder / f"{name}.csv", Answer(values, header.split(",")))
    return FileProblem(x0=str(folder / "a.csv"), x1=str(folder / "b.csv"), epsilon=1.0)


def test_the_columns_of_two_files_are_matched_by_name(tmp_path: Path) -> None:
    problem = pair(tmp_path, "height,weight", "weight,height").build()
    assert problem.columns == ("height", "weight")
    seen = torch.cat([problem.x1, problem.test1])
    np.testing.assert_allclose(seen.mean(0).numpy(), cloud(100, seed=1)[:, ::-1].mean(0))


@pytest.mark.parametrize("columns", ["age,income", "height,income", "height", "height,weight,age"])
def test_other_columns_are_refused_with_the_names_of_both(tmp_path: Path, columns: str) -> None:
    with pytest.raises(InputError) as caught:
        pair(tmp_path, "height,weight", columns).build()
    for part in ("a.csv", "b.csv", "height, weight", columns.replace(",", ", ")):
        assert part in str(caught.value)


def test_the_faults_of_both_files_come_at_once(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", "a,b", "1,", "2,3")
    with pytest.raises(InputError) as caught:
        FileProblem(x0=first, x1=str(tmp_path / "b.csv"), epsilon=1.0).build()
    assert "a.csv: 1 of 2 rows" in str(caught.value) and "b.csv: there is no such file" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give --x1 too"),
        ({"source": "a"}, "belong together"),
        ({"reading": Reading(groupby="stage"), "source": "a"}, "belong together"),
    ],
)
def test_half_a_question_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FileProblem(x0=write(tmp_path / "a.csv", "a", "1"), epsilon=1.0, **options).build()


@pytest.mark.parametrize("named_first", [True, False])
def test_a_file_without_names_is_matched_by_position_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], named_first: bool
) -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    pl.DataFrame(x, schema=["width", "height"]).write_csv(tmp_path / "named.csv")
    np.save(tmp_path / "bare.npy", x + 1)
    names = ["named.csv", "bare.npy"] if named_first else ["bare.npy", "named.csv"]
    first, second = (str(tmp_path / name) for name in names)
    problem = FileProblem(x0=first, x1=second, epsilon=0.1).build()
    assert problem.columns == ("width", "height")
    (line,) = capsys.readouterr().err.splitlines()
    assert "bare.npy does not name its columns" in line and "named.csv, width, height" in line
    FileProblem(x0=first, x1=first, epsilon=0.1).build()
    assert capsys.readouterr().err == ""
