"""The paths of a table: relative to its folder, or to `data.root`, and in no other folder."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from reid_accel.data.forms.table_rows import Rows
from reid_accel.data.scan import are_there
from reid_accel.errors import InputError, listed, shortened


class Resolved(NamedTuple):
    """An image's absolute path, and its path below the folder that it was found in."""

    full: str
    below: str


def resolved_paths(rows: Rows, images: str | None) -> list[Resolved]:
    """The images of a table. images: a folder that they may be in, beside the table's own.

    A relative path starts at the table's folder; or at `images`, if the first image is only there.
    Raises InputError for paths to other folders, and for images that don't exist.
    """
    folders = [os.path.abspath(rows.path.parent)]
    if images is not None:
        folders.append(os.path.abspath(images))
        if not os.path.isdir(images):
            raise InputError(f"data.root {images} is no folder: beside --data.table, it is the folder of the images")
    texts = rows.columns["path"]
    base = next((one for one in folders if os.path.lexists(_joined(one, texts[0]))), folders[0])
    found = [_resolved(rows, row, base, folders) for row in range(len(texts))]
    missing = [row for row, is_there in enumerate(are_there([path.full for path in found])) if not is_there]
    if missing:
        raise InputError(
            f"{rows.path}: {len(missing):,} of {len(found):,} images do not exist in {base}: "
            f"{listed((f'{texts[row]} (line {rows.lines[row]})' for row in missing), 5)}"
        )
    return found


def _joined(base: str, text: str) -> str:
    """The path of a table's cell; a table from Windows may have backslashes."""
    path = os.path.join(base, text)
    if os.sep == "/" and "\\" in text and not os.path.lexists(path):
        path = os.path.join(base, text.replace("\\", "/"))
    return os.path.normpath(path)


def _resolved(rows: Rows, row: int, base: str, folders: Sequence[str]) -> Resolved:
    text = rows.columns["path"][row]
    full = _joined(base, text)
    for folder in folders:
        if full.startswith(os.path.join(folder, "")):
            return Resolved(full, full[len(os.path.join(folder, "")) :].replace(os.sep, "/"))
    raise InputError(
        f"{rows.where(row)}: the path {shortened(text)} leads out of {' and '.join(folders)}: write paths relative to "
        "the table, or name the folder of the images with --data.table TABLE --data.root FOLDER"
    )
