"""Folders of the cache with files that are made once: an index has the size of each.

A killed run leaves no incomplete folder, and one whose files are missing or changed is made again.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reid_accel.errors import InputError
from reid_accel.files import has_right_checksum, read_text, replacing_folder, with_checksum, write_json

INDEX_FILE = "index.json"
FORMAT = 1

logger = logging.getLogger(__name__)


def stored_files(folder: Path, make: Callable[[Path], dict[str, Any]], what: str) -> dict[str, Any]:
    """The index of a folder, which is made unless it is there.

    make: writes the files into a temporary folder and returns the index, in which `bytes` has the size of each file by
    its path in the folder; `folder` must be named by all that the files depend on. what: e.g. "the crops".
    Raises InputError if they cannot be written.
    """
    index = _read_index(folder)
    if index is None:
        if folder.exists():
            logger.warning(f"{what} in {folder} are incomplete or changed: writing them again")
        try:
            with replacing_folder(folder, keep_existing=_is_complete, sync=False) as temporary:
                write_json(temporary / INDEX_FILE, with_checksum({"format": FORMAT, **make(temporary)}))
        except OSError as error:
            raise InputError(
                f"{what} cannot be written to {folder.parent}: {error.strerror or error}. Free some space there or set "
                "--data.cache-dir to another folder; incomplete files were removed"
            ) from error
        index = _read_index(folder)
        if index is None:
            raise InputError(f"another program changes {what} in {folder}: start again")
    return index


def _is_complete(folder: Path) -> bool:
    return _read_index(folder) is not None


def _read_index(folder: Path) -> dict[str, Any] | None:
    """The index of a folder whose files all have their size, else None."""
    try:
        index = json.loads(read_text(folder / INDEX_FILE))
        if not isinstance(index, dict) or index.get("format") != FORMAT or not has_right_checksum(index):
            return None
        complete = all((folder / name).stat().st_size == size for name, size in index["bytes"].items())
    except (OSError, ValueError, RecursionError):
        return None
    return index if complete else None
