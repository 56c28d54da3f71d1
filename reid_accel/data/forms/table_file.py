"""Own pictures listed in a table: one row per image, with its path, person, camera, split and attributes."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from reid_accel.config.data import COLUMNS
from reid_accel.data.forms.labeled_rows import GALLERY, MEANINGS, QUERY, TRAIN
from reid_accel.data.forms.naming import are_whole, camera_numbers, names_given, numbers_of
from reid_accel.data.forms.table_attributes import attribute_columns
from reid_accel.data.forms.table_paths import Resolved, resolved_paths
from reid_accel.data.forms.table_rows import Rows, read_rows
from reid_accel.data.forms.table_times import times_of, tracklets_of
from reid_accel.data.listing import (
    UNKNOWN_CAMERA,
    UNSPLIT,
    ImageFile,
    Listing,
    fingerprint_of,
    in_order_of_people,
    together,
)
from reid_accel.data.people_split import TEST
from reid_accel.errors import InputError, listed, shortened

REQUIRED = ("path", "person")
SPLIT_WORDS = {
    **{word: split for split in (TRAIN, QUERY, GALLERY, TEST) for word in MEANINGS[split]},
    "bounding_box_train": TRAIN,
    "bounding_box_test": GALLERY,
}


@dataclass(frozen=True)
class TableFile:
    """A CSV, TSV, JSON lines or Parquet file with the columns path, person and, if known, camera, split, tracklet,
    time, name; every other column is an attribute.

    columns: the columns of path, person, ..., if they have other names. attributes: the columns that are attributes, if
    not all others. images: the folder that images may be in beside the table's own.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    images: str | None = None

    name: ClassVar[str] = "table"

    def check(self, root: Path) -> None:
        """See `Layout`."""
        self._listing(root)

    def read(self, root: Path) -> Listing:
        """See `Layout`; root: the table."""
        listing = self._listing(root)
        return Listing(
            listing.splits,
            listing.groups,
            fingerprint_of(root, listing.splits, [root]),
            listing.warnings,
            people=listing.people,
        )

    def _listing(self, path: Path) -> Listing:
        if path.is_dir():
            raise InputError(f"{path} is a folder: name the table in it, e.g. --data.root {path / 'people.csv'}")
        rows = _renamed(read_rows(path), self.columns)
        _check_filled(rows)
        paths = resolved_paths(rows, self.images)
        split_of = _splits(rows)
        _check_repeats(rows, paths, split_of)
        people = _people(rows)
        cameras = _cameras(rows)
        values, groups, warnings = attribute_columns(rows, self.attributes)
        names = _names(rows, paths, split_of)
        tracklets, times = tracklets_of(rows, people, cameras), times_of(rows)
        images: dict[str, list[ImageFile]] = {split: [] for split in dict.fromkeys(split_of)}
        for row, split in enumerate(split_of):
            labels = people[row], cameras[row], values[row], tracklets[row], times[row]
            images[split].append(ImageFile(Path(paths[row].full), names[row], *labels))
        return Listing(_ordered(images), groups, "", warnings, people=_given_names(rows))


def _renamed(rows: Rows, theirs: Mapping[str, str]) -> Rows:
    """The columns under our names. Raises InputError if a column that is needed or named isn't there."""
    there = {name.casefold(): name for name in rows.columns}
    source = {ours: there.get(theirs.get(ours, ours).casefold()) for ours in COLUMNS}
    missing = [
        theirs.get(ours, ours) for ours in COLUMNS if source[ours] is None and (ours in REQUIRED or ours in theirs)
    ]
    if missing:
        raise InputError(
            f"{rows.path} lacks the columns {listed(missing)}; it has {listed(rows.columns, 12)}. Name yours with "
            "--data.columns path=COLUMN person=COLUMN"
        )
    known = {ours: rows.columns[name] for ours, name in source.items() if name is not None}
    used = set(source.values())
    others = {name: values for name, values in rows.columns.items() if name not in used and name not in known}
    return Rows(rows.path, {**known, **others}, rows.lines)


def _check_filled(rows: Rows) -> None:
    for column in (*REQUIRED, *(["split"] if "split" in rows.columns else [])):
        for row, value in enumerate(rows.columns[column]):
            if not value.strip():
                more = " (-1: junk, 0: a distractor)" if column == "person" else ""
                raise InputError(f"{rows.where(row)}: {column} is empty: fill it{more}, or remove the row")


def _splits(rows: Rows) -> list[str]:
    """The split of each row. Raises InputError unless there are train, query and gallery, or train and test."""
    if "split" not in rows.columns:
        return [UNSPLIT] * len(rows.lines)
    known: dict[str, str] = {}
    for row, word in enumerate(rows.columns["split"]):
        if word not in known:
            split = SPLIT_WORDS.get(word.strip().casefold())
            if split is None:
                raise InputError(
                    f"{rows.where(row)}: there is no split {shortened(repr(word))}: use train, query and gallery, or "
                    "train and test (validation images are taken from train)"
                )
            known[word] = split
    there = set(known.values())
    if there == {"train", "query", TEST}:
        known = {word: "gallery" if split == TEST else split for word, split in known.items()}
    elif there not in ({"train", "query", "gallery"}, {"train", TEST}):
        raise InputError(
            f"{rows.path}: the column split has {listed(sorted(there))}, but needs train, query and gallery, or train "
            "and test; without the column, --data.split draws one"
        )
    return [known[word] for word in rows.columns["split"]]


def _check_repeats(rows: Rows, paths: Sequence[Resolved], split_of: Sequence[str]) -> None:
    """An image may be in query and gallery, as in VeRi-776, if the camera rule keeps it from finding itself."""
    first: dict[str, int] = {}
    cameras = rows.columns.get("camera")
    for row, path in enumerate(paths):
        before = first.setdefault(path.full, row)
        if before == row:
            continue
        both = {split_of[before], split_of[row]} == {"query", "gallery"}
        same = rows.columns["person"][before] == rows.columns["person"][row]
        if not (both and same and cameras and cameras[before].strip() and cameras[before] == cameras[row]):
            raise InputError(
                f"{rows.where(row)}: the image {shortened(path.below)} is also in line {rows.lines[before]}: remove one"
            )


def _people(rows: Rows) -> list[int]:
    _check_one_kind(rows, "person")
    number_of = numbers_of(rows.columns["person"], "person", rows.first_where("person"))
    return [number_of[name] for name in rows.columns["person"]]


def _given_names(rows: Rows) -> dict[int, str]:
    return names_given(numbers_of(rows.columns["person"], "person", str))


def _cameras(rows: Rows) -> list[int]:
    if "camera" not in rows.columns:
        return [UNKNOWN_CAMERA] * len(rows.lines)
    _check_one_kind(rows, "camera")
    names = [name for name in rows.columns["camera"] if name.strip()]
    remedy = "name the column of cameras with --data.columns camera=COLUMN, or rename this column if there is none"
    number_of = camera_numbers(names, rows.first_where("camera"), remedy)
    return [number_of.get(name, UNKNOWN_CAMERA) for name in rows.columns["camera"]]


def _check_one_kind(rows: Rows, column: str) -> None:
    """Raise InputError if whole numbers, which keep their value, and names, which are numbered, are mixed."""
    first: dict[bool, str] = {}
    for name in dict.fromkeys(rows.columns[column]):
        if name.strip():
            first.setdefault(are_whole([name]), name)
    if len(first) == 2:
        number, text = (f"{shortened(first[whole])!r}" for whole in (True, False))
        line, where = rows.lines[rows.columns[column].index(first[True])], rows.first_where(column)(first[False])
        raise InputError(
            f"{where}: {column} is {text}, but the whole number {number} in line {line}: "
            "write all as whole numbers, or all as names (p7 instead of 7)"
        )


def _names(rows: Rows, paths: Sequence[Resolved], split_of: Sequence[str]) -> list[str]:
    """The names in the table; else file names if they are unique in each split, else paths below the split's folder."""
    given = rows.columns.get("name", [""] * len(rows.lines))
    names = [name or os.path.basename(path.full) for name, path in zip(given, paths, strict=True)]
    for split in dict.fromkeys(split_of):
        mine = [row for row, other in enumerate(split_of) if other == split]
        if len({names[row] for row in mine}) < len(mine):
            for row in mine:
                names[row] = given[row] or _below_split(paths[row].below, split)
    return names


def _below_split(below: str, split: str) -> str:
    top, _, rest = below.partition("/")
    return rest if rest and SPLIT_WORDS.get(top.casefold()) == split else below


def _ordered(images: Mapping[str, Sequence[ImageFile]]) -> dict[str, tuple[ImageFile, ...]]:
    """In the table's order if the images of each training person follow one another, else sorted as folders are."""
    order: Callable[[Sequence[ImageFile]], tuple[ImageFile, ...]] = tuple
    if not together(images.get("train", images.get(UNSPLIT, ()))):
        order = in_order_of_people
    return {split: order(images[split]) for split in ("train", "query", "gallery", TEST, UNSPLIT) if split in images}
