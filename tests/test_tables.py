"""Tables: what is written comes back, and no cell breaks a line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from members import read_csv

from sbridge.tables import markdown, write_csv

WORDS = st.text(st.sampled_from('ab1 .,;|"\n–ε'), max_size=6)
ROWS = st.lists(st.fixed_dictionaries({"first": WORDS, "second, b": WORDS}), min_size=1, max_size=5)


@given(ROWS)
def test_words_come_back_from_a_csv_file(rows: list[dict[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        write_csv(Path(folder) / "table.csv", rows)
        assert read_csv(Path(folder) / "table.csv") == rows
        assert [path.name for path in Path(folder).iterdir()] == ["table.csv"]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_come_back_to_the_last_digit(values: list[float]) -> None:
    with TemporaryDirectory() as folder:
        write_csv(Path(folder) / "table.csv", [{"value": value} for value in values])
        assert [float(row["value"]) for row in read_csv(Path(folder) / "table.csv")] == values


def test_absent_cells_are_empty_and_columns_stand_in_the_order_of_their_first_rows(tmp_path: Path) -> None:
    rows = [{"b": 1, "a": "x"}, {"c": 0.5, "b": None}, {"b": 2.5}]
    write_csv(tmp_path / "table.csv", rows)
    assert read_csv(tmp_path / "table.csv") == [
        {"b": "1.0", "a": "x", "c": ""},
        {"b": "", "a": "", "c": "0.5"},
        {"b": "2.5", "a": "", "c": ""},
    ]
    assert markdown(rows).splitlines()[2:] == ["| 1 | x |  |", "|  |  | 0.5 |", "| 2.5 |  |  |"]


@given(ROWS)
def test_markdown_has_a_line_for_each_row_and_as_many_cells_in_each(rows: list[dict[str, str]]) -> None:
    lines = markdown(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert {line.replace("\\|", "").count("|") for line in lines} == {3}


@pytest.mark.parametrize(
    ("cells", "alignment"),
    [(["0.5", "-3", "(4.0 ± 0.2)e-07", ""], "---:"), (["0.5", "two"], "---"), (["", ""], "---")],
)
def test_columns_of_numbers_are_aligned_to_the_right(cells: list[str], alignment: str) -> None:
    assert markdown([{"value": cell} for cell in cells]).splitlines()[1] == f"| {alignment} |"


def test_importing_the_package_loads_neither_tables_nor_figures_nor_ray() -> None:
    heavy = {"matplotlib", "polars", "ray"}
    program = f"import sys, sbridge; sys.exit(str({heavy} & set(sys.modules) or ''))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stderr.strip() == ""
