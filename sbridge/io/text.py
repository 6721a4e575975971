"""Text files as tables of cells: the separator, the header, the decimal mark.

Whether the first line is a header is decided on its cells.  It is one where a cell above a column of numbers is text.
Where all cells above such columns are numbers or blank, it is a point, with one exception: pandas names columns
0, 1, 2, … where they have no names.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from itertools import islice
from operator import gt
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from sbridge.errors import InputError
from sbridge.io.numbers import is_number, missing, numbers
from sbridge.io.raw import RawTable
from sbridge.io.reading import Reading
from sbridge.points.names import check_distinct
from sbridge.sizes import check_text_file
from sbridge.tables import read_csv

__all__ = ["read_text"]

_SEPARATORS = "\t;,"  # in this order where several would do
_NAMED = {"tab": "\t", r"\t": "\t"}  # what shells cannot write easily
_QUOTED = re.compile(r'"[^"]*"')
_LOOKED_AT = 50  # lines, to find the separator


def read_text(path: Path, reading: Reading) -> RawTable:
    """The cells of a text file, as text.

    Raises:
        InputError: the file is not UTF-8 or UTF-16, its lines have different numbers of cells, or it cannot be said
            whether its first line is a header.
    """
    content = _content(path)
    text = content.decode()
    if not text:
        raise InputError(f"{path} is empty")
    separator = _NAMED.get(reading.separator or "", reading.separator) or _separator(text, reading.decimal)
    if len(separator) != 1:
        raise InputError(f"the separator must be one character or tab, not {separator!r}")
    cells = _cells(path, content, separator)
    decimal = reading.decimal or _decimal(cells, separator)
    table = _headed(path, cells, decimal, _read_as(path, separator, decimal, reading))
    whole = cells.height == text.count("\n") + 1  # no cell has a line break
    return table if whole else replace(table, first_line=0)


def _cells(path: Path, content: bytes, separator: str) -> pl.DataFrame:
    try:
        return read_csv(content, has_header=False, infer_schema=False, separator=separator)
    except PolarsError:
        _check_widths(path, content.decode(), separator)
        raise


def _content(path: Path) -> bytes:
    """The file in UTF-8, without a byte order mark and empty lines at the end."""
    check_text_file(path)
    raw = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error
    return text.rstrip("\r\n").encode()


def _separator(text: str, decimal: str | None) -> str:
    """The separator that gives all of the first lines as many cells, at least two; else the most frequent."""
    lines = list(islice(text.splitlines(), _LOOKED_AT))
    marks = [mark for mark in _SEPARATORS if mark != decimal]
    for mark in marks:
        counts = {_count(mark, line) for line in lines}
        if len(counts) == 1 and counts != {0}:
            return mark
    return max(reversed(marks), key="\n".join(lines).count)


def _count(mark: str, line: str) -> int:
    """How often a mark stands in a line, outside of quotes."""
    return (_QUOTED.sub("", line) if '"' in line else line).count(mark)


def _check_widths(path: Path, text: str, separator: str) -> None:
    """Refuse a line with more cells than the first; a shorter one misses values."""
    lines = iter(text.splitlines())
    width = _count(separator, next(lines))
    for number, line in enumerate(lines, start=2):
        if _count(separator, line) > width:
            name = "tabs" if separator == "\t" else f"{separator!r}"
            raise InputError(
                f"{path}: line {number} has {_count(separator, line) + 1} cells separated by {name}, the first line "
                f"{width + 1}; correct it, or name the separator with --separator"
            )


def _decimal(cells: pl.DataFrame, separator: str) -> str:
    """The decimal mark: a comma where some cells are numbers only with one."""
    if separator == ",":
        return "."
    with_comma, with_point = (numbers(cells, mark).count().row(0) for mark in ",.")
    return "," if any(map(gt, with_comma, with_point)) else "."


def _read_as(path: Path, separator: str, decimal: str, reading: Reading) -> tuple[str, ...]:
    """What was found in the file and is not the usual, for the user."""
    found = []
    if reading.separator is None and separator != "," and not (separator == "\t" and ".tsv" in path.name.lower()):
        found.append(f"cells separated by {'tabs' if separator == chr(9) else separator}")
    if decimal not in (".", reading.decimal):
        found.append("decimal commas")
    return (f"{path}: read with {' and '.join(found)}",) if found else ()


def _headed(path: Path, cells: pl.DataFrame, decimal: str, remarks: tuple[str, ...]) -> RawTable:
    first, rest = [(cell or "").strip() for cell in cells.row(0)], cells[1:]
    if _is_header(path, first, rest, decimal):
        empty = [not name and bool(missing(column).all()) for name, column in zip(first, rest, strict=True)]
        kept = [column for column, none in zip(rest, empty, strict=True) if not none]
        names = [name for name, none in zip(first, empty, strict=True) if not none]
        return RawTable(path, _named(path, kept, names), True, 2, decimal, remarks)
    remark = f"{path}: it has no header, so its first line is a point and its columns are called c0, c1, …"
    names = [f"c{place}" for place in range(cells.width)]
    return RawTable(path, _named(path, list(cells), names), False, 1, decimal, (*remarks, remark))


def _named(path: Path, columns: list[pl.Series], names: list[str]) -> pl.DataFrame:
    check_distinct(names, str(path))
    if "" in names[1:]:
        raise InputError(f"{path}: column {names[1:].index('') + 2} has no name: name it in the first line")
    return pl.DataFrame(dict(zip(names, columns, strict=True)))


def _is_header(path: Path, first: list[str], rest: pl.DataFrame, decimal: str) -> bool:
    counts = numbers(rest, decimal).count().row(0)
    above = [cell for cell, count in zip(first, counts, strict=True) if count]
    looked_at = above or first  # no numbers below: a header and nothing else, or one point
    if any(cell and not is_number(cell, decimal) for cell in looked_at):
        return True
    names = [cell for cell in above if cell]
    if not names or names != [str(place) for place in range(len(names))]:
        return False
    if names == first and _all_whole(rest):
        raise InputError(
            f"{path}: its first line, {', '.join(first)}, may be a header or a point; give it a header with names"
        )
    return True


def _all_whole(cells: pl.DataFrame) -> bool:
    return all(bool((column.is_null() | column.str.contains(r"^\s*[+-]?\d*\s*$")).all()) for column in cells)
