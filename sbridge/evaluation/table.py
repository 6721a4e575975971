"""The table of a comparison: its columns, its rows, and their files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from typing_extensions import TypedDict

from sbridge.bridge import Direction
from sbridge.checks import Checked, Count, NotNegative, made_of
from sbridge.errors import InputError
from sbridge.estimates import rounded, with_error
from sbridge.evaluation.by_column import DATA, ColumnEnds, ColumnTable
from sbridge.files import read_json, write_json
from sbridge.sampling import Simulation, through
from sbridge.tables import html, markdown, write_csv

__all__ = ["COLUMNS", "FLOOR", "TRUTH", "Column", "Comparison", "Effort", "Row", "column_named", "merge", "unique"]
__all__ += ["with_gaps"]

Row = Mapping[str, float | str]
FLOOR = "floor (two true samples)"
TRUTH = "truth"
_WORST: Mapping[str, Direction] = {"forward_column": "forward", "backward_column": "backward"}


@dataclass(frozen=True)
class Column:
    """One measure of every method.

    Args:
        name: key in rows and in files.
        title: heading without the unit.
        unit: of the value; x is the unit of the data.
        meaning: one sentence.
        lower_is_better: whether the smallest value is the best.
        error: key of the value's standard error, if it has one.
    """

    name: str
    title: str
    unit: str
    meaning: str
    lower_is_better: bool = True
    error: str = ""

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def names(self) -> tuple[str, ...]:
        """The keys of the value and of its standard error."""
        return (self.name, self.error) if self.error else (self.name,)

    def cell(self, row: Row) -> str:
        """The text of a cell: three digits, or digits that match the standard error; empty if there is no value."""
        value, error = row.get(self.name, ""), row.get(self.error, "")
        if not isinstance(value, float):
            return value
        return with_error(value, error) if isinstance(error, float) else rounded(value)


def _distances(direction: str, short: str, end: str) -> list[Column]:
    moved = f"between held-out points moved {direction} and held-out points of {end}"
    return [
        Column(f"{direction}_energy", f"energy distance {short}", "x", f"Unbiased energy distance {moved}."),
        Column(
            f"{direction}_p",
            f"p {short}",
            "",
            f"Permutation p-value of the energy distance {moved}, at most 1,000 each; uniform where the laws agree.",
            lower_is_better=False,
        ),
        Column(f"{direction}_sliced", f"sliced W2 {short}", "x", f"W2 along random directions (their RMS) {moved}."),
        Column(f"{direction}_wasserstein", f"W2 {short}", "x", f"Exact W2 {moved}."),
        Column(
            f"{direction}_column",
            f"worst column {short}",
            "spreads",
            f"What mean or standard deviation miss in the column where they miss most, {moved}; by column they are in "
            "`by_column()` and `sbridge compare --by-column`.",
        ),
    ]


COLUMNS: Sequence[Column] = (
    *_distances("forward", "→", "x1"),
    *_distances("backward", "←", "x0"),
    Column(
        "dual_gap",
        "dual gap",
        "nats",
        "By so much the method's forward process is farther from the bridge than the best in this table, on the same "
        "held-out points: for exact bridges the difference of their potentials' dual values, for others their errors "
        "on pairs of points, corrected for what plans between few points get wrong.",
        error="dual_gap_se",
    ),
    Column(
        "kinetic_energy",
        "kinetic energy",
        "x²",
        "½E∫|u|²dt along the method's own forward paths; of all processes between these ends the bridge has the least. "
        "A process that ends elsewhere may have less; a plan of few points (POT, GeomLoss) has more, because its paths "
        "must meet those very points.",
        lower_is_better=False,
        error="kinetic_energy_se",
    ),
    Column(
        "path_energy",
        "NPE",
        "",
        "Normalised path energy |KE/KE* − 1|: the kinetic energy against that of the true bridge, where it is known.",
        error="path_energy_se",
    ),
    Column(
        "path_kl",
        "path KL",
        "nats",
        "KL divergence of the true bridge's path law from the method's, up to t = .99; 0 for the truth by definition.",
        error="path_kl_se",
    ),
    Column(
        "cbw_uvp",
        "cBW-UVP",
        "%",
        "Bures–Wasserstein error of sampled mean and covariance of x1 given x0, over half the variance of x1.",
        error="cbw_uvp_se",
    ),
    Column(
        "cbw_uvp_exact",
        "exact cBW-UVP",
        "%",
        "The same from the method's own exact conditional moments, for methods in closed form: it has no floor.",
        error="cbw_uvp_exact_se",
    ),
    Column("bw_uvp", "BW-UVP", "%", "Bures–Wasserstein error of mean and covariance of x1, over half its variance."),
    Column(
        "diagonal_kl",
        "mean diagonal KL",
        "nats",
        "KL divergence from simulated to true marginals, both as Gaussians with diagonal covariance; mean of 20 times.",
    ),
    Column(
        "endpoint_covariance_error",
        "covariance error",
        "%",
        "Relative error of the trace of the covariance between x0 and x1, for Gaussian bridges.",
    ),
    Column("fit_seconds", "fit", "s", "Wall time of the fit; empty where a fitted bridge was handed in."),
    Column("peak_memory", "memory", "MB", "Largest resident memory of a process that made this fit and no other."),
    Column("move_seconds", "move", "s", "Wall time to move the held-out points forward."),
    Column("remark", "remark", "", "A note on the row, e.g. that a plan did not converge.", lower_is_better=False),
)


def column_named(name: str) -> Column:
    """The column of that name; StopIteration if there is none."""
    return next(column for column in COLUMNS if column.name == name)


@dataclass(frozen=True)
class Effort(Checked):
    """How many points, paths and steps every method is evaluated with."""

    points: Count = 4096
    """Held-out points moved each way and compared (points)."""
    matched: Count = 2000
    """How many of them the exact W2 compares; its time grows like their cube (points)."""
    projections: Count = 256
    """Random directions of the sliced W2 (directions)."""
    steps: Count = 100
    """Euler-Maruyama steps of every simulation (steps)."""
    times: Count = 32
    """Random times on every exact path for the path KL (times)."""
    starts: Count = 200
    """Starting points of the cBW-UVP (points)."""
    per_start: Count = 200
    """Endpoints simulated from each of them; the cBW-UVP's floor falls like their inverse (points)."""
    diffusion: tuple[NotNegative, ...] = ()
    """D of the noise that held-out points are moved with: one value, or D(t) through several at equal distances in
    time; ε where there is none.  Path KL, cBW-UVP and kinetic energy are always of the bridge's own process (x²)."""

    @property
    def simulation(self) -> Simulation:
        """How held-out points are moved."""
        return Simulation(self.steps, through(self.diffusion))


@dataclass(frozen=True)
class Comparison:
    """Several methods on one problem, evaluated on the same points with the same random numbers.

    Args:
        problem: the problem's name.
        epsilon: its ε.
        dim: its dimension.
        random_state: seed of the solvers and of the evaluation.
        effort: the sizes that were used.
        rows: by the methods' names; rows[FLOOR] holds each metric between two true samples, and rows[TRUTH] the exact
            bridge evaluated like every method, where it is known.  Values that a row does not have are absent.
        duals: the dual value of each method on equal blocks of the held-out points, in nats, where it was measured.
        ends: mean and standard deviation of every column of each method's moved points, and of the data.
        names: of the columns, where they have some.
    """

    problem: str
    epsilon: float
    dim: int
    random_state: int
    effort: Effort
    rows: Mapping[str, Row]
    duals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    ends: Mapping[str, ColumnEnds] = field(default_factory=dict)
    names: Sequence[str] = ()

    def by_column(self) -> ColumnTable:
        """Every column by itself: mean and standard deviation of each method's ends beside those of the data.

        Raises:
            InputError: the ends were not measured, as in comparisons of earlier versions.
        """
        if DATA not in self.ends:
            raise InputError("this comparison has no figures of single columns; compute it again")
        return ColumnTable(self.ends, self.names)

    def cell(self, method: str, column: Column) -> str:
        """The text of a cell; that of the worst column has its name, where the ends were measured column by column."""
        text, direction = column.cell(self.rows[method]), _WORST.get(column.name)
        if direction is None or method not in self.ends or not text:
            return text
        return f"{text} ({self.by_column().worst(method, direction)})"

    @property
    def columns(self) -> list[Column]:
        """The columns in which at least one row has a value."""
        return [column for column in COLUMNS if any(row.get(column.name, "") != "" for row in self.rows.values())]

    def to_csv(self, path: str | Path) -> None:
        """Write the rows, with a first column `method`; standard errors have columns of their own."""
        names = [name for column in COLUMNS for name in column.names]
        rows = [{"method": method, **{name: row.get(name) for name in names}} for method, row in self.rows.items()]
        write_csv(path, rows)

    def to_json(self, path: str | Path) -> None:
        """Write everything, with the columns' meanings, to a file that `read` reads."""
        content = {**asdict(self), "columns": [asdict(column) for column in COLUMNS]}
        write_json(Path(path), content)

    def to_markdown(self) -> str:
        """A table in Markdown with a line for each method."""
        columns = self.columns
        cells = {method: {c.heading: self.cell(method, c) for c in columns} for method in self.rows}
        return markdown([{"method": method, **row} for method, row in cells.items()])

    def __str__(self) -> str:
        return f"{self._caption}\n\n{self.to_markdown()}"

    @property
    def _caption(self) -> str:
        return f"{self.problem}, d = {self.dim}, ε = {self.epsilon:.4g}"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        columns = self.columns
        cells = {method: {c.heading: self.cell(method, c) for c in columns} for method in self.rows}
        return html([{"method": method, **row} for method, row in cells.items()], self._caption)

    @staticmethod
    def read(path: str | Path) -> Comparison:
        """Read a file written by `to_json`.

        Raises:
            InputError: the file is missing, damaged or holds something else.
        """
        content = read_json(Path(path), _Content)
        try:
            return made_of("it", Comparison, {**content, **_as_made(content)})
        except (InputError, TypeError) as error:
            raise InputError(f"{path} is not a comparison written by sbridge, or it is damaged: {error}") from error


def _as_made(content: _Content) -> dict[str, Any]:
    """What JSON has as an object or a list."""
    return {"effort": Effort(**content["effort"]), "names": tuple(content["names"])}


class _Content(TypedDict):
    """Of a comparison's file: fields that are not named here are checked by the dataclass."""

    effort: dict[str, Any]
    names: list[str]


def merge(comparisons: Sequence[Comparison]) -> Comparison:
    """One table of several comparisons of the same problem; repeated names are numbered, "name (2)".

    Raises:
        InputError: there is none, or they differ in problem, seed or sizes, so their values cannot be compared.
    """
    if not comparisons:
        raise InputError("there is no comparison to merge")
    first = comparisons[0]
    for other in comparisons[1:]:
        _check_alike(first, other)
    methods = [item for one in comparisons for item in one.rows.items() if item[0] not in (FLOOR, TRUTH)]
    names = unique(name for name, _ in methods)
    references = {name: first.rows[name] for name in (TRUTH, FLOOR) if name in first.rows}
    rows = {**dict(zip(names, (row for _, row in methods), strict=True)), **references}
    found = [one.duals.get(name) for one in comparisons for name in one.rows if name not in (FLOOR, TRUTH)]
    duals = {name: dual for name, dual in zip(names, found, strict=True) if dual is not None}
    duals |= {name: first.duals[name] for name in references if name in first.duals}
    moved = [one.ends.get(name) for one in comparisons for name in one.rows if name not in (FLOOR, TRUTH)]
    measured = {name: ends for name, ends in zip(names, moved, strict=True) if ends is not None}
    data = {DATA: first.ends[DATA]} if DATA in first.ends else {}
    return replace(first, rows=with_gaps(rows, duals), duals=duals, ends=data | measured)


def with_gaps(rows: Mapping[str, Row], duals: Mapping[str, Sequence[float]]) -> Mapping[str, Row]:
    """The rows with their dual gaps and standard errors, which are those of the differences, block by block."""
    if not duals:
        return rows
    best = max(duals, key=lambda name: fmean(duals[name]))
    gaps = {name: [b - a for a, b in zip(dual, duals[best], strict=True)] for name, dual in duals.items()}
    figures = {name: {"dual_gap": fmean(gap), "dual_gap_se": stdev(gap) / sqrt(len(gap))} for name, gap in gaps.items()}
    return {name: {**row, **figures.get(name, {})} for name, row in rows.items()}


def _check_alike(first: Comparison, other: Comparison) -> None:
    one, two = ({**asdict(each), "rows": None, "duals": None, "ends": None} for each in (first, other))
    differing = [f"{key} ({one[key]} and {two[key]})" for key in one if one[key] != two[key]]
    if differing:
        rule = "only comparisons of the same problem, seed and sizes can be merged"
        raise InputError(f"{rule}; these differ in {', '.join(differing)}")


def unique(names: Iterable[str]) -> list[str]:
    """The names, later copies of one numbered: a, a (2), a (3)."""
    seen: dict[str, int] = {}
    numbered = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        numbered.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return numbered
