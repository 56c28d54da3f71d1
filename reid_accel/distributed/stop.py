"""Stopping a run in order: Ctrl-C and the signals of schedulers end it after a checkpoint."""

import os
import signal
import time
from types import FrameType, TracebackType

from reid_accel.distributed.collectives import Group

EXIT_STOPPED = 75  # "try again": the run was asked to stop and can be resumed
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
ECHO_SECONDS = 2.0


class StopRequest:
    """Ctrl-C, SIGTERM and SIGUSR1 ask the run to finish the step, write a checkpoint and exit; a second one ends it.

    Use it as a context manager around the training loop: it puts the former handlers back. Launchers forward a signal
    that the process has already received; what arrives within `ECHO_SECONDS` is taken for that echo.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._noted_at = 0.0
        self._previous = {number: signal.getsignal(number) for number in SIGNALS}

    def __enter__(self) -> "StopRequest":
        for number in SIGNALS:
            signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        # of several processes, one that fails has to tell the others before a launcher's signal ends it
        if kind is None or Group.of().size == 1:
            self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal_name is None:
            self.signal_name, self._noted_at = signal.Signals(number).name, now
        elif now - self._noted_at > ECHO_SECONDS:
            self._restore()
            os.kill(os.getpid(), number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self, step: int, every_steps: int, *, save: bool = False) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and whether any wants a checkpoint; every process calls it each step.

        Several processes exchange this only every `every_steps` steps, since it costs a round trip.
        """
        group = Group.of()
        if group.size > 1 and step % every_steps:
            return False, False
        stop, save = group.any(self.signal_name is not None, save)
        return stop, save
