"""Crops from the memory map to the training device: all at once, or prefetched batch by batch.

Legend: B rows of a batch.
"""

import logging
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from reid_accel.data.crop_cache import CropCache
from reid_accel.data.sampler import Rows

logger = logging.getLogger(__name__)

COPIED_BYTES = 256 * 2**20  # copied to the device at a time: the extra host memory


class Crops(Protocol):
    """A source of crops by rows."""

    def batches(self, row_lists: Iterable[Rows]) -> Generator[Tensor]:
        """The crops of each list of rows in order: uint8, B x 3 x H x W, on the device. Close it to stop early."""


@dataclass(frozen=True)
class MappedCrops:
    """Crops read from the memory map on demand; for training on the CPU."""

    cache: CropCache

    def batches(self, row_lists: Iterable[Rows]) -> Generator[Tensor]:
        """See `Crops`."""
        for rows_B in row_lists:
            yield self.cache.gather(rows_B)


@dataclass(frozen=True)
class ResidentCrops:
    """All crops in the device's memory."""

    crops_N3HW: Tensor

    def batches(self, row_lists: Iterable[Rows]) -> Generator[Tensor]:
        """See `Crops`."""
        device = self.crops_N3HW.device
        for rows_B in row_lists:
            yield self.crops_N3HW[torch.from_numpy(rows_B).to(device, non_blocking=True)]


@dataclass(frozen=True)
class ReadAheadCrops:
    """Crops prefetched by a thread, which on a GPU also copies them to the device while it computes."""

    cache: CropCache
    device: torch.device
    ahead: int = 4

    def batches(self, row_lists: Iterable[Rows]) -> Generator[Tensor]:
        """See `Crops`. An error while reading is raised at its batch."""
        lists = iter(row_lists)
        stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        with ThreadPoolExecutor(1, "read ahead") as reader:
            coming = deque(reader.submit(self._load, rows_B, stream) for rows_B in islice(lists, self.ahead))
            while coming:
                crops_B3HW, copied = coming.popleft().result()
                coming.extend(reader.submit(self._load, rows_B, stream) for rows_B in islice(lists, 1))
                if copied is not None:
                    consumer = torch.cuda.current_stream(self.device)
                    consumer.wait_event(copied)
                    crops_B3HW.record_stream(consumer)  # the memory is not reused before the consumer is done
                yield crops_B3HW

    def _load(self, rows_B: Rows, stream: torch.cuda.Stream | None) -> tuple[Tensor, torch.cuda.Event | None]:
        """The crops, and an event recorded after their copy to the GPU."""
        crops = self.cache.crops_N3HW
        if rows_B.max(initial=0) >= len(crops):
            raise IndexError(f"row {rows_B.max()} is out of range for {len(crops)} crops")
        host = torch.empty((len(rows_B), *crops.shape[1:]), dtype=torch.uint8, pin_memory=stream is not None)
        np.take(crops, rows_B, axis=0, out=host.numpy(), mode="clip")  # "raise" would copy twice
        if stream is None:
            return host.to(self.device), None
        with torch.cuda.stream(stream):
            return host.to(self.device, non_blocking=True), stream.record_event()


def place_crops(cache: CropCache, device: torch.device, share: float) -> Crops:
    """The crops of a split for a device: resident if they fit into `share` of its free memory, else prefetched."""
    if device.type == "cpu":
        return MappedCrops(cache)
    needed, free = cache.crops_N3HW.nbytes, free_memory(device)
    if share > 0 and needed <= share * free:
        try:
            return ResidentCrops(_copied(cache, device))
        except torch.cuda.OutOfMemoryError:  # another process has taken the memory
            torch.cuda.empty_cache()
    if share > 0:
        logger.warning(
            f"the decoded training images ({needed / 2**30:.1f} GiB) exceed {100 * share:.0f} % of the "
            f"device's free memory ({free / 2**30:.1f} GiB, --data.device-share): they are prefetched from the cache"
        )
    return ReadAheadCrops(cache, device)


def free_memory(device: torch.device) -> int:
    """Free bytes of a device; 0 if unknown."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _copied(cache: CropCache, device: torch.device) -> Tensor:
    crops = cache.crops_N3HW
    copied = torch.empty(crops.shape, dtype=torch.uint8, device=device)
    rows_at_once = max(1, COPIED_BYTES // max(1, crops[:1].nbytes))
    for start in range(0, len(crops), rows_at_once):
        piece = np.array(crops[start : start + rows_at_once])
        copied[start : start + len(piece)] = torch.from_numpy(piece).to(device)
    return copied
