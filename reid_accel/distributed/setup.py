"""Start and end of a run's processes: process group, accelerator, watchdog."""

import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import InitProcessGroupKwargs, parse_flag_from_env

from reid_accel.distributed.stop import EXIT_STOPPED
from reid_accel.distributed.watchdog import Watchdog, die_with_launcher
from reid_accel.errors import InputError
from reid_accel.hardware import cpu_threads

LEAVING_SECONDS = 10.0


@contextmanager
def process_group_scope(stall_minutes: float = 30.0) -> Iterator[Watchdog]:
    """Around a script's work: however it ends, the processes end together.

    Pass the watchdog to `start_accelerator`: through it a process that fails tells the others. Connections are closed
    in order: otherwise the interpreter would exit while gloo's threads still hold tensors, and the process would abort
    after its work is done ("terminate called without an active exception", pytorch/pytorch#179291).
    Accelerate's process-wide state is reset, so that a later run in this process can have another precision; a state
    that the caller had before is kept.
    """
    watchdog = Watchdog(stall_minutes)
    had_state = bool(PartialState._shared_state)
    try:
        yield watchdog
    except BaseException as error:
        agreed_end = isinstance(error, SystemExit) and error.code in (0, EXIT_STOPPED)
        if agreed_end:
            watchdog.stop()
        else:
            cause = _cause(error)
            watchdog.report_failure(
                _in_one_line(cause), is_printed=cause is not error and isinstance(cause, InputError)
            )
        if not _left_process_group():  # a collective is pending that another process will never join
            if not isinstance(error, SystemExit):  # a SystemExit was already explained
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
        raise
    finally:
        if not had_state:
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
    if dist.is_initialized():
        dist.barrier()  # no connection closes while another process still reads from it
    watchdog.stop()
    _left_process_group()


def _cause(error: BaseException) -> BaseException:
    """Why a process ends: an exit after a printed message is caused by the error that it reports."""
    return error.__context__ if isinstance(error, SystemExit) and error.__context__ is not None else error


def _in_one_line(cause: BaseException) -> str:
    lines = str(cause).strip().splitlines()
    sentence = lines[0] if lines else ""
    return sentence if isinstance(cause, InputError) else f"{type(cause).__name__}: {sentence}"


def _left_process_group() -> bool:
    """Whether the process group could be destroyed in time."""
    if not dist.is_initialized():
        return True
    leaving = threading.Thread(target=dist.destroy_process_group, daemon=True)
    leaving.start()
    leaving.join(LEAVING_SECONDS)
    return not leaving.is_alive()


def start_accelerator(
    precision: str, accumulation_steps: int = 1, asked_threads: int = 0, watchdog: Watchdog | None = None
) -> Accelerator:
    """An Accelerator for the launcher's processes, in the requested precision; starts the watchdog.

    precision: "no", "fp16" or "bf16" (see `hardware.choose_precision`).
    Several processes on a machine without GPUs compute on its CPU, whatever launched them. Raises InputError when the
    processes aren't connected, or the hardware doesn't support the precision.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and not torch.accelerator.is_available():  # accelerate must be told to connect the processes
        os.environ["ACCELERATE_USE_CPU"] = "true"
    watchdog = watchdog or Watchdog()
    timeout = _patience(watchdog.stall_seconds)
    set_before = AcceleratorState._shared_state.get("_mixed_precision", precision)
    if set_before != precision:
        raise InputError(
            f"an Accelerator with precision {set_before} exists in this Python process, and this run is to have "
            f"{precision}: restart Python, or set --run.mixed-precision {set_before}"
        )
    die_with_launcher()
    _connect_after_restart(timeout)
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            gradient_accumulation_steps=accumulation_steps,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timeout)],
        )
    except ValueError as error:
        raise InputError(f"accelerate cannot start with precision {precision}: {error}") from error
    if accelerator.device.type == "cpu":
        if precision == "fp16":  # accelerate would train in float32
            raise InputError("precision fp16 needs a GPU; on a CPU set --run.mixed-precision to bf16 or no")
        torch.set_num_threads(cpu_threads(asked_threads))
    if accelerator.num_processes != launched:
        raise InputError(
            f"the launcher started {launched} processes, but accelerate connected {accelerator.num_processes}: choose "
            "the launch file for this machine's devices (launch/README.md)"
        )
    watchdog.start(accelerator.process_index, launched)
    return accelerator


def _patience(stall_seconds: float) -> timedelta:
    """Timeout of collectives: longer than the watchdog's, whose message names the missing process."""
    return timedelta(seconds=2 * stall_seconds + 600) if stall_seconds else timedelta(days=1)


def _connect_after_restart(timeout: timedelta) -> None:
    """Join the process group of this attempt when a launcher has restarted the processes (`--max_restarts`).

    torch (seen in 2.15, static rendezvous) reuses the launcher's store, where the new processes may read the addresses
    of the dead ones under the same keys. So each attempt gets its own key prefix. Machines count restarts
    independently: several machines need `rdzv_backend: c10d`, which creates a new store.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    one_machine = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if attempt == "0" or world_size == 1 or not one_machine or dist.is_initialized():
        return
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, is_master=False, timeout=timeout)
    on_cpu = not torch.cuda.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    dist.init_process_group(
        "gloo" if on_cpu else "nccl",
        store=dist.PrefixStore(f"attempt_{attempt}", store),
        rank=int(os.environ["RANK"]),
        world_size=world_size,
        timeout=timeout,
    )
