"""One process at a time writes to a run folder.

The file `.lock` in it names the process and is locked (`flock`) until that process ends, however it ends. Network file
systems may not show such locks to other machines: the process also counts up in the file every few seconds, and where
the file names another machine, it is watched for `WATCH_SECONDS` before it is taken for a dead process's.
"""

import json
import logging
import os
import platform
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_accel.errors import InputError
from reid_accel.files import read_text, regular_only
from reid_accel.processes import Process, this_process

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: whether the named process lives is all that is checked
    fcntl = None

LOCK_FILE = ".lock"
BEAT_SECONDS = 10.0
WATCH_SECONDS = 3 * BEAT_SECONDS
PATIENCE_SECONDS = 2.0  # until a process that has just locked the file has written its name
LINE_BYTES = 512

logger = logging.getLogger(__name__)


class RunInUseError(InputError):
    """Another process writes to the run folder."""


@dataclass(frozen=True)
class Holder:
    """What a lock file says."""

    process: Process
    host: str
    beats: int

    def __str__(self) -> str:
        return f"process {self.process.pid} on {self.host}"


class RunLock:
    """A run folder that this process holds until `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor, self._beats = descriptor, 0
        self._over = threading.Event()
        self._beat()
        threading.Thread(target=self._keep_beating, name="run lock", daemon=True).start()

    def release(self) -> None:
        """Let others write to the folder."""
        if self._over.is_set():
            return
        self._over.set()
        with suppress(OSError):
            self.path.unlink()
        os.close(self._descriptor)

    def _keep_beating(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with suppress(OSError):  # a full disk: the lock itself remains
                self._beat()

    def _beat(self) -> None:
        process = this_process()
        content = {"machine": process.machine, "pid": process.pid, "born": process.born, "beats": self._beats}
        line = json.dumps(content | {"host": platform.node()}).encode().ljust(LINE_BYTES)
        os.pwrite(self._descriptor, line, 0) if hasattr(os, "pwrite") else os.write(self._descriptor, line)
        os.fsync(self._descriptor)
        self._beats += 1


def lock_run(folder: Path) -> RunLock:
    """Hold a run folder, which must exist. Raises RunInUseError, naming process and host, when another holds it."""
    path = folder / LOCK_FILE
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        descriptor = regular_only(str(path), os.O_RDWR | os.O_CREAT)
        try:
            is_locked = _flock(descriptor)
            holder = _holder(path)
            if is_locked is not False and not _is_current(descriptor, path):
                os.close(descriptor)  # the holder has just finished, and removed the file
                continue
            if _may_be_taken(is_locked, holder, path, time.monotonic() > deadline):
                return RunLock(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.1)


def _may_be_taken(is_locked: bool | None, holder: Holder | None, path: Path, waited: bool) -> bool:
    """Whether the lock is this process's now; False to try again. Raises RunInUseError."""
    if holder is not None and holder.process.is_of_this_machine():
        dead = is_locked is True or not holder.process.lives()
        if dead and (is_locked is not False or waited):  # waited: an orphan of the dead process has the file open
            return True
        if not dead:
            raise _in_use(path, holder)
    elif is_locked is False:
        if holder is not None or waited:
            raise _in_use(path, holder)
    else:
        if holder is not None:
            _require_silence(path, holder)
        return True
    return False


def _flock(descriptor: int) -> bool | None:
    """Whether this process has the lock now; None where the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_current(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> Holder | None:
    try:
        content: Any = json.loads(read_text(path))
        process = Process(str(content["machine"]), int(content["pid"]), int(content["born"]))
        return Holder(process, str(content["host"]), int(content["beats"]))
    except (OSError, ValueError, KeyError, TypeError):  # new, or being written
        return None


def _require_silence(path: Path, holder: Holder) -> None:
    """Another machine's file may be that of a process which cannot be seen from here: it counts up if it lives."""
    logger.warning(f"{path} is of {holder}: waiting {WATCH_SECONDS:.0f} s for a sign of life")
    deadline = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(1.0, WATCH_SECONDS / 10))
        if (now := _holder(path)) is not None and now != holder:
            raise _in_use(path, now)
    logger.warning(f"{holder} gave none: this process takes the run folder")


def _in_use(path: Path, holder: Holder | None) -> RunInUseError:
    by = str(holder) if holder is not None else "another process"
    return RunInUseError(
        f"the run folder {path.parent} is in use by {by}: wait until it has ended, or end it, or choose another folder"
    )
