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
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

from reid_accel.config.environment import check_environment, flag, number
from reid_accel.distributed.stop import EXIT_STOPPED
from reid_accel.distributed.watchdog import Watchdog, die_with_launcher
from reid_accel.errors import InputError, first_line
from reid_accel.hardware import cpu_threads

LEAVING_SECONDS = 10.0


@contextmanager
def process_group_scope(stall_minutes: float = 30.0) -> Iterator[Watchdog]:
    """Around a script's work: however it ends, the processes end together.

    Pass the watchdog to `start_accelerator`: through it a process that fails tells the others. Connections are closed
    in order: otherwise the interpreter would exit while gloo's threads still hold tensors, and the process would abort
    after its work is done ("terminate called without an active exception", pytorch/pytorch#179291).
    What the caller had before, e.g. in a notebook, is the same afterwards: Accelerate's process-wide state, which the
    run doesn't use, and the connection of the processes, which it does. Raises InputError if another thread of this
    Python process is running a scope.
    """
    watchdog = Watchdog(stall_minutes)
    is_callers_group = dist.is_initialized()
    with _one_run_at_a_time(), _own_accelerate_state():
        try:
            yield watchdog
        except BaseException as error:
            _report(error, watchdog)
            # a collective may be pending that another process will never join
            if not is_callers_group and not _left_process_group():
                if not isinstance(error, SystemExit):  # a SystemExit was already explained
                    traceback.print_exc()
                sys.stderr.flush()
                os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
            raise
        if dist.is_initialized():
            dist.barrier()  # no connection closes while another process still reads from it
        watchdog.stop()
        if not is_callers_group:
            _left_process_group()


_RUNNING = threading.RLock()


@contextmanager
def _one_run_at_a_time() -> Iterator[None]:
    """Accelerate, random numbers and the number of threads are of the whole Python process."""
    if not _RUNNING.acquire(blocking=False):
        raise InputError(
            "another thread of this Python process is already training, scoring or predicting: wait for it to end, or "
            "start another Python process"
        )
    try:
        yield
    finally:
        _RUNNING.release()


@contextmanager
def _own_accelerate_state() -> Iterator[None]:
    """Set the caller's Accelerate state aside: the run's Accelerator depends on its own settings only."""
    states = [state._shared_state for state in (PartialState, AcceleratorState, GradientState)]
    callers = [dict(state) for state in states]
    for state in states:
        state.clear()
    try:
        yield
    finally:
        for state, before in zip(states, callers, strict=True):
            state.clear()
            state.update(before)


def _report(error: BaseException, watchdog: Watchdog) -> None:
    """Tell the other processes that and why this one ends."""
    if isinstance(error, SystemExit) and error.code in (0, EXIT_STOPPED):
        watchdog.stop()
        return
    cause = _cause(error)
    watchdog.report_failure(_in_one_line(cause), is_printed=cause is not error and isinstance(cause, InputError))


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
    processes aren't connected, the hardware doesn't support the precision, or the environment asks for what this
    package doesn't do.
    """
    check_environment()
    launched = number("WORLD_SIZE", 1)
    if launched > 1 and not torch.accelerator.is_available():  # accelerate must be told to connect the processes
        os.environ["ACCELERATE_USE_CPU"] = "true"
    watchdog = watchdog or Watchdog()
    timeout = _patience(watchdog.stall_seconds)
    die_with_launcher()
    _connect_after_restart(timeout)
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            # given as a plugin and by name: Accelerate's variables win over its other arguments
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=accumulation_steps),
            dynamo_backend="no",
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timeout)],
        )
    except (ValueError, RuntimeError, ImportError) as error:
        raise InputError(f"accelerate cannot start with precision {precision}: {error}") from error
    _check_accelerator(accelerator, precision, accumulation_steps, launched)
    if accelerator.device.type == "cpu":
        torch.set_num_threads(cpu_threads(asked_threads))
    watchdog.start(accelerator.process_index, launched)
    return accelerator


def _check_accelerator(accelerator: Accelerator, precision: str, accumulation_steps: int, launched: int) -> None:
    """Raise InputError unless the Accelerator is what was asked for, whatever the environment made of it."""
    connected = dist.get_world_size() if dist.is_initialized() else 1
    if {accelerator.num_processes, connected} != {launched}:
        raise InputError(
            f"the launcher started {launched} processes, but accelerate connected {accelerator.num_processes}: choose "
            "the launch file for this machine's devices (launch/README.md)"
        )
    kind, device = accelerator.distributed_type.value, accelerator.device.type
    if kind not in ("NO", "MULTI_CPU", "MULTI_GPU") or device not in ("cpu", "cuda", "mps", "xpu"):
        raise InputError(
            f"accelerate has chosen {kind} on {device}, but this package computes on CPUs, GPUs and Apple's MPS: "
            "choose another launch file (launch/README.md), or set ACCELERATE_USE_CPU=true"
        )
    try:
        torch.empty(1, device=accelerator.device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"this machine cannot compute on {accelerator.device} ({first_line(error)}): unset "
            "ACCELERATE_TORCH_DEVICE, or choose another device"
        ) from error
    if device == "cpu" and precision == "fp16":  # accelerate would train in float32
        raise InputError("precision fp16 needs a GPU; on a CPU set --run.mixed-precision to bf16 or no")
    asked = (precision, accumulation_steps, "NO")
    dynamo = accelerator.state.dynamo_plugin.backend.value
    made = (accelerator.state.mixed_precision, accelerator.gradient_accumulation_steps, dynamo)
    if made != asked:
        raise InputError(
            f"an Accelerator of this Python process has precision, accumulation steps and dynamo backend {made}, and "
            f"this run is to have {asked}: restart Python"
        )


def _patience(stall_seconds: float) -> timedelta:
    """Timeout of collectives: longer than the watchdog's, whose message names the missing process."""
    return timedelta(seconds=2 * stall_seconds + 600) if stall_seconds else timedelta(days=1)


def _connect_after_restart(timeout: timedelta) -> None:
    """Join the process group of this attempt when a launcher has restarted the processes (`--max_restarts`).

    torch (seen in 2.15, static rendezvous) reuses the launcher's store, where the new processes may read the addresses
    of the dead ones under the same keys. So each attempt gets its own key prefix. Machines count restarts
    independently: several machines need `rdzv_backend: c10d`, which creates a new store.
    """
    attempt, world_size = number("TORCHELASTIC_RESTART_COUNT", 0), number("WORLD_SIZE", 1)
    one_machine = number("GROUP_WORLD_SIZE", 1) == 1
    if attempt == 0 or world_size == 1 or not one_machine or dist.is_initialized():
        return
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, is_master=False, timeout=timeout)
    on_cpu = not torch.cuda.is_available() or flag("ACCELERATE_USE_CPU")
    dist.init_process_group(
        "gloo" if on_cpu else "nccl",
        store=dist.PrefixStore(f"attempt_{attempt}", store),
        rank=int(os.environ["RANK"]),
        world_size=world_size,
        timeout=timeout,
    )
