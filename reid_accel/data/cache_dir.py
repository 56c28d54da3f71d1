"""The cache folder for decoded images and synthetic sets, and a temporary fallback if it isn't writable."""

import logging
import os
import tempfile
from functools import cache
from pathlib import Path

from reid_accel.config.checks import in_home
from reid_accel.errors import InputError

CACHE_ROOT = Path("~/.cache/reid_accel")

logger = logging.getLogger(__name__)


def cache_folder(setting: str | Path) -> Path:
    """The cache folder that a setting names; without a home folder for its `~`, the user's temporary folder."""
    try:
        return Path(in_home(str(setting)))
    except InputError:
        substitute = _temporary_cache()
        _warn_once(f"there is no home folder for {setting}: decoded images are kept in {substitute}")
        return substitute


def writable_cache(folder: Path) -> Path:
    """The folder, or the user's temporary folder if it isn't writable, with a warning.

    All processes of a machine get the same folder.
    """
    try:
        _try_to_write(folder)
    except OSError as error:
        substitute = _temporary_cache()
        _warn_once(
            f"the cache folder {folder} is not writable ({error.strerror}): decoded images are kept in "
            f"{substitute}. Choose a permanent folder with --data.cache-dir"
        )
        return substitute
    return folder


@cache
def _warn_once(sentence: str) -> None:
    """Several splits share a cache folder."""
    logger.warning(sentence)


def _try_to_write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _temporary_cache() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else None  # Windows: each user has a temporary folder
    folder = Path(tempfile.gettempdir()) / ("reid_accel" if user is None else f"reid_accel-{user}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or (user is not None and folder.stat().st_uid != user):
            raise InputError(f"{folder} belongs to another user; choose a cache folder with --data.cache-dir")
        _try_to_write(folder)
    except OSError as error:
        raise InputError(
            f"neither the cache folder nor {folder} is writable ({error.strerror}); choose a cache folder with "
            "--data.cache-dir"
        ) from error
    return folder
