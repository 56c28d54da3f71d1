"""Reading regular files only, and atomic writes: a reader sees the old file or folder or the new one, never a part.

Temporary names are `.NAME.PROCESS.part`, and `.NAME.PROCESS.old` for a folder that is being replaced; PROCESS names the
machine and the process, so that what a killed one left is told from the work of a living one. All permissions
follow the umask, even for files that a library (e.g. safetensors) makes readable by their owner only.
"""

import csv
import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError

from reid_accel.processes import Process, this_process
from reid_accel.terminal import visible

ABANDONED_SECONDS = 24 * 3600.0
CHECKSUM = "checksum"
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # in a SafetensorError, e.g. that of a full disk
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?:(?P<process>[0-9a-f]{8}-\d+-\d+)-)?\d+\.(?P<kind>part|old)")


def regular_only(path: str, flags: int) -> int:
    """An opener for `open`: a FIFO, socket or device raises OSError instead of blocking, a folder as usual."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", path)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read its bytes; see `regular_only`."""
    return open(path, "rb", opener=regular_only)


def read_bytes(path: Path) -> bytes:
    """The content of a file; see `regular_only`."""
    with open_regular(path) as file:
        return file.read()


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; see `regular_only`."""
    with open(path, encoding="utf-8", opener=regular_only) as file:
        return file.read()


def check_regular(path: Path) -> None:
    """Raise OSError unless a file can be read; call it before a library opens a path that may be a FIFO or device."""
    open_regular(path).close()


def shown(name: str | Path) -> str:
    r"""A file name fit for terminals and text files: bytes that aren't UTF-8 and unprintable characters are escaped.

    >>> shown("a\udcff\x1b[0m.jpg")
    'a\\xff\\x1b[0m.jpg'
    """
    return visible(str(name), kept="")


def is_utf8(name: str | Path) -> bool:
    """Whether a file name is text: the bytes of others can't be written to text files, nor stand in tables."""
    try:
        str(name).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary file next to `path` that replaces `path` when the block ends without an exception.

    When the block raises (a full disk, Ctrl-C), the temporary file is removed and `path` is unchanged. sync: flush the
    content to disk before renaming; too slow for a cache.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_unique()}.part")
    try:
        with _naming(path, temporary):
            temporary.touch()
            permissions = temporary.stat().st_mode
            yield temporary
            temporary.chmod(permissions)
            if sync:
                _sync(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Errors name `path`: writing to an open file raises one without a name, and temporary names say little."""
    try:
        yield
    except SafetensorError as error:
        code = _OS_ERROR.search(str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
    except OSError as error:
        of_another_file = isinstance(error.filename, str) and not error.filename.startswith(str(temporary))
        if error.errno is None or of_another_file:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def replacing_folder(
    folder: Path, *, keep_existing: Callable[[Path], bool] | None = None, sync: bool = True
) -> Iterator[Path]:
    """Yield a new temporary folder next to `folder` that replaces `folder` when the block ends without an exception.

    When the block raises, the temporary folder is removed and `folder` is unchanged. A process killed between the two
    renames leaves the old folder under its temporary name: `remove_leftovers` restores it. keep_existing: if it returns
    true for a `folder` that exists by then, that one is kept and the new one discarded. sync: flush all files to disk
    before renaming; too slow for a cache. What processes that are gone left there is removed first.
    """
    remove_leftovers(folder.parent, foreign_seconds=ABANDONED_SECONDS)
    unique = _unique()
    temporary, displaced = (folder.with_name(f".{folder.name}.{unique}.{kind}") for kind in ("part", "old"))
    try:
        with _naming(folder, temporary):
            temporary.mkdir(parents=True)
            yield temporary
            permissions = temporary.stat().st_mode & 0o666
            for file in temporary.rglob("*"):
                if file.is_file():
                    file.chmod(permissions)
                    if sync:
                        _sync(file)
            _rename_folder(temporary, folder, displaced, keep_existing)
            if sync:
                _sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(displaced, ignore_errors=True)


def _rename_folder(
    temporary: Path, folder: Path, displaced: Path, keep_existing: Callable[[Path], bool] | None
) -> None:
    while True:
        try:
            temporary.rename(folder)  # fails if `folder` exists and isn't empty
            return
        except OSError:
            if not folder.exists():
                if displaced.exists():
                    displaced.rename(folder)
                raise
        if keep_existing is not None and keep_existing(folder):
            return
        shutil.rmtree(displaced, ignore_errors=True)
        with suppress(FileNotFoundError):  # another process may do the same
            folder.rename(displaced)


def _unique() -> str:
    """This process and a number, since it may write a file twice at a time."""
    return f"{this_process().tag}-{secrets.randbelow(10**6):06d}"


def remove_folder(folder: Path) -> None:
    """Remove a folder, if that is possible: a process killed meanwhile leaves all of it, or only a leftover."""
    temporary = folder.with_name(f".{folder.name}.{_unique()}.part")
    with suppress(OSError):
        folder.rename(temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(parent: Path, *, foreign_seconds: float = 0.0) -> None:
    """Clean up after killed processes: restore displaced folders that have no successor, delete other leftovers.

    What a living process of this machine writes is left alone. Whether one of another machine lives can't be seen:
    its leftovers are removed when nothing in them changed for `foreign_seconds` (0: no other process writes here).
    """
    for path in sorted(parent.glob(".*.old")) + sorted(parent.glob(".*.part")):
        match = _LEFTOVER.fullmatch(path.name)
        if match is None or _may_be_in_use(path, match["process"], foreign_seconds):
            continue
        final = parent / match["name"]
        if match["kind"] == "old" and not final.exists():
            path.rename(final)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _may_be_in_use(path: Path, tag: str | None, foreign_seconds: float) -> bool:
    owner = Process.from_tag(tag) if tag is not None else None
    if owner is not None and owner.is_of_this_machine():
        return owner.lives()
    if foreign_seconds == 0:
        return False
    last = _last_change(path) if owner is not None else path.lstat().st_mtime  # earlier versions named no owner
    return time.time() - last < foreign_seconds


def _last_change(path: Path) -> float:
    times = [0.0]
    for file in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):  # its owner lives, and has just renamed it
            times.append(file.lstat().st_mtime)
    return max(times)


def _sync(path: Path) -> None:
    """Flush a file or folder to disk. Windows can't open folders, and flushes only files that are open for writing."""
    try:
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically as UTF-8 with LF endings; bytes of names that aren't UTF-8 are escaped."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows atomically as a UTF-8 CSV file with LF endings; cells are quoted where they must be."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, content: Any) -> None:
    """Write `content` atomically as indented JSON; NaN raises ValueError (write None instead)."""
    write_text(path, json_text(content))


def json_text(content: Any) -> str:
    """`content` as indented JSON; NaN raises ValueError."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """Content for `write_json` with a checksum over all its values, which `has_right_checksum` verifies."""
    return {**content, CHECKSUM: _checksum(content)}


def has_right_checksum(content: Mapping[str, Any]) -> bool:
    """Whether JSON that was read is what `with_checksum` made; False if it has no checksum."""
    values = {name: value for name, value in content.items() if name != CHECKSUM}
    return content.get(CHECKSUM) == _checksum(values)


def _checksum(content: Mapping[str, Any]) -> str:
    as_read = json.loads(json.dumps(content, allow_nan=False))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()
