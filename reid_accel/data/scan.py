"""What is in folders and what state files are in, for sets of a million files.

A folder is read in one pass that asks no file for its type where the system tells it with the name, and the names are
kept until the set is listed: the check of the settings, the listing and the search for what it leaves out read a folder
once. The state of files is asked for by several threads, since a file server takes its time for each.
"""

import errno
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

SETTLED_SECONDS = 3.0  # a folder that changed later than this ago may change again without another time
WORTH_READING = 16  # files of one folder that are looked for
THREADS = 16
FILES_AT_ONCE = 512  # of one thread
PROGRESS_EVERY = 100_000

logger = logging.getLogger(__name__)


class Entries(NamedTuple):
    """The names in a folder, sorted. folders: with links to folders; links: those alone."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    links: tuple[str, ...]


_kept: dict[str, tuple[int, Entries]] = {}
"""Entries by folder, with the folder's modification time."""


def entries_of(folder: Path | str) -> Entries:
    """The names in a folder. They are read again if the folder has changed, or changed a moment before they were read.

    Raises OSError if it can't be read.
    """
    key = os.path.abspath(folder)
    changed_ns = os.stat(key).st_mtime_ns
    found = _kept.get(key)
    if found is not None and found[0] == changed_ns:
        return found[1]
    entries = _read(key)
    if time.time_ns() - changed_ns > SETTLED_SECONDS * 1e9:
        _kept[key] = (changed_ns, entries)
    return entries


def forget_entries(folder: Path) -> None:
    """Free the names that are kept of a folder and of all below it."""
    top = os.path.abspath(folder)
    for key in [key for key in _kept if key == top or key.startswith(os.path.join(top, ""))]:
        del _kept[key]


def _read(folder: str) -> Entries:
    files, folders, links = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _is_folder(entry):
                files.append(entry.name)
                continue
            folders.append(entry.name)
            if entry.is_symlink():
                links.append(entry.name)
    return Entries(tuple(sorted(files)), tuple(sorted(folders)), tuple(sorted(links)))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a circle of links
            return False
        raise


def are_there(paths: Sequence[str | Path]) -> list[bool]:
    """Whether each path exists; a link does even if it leads nowhere. Folders of many of them are read as a whole."""
    places = [os.path.split(path) for path in paths]
    names: dict[str, set[str]] = defaultdict(set)
    for folder, number in Counter(folder for folder, _ in places).items():
        if number >= WORTH_READING:
            with suppress(OSError, ValueError):
                names[folder].update(*entries_of(folder)[:2])
    # a file system may know a name in other letters, too
    return [name in names[folder] or os.path.lexists(path) for path, (folder, name) in zip(paths, places, strict=True)]


def states_of(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Each path, in order, with the size and modification time of its file.

    Or why it can't be read, which is reported when it is read as an image.
    """
    rest, done = iter(paths), 0
    with ThreadPoolExecutor(THREADS) as pool:
        while block := list(islice(rest, THREADS * FILES_AT_ONCE)):
            parts = [block[start : start + FILES_AT_ONCE] for start in range(0, len(block), FILES_AT_ONCE)]
            for part, states in zip(parts, pool.map(_states, parts), strict=True):
                yield from zip(part, states, strict=True)
            done += len(block)
            if done // PROGRESS_EVERY > (done - len(block)) // PROGRESS_EVERY:
                logger.info(f"looked at {done:,} files")


def _states(paths: Sequence[Path]) -> list[str]:
    return [_state(path) for path in paths]


def _state(path: Path) -> str:
    try:
        status = os.stat(path)
    except OSError as error:  # a dangling link, or a circle of links
        return str(error.strerror)
    readable = "" if os.access(path, os.R_OK) else " unreadable"  # allowing it changes neither size nor time
    return f"{status.st_size} {status.st_mtime_ns}{readable}"
