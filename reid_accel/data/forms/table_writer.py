"""A data set as a CSV or TSV file, which `--data.name table` reads back with the same names and labels."""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reid_accel.attributes.vocabulary import MARKET_GROUPS, UNKNOWN, AttributeGroup
from reid_accel.config.data import COLUMNS
from reid_accel.data.forms.naming import natural_key, numbered
from reid_accel.data.forms.table_attributes import heading
from reid_accel.data.listing import UNKNOWN_CAMERA, UNKNOWN_TIME, UNKNOWN_TRACKLET, UNLABELED_PID, ImageFile
from reid_accel.errors import InputError
from reid_accel.files import is_utf8, shown, write_text

SEPARATORS = {".csv": ",", ".tsv": "\t"}

Splits = Mapping[str, Sequence[ImageFile]]


@dataclass(frozen=True)
class _Content:
    """What a row needs to know of the others."""

    folder: str
    groups: Sequence[AttributeGroup]
    person_of: Mapping[int, str]
    named: bool
    """Whether a name differs from its file's."""


def write_table(
    path: Path, splits: Splits, groups: Sequence[AttributeGroup], people: Mapping[int, str] | None = None
) -> None:
    """Write one row per image: COLUMNS, then one column per attribute group; what is unknown is empty.

    people: names of people, written if a reader would number them again in the same way. Paths are relative to the
    file's folder. The file is written whole or not at all.
    Raises InputError for another ending than .csv and .tsv, and for names that are no text.
    """
    separator = SEPARATORS.get(path.suffix.lower())
    if separator is None:
        raise InputError(f"{path}: a table is written as .csv or .tsv: choose a name with one of these endings")
    images = [image for some in splits.values() for image in some]
    named = any(image.name != image.path.name for image in images)
    person_of = _written_people({image.pid for image in images}, people or {})
    content = _Content(os.path.abspath(path.parent), groups, person_of, named)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    columns = COLUMNS if named else COLUMNS[:-1]
    writer.writerow((*columns, *(_heading(number, group, images) for number, group in enumerate(groups))))
    for split, some in splits.items():
        writer.writerows(_cells(image, split, content) for image in some)
    write_text(path, text.getvalue())


def _cells(image: ImageFile, split: str, content: _Content) -> Iterator[str]:
    if not is_utf8(image.path):
        raise InputError(f"the file name {shown(image.path)} is not UTF-8, which tables need; rename it")
    yield _path_from(content.folder, image.path)
    yield "" if image.pid == UNLABELED_PID else content.person_of.get(image.pid, str(image.pid))
    yield "" if image.camera == UNKNOWN_CAMERA else str(image.camera)
    yield split
    yield "" if image.tracklet == UNKNOWN_TRACKLET else str(image.tracklet)
    yield "" if image.time == UNKNOWN_TIME else str(image.time)
    if content.named:
        yield image.name
    for group, value in zip(content.groups, image.attributes, strict=True):
        yield "" if value == UNKNOWN else group.values[value]


def _path_from(folder: str, path: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return Path(os.path.abspath(path)).as_posix()


def _written_people(pids: set[int], people: Mapping[int, str]) -> Mapping[int, str]:
    """The names, if all people have one and their order gives them the same numbers again."""
    names = {people.get(pid, ""): pid for pid in pids}
    return people if "" not in names and numbered(names) == names else {}


def _heading(number: int, group: AttributeGroup, images: Sequence[ImageFile]) -> str:
    """The group's name, with its values unless a reader would find them all and in this order."""
    if group in MARKET_GROUPS:
        return group.name
    there = {image.attributes[number] for image in images} - {UNKNOWN}
    in_order = sorted(group.values, key=natural_key) == list(group.values)
    return group.name if in_order and len(there) == len(group.values) else heading(group)
