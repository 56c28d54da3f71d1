"""Where decoded images and tables are kept, and where instead when nothing can be written there."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from reid_accel.errors import InputError


def writable_cache(asked: Path, say: Callable[[str], None] | None = None) -> Path:
    """The cache folder asked for; a folder of the user's own among the temporary files when that can't be written.

    All processes of a machine come to the same answer. `say` is told when it isn't the folder asked for.
    """
    try:
        _try_to_write(asked)
    except OSError as error:
        spare = _spare_folder()
        if say is not None:
            say(
                f"the cache folder {asked} cannot be written ({error.strerror}); decoded images go to {spare} instead. "
                "Name a folder that lasts with --data.cache-dir"
            )
        return spare
    return asked


def _try_to_write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _spare_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"reid_accel-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise InputError(f"{folder} belongs to somebody else; name a cache folder with --data.cache-dir")
        _try_to_write(folder)
    except OSError as error:
        raise InputError(
            f"neither the cache folder nor {folder} can be written ({error.strerror}); name one with --data.cache-dir"
        ) from error
    return folder
