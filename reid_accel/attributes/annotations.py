"""The two annotation files of Market-1501: `market_attribute.mat` and the course's `annotations_train.csv`.

Both are read as a mapping from pid to the person's class indices in `MARKET_GROUPS`.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid_accel.attributes.mat_file import MatFile, read_mat_fields
from reid_accel.attributes.vocabulary import MARKET_COLUMNS, annotation_columns, class_indices
from reid_accel.errors import InputError, listed, shortened
from reid_accel.files import regular_only, replacing, write_text

_MAT_TEXT_BYTES = 116  # length of the descriptive text at the start of a MAT-file

LARGEST_CSV_BYTES = 16 * 2**20  # 270,000 people
WITHOUT_ATTRIBUTES = "copy or download it again, or remove it to train without attributes"
_NUMBER = re.compile(r"-?\d{1,30}", re.ASCII)

PersonAttributes = Mapping[int, tuple[int, ...]]


def read_market_mat(path: Path) -> dict[str, dict[int, tuple[int, ...]]]:
    """Attributes of each person in both halves: {"train": {pid: class indices}, "test": {...}}.

    The order of fields differs between the halves, so fields are read by name.
    Raises InputError when the file isn't Market-1501's annotation.
    """
    file = MatFile(path, "Market-1501", ("market_attribute",), WITHOUT_ATTRIBUTES)
    return {half: _read_half(f"{path}, half {half!r}", fields) for half, fields in read_mat_fields(file).items()}


def _read_half(where: str, fields: Mapping[str, Sequence[Any]]) -> dict[int, tuple[int, ...]]:
    missing = [name for name in ("image_index", *MARKET_COLUMNS) if name not in fields]
    if missing:
        raise InputError(f"{where}, lacks the fields: {listed(missing)}")
    people: dict[int, tuple[int, ...]] = {}
    for row, name in enumerate(fields["image_index"]):
        try:
            pid = whole_number(str(name))
            attributes = class_indices({column: fields[column][row] for column in MARKET_COLUMNS})
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}, person {name}: {error}") from error
        if pid in people:
            raise InputError(f"{where}: person {name} is listed twice")
        people[pid] = attributes
    return people


def write_market_mat(path: Path, train: Mapping[int, Sequence[int]], test: Mapping[int, Sequence[int]]) -> None:
    """Write a `market_attribute.mat` that `read_market_mat` (and the usual MATLAB code) can read."""
    import scipy.io

    content = {"train": _half_record(train), "test": _half_record(test)}
    with replacing(path) as temporary:
        scipy.io.savemat(str(temporary), {"market_attribute": content}, appendmat=False)
        with open(temporary, "rb+") as file:
            file.write(b"MATLAB 5.0 MAT-file".ljust(_MAT_TEXT_BYTES))  # replaces scipy's text, which contains the date


def _half_record(people: Mapping[int, Sequence[int]]) -> dict[str, np.ndarray]:
    rows = [annotation_columns(people[pid]) for pid in sorted(people)]
    record = {column: np.array([row[column] for row in rows], np.uint8) for column in MARKET_COLUMNS}
    record["image_index"] = np.array([f"{pid:04d}" for pid in sorted(people)], dtype=object)
    return record


def read_course_csv(path: Path) -> dict[int, tuple[int, ...]]:
    """Attributes of each person in the course's `annotations_train.csv`: {pid: class indices}.

    Raises InputError with the line number for missing or extra columns, values out of range, and ids that are not
    numbers or not unique.
    """
    header: list[str] = []
    people: dict[int, tuple[int, ...]] = {}
    for number, fields in _csv_lines(path):
        if not header:
            header = [column.strip() for column in fields]
            _check_header(path, header)
            continue
        if len(fields) != len(header):
            raise InputError(f"{path}, row {number}: expected {len(header)} fields, got {len(fields)}")
        try:
            row = {column: whole_number(value) for column, value in zip(header, fields, strict=True)}
            attributes = class_indices(row)
        except ValueError as error:
            raise InputError(f"{path}, row {number}: {error}") from error
        if row["id"] in people:
            raise InputError(f"{path}, row {number}: person {row['id']} is listed twice")
        people[row["id"]] = attributes
    if not header:
        raise InputError(f"{path} is empty; expected the header id,{','.join(MARKET_COLUMNS)}")
    return people


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines that aren't blank, with their numbers."""
    try:
        if path.stat().st_size > LARGEST_CSV_BYTES:
            raise InputError(f"{path} has more than {LARGEST_CSV_BYTES >> 20} MB; it must have one row per person")
        with open(path, encoding="utf-8-sig", newline="", opener=regular_only) as file:
            reader = csv.reader(file)
            yield from ((reader.line_num, row) for row in reader if row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a UTF-8 CSV file: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def whole_number(text: str) -> int:
    """A whole number in 64 bits, written in digits. Raises ValueError for anything else."""
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"{shortened(text)!r} is not a whole number")
    number = int(text)
    if abs(number) >= 2**63:
        raise ValueError(f"the number {shortened(text)} is too large (64 bits)")
    return number


def _check_header(path: Path, header: Sequence[str]) -> None:
    expected = ["id", *MARKET_COLUMNS]
    missing = [column for column in expected if column not in header]
    extra = [column for column in header if column not in expected]
    twice = [column for column, times in Counter(header).items() if times > 1]
    if missing or extra or twice:
        raise InputError(
            f"{path}: the header must have the 28 columns {','.join(expected)}, each once; it has {len(header):,}, "
            f"missing: {listed(missing) or 'none'}; unexpected: {listed(extra) or 'none'}; "
            f"more than once: {listed(twice) or 'none'}"
        )


def write_course_csv(path: Path, attributes: Mapping[int, Sequence[int]]) -> None:
    """Write an `annotations_train.csv`: one row per person, 28 columns, values from 1."""
    lines = [",".join(("id", *MARKET_COLUMNS))]
    for pid in sorted(attributes):
        columns = annotation_columns(attributes[pid])
        lines.append(",".join(str(value) for value in (pid, *(columns[c] for c in MARKET_COLUMNS))))
    write_text(path, "\n".join(lines) + "\n")
