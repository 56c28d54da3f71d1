"""Faults at the n-th file operation below a path: SIGKILL in the middle of it, or a disk that is full from then on.

Operations are what Python tells its audit hooks (open for writing, mkdir, rename, remove, rmdir, chmod), each write of
a file object, each file that safetensors writes, allocations and fsync. Install it in a child: hooks can't be removed.
"""

import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

CHANGES = {"os.mkdir": 0, "os.rename": 1, "os.remove": 0, "os.rmdir": 0, "os.chmod": 0, "os.truncate": 0}
"""Audited operations and which argument is the path."""
NEED_SPACE = ("open", "os.mkdir", "write", "allocate")


class FileOperations:
    """Counts operations below `root`; the `number`-th is a fault, none with 0.

    kind: "kill"; "full", then only operations that need space count, and all later ones fail, too; "full once".
    """

    def __init__(self, root: Path, kind: str, number: int = 0) -> None:
        self.root, self.kind, self.number = str(root), kind, number
        self.done = {"all": 0, "needing space": 0}

    def install(self) -> None:
        """From now on, for the rest of this process."""
        real_open, real_serialize, real_sync = io.open, safetensors.torch.serialize_file, os.fsync
        real_allocate = getattr(os, "posix_fallocate", None)

        def opened(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            if self._is_ours(file) and set(mode) & set("wax+"):
                return self._open(file, mode, named)
            return real_open(file, mode, *arguments, **named)

        def serialize(tensors: Any, file: Any, *arguments: Any, **named: Any) -> None:
            if self._is_ours(file):
                with real_open(file, "wb") as begun:  # what a library leaves behind when it is interrupted
                    begun.write(bytes(1000))
                try:
                    self.happened("write")
                except OSError as error:
                    raise SafetensorError(f"Error while serializing: I/O error: {error}") from error
            real_serialize(tensors, file, *arguments, **named)

        def sync(descriptor: int) -> None:
            if self._is_ours(os.readlink(f"/proc/self/fd/{descriptor}")):
                self.happened("fsync")
            real_sync(descriptor)

        def allocate(descriptor: int, *arguments: int) -> None:
            self.happened("allocate")
            if real_allocate is not None:
                real_allocate(descriptor, *arguments)

        builtins.open = io.open = opened  # type: ignore[assignment]
        safetensors.torch.serialize_file = serialize
        os.fsync, os.posix_fallocate = sync, allocate  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def _is_ours(self, path: Any) -> bool:
        return not isinstance(path, int) and os.path.abspath(os.fsdecode(path)).startswith(self.root)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and self._is_ours(arguments[0]):
                self.happened("open")
        elif event in CHANGES and self._is_ours(_path(event, arguments)):
            self.happened(event)

    def _open(self, file: Any, mode: str, named: dict[str, Any]) -> Any:
        """A file object whose raw writes are counted."""
        raw = _Raw(self, file, mode.replace("b", "").replace("t", ""))
        buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        text = {name: named[name] for name in ("encoding", "errors", "newline") if name in named}
        return io.TextIOWrapper(buffered, **text)

    def happened(self, operation: str, half: Callable[[], Any] = lambda: None) -> None:
        """Count an operation, and let the fault happen in it. half: does the first half of the work."""
        needs_space = operation in NEED_SPACE
        self.done["all"] += 1
        self.done["needing space"] += needs_space
        if self.kind == "kill" and self.done["all"] == self.number:
            half()
            os.kill(os.getpid(), signal.SIGKILL)
        count = self.done["needing space"]
        lasting = self.kind == "full" and 0 < self.number <= count
        if needs_space and (lasting or (self.kind == "full once" and count == self.number)):
            half()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _path(event: str, arguments: tuple[Any, ...]) -> Any:
    """The path that an audited operation changes; `shutil.rmtree` removes files relative to an open folder."""
    path = arguments[CHANGES[event]]
    folder = arguments[1] if event in ("os.remove", "os.rmdir") else -1
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path)) if folder >= 0 else path


class _Raw(io.FileIO):
    def __init__(self, operations: FileOperations, file: Any, mode: str) -> None:
        super().__init__(file, mode)
        self._operations = operations

    def write(self, content: Any) -> int:
        piece = bytes(content)
        self._operations.happened("write", lambda: super(_Raw, self).write(piece[: len(piece) // 2]))
        return super().write(content)
