"""On PYTHONPATH, makes a Python process look like one on macOS and Windows together: what either lacks is gone.

Spawned processes have it too. Call `remove` first in each script, after the libraries are imported, which have their
own ways on other systems.
"""

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from typing import Any

OS_NAMES = (
    "sched_getaffinity", "sched_setaffinity", "posix_fallocate", "posix_fadvise", "getuid", "geteuid", "getgid",
    "getegid", "getloadavg", "setsid", "getpgid", "setpgid", "killpg", "fork", "forkpty", "mkfifo", "mknod", "statvfs",
    "fdatasync", "sync", "pipe2", "memfd_create", "sendfile", "preadv", "pwritev", "chown", "fchown", "fchmod",
    "sysconf", "wait4", "waitid", "O_NONBLOCK", "O_NOFOLLOW", "O_DIRECTORY", "O_SYNC", "O_DSYNC", "O_NOCTTY",
    "O_TMPFILE", "O_PATH",
)  # fmt: skip
SIGNALS = ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGALRM", "SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE", "SIGQUIT", "SIGXFSZ")
MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog")

_open = os.open


def _open_files_only(path: Any, *arguments: Any, **options: Any) -> int:
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return _open(path, *arguments, **options)


def remove() -> None:
    """Take the names away, and make `spawn` the only way to start a process."""
    import psutil  # noqa: F401  its part for Linux needs some of them

    for module, names in ((os, OS_NAMES), (signal, SIGNALS)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    sys.modules.update(dict.fromkeys(MODULES))  # importing them raises ModuleNotFoundError
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # it would open folders
    tempfile._O_TMPFILE_WORKS = False  # type: ignore[attr-defined]
    os.open = _open_files_only
    multiprocessing.set_start_method("spawn", force=True)


if os.environ.get("OTHER_SYSTEM") == "at the start":
    remove()
