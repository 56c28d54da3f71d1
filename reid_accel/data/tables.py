"""Data sets as tables of the `datasets` library: `load` returns a known set, `listing_of` reads a user's own tables.

Only this module imports the library.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import datasets

from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.config.data import DataConfig, DatasetName
from reid_accel.data.cache_dir import CACHE_ROOT, cache_folder, writable_cache
from reid_accel.data.listing import (
    UNKNOWN_CAMERA,
    UNKNOWN_TIME,
    UNKNOWN_TRACKLET,
    ImageFile,
    Listing,
    fingerprint_of,
    nobody_warnings,
)
from reid_accel.data.sets import list_dataset
from reid_accel.errors import InputError, listed, shortened
from reid_accel.files import ABANDONED_SECONDS, is_utf8, read_bytes, remove_leftovers, replacing, shown
from reid_accel.synthetic.market import SyntheticMarket

Tables = Mapping[str, datasets.Dataset]
"""The splits of a data set, e.g. a `datasets.DatasetDict`."""

logger = logging.getLogger(__name__)

REQUIRED_COLUMNS = ("image", "pid", "camera")
VIDEO_COLUMNS = ("tracklet", "time")
BASE_COLUMNS = (*REQUIRED_COLUMNS, "name", "row", *VIDEO_COLUMNS)
EDITION = "edition of the data set: "
"""Begins the description of a table from a set with several editions; the library stores it with the table."""


def load(
    name: str,
    root: str | Path | None = None,
    *,
    cache_dir: str | Path = CACHE_ROOT,
    synthetic: SyntheticMarket | None = None,
) -> datasets.DatasetDict:
    """A re-ID set as a DatasetDict with the splits train, query, gallery (course: train, queries, test).

    name: market1501, market-layout, msmt17, course, synthetic (drawn by the package) or synthetic-course (the same
    images in the course's layout). root: the folder of the set, except for synthetic ones. The columns are image
    (decoded when accessed), name, pid, camera, row (position in the sorted split), and one ClassLabel column per
    attribute group (-1: unknown); a set with tracklets or times also has the columns tracklet and time. Warnings about
    the folder's content are logged.
    Raises InputError when the folder is missing, empty or in another layout.
    """
    cache = writable_cache(cache_folder(cache_dir))
    config = DataConfig(name=cast(DatasetName, name), root=None if root is None else str(root))
    listing = list_dataset(config, cache_dir=cache, synthetic=synthetic)
    for warning in listing.warnings:
        logger.warning(warning)
    return tables_of(listing)


def tables_of(listing: Listing) -> datasets.DatasetDict:
    """The tables of a listing, with the columns of `load`."""
    return datasets.DatasetDict({split: _table(split, images, listing) for split, images in listing.splits.items()})


def _table(split: str, images: tuple[ImageFile, ...], listing: Listing) -> datasets.Dataset:
    features: dict[str, Any] = {
        "image": datasets.Image(),
        "name": datasets.Value("string"),
        "pid": datasets.Value("int64"),
        "camera": datasets.Value("int64"),
        "row": datasets.Value("int64"),
    }
    columns: dict[str, list[Any]] = {
        "image": [_text(image.path.absolute()) for image in images],
        "name": [image.name for image in images],
        "pid": [image.pid for image in images],
        "camera": [image.camera for image in images],
        "row": list(range(len(images))),
    }
    everyone = [image for images in listing.splits.values() for image in images]
    for column in VIDEO_COLUMNS:
        if any(getattr(image, column) != -1 for image in everyone):
            features[column] = datasets.Value("int64")
            columns[column] = [getattr(image, column) for image in images]
    for number, group in enumerate(listing.groups):
        features[group.name] = datasets.ClassLabel(names=list(group.values))
        columns[group.name] = [image.attributes[number] for image in images]
    description = EDITION + listing.edition if listing.edition else ""
    info = datasets.DatasetInfo(description=description, features=datasets.Features(features))
    return datasets.Dataset.from_dict(columns, info=info, split=datasets.NamedSplit(split))


def _text(path: Path) -> str:
    if not is_utf8(path):
        raise InputError(f"the file name {shown(path)} is not UTF-8, which tables need; rename it")
    return str(path)


def listing_of(tables: Tables, folder: Path) -> Listing:
    """The listing of a user's own tables, for training and scoring.

    The splits are train, query and gallery, or train, queries and test. Columns: image (`datasets.Image`) and pid;
    optionally camera, name, tracklet and time; every other ClassLabel column is an attribute group. Images stored in
    the tables are written to files in `folder`, which several tables can share.
    Raises InputError when a split or a column is missing.
    """
    if set(tables) not in ({"train", "query", "gallery"}, {"train", "queries", "test"}):
        raise InputError(
            f"a data set has the splits train, query, gallery or train, queries, test, not {listed(sorted(tables))}"
        )
    for split, table in tables.items():
        missing = [column for column in REQUIRED_COLUMNS if column not in table.column_names]
        if missing and missing != ["camera"]:  # unknown cameras can be trained on, and scored without the camera rule
            raise InputError(f"the split {split} lacks the columns {listed(missing)}")
    groups = groups_of(tables["train"])
    remove_leftovers(folder, foreign_seconds=ABANDONED_SECONDS)
    splits = {split: _files(split, table, groups, folder) for split, table in tables.items()}
    fingerprint, warnings = fingerprint_of(folder, splits), nobody_warnings(splits["train"])
    return Listing(splits, groups, fingerprint, warnings, edition=_edition_of(tables))


def _edition_of(tables: Tables) -> str:
    """The edition that all tables say they are of; empty if they say none."""
    matches = [re.fullmatch(rf"{EDITION}(.{{1,80}})", table.info.description or "") for table in tables.values()]
    editions = {match[1] if match and match[1].isprintable() else "" for match in matches}
    return editions.pop() if len(editions) == 1 else ""


def groups_of(table: datasets.Dataset) -> tuple[AttributeGroup, ...]:
    """The attribute groups of a table: its ClassLabel columns except pid and camera."""
    return tuple(
        AttributeGroup(name, tuple(feature.names))
        for name, feature in table.features.items()
        if isinstance(feature, datasets.ClassLabel) and name not in BASE_COLUMNS
    )


def _files(
    split: str, table: datasets.Dataset, groups: tuple[AttributeGroup, ...], folder: Path
) -> tuple[ImageFile, ...]:
    missing = [group.name for group in groups if group.name not in table.column_names]
    if missing:
        raise InputError(f"the split {split} lacks the attributes of train: {listed(missing)}")
    files = []
    for row, content in enumerate(table.cast_column("image", datasets.Image(decode=False))):
        where = f"row {row} of the split {split}"
        name = str(content.get("name") or f"{row:08d}")
        path = _file(content["image"], folder, where)
        pid = _label(content, "pid", where)
        camera = _optional(content, "camera", UNKNOWN_CAMERA, where)
        attributes = tuple(_optional(content, group.name, UNKNOWN, where) for group in groups)
        tracklet = _optional(content, "tracklet", UNKNOWN_TRACKLET, where)
        time = _optional(content, "time", UNKNOWN_TIME, where)
        files.append(ImageFile(path, name, pid, camera, attributes, tracklet, time))
    return tuple(files)


def _optional(content: Mapping[str, Any], column: str, unknown: int, where: str) -> int:
    """A label, or the number for unknown ones if the table lacks the column or the row's cell is empty."""
    return unknown if content.get(column) is None else _label(content, column, where)


def _label(content: Mapping[str, Any], column: str, where: str) -> int:
    """A whole number in 64 bits. Raises InputError for anything else, an empty cell included."""
    value = content[column]
    if not isinstance(value, int) or not -(2**63) <= value < 2**63:
        remedy = "; rename the column if it is for something else" if column in VIDEO_COLUMNS else ""
        raise InputError(f"{where}: {column} must be a whole number, got {shortened(repr(value))}{remedy}")
    return value


def _file(image: Mapping[str, Any] | None, folder: Path, where: str) -> Path:
    """The image's own file, or a file in `folder` with the bytes stored in the table, named by their hash."""
    if image is None or (image["bytes"] is None and not image["path"]):
        raise InputError(f"{where} has no image: remove the row")
    content = image["bytes"]
    if content is None:
        return Path(image["path"])
    path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.img"
    if not path.is_file() or read_bytes(path) != content:
        if path.exists():
            logger.warning(f"the file {path} was changed since it was written from the table: writing it again")
        with replacing(path, sync=False) as temporary:
            temporary.write_bytes(content)
    return path
