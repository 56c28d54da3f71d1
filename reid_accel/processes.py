"""Processes by name: whose a file or a lock is, and whether that process still lives."""

import functools
import os
import platform
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

CLOCK_SECONDS = 3  # a process's time of birth is computed from the machine's clock, which may be set


@dataclass(frozen=True)
class Process:
    """A process of some machine; with its time of birth, since numbers are given again.

    machine: a hash of host name, boot and container, eight hexadecimal digits.
    """

    machine: str
    pid: int
    born: int

    @property
    def tag(self) -> str:
        """For file names."""
        return f"{self.machine}-{self.pid}-{self.born}"

    @classmethod
    def from_tag(cls, tag: str) -> "Process":
        """The process of a `tag`."""
        machine, pid, born = tag.split("-")
        return cls(machine, int(pid), int(born))

    def is_of_this_machine(self) -> bool:
        """Whether `lives` can tell: the process is or was of this machine since it was started, and this container."""
        return self.machine == _this_machine()

    def lives(self) -> bool:
        """Whether the process of this machine still runs."""
        try:
            process = psutil.Process(self.pid)
            is_zombie = process.status() == psutil.STATUS_ZOMBIE
            return not is_zombie and abs(process.create_time() - self.born) <= CLOCK_SECONDS
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:  # another user's
            return True


def this_process() -> Process:
    """The calling process."""
    return _process(os.getpid())


@functools.lru_cache(maxsize=1)  # by number: after a fork it is another process
def _process(pid: int) -> Process:
    return Process(_this_machine(), pid, int(psutil.Process(pid).create_time()))


@functools.cache
def _this_machine() -> str:
    parts = [platform.node()]
    with suppress(OSError):  # Linux only
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(os.readlink("/proc/self/ns/pid"))
    return f"{zlib.crc32(' '.join(parts).encode(errors='replace')):08x}"
