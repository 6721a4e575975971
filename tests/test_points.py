"""Points of every kind that people have: the same points, matched by name, and answers in the kind that came."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse

import sbridge
from sbridge.errors import InputError
from sbridge.points import points_of
from sbridge.problems.gaussian import GaussianBridge
from sbridge.solvers import Solver

pytestmark = pytest.mark.filterwarnings("ignore::sbridge.DataWarning")  # small data at the default ε

X = np.random.default_rng(0).normal(size=(12, 2)).round(3)
NAMES = ["height", "weight"]


def exact() -> GaussianBridge:
    """From N(0, diag(1, 4)) to N((3, 0), I), between data with named columns."""
    mean0, mean1 = torch.zeros(2).double(), torch.tensor([3.0, 0.0]).double()
    bridge = GaussianBridge(mean0, torch.diag(torch.tensor([1.0, 4.0])).double(), mean1, torch.eye(2).double(), 0.5)
    bridge.columns = tuple(NAMES)
    return bridge


def reversed_twice(x: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]


def read_only(x: NDArray[Any]) -> NDArray[Any]:
    fixed = x.copy()
    fixed.flags.writeable = False
    return fixed


def mapped(x: NDArray[Any]) -> NDArray[Any]:
    path = Path(mapped.folder) / "x.npy"  # type: ignore[attr-defined]
    np.save(path, x)
    return np.load(path, mmap_mode="r")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    mapped.folder = tmp_path  # type: ignore[attr-defined]


def frame(x: NDArray[Any]) -> pd.DataFrame:
    return pd.DataFrame(x, columns=NAMES)


def read_only_frame(x: NDArray[Any]) -> pd.DataFrame:
    return pd.DataFrame(read_only(x), columns=NAMES, copy=False)


KINDS: dict[str, Callable[[NDArray[Any]], Any]] = {
    "array": np.array,
    "negative strides": reversed_twice,
    "big-endian": lambda x: x.astype(">f8"),
    "long double": lambda x: x.astype(np.longdouble),
    "columns first": np.asfortranarray,
    "read-only": read_only,
    "memory map": mapped,
    "nothing masked": np.ma.masked_invalid,
    "matrix of objects": lambda x: x.astype(object),
    "fractions": lambda x: np.array([[Fraction(str(value)) for value in row] for row in x]),
    "lists": lambda x: x.tolist(),
    "list of arrays": list,
    "tensor": torch.tensor,
    "tensor with a gradient": lambda x: torch.tensor(x, requires_grad=True),
    "sparse tensor": lambda x: torch.tensor(x).to_sparse(),
    "CSR": sparse.csr_matrix,
    "CSC array": sparse.csc_array,
    "pandas": frame,
    "pandas, read-only": read_only_frame,
    "pandas, other order": lambda x: frame(x)[NAMES[::-1]],
    "pandas, more columns": lambda x: frame(x).assign(cell="a", age=3),
    "pandas, nullable": lambda x: frame(x).convert_dtypes(),
    "pandas, Arrow": lambda x: frame(x).convert_dtypes(dtype_backend="pyarrow"),
    "pandas, objects": lambda x: frame(x).astype(object),
    "polars": lambda x: pl.DataFrame(x, schema=NAMES),
    "polars, other order": lambda x: pl.DataFrame(x, schema=NAMES)[NAMES[::-1]],
    "polars, more columns": lambda x: pl.DataFrame(x, schema=NAMES).with_columns(cell=pl.lit("a")),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_points_of_every_kind_are_the_same_points(kind: Callable[[NDArray[Any]], Any]) -> None:
    found = points_of(kind(X), NAMES)
    np.testing.assert_array_equal(found.values.numpy(), X)
    assert found.values.dtype == torch.float64 and not found.values.requires_grad
    wanted = exact().transport(X, random_state=0)
    moved = exact().transport(kind(X), random_state=0)
    np.testing.assert_array_equal(points_of(moved, NAMES).values.numpy().astype(float), wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_that_needs_no_change_is_not_copied(dtype: type) -> None:
    x = X.astype(dtype)
    assert np.shares_memory(points_of(x).values.numpy(), x)
    x.flags.writeable = False
    assert not np.shares_memory(points_of(x).values.numpy(), x)  # torch would warn


BAD: dict[str, tuple[Callable[[NDArray[Any]], Any], str]] = {
    "masked": (lambda x: np.ma.masked_greater(x, 1.0), "values of a masked array are masked"),
    "complex": (lambda x: x + 1j, "not complex"),
    "complex tensor": (lambda x: torch.tensor(x + 1j), "real numbers"),
    "complex frame": (lambda x: frame(x) + 1j, "column height holds no numbers but complex"),
    "words": (lambda x: x.astype(str), "array of numbers"),
    "dates": (lambda x: x.astype("datetime64[s]"), "array of numbers"),
    "records": (lambda x: frame(x).to_records(index=False), "array of numbers"),
    "ragged": (lambda x: [[1.0], [1.0, 2.0]], "array of numbers"),
    "a column": (lambda x: x[:, 0], r"shape \(n, d\), not \(12,\)"),
    "a series": (lambda x: frame(x)["height"], r"shape \(n, d\), not \(12,\)"),
    "three axes": (lambda x: x[None], r"shape \(n, d\), not \(1, 12, 2\)"),
    "text column": (lambda x: frame(x).astype({"weight": str}), "column weight holds no numbers but string"),
    "text in polars": (
        lambda x: pl.DataFrame(x, schema=NAMES).cast({"weight": pl.String}),
        "holds no numbers but String",
    ),
    "days": (lambda x: frame(x).assign(weight=pd.Timestamp("2020")), "holds no numbers but datetime64"),
    "other names": (
        lambda x: frame(x).set_axis(["age", "income"], axis=1),
        "columns are age, income; .* are height, weight",
    ),
    "numbers for names": (lambda x: pd.DataFrame(x), "columns are 0, 1; .* are height, weight"),
    "names twice": (lambda x: frame(x).set_axis(["height"] * 2, axis=1), "several columns of the name height"),
    "missing": (lambda x: frame(x).mask(frame(x).weight > 1), "the first is row 9 counting from 0, in column height"),
    "missing, nullable": (
        lambda x: frame(x).convert_dtypes().replace(X[4, 1], pd.NA),
        "row 4 counting from 0, in column weight",
    ),
    "missing in polars": (lambda x: pl.DataFrame(x, schema=NAMES).with_columns(weight=None), "row 0 .* column weight"),
    "infinite": (lambda x: x / (np.arange(24).reshape(12, 2) != 9), "row 4 counting from 0, in column 1 counting"),
}


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD.keys())
def test_what_are_no_points_is_refused(make: Callable[[NDArray[Any]], Any], message: str) -> None:
    bad = make(X)
    for ask in (exact().transport, lambda x: exact().velocity(0.5, x), lambda x: exact().trajectories(x, [0, 1])):
        with pytest.raises(InputError, match=message):
            ask(bad)


def test_the_question_is_not_changed() -> None:
    asked = frame(X)
    exact().transport(asked, random_state=0)
    pd.testing.assert_frame_equal(asked, frame(X))


# Answers


def test_a_table_is_answered_with_a_table_that_keeps_its_index_and_its_other_columns() -> None:
    asked = frame(X)[NAMES[::-1]].assign(group=list("abc") * 4).set_index(pd.Index(range(100, 112), name="cell"))
    wanted = exact().transport(X, random_state=0)
    moved = exact().transport(asked, random_state=0)
    assert list(moved.columns) == ["weight", "height", "group"]
    pd.testing.assert_index_equal(moved.index, asked.index)
    assert list(moved["group"]) == list(asked["group"])
    np.testing.assert_array_equal(moved[NAMES].to_numpy(), wanted)


def test_paths_of_a_table_are_one_table_with_the_time() -> None:
    times = [0.0, 0.5, 1.0]
    wanted = exact().trajectories(X, times, random_state=0)
    paths = exact().trajectories(frame(X), times, random_state=0)
    assert paths.index.names == ["t", None]
    of_polars = exact().trajectories(pl.DataFrame(X, schema=NAMES), times, random_state=0)
    for t, states in zip(times, wanted, strict=True):
        np.testing.assert_array_equal(paths.loc[t].to_numpy(), states)
        np.testing.assert_array_equal(of_polars.filter(pl.col("t") == t).drop("t").to_numpy(), states)


def test_densities_of_a_table_are_columns() -> None:
    base = frame(np.random.default_rng(1).normal(size=(50, 2)))
    wanted = exact().log_prob(X, base=base.to_numpy())
    found = exact().log_prob(frame(X)[NAMES[::-1]], base=base[NAMES[::-1]])
    assert isinstance(found.value, pd.Series) and found.value.name == "value"
    np.testing.assert_allclose(found.value, wanted.value, rtol=1e-9)
    of_polars = exact().log_prob(pl.DataFrame(X, schema=NAMES), base=base)
    np.testing.assert_allclose(of_polars.value.to_numpy(), wanted.value, rtol=1e-9)


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (X, np.float64),
        (X.astype(np.float32), np.float32),
        (X.astype(np.float16), np.float16),
        (X.astype(int), np.float64),
        (X.tolist(), np.float64),
        (torch.tensor(X).half(), torch.float16),
        (torch.tensor(X).int(), torch.float64),
    ],
)
def test_arrays_and_tensors_keep_their_precision(x: Any, dtype: Any) -> None:
    moved = exact().transport(x, random_state=0)
    assert moved.dtype == dtype and isinstance(moved, torch.Tensor) == isinstance(x, torch.Tensor)


# The estimator


@pytest.fixture(scope="module")
def fitted() -> sbridge.SchrodingerBridge:
    rng = np.random.default_rng(2)
    x0 = pd.DataFrame(rng.normal(size=(400, 2)) * [1, 0.5], columns=NAMES)
    x1 = pd.DataFrame(rng.normal(size=(500, 2)) * [0.5, 1.5] + [3, 0], columns=NAMES)
    return sbridge.SchrodingerBridge(epsilon=0.5, solver=sbridge.MixturePotential()).fit(x0, x1[NAMES[::-1]])


def test_a_fit_matches_columns_by_name(fitted: sbridge.SchrodingerBridge) -> None:
    assert list(fitted.feature_names_in_) == NAMES and fitted.n_features_in_ == 2
    moved = fitted.transport(frame(X), random_state=0)
    assert abs(moved["height"].mean() - 3) < 0.6 and abs(moved["weight"].mean()) < 1


@pytest.mark.parametrize(
    "solver",
    [
        sbridge.MaxMin(steps=3, network=sbridge.ResidualNetwork(16, 2)),
        sbridge.PotSinkhorn(points=20),
        sbridge.MixturePotential(),
    ],
    ids=lambda solver: solver.name,
)
def test_solvers_keep_the_names_of_a_problem(solver: Solver) -> None:
    problem = sbridge.Problem.of(points_of(frame(X)), points_of(frame(X + 1)), 0.5)
    bridge = solver.solve(problem)
    assert bridge.columns == tuple(NAMES)
    with pytest.raises(InputError, match="there is no column height"):
        bridge.transport(frame(X).rename(columns={"height": "age"}))


def test_names_survive_a_file(fitted: sbridge.SchrodingerBridge, tmp_path: Path) -> None:
    fitted.save(tmp_path / "bridge.safetensors")
    bridge = sbridge.Bridge.load(tmp_path / "bridge.safetensors")
    asked = frame(X)
    other = bridge.transport(asked[NAMES[::-1]], random_state=0)
    pd.testing.assert_frame_equal(other[NAMES], bridge.transport(asked, random_state=0))
    with pytest.raises(InputError, match="there is no column height"):
        bridge.transport(asked.rename(columns={"height": "age"}))


def test_the_score_and_the_certificate_match_columns_too(fitted: sbridge.SchrodingerBridge) -> None:
    rng = np.random.default_rng(3)
    x0 = pd.DataFrame(rng.normal(size=(200, 2)) * [1, 0.5], columns=NAMES)
    x1 = pd.DataFrame(rng.normal(size=(200, 2)) * [0.5, 1.5] + [3, 0], columns=NAMES)
    assert fitted.score(x0[NAMES[::-1]], x1) == fitted.score(x0, x1) == fitted.score(x0.to_numpy(), x1.to_numpy())
    one, two = (fitted.certificate(x0[order], x1, 0).forward.divergence for order in (NAMES, NAMES[::-1]))
    assert one == two


@pytest.mark.parametrize("read", [pd.read_csv, pl.read_csv])
def test_an_index_from_a_file_is_refused(read: Callable[[Path], Any], tmp_path: Path) -> None:
    """`pandas.read_csv` without index_col, and polars, take an index for a column."""
    frame(X).to_csv(tmp_path / "x.csv")
    with pytest.raises(InputError, match=r"x0: its first column, .* is an index"):
        sbridge.SchrodingerBridge().fit(read(tmp_path / "x.csv"), frame(X))
    moved = exact().transport(read(tmp_path / "x.csv"), random_state=0)
    np.testing.assert_array_equal(points_of(moved, NAMES).values.numpy(), exact().transport(X, random_state=0))


def test_a_column_that_counts_the_rows_is_kept_with_a_warning() -> None:
    counted = frame(X).assign(visit=range(5, 17))
    with pytest.warns(UserWarning, match="x0: column visit counts the rows"):
        found = points_of(counted, label="x0")
    assert found.columns == ("height", "weight", "visit")


@pytest.mark.parametrize("columns", [["age", "income"], ["height", "age"], ["height"], ["height", "weight", "age"]])
def test_samples_with_other_columns_are_refused_with_both_lists(columns: list[str]) -> None:
    other = pd.DataFrame(np.ones((20, len(columns))), columns=columns)
    with pytest.raises(InputError) as caught:
        sbridge.SchrodingerBridge().fit(pd.DataFrame(np.ones((20, 2)), columns=NAMES), other)
    for part in ("x0", "x1", "height, weight", ", ".join(columns)):
        assert part in str(caught.value)


def test_points_are_called_by_the_side_they_are_given_as() -> None:
    first, second = points_of(frame(X)), points_of(frame(X).assign(age=1))
    with pytest.raises(InputError, match=r"x1 has more columns than those of x0: age"):
        sbridge.SchrodingerBridge().fit(first, second)


def test_a_fit_without_names_forgets_old_ones(fitted: sbridge.SchrodingerBridge) -> None:
    model = sbridge.SchrodingerBridge(solver=sbridge.PotSinkhorn(points=20)).fit(frame(X), frame(X + 1))
    assert list(model.feature_names_in_) == NAMES
    assert not hasattr(model.fit(X, X + 1), "feature_names_in_")
    assert model.bridge_.columns is None


def test_the_higher_precision_of_two_samples_is_kept() -> None:
    """Double precision in x1 does not suffer from single precision in x0."""
    far = np.random.default_rng(0).normal(size=(50, 2)) + 1e8
    model = sbridge.SchrodingerBridge(solver=sbridge.PotSinkhorn(points=50))
    model.fit(np.zeros((50, 2), dtype=np.float32) + X[0].astype(np.float32), far)
    moved = model.transport(np.zeros((50, 2)), diffusion=0)
    assert model.sample("x1").dtype == torch.float64 and np.all(np.isfinite(moved))


@pytest.mark.parametrize("shift", [0.0, 1e7, 1.7e9])
def test_a_large_offset_changes_nothing(shift: float) -> None:
    """Standard deviations (1, 0.5) to (0.5, 1.5), wherever the data are."""
    rng = np.random.default_rng(4)
    x0, x1 = rng.normal(size=(1000, 2)) * [1, 0.5], rng.normal(size=(1000, 2)) * [0.5, 1.5]
    model = sbridge.SchrodingerBridge(epsilon=0.2, solver=sbridge.MixturePotential(components=1))
    moved = model.fit(x0 + shift, x1 + shift).transport(x0 + shift, random_state=0)
    np.testing.assert_allclose(moved.std(0), [0.5, 1.5], rtol=0.1)
    np.testing.assert_allclose(moved.mean(0) - shift, [0, 0], atol=0.15)


@pytest.mark.parametrize(
    "epsilon", [np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5), Fraction(1, 2)]
)
def test_any_number_may_be_epsilon(epsilon: Any, tmp_path: Path) -> None:
    model = sbridge.SchrodingerBridge(epsilon, solver=sbridge.PotSinkhorn(points=12)).fit(X, X + 1)
    model.save(tmp_path / "bridge.safetensors")
    assert sbridge.Bridge.load(tmp_path / "bridge.safetensors").epsilon == pytest.approx(0.5)


@pytest.mark.parametrize("epsilon", ["half", None, 1j, True, np.nan, -1])
def test_what_is_no_epsilon_is_refused(epsilon: Any) -> None:
    with pytest.raises(InputError, match="epsilon must be"):
        sbridge.SchrodingerBridge(epsilon, solver=sbridge.PotSinkhorn(points=12)).fit(X, X + 1)


def test_a_solver_may_be_given_as_its_class() -> None:
    by_class = sbridge.SchrodingerBridge(solver=sbridge.MixturePotential).fit(X, X + 1)
    by_object = sbridge.SchrodingerBridge(solver=sbridge.MixturePotential()).fit(X, X + 1)
    np.testing.assert_array_equal(by_class.transport(X, random_state=0), by_object.transport(X, random_state=0))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_fit_works_where_gradients_are_off(mode: Callable[[], Any]) -> None:
    solver = sbridge.MaxMin(steps=6, network=sbridge.ResidualNetwork(16, 2))
    with mode():
        model = sbridge.SchrodingerBridge(solver=solver).fit(X.repeat(5, 0), X.repeat(5, 0) + 1)
    assert np.all(np.isfinite(model.transport(X)))
