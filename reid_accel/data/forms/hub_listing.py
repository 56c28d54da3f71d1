"""The listing of an image data set of the `datasets` library."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.data.cache_dir import writable_cache
from reid_accel.data.forms.hub_tables import (
    CAMERA,
    IMAGE,
    NAME,
    PERSON,
    SPLIT,
    TIME,
    TRACKLET,
    Pictures,
    Table,
    attribute_columns,
    check_files,
    class_indices,
    columns_of,
    fingerprint_of_tables,
    labels,
    open_tables,
)
from reid_accel.data.forms.labeled_rows import (
    Row,
    counted_from_1,
    meant_splits,
    numbered_splits,
    text_of,
    time_of,
    with_unique_names,
)
from reid_accel.data.listing import ImageFile, Listing, fingerprint_of
from reid_accel.data.stored_files import stored_files
from reid_accel.errors import InputError, listed


def read_set(source: str, given: Mapping[str, str], cache_dir: Path) -> Listing:
    """The listing of a set; images that are stored in its tables are written to files in the cache once.

    given: see `columns_of`. Raises InputError if the set can't be opened, or labels are missing or contradict.
    """
    tables = open_tables(source)
    columns = columns_of(tables, given)
    pictures = {split: Pictures(table, columns[IMAGE], split) for split, table in tables.items()}
    own = [path for one in pictures.values() for path in one.own_paths()]
    check_files(own, source)
    key = hashlib.sha256(f"{fingerprint_of_tables(tables)} {columns[IMAGE]}".encode()).hexdigest()[:16]
    paths = _paths(pictures, writable_cache(cache_dir) / "hub" / key)
    groups = _groups(tables, columns)
    found: dict[str, list[Row]] = {}
    for split, table in tables.items():
        for name, row in _rows(
            split, table, columns, groups, list(zip(paths[split], pictures[split].names, strict=True))
        ):
            found.setdefault(name, []).append(row)
    meant, warnings = meant_splits(found, "name the column that has the split with --data.columns split=COLUMN")
    named, more_warnings = counted_from_1(with_unique_names(meant))
    splits, people = numbered_splits(named, "name another column with --data.columns camera=COLUMN")
    files = fingerprint_of(Path(source), {"": [ImageFile(Path(path), "", 0, 0) for path in own]}) if own else ""
    fingerprint = hashlib.sha256(json.dumps([key, columns, files]).encode()).hexdigest()[:16]
    return Listing(splits, groups, fingerprint, (*warnings, *more_warnings), people=people)


def _paths(pictures: Mapping[str, Pictures], folder: Path) -> dict[str, list[Path]]:
    """The file of each image; those that are stored in the tables are written to a folder, if they are not there."""
    if any(any(one.stored) for one in pictures.values()):
        stored_files(folder, lambda temporary: {"bytes": _write(pictures, temporary)}, "the images")
    return {
        split: [
            folder / str(number) / one.file_name(row) if stored else Path(str(one.paths[row]))
            for row, stored in enumerate(one.stored)
        ]
        for number, (split, one) in enumerate(pictures.items())
    }


def _write(pictures: Mapping[str, Pictures], folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for number, one in enumerate(pictures.values()):
        (folder / str(number)).mkdir()
        sizes |= {f"{number}/{name}": size for name, size in one.write(folder / str(number)).items()}
    return sizes


def _groups(tables: Mapping[str, Table], columns: Mapping[str, str]) -> tuple[AttributeGroup, ...]:
    """The attributes: all ClassLabel columns without another use."""
    found: dict[str, tuple[str, ...]] = {}
    for split, table in tables.items():
        for name, values in attribute_columns(table, columns.values()).items():
            if found.setdefault(name, values) != values:
                raise InputError(
                    f"the attribute {name} has the values {listed(values)} in the split {split}, but "
                    f"{listed(found[name])} in another: save the set with the same ClassLabel in all splits"
                )
    return tuple(AttributeGroup(name, values) for name, values in found.items())


def _rows(
    split: str,
    table: Table,
    columns: Mapping[str, str],
    groups: Sequence[AttributeGroup],
    files: Sequence[tuple[Path, str]],
) -> list[tuple[str, Row]]:
    """The rows of a table, each with the name of the split that it is in. files: the images and their names."""
    where = [f"row {row} of the split {split}" for row in range(len(table))]
    of_label = {
        label: labels(table, columns[label]) if columns.get(label) in table.column_names else [None] * len(table)
        for label in (PERSON, CAMERA, SPLIT, TRACKLET, NAME, TIME)
    }
    times = [time_of(value, place) for value, place in zip(of_label.pop(TIME), where, strict=True)]
    texts = {
        label: [text_of(value, label, place) for value, place in zip(values, where, strict=True)]
        for label, values in of_label.items()
    }
    for label in (PERSON, SPLIT) if SPLIT in columns else (PERSON,):
        without = [place for place, text in zip(where, texts[label], strict=True) if text is None]
        if without:
            raise InputError(f"{len(without):,} rows have no {label} ({listed(without)}): remove them")
    attributes = [
        class_indices(table, group.name) if group.name in table.column_names else [UNKNOWN] * len(table)
        for group in groups
    ]
    attributes_of = list(zip(*attributes, strict=True)) if groups else [()] * len(table)
    return [
        (
            texts[SPLIT][row] or split,
            Row(
                path,
                texts[NAME][row] or name,
                str(texts[PERSON][row]),
                texts[CAMERA][row],
                texts[TRACKLET][row],
                times[row],
                attributes_of[row],
                where[row],
            ),
        )
        for row, (path, name) in enumerate(files)
    ]
