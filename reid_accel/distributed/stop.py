"""Graceful stop: Ctrl-C and schedulers' signals end a run after a checkpoint."""

import os
import signal
import time
from types import FrameType, TracebackType

from reid_accel.distributed.collectives import Group

EXIT_STOPPED = 75  # EX_TEMPFAIL: the run was stopped on request and can be resumed
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
ECHO_SECONDS = 2.0


class StopRequest:
    """On Ctrl-C, SIGTERM or SIGUSR1 the run finishes the step, writes a checkpoint and exits; a second signal kills it.

    A context manager around the training loop that restores the previous handlers. Launchers forward signals that the
    process may have received already: repeats within `ECHO_SECONDS` are ignored.
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
        # a failing process must notify the others before a launcher's signal ends it
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

        Processes exchange this only every `every_steps` steps, since it costs a round trip.
        """
        group = Group.of()
        if group.size > 1 and step % every_steps:
            return False, False
        stop, save = group.any(self.signal_name is not None, save)
        return stop, save
