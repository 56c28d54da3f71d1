"""Children forked from a process that has loaded torch, so that a whole run takes a second or two; how they end."""

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_accel.reporting.console import sentences_for_users

PATIENCE_SECONDS = 120.0
MORE_MEMORY_BYTES = 3 * 2**30
LONGEST_OUTPUT = 20_000

Work = Callable[[], Any]


@dataclass(frozen=True)
class Ended:
    """How a child ended. code: negative for a signal, None when it hung. result: what its work returned, from JSON."""

    code: int | None
    said: str
    result: Any = None


def fork(work: Work, log: Path, limit_file_bytes: int | None = None) -> int:
    """Start a child with a process group of its own; returns its number.

    What it prints goes to `log`, what its work returns as JSON to the file beside it. Exit codes are the product's:
    0, 2 for an InputError, 1 for any other exception, which prints its traceback.
    """
    log.with_suffix(".json").unlink(missing_ok=True)
    child = os.fork()
    os.setpgid(child, child)  # in both: whoever comes first, the group is there when the parent kills it
    if child:
        return child
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))  # pytest has its own
        if limit_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_file_bytes, resource.RLIM_INFINITY))
        with sentences_for_users():
            result = work()
        log.with_suffix(".json").write_text(json.dumps(result))
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        error = sys.exc_info()[1]
        if error is not None:
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(child: int, seconds: float) -> int | None:
    """The exit code of a child that ends within the time, else None."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def kill(child: int) -> None:
    """End a child and all its children at once."""
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


def in_a_child(work: Work, log: Path, *, seconds: float = PATIENCE_SECONDS) -> Ended:
    """Let a child do the work, to its end or until patience is over. Memory is limited to some GB more than now."""

    def limited() -> Any:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MORE_MEMORY_BYTES, resource.RLIM_INFINITY))
        return work()

    child = fork(limited, log)
    code = ended(child, seconds)
    if code is None:
        kill(child)
    result = log.with_suffix(".json")
    read = json.loads(result.read_text()) if code == 0 and result.exists() else None
    return Ended(code, log.read_bytes().decode(errors="replace"), read)


def is_proper(said: str) -> bool:
    """Whether output is fit for a terminal: no traceback, no control characters, not endless."""
    controls = any(ord(character) < 32 and character not in "\n\t\r" for character in said)
    return "Traceback" not in said and not controls and len(said) < LONGEST_OUTPUT
