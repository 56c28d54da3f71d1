"""Crops from the memory map to the training device: whole, or read ahead of the step that needs them.

Legend: B rows of a batch.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from reid_accel.data.crop_cache import CropCache
from reid_accel.data.sampler import Rows

COPIED_BYTES = 256 * 2**20  # moved to the device at once: so much is decoded twice in memory, for a moment


class Crops(Protocol):
    """Where a trainer gets its crops from."""

    def batches(self, row_lists: Iterable[Rows]) -> Generator[Tensor]:
        """The crops of each list of rows, uint8, B x 3 x H x W, on the device, in order. Close it when done early."""


@dataclass(frozen=True)
class MappedCrops:
    """Read from the map when they are needed; for training on the CPU, where a copy would gain nothing."""

    store: CropCache

    def batches(self, row_lists: Iterable[Rows]) -> Generator[Tensor]:
        """See `Crops`."""
        for rows_B in row_lists:
            yield self.store.gather(rows_B)


@dataclass(frozen=True)
class ResidentCrops:
    """All crops of a split in the device's memory."""

    crops_N3HW: Tensor

    def batches(self, row_lists: Iterable[Rows]) -> Generator[Tensor]:
        """See `Crops`."""
        device = self.crops_N3HW.device
        for rows_B in row_lists:
            yield self.crops_N3HW[torch.from_numpy(rows_B).to(device, non_blocking=True)]


@dataclass(frozen=True)
class ReadAheadCrops:
    """A thread reads the next batches from the map into pinned memory, from where they move without a wait."""

    store: CropCache
    device: torch.device
    ahead: int = 4

    def batches(self, row_lists: Iterable[Rows]) -> Generator[Tensor]:
        """See `Crops`. An error while reading is raised at the batch that it hit."""
        lists = iter(row_lists)
        with ThreadPoolExecutor(1, "read ahead") as reader:
            coming = deque(reader.submit(self._gather, rows_B) for rows_B in islice(lists, self.ahead))
            while coming:
                crops_B3HW = coming.popleft().result()
                coming.extend(reader.submit(self._gather, rows_B) for rows_B in islice(lists, 1))
                yield crops_B3HW.to(self.device, non_blocking=True)

    def _gather(self, rows_B: Rows) -> Tensor:
        crops = self.store.crops_N3HW
        if rows_B.max(initial=0) >= len(crops):
            raise IndexError(f"there is no crop {rows_B.max()} among {len(crops)}")
        pinned = torch.empty((len(rows_B), *crops.shape[1:]), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        np.take(crops, rows_B, axis=0, out=pinned.numpy(), mode="clip")  # "raise" would copy twice
        return pinned


def place_crops(
    store: CropCache, device: torch.device, share: float, say: Callable[[str], None] = lambda sentence: None
) -> Crops:
    """The crops of a split on a device: whole if they fit into `share` of its free memory, else read ahead.

    `say` is told when they don't fit.
    """
    if device.type == "cpu":
        return MappedCrops(store)
    needed, free = store.crops_N3HW.nbytes, free_memory(device)
    if share > 0 and needed <= share * free:
        try:
            return ResidentCrops(_copied(store, device))
        except torch.cuda.OutOfMemoryError:  # somebody else took it since
            torch.cuda.empty_cache()
    if share > 0:
        say(
            f"the decoded training images ({needed / 2**30:.1f} GiB) are more than {100 * share:.0f} % of the "
            f"device's free memory ({free / 2**30:.1f} GiB, --data.device-share): they are read ahead from the cache"
        )
    return ReadAheadCrops(store, device)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; 0 where it can't be asked."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _copied(store: CropCache, device: torch.device) -> Tensor:
    crops = store.crops_N3HW
    copied = torch.empty(crops.shape, dtype=torch.uint8, device=device)
    rows_at_once = max(1, COPIED_BYTES // max(1, crops[:1].nbytes))
    for start in range(0, len(crops), rows_at_once):
        piece = np.array(crops[start : start + rows_at_once])
        copied[start : start + len(piece)] = torch.from_numpy(piece).to(device)
    return copied
