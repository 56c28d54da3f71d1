"""Any image data set of the `datasets` library: opened by name or folder, without running any code of it."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError, DatasetsError

from reid_accel.data.forms.labeled_rows import GALLERY, MEANINGS, QUERY
from reid_accel.data.listing import IMAGE_ENDINGS
from reid_accel.data.scan import are_there
from reid_accel.errors import InputError, first_line, listed, shortened
from reid_accel.files import shown

SCRIPT = "Dataset scripts are no longer supported"
OWN_MARKS = ("dataset_dict.json", "state.json")
"""Files of folders that were written by `save_to_disk`."""

# what the library raises for a damaged, missing or unreachable set
_PROBLEMS = (DatasetsError, OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError)

IMAGE, PERSON, CAMERA, SPLIT, TRACKLET, TIME, NAME = "image", "person", "camera", "split", "tracklet", "time", "name"
USUAL_COLUMNS = {
    PERSON: (PERSON, "pid", "person_id", "identity", "label"),
    CAMERA: (CAMERA, "cam", "camid", "camera_id"),
    SPLIT: (SPLIT,),
    TRACKLET: (TRACKLET,),
    TIME: (TIME,),
    NAME: (NAME,),
}
"""The names that columns have where they are not given."""

Table: TypeAlias = datasets.Dataset


def open_tables(source: str) -> dict[str, Table]:
    """The splits of a data set: a folder or file, or a name on the hub, as NAME, NAME:CONFIGURATION or NAME@REVISION.

    A name is downloaded on first use. Raises InputError if it can't be opened, e.g. offline, or is a script.
    """
    if _is_path(source) and not Path(source).exists():
        raise InputError(f"there is no folder {source}; set --data.root to a folder, or to a name on the hub")
    try:
        opened = _open_place(Path(source)) if Path(source).exists() else _open_name(source)
        tables = dict(opened) if isinstance(opened, datasets.DatasetDict) else {str(opened.split or "all"): opened}
        for table in tables.values():
            table.data.validate(full=True)  # damaged offsets would end the process
    except _PROBLEMS as error:
        raise InputError(_sentence(source, error)) from error
    if not any(len(table) for table in tables.values()):
        raise InputError(f"the data set {source} is empty")
    return tables


def _open_name(source: str) -> datasets.DatasetDict | Table:
    name, _, revision = source.partition("@")
    name, _, configuration = name.partition(":")
    return datasets.load_dataset(name, configuration or None, revision=revision or None)


def _open_place(place: Path) -> datasets.DatasetDict | Table:
    if place.is_file():
        return datasets.load_dataset("parquet", data_files=str(place))
    if any((place / mark).is_file() for mark in OWN_MARKS):
        return datasets.load_from_disk(str(place))
    return datasets.load_dataset(str(place), data_files=_files_of_splits(place))


def _files_of_splits(place: Path) -> dict[str, str] | None:
    """The files of each split of a folder with query or gallery, which the library would pass over; else None."""
    found = {}
    for entry in sorted(place.iterdir()):
        name = re.split(r"[.-]", entry.name)[0]
        if any(name.casefold() in names for names in MEANINGS.values()):
            found[name] = f"{name}/**" if entry.is_dir() else f"{name}[.-]*"
    meant = {meaning for meaning, names in MEANINGS.items() if any(name.casefold() in names for name in found)}
    return found if meant & {QUERY, GALLERY} else None


def _is_path(source: str) -> bool:
    return source.startswith((".", "/", "~", "\\")) or source.count("/") > 1 or "\\" in source


def _sentence(source: str, error: BaseException) -> str:
    if isinstance(error, DatasetGenerationError) and error.__cause__ is not None:  # says nothing itself
        error = error.__cause__
    reason = first_line(error)
    if SCRIPT in reason or "trust_remote_code" in reason:
        return (
            f"the data set {source} is a loading script, and no code of a data set is run: use a version of it in "
            "Parquet (on the hub, the revision refs/convert/parquet: NAME@refs/convert/parquet), or save_to_disk it"
        )
    if isinstance(error, DatasetNotFoundError):
        return f"there is no data set {source} on the hub that you may read ({reason}): check the name, or log in"
    if isinstance(error, ConnectionError):
        return (
            f"the data set {source} is not in the cache and the hub cannot be reached ({reason}): start once with a "
            "connection, or set --data.root to a folder with the data set"
        )
    return f"{source} cannot be opened as a data set: {reason}"


def columns_of(tables: Mapping[str, Table], given: Mapping[str, str]) -> dict[str, str]:
    """The column of each label that the tables have: the given one, or one with a usual name.

    Raises InputError if a given one, or images or people, are missing.
    """
    names = [name for table in tables.values() for name in table.column_names]
    columns = {IMAGE: _image_column(tables)} if IMAGE not in given else {}
    there = {label: [name for name in usual if name in names] for label, usual in USUAL_COLUMNS.items()}
    columns |= {label: usual[0] for label, usual in there.items() if usual}
    columns |= {label: column for label, column in given.items() if label in (IMAGE, *USUAL_COLUMNS)}
    for split, table in tables.items():
        if columns.get(PERSON) not in table.column_names:
            raise InputError(
                f"the split {split} has no column of people ({columns.get(PERSON, PERSON)}): name it with "
                f"--data.columns person=COLUMN; {_there(table)}"
            )
        for label in (IMAGE, *given):
            if columns.get(label) not in table.column_names:
                raise InputError(f"the split {split} has no column {columns.get(label)} ({label}); {_there(table)}")
    return columns


def _image_column(tables: Mapping[str, Table]) -> str:
    """`image`, or the only column of images."""
    first = next(iter(tables.values()))
    typed = [name for name, feature in first.features.items() if isinstance(feature, datasets.Image)]
    if IMAGE in first.column_names:
        return IMAGE
    if len(typed) == 1:
        return typed[0]
    raise InputError(
        f"it isn't clear which column has the images: name it with --data.columns image=COLUMN; {_there(first)}"
    )


def _there(table: Table) -> str:
    return f"there are the columns {listed(table.column_names, 20)}"


def labels(table: Table, column: str) -> list[Any]:
    """The values of a column as they are, but of a ClassLabel their names, with None for unknown."""
    values = table.data.column(column).to_pylist()
    feature = table.features[column]
    if isinstance(feature, datasets.ClassLabel):
        return [None if value is None or value < 0 else feature.names[value] for value in values]
    return values


def attribute_columns(table: Table, used: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The values of the ClassLabel columns that aren't used otherwise; a column of one value says nothing."""
    return {
        name: tuple(feature.names)
        for name, feature in table.features.items()
        if isinstance(feature, datasets.ClassLabel) and name not in set(used) and len(feature.names) > 1
    }


def class_indices(table: Table, column: str) -> list[int]:
    """The values of a ClassLabel column, -1 for unknown."""
    return [-1 if value is None else value for value in table.data.column(column).to_pylist()]


class Pictures:
    """The images of a table: files of its own, or bytes in it."""

    def __init__(self, table: Table, column: str, split: str) -> None:
        """Raises InputError if the column has no images, or a row has none."""
        try:
            cast = table.cast_column(column, datasets.Image(decode=False))
        except (TypeError, ValueError, NotImplementedError) as error:
            raise InputError(
                f"the column {column} of the split {split} has no images, but {shortened(table.features[column])}"
            ) from error
        self._column: pa.ChunkedArray = cast.data.column(column)
        self.paths: list[str | None] = pc.struct_field(self._column, "path").to_pylist()
        self.stored: list[bool] = pc.struct_field(self._column, "bytes").is_valid().to_pylist()
        without = [row for row, path in enumerate(self.paths) if not (path or self.stored[row])]
        if without:
            raise InputError(
                f"{len(without):,} rows of the split {split} have no image ({listed(without)}): remove them"
            )

    @property
    def names(self) -> list[str]:
        """The names of the images' files, as far as they are known."""
        return [os.path.basename(path) if path else self.file_name(row) for row, path in enumerate(self.paths)]

    def own_paths(self) -> list[str]:
        """The files of images that are not stored in the table."""
        return [str(path) for path, stored in zip(self.paths, self.stored, strict=True) if not stored]

    def file_name(self, row: int) -> str:
        """The name under which a stored image is written."""
        ending = os.path.splitext(self.paths[row] or "")[1].lower()
        return f"{row:08d}{ending if ending in IMAGE_ENDINGS else '.img'}"

    def write(self, folder: Path) -> dict[str, int]:
        """Write the stored images into a folder; returns the sizes of the files by name."""
        sizes: dict[str, int] = {}
        values = (value for chunk in pc.struct_field(self._column, "bytes").chunks for value in chunk)
        for row, value in enumerate(values):
            if value.is_valid:
                content, name = value.as_py(), self.file_name(row)
                (folder / name).write_bytes(content)
                sizes[name] = len(content)
        return sizes


def fingerprint_of_tables(tables: Mapping[str, Table]) -> str:
    """A hash that changes with the content of the tables' files."""
    parts = []
    for split in sorted(tables):
        table = tables[split]
        states = [os.stat(file["filename"]) for file in table.cache_files]
        parts.append([split, len(table), table._fingerprint, [[state.st_size, state.st_mtime_ns] for state in states]])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def check_files(paths: Iterable[str], source: str) -> None:
    """Raise InputError unless files that a table names exist, in the set's folder or in the library's caches."""
    place = Path(source).parent if Path(source).is_file() else Path(source)
    roots = [place, Path(datasets.config.HF_DATASETS_CACHE), Path(datasets.config.HF_CACHE_HOME)]
    allowed = [root.absolute() for root in roots if root.exists()]
    every = list(paths)
    outside = [path for path in every if not _is_below(path, allowed)]
    if outside:
        raise InputError(
            f"the data set {source} names {len(outside):,} files outside of its folder "
            f"({listed(map(shown, outside))}): save it with its images (save_to_disk), or use --data.name table"
        )
    missing = [path for path, is_there in zip(every, are_there(every), strict=True) if not is_there]
    if missing:
        raise InputError(
            f"{len(missing):,} of {len(every):,} images of the data set {source} do not exist "
            f"({listed(map(shown, missing))}): complete it, or unpack its archives"
        )


def _is_below(path: str, roots: Sequence[Path]) -> bool:
    absolute = Path(os.path.normpath(os.path.abspath(path)))
    return any(absolute.is_relative_to(root) for root in roots)
