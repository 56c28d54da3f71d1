"""The process that runs the parts, so that earlier rows survive a part that crashes or hangs."""

import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from reid_accel.benchmarks.gpu.parts import Part, all_parts
from reid_accel.benchmarks.gpu.rows import LeftOutError, Row
from reid_accel.benchmarks.gpu.setup import Setup, machine

FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    AssertionError,
    AttributeError,
    LookupError,
    ArithmeticError,
    ImportError,
    OSError,
    NotImplementedError,
)
"""Errors of a part that don't stop the other parts."""


@dataclass(frozen=True)
class Started:
    """Sent before a part's rows."""

    index: int


@dataclass(frozen=True)
class Ended:
    """Sent after a part's rows."""

    index: int


def work(
    first: int,
    device: str,
    folder: Path,
    data: Path | None,
    deadline: float,
    sections: Sequence[str],
    sender: Connection,
) -> None:
    """Run the parts from number `first` on and send their rows; runs in its own process."""
    os.setsid()  # Ctrl-C is for the parent, which ends this process and its children
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; deterministic mode needs it
    if device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)  # set by a launcher of one process
    setup = Setup(torch.device(device, 0) if device == "cuda" else torch.device(device), folder, data, deadline)
    sender.send(machine(setup.device))
    parts = all_parts(large=setup.large, sections=sections)
    for index in range(first, len(parts)):
        sender.send(Started(index))
        for row in rows_of(parts[index], setup):
            sender.send(row)
        sender.send(Ended(index))


def rows_of(part: Part, setup: Setup) -> Iterator[Row]:
    """A part's rows; a part that fails, or that there is no time for, gives a row with the reason."""
    needed = part.seconds if setup.large else 0.0
    if setup.seconds_left <= needed:
        left = max(0.0, setup.seconds_left)
        yield Row(part.section, part.title, "not measured", f"needs about {needed:.0f} s, {left:.0f} s were left")
        return
    try:
        yield from part.run(setup)
    except LeftOutError as reason:
        yield Row(part.section, part.title, "left out", str(reason))
    except torch.OutOfMemoryError:
        yield Row(part.section, part.title, "left out", "it needs more memory than the device has free")
    except FAILURES as error:
        traceback.print_exc()
        yield Row(part.section, part.title, "failed", in_one_line(error))
    if setup.large:
        torch.cuda.empty_cache()


def in_one_line(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    lines: Sequence[str] = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
