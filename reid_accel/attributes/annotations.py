"""The two annotation files of Market-1501: `market_attribute.mat` and the course's `annotations_train.csv`.

Both are read as a mapping from pid to the person's class indices in `MARKET_GROUPS`.
"""

import csv
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid_accel.attributes.vocabulary import MARKET_COLUMNS, annotation_columns, class_indices
from reid_accel.errors import InputError
from reid_accel.files import replacing, write_text

_MAT_TEXT_BYTES = 116  # length of the descriptive text at the start of a MAT-file

PersonAttributes = Mapping[int, tuple[int, ...]]


def read_market_mat(path: Path) -> dict[str, dict[int, tuple[int, ...]]]:
    """Attributes of each person in both halves: {"train": {pid: class indices}, "test": {...}}.

    The order of fields differs between the halves, so fields are read by name.
    Raises InputError when the file isn't Market-1501's annotation.
    """
    content = _load_mat(path)
    if "market_attribute" not in content:
        raise InputError(f"{path} has no variable 'market_attribute'; it must be Market-1501's annotation")
    halves = content["market_attribute"].item()
    names = content["market_attribute"].dtype.names or ()
    return {half: _read_half(path, half, dict(zip(names, halves, strict=True))) for half in ("train", "test")}


def _load_mat(path: Path) -> dict[str, Any]:
    import scipy.io  # imported late: it takes a quarter of a second, and most commands don't need it
    from scipy.io.matlab import MatReadError

    # scipy's errors for non-MATLAB files, which depend on the position of the first wrong byte
    wrong_values = (ValueError, TypeError, LookupError, ArithmeticError)
    try:
        content: dict[str, Any] = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=True)
    except (MatReadError, NotImplementedError, OSError, zlib.error, *wrong_values) as error:
        raise InputError(f"{path} cannot be read as a MATLAB file: {error}") from error
    return content


def _read_half(path: Path, half: str, halves: Mapping[str, np.ndarray]) -> dict[int, tuple[int, ...]]:
    if half not in halves:
        raise InputError(f"{path} has no half {half!r}, only: {', '.join(halves)}")
    record = halves[half]
    fields = {name: np.atleast_1d(record[name].item()) for name in record.dtype.names or ()}
    missing = [name for name in ("image_index", *MARKET_COLUMNS) if name not in fields]
    if missing:
        raise InputError(f"{path}, half {half!r}, lacks the fields: {', '.join(missing)}")
    return dict(_read_person(f"{path}, half {half!r}", fields, row) for row in range(len(fields["image_index"])))


def _read_person(where: str, fields: Mapping[str, np.ndarray], row: int) -> tuple[int, tuple[int, ...]]:
    name = str(fields["image_index"][row])
    try:
        return int(name), class_indices({column: int(fields[column][row]) for column in MARKET_COLUMNS})
    except (IndexError, ValueError) as error:
        raise InputError(f"{where}, person {name}: {error}") from error


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
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            lines = [row for row in csv.reader(file) if row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} is not a UTF-8 CSV file: {error}") from error
    if not lines:
        raise InputError(f"{path} is empty; expected the header id,{','.join(MARKET_COLUMNS)}")
    header = [column.strip() for column in lines[0]]
    _check_header(path, header)
    people: dict[int, tuple[int, ...]] = {}
    for number, fields in enumerate(lines[1:], start=2):
        if len(fields) != len(header):
            raise InputError(f"{path}, row {number}: expected {len(header)} fields, got {len(fields)}")
        try:
            row = {column: int(value) for column, value in zip(header, fields, strict=True)}
            attributes = class_indices(row)
        except ValueError as error:
            raise InputError(f"{path}, row {number}: {error}") from error
        if row["id"] in people:
            raise InputError(f"{path}, row {number}: person {row['id']} is listed twice")
        people[row["id"]] = attributes
    return people


def _check_header(path: Path, header: Sequence[str]) -> None:
    expected = ["id", *MARKET_COLUMNS]
    missing = [column for column in expected if column not in header]
    extra = [column for column in header if column not in expected]
    if missing or extra or len(header) != len(expected):
        raise InputError(
            f"{path}: the header must have the 28 columns {','.join(expected)}; "
            f"missing: {', '.join(missing) or 'none'}; unexpected: {', '.join(extra) or 'none'}"
        )


def write_course_csv(path: Path, attributes: Mapping[int, Sequence[int]]) -> None:
    """Write an `annotations_train.csv`: one row per person, 28 columns, values from 1."""
    lines = [",".join(("id", *MARKET_COLUMNS))]
    for pid in sorted(attributes):
        columns = annotation_columns(attributes[pid])
        lines.append(",".join(str(value) for value in (pid, *(columns[c] for c in MARKET_COLUMNS))))
    write_text(path, "\n".join(lines) + "\n")
