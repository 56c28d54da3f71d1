"""Workers of the GPU benchmark that misbehave, to be started instead of the real one."""

import os
import time
from typing import Any

from reid_accel.benchmarks.gpu.rows import checked
from reid_accel.benchmarks.gpu.worker import Ended, Started

CRASHING_PART, HANGING_PART, LAST_PART = 1, 3, 5


def misbehaving(first: int, *given: Any) -> None:
    """One part kills its process, one never ends, the others pass; LAST_PART is the last one."""
    sender = given[-1]
    sender.send({"device": "made up"})
    for index in range(first, LAST_PART + 1):
        sender.send(Started(index))
        if index == CRASHING_PART:
            os._exit(11)
        if index == HANGING_PART:
            time.sleep(60)
        sender.send(checked(f"part {index}", True, "as it should be"))
        sender.send(Ended(index))


def dead_at_once(*given: Any) -> None:
    """A process that can't even start its parts."""
    os._exit(3)
