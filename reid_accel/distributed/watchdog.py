"""The processes of a run watch each other: when one fails, all end with the reason.

A process that raises, is killed or hangs would leave the others in a collective until it times out. A thread of each
process reports to the launcher's key-value store every second. Process 0 checks the reports of all; all check whether a
failure was reported, print it and end.
"""

import json
import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from reid_accel.config.environment import number
from reid_accel.terminal import visible

FAILED, MISUSE = 1, 2
BEAT_SECONDS = 1.0
GONE_SECONDS = 60.0  # without a heartbeat; a launcher notices a dead process on its own machine at once
BLAME_SECONDS = 4.0


def die_with_launcher() -> None:
    """From now on this process ends when its launcher does, even if the launcher was killed.

    Otherwise a process that waits for the others to connect could wait for hours.
    """
    if number("WORLD_SIZE", 1) > 1:
        threading.Thread(target=_watch_launcher, args=(os.getppid(),), daemon=True).start()


def _watch_launcher(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(BEAT_SECONDS)
    print("the launcher of this process is gone; the process ends", file=sys.stderr, flush=True)
    os._exit(FAILED)


class Watchdog:
    """Watches the other processes of a run, and tells them how this one fares. A run of one process has no need of it.

    Its thread has a connection of its own to the store, so that it never waits for the main thread.
    """

    def __init__(self, stall_minutes: float = 30.0) -> None:
        """stall_minutes: no progress for so long is a failure; 0: never."""
        self.stall_seconds = 60 * stall_minutes
        self.gone_seconds = min(GONE_SECONDS, self.stall_seconds) if stall_minutes else GONE_SECONDS
        self.rank, self.world_size = 0, 1
        self._prefix = f"reid_accel/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/"
        self._store: dist.Store | None = None
        self._machine = os.environ.get("GROUP_RANK", "0")
        self._asking = threading.Lock()
        self._over = threading.Event()
        self._beats, self._marks = 0, 0
        self._doing, self._since = "starting", time.monotonic()
        self._seen: dict[int, tuple[int, float]] = {}

    def start(self, rank: int, world_size: int) -> None:
        """Begin to watch, once the processes are connected."""
        if world_size == 1 or "MASTER_ADDR" not in os.environ:
            return
        self.rank, self.world_size = rank, world_size
        self._store = dist.TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=30)
        )
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def mark(self, doing: str) -> None:
        """Record what this process is doing; counts as progress."""
        self._marks, self._doing, self._since = self._marks + 1, doing, time.monotonic()

    def stop(self) -> None:
        """The run is over: watch no longer, and let the others know that silence is no sign of trouble."""
        if self._store is not None and not self._over.is_set():
            self._over.set()
            try:
                self._set(f"over/{self.rank}", "over")
            except (RuntimeError, OSError):  # the store is gone, and so are the other processes
                return

    def report_failure(self, reason: str, *, is_printed: bool = False) -> None:
        """Tell the others that this process ends, and why; returns when they had the time to hear it.

        A failure caused by another process's death is attributed to that process. is_printed: a user's mistake, which
        this process has already printed; the others of its machine end silently.
        """
        if self._store is None:
            return
        self._over.set()
        try:
            if self._get("failed") is not None:
                return
            guilty = [] if is_printed else self._silent_processes()
            if guilty:
                reason = f"{_processes(guilty)} gone, without a word (killed?); seen as: {reason}"
            else:
                reason = f"process {self.rank} failed: {reason}"
            if is_printed:
                self._set("printed", self._machine)
            else:
                print(visible(f"process {self.rank} stops: {reason}"), file=sys.stderr, flush=True)
            self._set("failed", reason)
            time.sleep(2 * BEAT_SECONDS)
        except (RuntimeError, OSError):  # the store is gone
            return

    def _run(self) -> None:
        """Write heartbeats and check the others until the run is over."""
        try:
            while not self._over.wait(BEAT_SECONDS):
                self._beat()
                reason = self._get("failed") or (self._trouble() if self.rank == 0 else None)
                if reason is not None and not self._over.is_set():
                    self._set("failed", reason)
                    self._end(reason, is_printed=self._get("printed") == self._machine)
        except (RuntimeError, OSError) as error:
            if not self._over.is_set():
                self._end(f"the process that hosts the key-value store is gone ({str(error).splitlines()[0]})")

    def _end(self, reason: str, *, is_printed: bool = False) -> None:
        if not is_printed:
            print(visible(f"process {self.rank} stops: {reason}"), file=sys.stderr, flush=True)
        if self.rank == 0:  # it may host the store: the others must read first
            time.sleep(2 * BEAT_SECONDS)
        os._exit(MISUSE if is_printed else FAILED)

    def _beat(self) -> None:
        self._beats += 1
        idle = time.monotonic() - self._since
        self._set(f"beat/{self.rank}", json.dumps([self._beats, self._marks, self._doing, idle]))

    def _trouble(self) -> str | None:
        """A problem of any process that process 0 can see, else None."""
        now, told = time.monotonic(), self._told()
        for rank, (beats, *_) in told.items():
            if self._seen.get(rank, (-1, 0.0))[0] != beats:
                self._seen[rank] = (beats, now)
        quiet = [rank for rank, (_, since) in self._seen.items() if now - since > self.gone_seconds]
        silent = [rank for rank in quiet if self._alive(rank)]
        if silent:
            return f"{_processes(silent)} gone: no sign of life for {self.gone_seconds:.0f} s"
        if self.stall_seconds and told and max(idle for *_, idle in told.values()) > self.stall_seconds:
            rank = min(told, key=lambda rank: told[rank][1])
            _, _, doing, idle = told[rank]
            return f"process {rank} made no progress for {idle:.0f} s (it was at: {doing}), see --run.stall-minutes"
        return None

    def _silent_processes(self) -> list[int]:
        """The processes whose heartbeats stopped."""
        before = self._told()
        time.sleep(BLAME_SECONDS)
        after = self._told()
        others = [rank for rank in range(self.world_size) if rank != self.rank and self._alive(rank)]
        return [rank for rank in others if after.get(rank, [0])[0] == before.get(rank, [0])[0]]

    def _told(self) -> dict[int, list[Any]]:
        beats = {rank: self._get(f"beat/{rank}") for rank in range(self.world_size)}
        return {rank: json.loads(text) for rank, text in beats.items() if text is not None}

    def _alive(self, rank: int) -> bool:
        """Whether a process has not ended normally."""
        return self._get(f"over/{rank}") is None

    def _get(self, key: str) -> str | None:
        assert self._store is not None
        with self._asking:
            if not self._store.check([self._prefix + key]):
                return None
            return bytes(self._store.get(self._prefix + key)).decode()

    def _set(self, key: str, value: str) -> None:
        assert self._store is not None
        with self._asking:
            self._store.set(self._prefix + key, value)


def _processes(ranks: list[int]) -> str:
    numbers = ", ".join(str(rank) for rank in ranks)
    return f"process {numbers} is" if len(ranks) == 1 else f"processes {numbers} are"
