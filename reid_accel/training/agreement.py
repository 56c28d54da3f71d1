"""What all processes of a run must decide together, and the start that makes sure they are one run."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist
from accelerate import Accelerator

from reid_accel.errors import InputError
from reid_accel.training.hardware import choose_precision, cpu_threads

LEAVING_SECONDS = 10.0


@contextmanager
def one_process_group() -> Iterator[None]:
    """Around a script's work: its processes end their connections in order, whichever way the work ends.

    Without it the interpreter would go while gloo's threads still hold tensors, and the process would abort after
    all is done ("terminate called without an active exception", pytorch/pytorch#179291).
    """
    try:
        yield
    except BaseException as error:
        if not _left_process_group():  # a collective is under way that another process will never join
            if not isinstance(error, SystemExit):
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
        raise
    if dist.is_initialized():
        dist.barrier()  # nobody's connection closes while another still reads from it
    _left_process_group()


def _left_process_group() -> bool:
    """Whether the connections could be ended in good time."""
    if not dist.is_initialized():
        return True
    leaving = threading.Thread(target=dist.destroy_process_group, daemon=True)
    leaving.start()
    leaving.join(LEAVING_SECONDS)
    return not leaving.is_alive()


def start_accelerator(mixed_precision: str, accumulation_steps: int = 1, asked_threads: int = 0) -> Accelerator:
    """An Accelerator whose world is the launcher's, in the precision asked for.

    Raises InputError when the launcher started several processes that each believe to be alone (a launch for
    GPUs on a machine that has none), or when the precision isn't to be had here.
    """
    precision = choose_precision(mixed_precision)
    try:
        accelerator = Accelerator(mixed_precision=precision, gradient_accumulation_steps=accumulation_steps)
    except ValueError as error:
        raise InputError(f"this machine cannot train in {precision}: {error}") from error
    if accelerator.device.type == "cpu":
        torch.set_num_threads(cpu_threads(asked_threads))
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise InputError(
            f"the launcher started {launched} processes, but they do not form one run (this one sees "
            f"{accelerator.num_processes}). On a machine without GPUs use launch/cpu_2_processes.yaml"
        )
    return accelerator


class StopRequest:
    """Ctrl-C or SIGTERM asks for an orderly end: finish the step, checkpoint, leave. A second one ends at once.

    Launchers pass on a signal that the process has already had; what comes within `ECHO_SECONDS` is taken for
    that echo.
    """

    ECHO_SECONDS = 2.0

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._noted_at = 0.0
        self._previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._previous:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal_name is None:
            self.signal_name, self._noted_at = signal.Signals(number).name, now
        elif now - self._noted_at > self.ECHO_SECONDS:
            self.restore()
            os.kill(os.getpid(), number)

    def restore(self) -> None:
        """Put the former handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self, accelerator: Accelerator, step: int, every_steps: int) -> bool:
        """Whether any process was asked to stop. Every process calls this at every step.

        Several processes compare notes only every `every_steps` steps: it costs a round trip.
        """
        if accelerator.num_processes == 1:
            return self.signal_name is not None
        if step % every_steps:
            return False
        return any_process(accelerator, self.signal_name is not None)


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """True on all processes when it is on one; every process must call it."""
    votes = accelerator.reduce(torch.tensor([float(flag)], device=accelerator.device), reduction="sum")
    assert isinstance(votes, torch.Tensor)
    return bool(votes.item() > 0)
