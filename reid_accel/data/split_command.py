"""`reid-accel split`: the split of a data set as a table."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from reid_accel.config.parse import parse
from reid_accel.config.split import SplitConfig
from reid_accel.data.cache_dir import cache_folder, writable_cache
from reid_accel.data.forms.table_writer import write_table
from reid_accel.data.listing import ImageFile, describe
from reid_accel.data.sets import list_dataset
from reid_accel.errors import InputError


def write_split(arguments: Sequence[str]) -> list[str]:
    """Write the table that the arguments ask for; returns lines that say what it has and how it is read."""
    words = list(arguments)
    if words and not words[0].startswith("-"):
        words[0] = f"--data.root={words[0]}"
    config = parse(SplitConfig, ["--data.name=folders", *words])
    path = Path(config.to)
    if os.path.lexists(path) or not path.absolute().parent.is_dir():
        raise InputError(f"--to {path} must be a new file in an existing folder: choose another name")
    listing = list_dataset(config.data, cache_dir=writable_cache(cache_folder(config.data.cache_dir)))
    if "gallery" not in listing.splits:
        raise InputError(f"the set {config.data.name} has no query and gallery, so that its split is no table's")
    write_table(path, listing.splits, listing.groups, listing.people)
    counts = [f"{split}: {describe(split, images)}" for split, images in listing.splits.items()]
    warnings = [f"warning: {warning}" for warning in listing.warnings]
    return [*warnings, *counts, f"read it with {_reading(path, listing.splits)}"]


def _reading(path: Path, splits: Mapping[str, tuple[ImageFile, ...]]) -> str:
    """The settings that read the table; images outside its folder need their own named."""
    folder = os.path.abspath(path.parent)
    common = os.path.commonpath([os.path.abspath(image.path.parent) for images in splits.values() for image in images])
    if os.path.commonpath([folder, common]) == folder:
        return f"--data.name table --data.root {shlex.quote(str(path))}"
    return f"--data.name table --data.table {shlex.quote(str(path))} --data.root {shlex.quote(common)}"
