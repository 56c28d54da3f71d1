"""`python -m reid_accel.bench gpu`: all parts within a time budget; each row is printed as soon as it is measured."""

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

import torch

from reid_accel.benchmarks.gpu.parts import Part, all_parts
from reid_accel.benchmarks.gpu.rows import SECTIONS, Row, correctness_failed, markdown, write_results
from reid_accel.benchmarks.gpu.scaling import scaling
from reid_accel.benchmarks.gpu.setup import Setup, machine, missing_device
from reid_accel.benchmarks.gpu.usual_loop import compared
from reid_accel.benchmarks.gpu.worker import Ended, Started, work
from reid_accel.config.schema import DataConfig
from reid_accel.data.reading import check_dataset
from reid_accel.errors import InputError, explaining_os_errors
from reid_accel.terminal import open_output, visible

MISUSE = 2
PATIENCE = 4  # a part that takes this many times its estimate is considered hung
LEAST_PATIENCE_SECONDS = 90.0


class WorkerError(Exception):
    """No part can be measured."""


@dataclass(frozen=True)
class Options:
    """The command's settings."""

    budget: float = 480.0
    device: str = "cuda"
    json: Path | None = None
    data: Path | None = None
    sections: Sequence[str] = tuple(SECTIONS)


@dataclass
class Results:
    """The rows so far, printed and written as they arrive."""

    json: Path | None
    machine: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    done: int = 0
    """The number of finished parts."""
    begun: float = field(default_factory=time.monotonic)

    def add(self, row: Row) -> None:
        """Print a row and write all rows, so that they are kept however the command ends."""
        self.rows.append(row)
        print(visible(f"{time.monotonic() - self.begun:5.0f} s  {row.line()}", kept=""), flush=True)
        self.write()

    def write(self) -> None:
        """Write the files, if requested."""
        if self.json is not None:
            write_results(self.json, self.rows, self.machine)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code: 1 if a correctness check failed, 2 for invalid options, else 0."""
    open_output()
    try:
        with explaining_os_errors():
            return run(parse_options(arguments))
    except InputError as error:
        print(f"stopped: {visible(str(error))}", file=sys.stderr)
        return MISUSE


def parse_options(arguments: Sequence[str]) -> Options:
    """The options from a command line; plain argparse, since GPU machines may lack tyro."""
    parser = argparse.ArgumentParser(
        prog="python -m reid_accel.bench gpu",
        description="Correctness, training speed, scoring speed and a run on real images on one GPU. Under "
        "`accelerate launch --num_processes N -m reid_accel.bench gpu`: how training scales over N GPUs.",
        allow_abbrev=False,
    )
    parser.add_argument("--budget", type=float, default=480.0, metavar="SECONDS", help="time limit (%(default)s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a trial at small sizes")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the rows as JSON, and as Markdown to the same name with .md"
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="a data set in Market-1501's layout")
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS, default=tuple(SECTIONS), help="what to measure (default: everything)"
    )
    return Options(**vars(parser.parse_args(arguments)))


def run(options: Options) -> int:
    """Measure, print the table, and return the exit code."""
    _check(options)
    results = Results(options.json)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        _measure_scaling(options, processes, results)
        return 0
    with interruptible():
        _measure(options, results)
    for row in list(compared(results.rows)):
        results.add(row)
    results.write()
    print(visible("\n" + markdown(results.rows, results.machine)), flush=True)
    return 1 if correctness_failed(results.rows) else 0


def _check(options: Options) -> None:
    """Raise InputError for invalid options before anything is measured."""
    if not options.budget > 0:
        raise InputError(f"--budget must be above 0 seconds, got {options.budget:g}")
    problem = missing_device(options.device)
    if problem is not None:
        raise InputError(problem)
    if options.data is not None:
        check_dataset(DataConfig(name="market-layout", root=str(options.data)))
    if options.json is not None and options.json.is_dir():
        raise InputError(f"--json {options.json} is a folder: name a file")


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: the rows so far are kept."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _measure(options: Options, results: Results) -> None:
    """Run all parts; after a part that crashed or hung, a new process continues with the next one."""
    deadline = time.monotonic() + options.budget
    parts = all_parts(large=options.device == "cuda", sections=options.sections)
    reason = f"the budget of {options.budget:g} s was spent"
    try:
        with tempfile.TemporaryDirectory(prefix="reid_accel_bench_") as folder:
            while results.done < len(parts) and time.monotonic() < deadline:
                _run_worker(options, Path(folder), parts, deadline, results)
    except KeyboardInterrupt:
        reason = "interrupted"
    except WorkerError as error:
        reason = str(error)
    for part in parts[results.done :]:
        results.add(Row(part.section, part.title, "not measured", reason))


def _run_worker(options: Options, folder: Path, parts: Sequence[Part], deadline: float, results: Results) -> None:
    """Run the remaining parts in a process until all are done or one crashes or hangs."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    setup = (options.device, folder, options.data, deadline, options.sections)
    process = context.Process(target=work, args=(results.done, *setup, sender))
    process.start()
    sender.close()
    try:
        _receive(receiver, process, parts, deadline, results)
    finally:
        _end(process)
        receiver.close()


def _receive(
    receiver: Connection, process: BaseProcess, parts: Sequence[Part], deadline: float, results: Results
) -> None:
    """Receive rows until the worker ends, the budget is spent, or a part hangs.

    Raises WorkerError when the worker ends before it has started a part: another worker would fail, too.
    """
    limit = None
    while results.done < len(parts):
        until = deadline if limit is None else min(limit, deadline)
        if not receiver.poll(max(0.0, until - time.monotonic())):
            if until < deadline:
                _fail(parts, results, "timed out: it took far longer than estimated")
            return
        try:
            message = receiver.recv()
        except EOFError:
            process.join()
            _fail(parts, results, f"its process ended with exit code {process.exitcode}")
            if limit is None:
                raise WorkerError(f"the measuring process ended with exit code {process.exitcode}") from None
            return
        if isinstance(message, Started):
            limit = time.monotonic() + max(LEAST_PATIENCE_SECONDS, PATIENCE * parts[message.index].seconds)
        elif isinstance(message, Ended):
            results.done = message.index + 1
        elif isinstance(message, Row):
            results.add(message)
        else:
            results.machine = message


def _fail(parts: Sequence[Part], results: Results, reason: str) -> None:
    """Record that the current part failed."""
    part = parts[results.done]
    results.add(Row(part.section, part.title, "failed", reason))
    results.done += 1


def _end(process: BaseProcess) -> None:
    """End a worker and the processes that it started."""
    if process.is_alive() and process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):  # it may not lead its own process group yet
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.join()


def _measure_scaling(options: Options, processes: int, results: Results) -> None:
    """Measure scaling over the launcher's processes; process 0 prints."""
    device = torch.device("cpu" if options.device == "cpu" else f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    results.machine = machine(device)
    rows = list(scaling(Setup(device, Path(tempfile.gettempdir())), processes))
    if os.environ.get("RANK", "0") == "0":
        for row in rows:
            results.add(row)
        print(visible("\n" + markdown(results.rows, results.machine)), flush=True)
