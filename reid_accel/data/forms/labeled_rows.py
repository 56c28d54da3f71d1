"""Rows with labels in words, of a table or a set of the hub, as the splits of a listing."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from reid_accel.attributes.annotations import whole_number
from reid_accel.data.forms.naming import camera_numbers, names_given, natural_key, numbers_of
from reid_accel.data.listing import (
    UNKNOWN_CAMERA,
    UNKNOWN_TIME,
    UNKNOWN_TRACKLET,
    UNSPLIT,
    ImageFile,
    in_order_of_people,
)
from reid_accel.data.people_split import TEST
from reid_accel.errors import InputError, listed, shortened

TRAIN, QUERY, GALLERY, VALIDATION = "train", "query", "gallery", "validation"
MEANINGS = {
    TRAIN: (TRAIN, "training"),
    QUERY: (QUERY, "queries", "probe"),
    GALLERY: (GALLERY,),
    TEST: (TEST, "testing"),
    VALIDATION: (VALIDATION, "valid", "val", "dev"),
}
"""The names that splits have."""


class Row(NamedTuple):
    """An image and its labels as they are written; None is unknown. where: the place of the row, for errors."""

    path: Path
    name: str
    person: str
    camera: str | None
    tracklet: str | None
    time: int
    attributes: tuple[int, ...]
    where: str


def numbered_splits(
    rows: Mapping[str, Sequence[Row]], camera_remedy: str
) -> tuple[dict[str, tuple[ImageFile, ...]], dict[int, str]]:
    """The images of each split, in order, with numbers for people, cameras and tracklets; and the people's names.

    Raises InputError, with the place, for names in two spellings and cameras that look like dates.
    """
    every = [row for split in sorted(rows) for row in rows[split]]
    person_at = {row.person: row.where for row in reversed(every)}
    pid_of = numbers_of([row.person for row in every], "person", person_at.__getitem__)
    camera_at = {row.camera: row.where for row in reversed(every) if row.camera is not None}
    camera_of = camera_numbers(camera_at, camera_at.__getitem__, camera_remedy)
    keys = {_tracklet_key(row) for row in every if row.tracklet is not None}
    ordered = sorted(keys, key=lambda names: [natural_key(name) for name in names])
    tracklet_of = {names: number for number, names in enumerate(ordered, 1)}
    splits = {
        split: in_order_of_people(
            ImageFile(
                row.path,
                row.name,
                pid_of[row.person],
                UNKNOWN_CAMERA if row.camera is None else camera_of[row.camera],
                row.attributes,
                UNKNOWN_TRACKLET if row.tracklet is None else tracklet_of[_tracklet_key(row)],
                row.time,
            )
            for row in of_split
        )
        for split, of_split in rows.items()
    }
    return splits, names_given(pid_of)


def _tracklet_key(row: Row) -> tuple[str, str, str]:
    return row.person, row.camera or "", row.tracklet or ""


def meant_splits(rows: Mapping[str, Sequence[Row]], remedy: str) -> tuple[dict[str, list[Row]], list[str]]:
    """The rows by what the names of their splits mean, and warnings about what was joined or left out.

    A validation split is for training where there is another test, else for testing. Where all test people are in
    train, as in sets for classification, the images of both are a set without a split. Splits of other names are left
    out. Raises InputError if the names tell no split.
    """
    if len(rows) == 1:
        return {UNSPLIT: list(next(iter(rows.values())))}, []
    found: dict[str, list[Row]] = {}
    other = []
    for name, of_split in rows.items():
        meaning = next((meaning for meaning, names in MEANINGS.items() if name.casefold() in names), None)
        if meaning is None:
            other.append(name)
        else:
            found.setdefault(meaning, []).extend(of_split)
    if VALIDATION in found:
        found.setdefault(TRAIN if {TEST, QUERY} & set(found) else TEST, []).extend(found.pop(VALIDATION))
    if QUERY in found and GALLERY not in found and TEST in found:
        found[GALLERY] = found.pop(TEST)
    if set(found) not in ({TRAIN, QUERY, GALLERY}, {TRAIN, TEST}):
        raise InputError(
            f"there are the splits {listed(rows)}: expected train, query and gallery, or train and test, or one; "
            f"{remedy}"
        )
    warnings = [f"the splits {listed(other)} are left out"] if other else []
    if set(found) == {TRAIN, TEST} and _people(found[TEST]) <= _people(found[TRAIN]):
        warnings.append("all people of the split test are in train: both are split anew, by people")
        return {UNSPLIT: [*found[TRAIN], *found[TEST]]}, warnings
    return found, warnings


def _people(rows: Iterable[Row]) -> set[str]:
    return {row.person for row in rows}


def counted_from_1(splits: Mapping[str, Sequence[Row]]) -> tuple[dict[str, list[Row]], list[str]]:
    """Rows whose people are 0, 1, 2, ..., as class numbers are, with 1 added, since pid 0 marks distractors; a warning.

    Where person 0 is in the gallery alone, it is taken for the distractors.
    """
    people = {row.person for rows in splits.values() for row in rows}
    numbers = {int(person) for person in people} if all(map(str.isdecimal, people)) else set()
    of_class = numbers == set(range(len(people))) and any(
        int(row.person) == 0 for split, rows in splits.items() if split != GALLERY for row in rows
    )
    if not of_class:
        return {split: list(rows) for split, rows in splits.items()}, []
    counted = {split: [row._replace(person=str(int(row.person) + 1)) for row in rows] for split, rows in splits.items()}
    return counted, ["people are numbered from 0: 1 is added to each, since 0 marks distractors"]


def with_unique_names(splits: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """Rows whose names are unique in their split: as they are, else with the person in front, else numbers."""
    plain = {split: [row.name for row in rows] for split, rows in splits.items()}
    with_person = {split: [f"{row.person}/{row.name}" for row in rows] for split, rows in splits.items()}
    numbers = {split: [f"{n:08d}{row.path.suffix}" for n, row in enumerate(rows)] for split, rows in splits.items()}
    names = next(each for each in (plain, with_person, numbers) if all(len(set(of)) == len(of) for of in each.values()))
    return {
        split: [row._replace(name=name) for row, name in zip(rows, names[split], strict=True)]
        for split, rows in splits.items()
    }


def text_of(value: object, label: str, where: str) -> str | None:
    """A label as text, None if it is missing. Raises InputError for what is no text or number."""
    if value is None or value == "" or value != value:  # the last: NaN
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():  # integers of a column with gaps
        return str(int(value))
    raise InputError(f"{where}: the {label} must be a name or a whole number, got {shortened(repr(value))}")


def time_of(value: object, where: str) -> int:
    """A time as a whole number: milliseconds of a date, else the number itself; UNKNOWN_TIME if it is missing."""
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    text = text_of(value, "time", where)
    try:
        return UNKNOWN_TIME if text is None else whole_number(text)
    except ValueError as error:
        raise InputError(f"{where}: the time must be a whole number: {error}") from error
