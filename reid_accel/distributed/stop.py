"""Graceful stop: Ctrl-C and schedulers' signals end a run after a checkpoint."""

import logging
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from reid_accel.distributed.collectives import Group

EXIT_STOPPED = 75  # EX_TEMPFAIL: the run was stopped on request and can be resumed
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGBREAK")  # Windows has no SIGUSR1, other systems no SIGBREAK
ECHO_SECONDS = 2.0

logger = logging.getLogger(__name__)


class StopRequest:
    """On Ctrl-C, SIGTERM or SIGUSR1 the run finishes the step, writes a checkpoint and exits; a second signal kills it.

    A context manager around the training loop that restores the previous handlers. Launchers forward signals that the
    process may have received already: repeats within `ECHO_SECONDS` are ignored. Only a run in the main thread of its
    process can be asked to stop: Python gives signals to no other.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._noted_at = 0.0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is not threading.main_thread():
            logger.info("this run is not in the main thread: signals don't stop it with a checkpoint")
            return self
        for number in (signal.Signals[name] for name in NAMES if name in signal.Signals.__members__):
            self._previous[number] = signal.signal(number, self._note)
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
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python

    def agreed(self, step: int, every_steps: int, *, save: bool = False) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and whether any wants a checkpoint; every process calls it each step.

        Processes exchange this only every `every_steps` steps, since it costs a round trip.
        """
        group = Group.of()
        if group.size > 1 and step % every_steps:
            return False, False
        stop, save = group.any(self.signal_name is not None, save)
        return stop, save
