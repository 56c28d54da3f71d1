"""Coordination of the processes on one machine."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from reid_accel.config.environment import number


def is_local_main() -> bool:
    """Whether this is the first process of its machine."""
    return not _is_distributed() or number("LOCAL_RANK", 0) == 0


@contextmanager
def local_main_first() -> Iterator[None]:
    """The first process of each machine runs the block before the others. Every process must enter it."""
    if not is_local_main():
        _barrier()
    yield
    if is_local_main():
        _barrier()


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _barrier() -> None:
    if _is_distributed():
        dist.barrier(device_ids=[torch.cuda.current_device()] if "nccl" in dist.get_backend() else None)
