"""Tables of users as columns of text: CSV and TSV (UTF-8 or UTF-16), JSON lines, Parquet.

Empty cells and nulls are the empty text. Numbers and dates become the text that a CSV file would have.
"""

import csv
import datetime
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from reid_accel.config.strict import parsed_json
from reid_accel.errors import InputError, explaining_os_errors, first_line, listed, shortened
from reid_accel.files import check_regular, open_regular, regular_only

MOST_COLUMNS = 1000
LONGEST_LINE = 2**24
TEXT_ENDINGS = (".csv", ".tsv", ".tab", ".txt")
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
PARQUET_ENDINGS = (".parquet", ".pq")
TABLE_ENDINGS = (*TEXT_ENDINGS, *JSON_ENDINGS, *PARQUET_ENDINGS)

_SEPARATOR_LINE = re.compile(r"sep=(.)\s*")


@dataclass(frozen=True)
class Rows:
    """The columns of a table, and the line of each row (the row's number in a Parquet file)."""

    path: Path
    columns: Mapping[str, Sequence[str]]
    lines: Sequence[int]

    def where(self, row: int) -> str:
        """The place of a row, for errors."""
        unit = "row" if self.path.suffix.lower() in PARQUET_ENDINGS else "line"
        return f"{self.path}, {unit} {self.lines[row]}"

    def first_where(self, column: str) -> Callable[[str], str]:
        """The place where a value of a column first occurs."""
        return lambda value: self.where(self.columns[column].index(value))


def read_rows(path: Path) -> Rows:
    """The content of a table. Raises InputError, naming file and line, for anything that isn't one."""
    ending = path.suffix.lower()
    if ending not in TABLE_ENDINGS:
        raise InputError(f"{path}: a table is a file that ends in {listed(TABLE_ENDINGS, 99)}; rename or export it")
    with explaining_os_errors():
        check_regular(path)
        if ending in PARQUET_ENDINGS:
            rows = _parquet(path)
        else:
            try:
                rows = _csv(path) if ending in TEXT_ENDINGS else _json_lines(path)
            except UnicodeError as error:
                raise InputError(f"{path} is not UTF-8 text ({error}): save it as CSV in UTF-8") from error
    if not rows.lines:
        raise InputError(f"{path} has no rows")
    return rows


def _csv(path: Path) -> Rows:
    columns: list[list[str]] = []
    names: list[str] = []
    pools: list[dict[str, str]] = []
    numbers: list[int] = []
    for number, cells in _records(path):
        if not names:
            names = [cell.strip() for cell in cells]
            _check_names(f"{path}, line {number}", names)
            columns, pools = [[] for _ in names], [{} for _ in names]
        elif len(cells) != len(names):
            raise InputError(f"{path}, line {number}: expected {len(names)} fields as in the header, got {len(cells)}")
        else:
            numbers.append(number)
            for column, pool, cell in zip(columns, pools, cells, strict=True):
                column.append(pool.setdefault(cell, cell))
    if not names:
        raise InputError(f"{path} is empty")
    return Rows(path, dict(zip(names, columns, strict=True)), numbers)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The records that aren't blank, each with the number of its first line."""
    with _open_text(path) as file:
        lines = _lines(path, file)
        first = next(lines, "")
        chosen = _SEPARATOR_LINE.fullmatch(first)  # what Excel writes and reads
        separator = chosen[1] if chosen else _separator(path, first)
        begun = 1 if chosen else 0
        reader = csv.reader(lines if chosen else _with_first(first, lines), delimiter=separator, strict=True)
        before = 0
        try:
            for cells in reader:
                if any(cells):
                    yield begun + before + 1, cells
                before = reader.line_num
        except csv.Error as error:
            raise InputError(f"{path}, line {begun + before + 1}: {error}") from error


def _with_first(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _separator(path: Path, header: str) -> str:
    """A tab in a TSV file; else the most frequent of comma, semicolon and tab in the header."""
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    return max(",;\t", key=header.count)


def _open_text(path: Path) -> IO[str]:
    with open_regular(path) as file:
        start = file.read(4)
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return open(path, encoding=encoding, newline="", opener=regular_only)


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    """Lines with their ends. Raises InputError for NUL characters and for what can't be a line of a table."""
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if "\0" in line:
            raise InputError(f"{path}, line {number} has a NUL character: save the table as text in UTF-8")
        if len(line) == LONGEST_LINE:
            raise InputError(
                f"{path}, line {number} has more than {LONGEST_LINE:,} characters, so it is no table's row"
            )
        if number == 1 and max(map(line.count, ",;\t")) >= MOST_COLUMNS and line[0] != "{":
            _check_number(f"{path}, line {number}", max(map(line.count, ",;\t")) + 1)
        yield line


def _check_number(where: str, number: int) -> None:
    if number > MOST_COLUMNS:
        raise InputError(f"{where}: {number:,} columns are too many ({MOST_COLUMNS:,}): keep those that are needed")


def _check_names(where: str, names: Sequence[str]) -> None:
    _check_number(where, len(names))
    twice = [name for name in dict.fromkeys(names) if name and names.count(name) > 1]
    if twice:
        raise InputError(f"{where}: the column {listed(twice)} is there twice: rename one of them")


def _json_lines(path: Path) -> Rows:
    columns: dict[str, list[str]] = {}
    kind_of: dict[str, tuple[str, int]] = {}
    numbers: list[int] = []
    with _open_text(path) as file:
        for number, line in enumerate(_lines(path, file), 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            content = _json_object(where, line)
            for name in content:
                if name not in columns:
                    columns[name] = [""] * len(numbers)
            _check_number(where, len(columns))
            for name, column in columns.items():
                column.append(_text(where, name, content.get(name), kind_of, number))
            numbers.append(number)
    return Rows(path, columns, numbers)


def _json_object(where: str, line: str) -> Mapping[str, Any]:
    try:
        content = parsed_json(line)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f'{where}: expected an object, as {{"path": "a.jpg", "person": "Anna"}}, on each line')
    return content


def _text(where: str, name: str, value: object, kind_of: dict[str, tuple[str, int]], line: int) -> str:
    """A value as text. Raises InputError if the column has values of another type."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    kind = _kind(value)
    if kind is None:
        raise InputError(f"{where}: {shortened(name)} must be text or a number, got {shortened(repr(value))}")
    other, first = kind_of.setdefault(name, (kind, line))
    if other != kind:
        raise InputError(f"{where}: {shortened(name)} is {kind}, but {other} in line {first}: write all in one way")
    return _plain(value)


def _kind(value: object) -> str | None:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str | datetime.date | datetime.time) else None


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return str(int(value))
    return str(value)


def _parquet(path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        _check_number(str(path), file.metadata.num_columns)
        table = file.read()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as a Parquet file: {first_line(error)}") from error
    _check_names(str(path), table.column_names)
    columns = {}
    for name in table.column_names:
        kind_of: dict[str, tuple[str, int]] = {}
        values = enumerate(table.column(name).to_pylist(), 1)
        columns[name] = [_text(f"{path}, row {row}", name, value, kind_of, row) for row, value in values]
    return Rows(path, columns, range(1, table.num_rows + 1))
