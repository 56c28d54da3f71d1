"""From rows to batches on the training device: crops, augmentation, labels.

Legend: N training images, P images of the pool that patches are cut from, B images of a micro-batch, A attribute
groups.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from reid_accel.augment.ops import augment, normalize
from reid_accel.augment.rng import Draws
from reid_accel.config.schema import Config
from reid_accel.data.dataset import ImageDataset, Ints
from reid_accel.data.images import ImageSize, enlarge, to_bytes, to_float
from reid_accel.data.prefetch import Crops, place_crops
from reid_accel.data.splits import TrainingSet
from reid_accel.models.reid import Architecture

POOL_SIZE = 256
BATCHES_DRAWN = 64  # random numbers are generated for this many batches at once
PATCH_POOL_SEED = (0, 1)  # appended to the run's seed; the sampler's generators append the epoch only


class Batch(NamedTuple):
    """A micro-batch on the training device: normalized float images and their labels.

    camera_B: -1 is unknown. attributes_BA: class indices, -1 is unknown. row_B: positions among the training images.
    """

    images_BCHW: Tensor
    identity_B: Tensor
    camera_B: Tensor
    attributes_BA: Tensor
    row_B: Tensor


@dataclass(frozen=True)
class Labels:
    """The labels of all training images, on the training device."""

    identity_N: Tensor
    camera_N: Tensor
    attributes_NA: Tensor

    @classmethod
    def of(cls, data: TrainingSet, device: torch.device) -> "Labels":
        """The labels of a training set, copied to a device."""
        columns = (data.identity_N, data.images.camera_N, data.images.attributes_NA)
        return cls(*(torch.from_numpy(column).to(device) for column in columns))

    def batch(self, images_BCHW: Tensor, row_B: Tensor) -> Batch:
        """Images with the labels of the given rows, which must be on the labels' device."""
        return Batch(images_BCHW, self.identity_N[row_B], self.camera_N[row_B], self.attributes_NA[row_B], row_B)


class TrainingInput(Protocol):
    """A source of training batches."""

    def batches(
        self, row_lists: Sequence[Ints], epoch: int, repeat_lists: Sequence[Ints] | None = None
    ) -> Generator[Batch]:
        """A batch for each list of rows, in order. Close it to stop early.

        repeat_lists: how often the epoch has drawn each row before; default: never.
        """


@dataclass(frozen=True)
class DeviceInput:
    """Stored crops, enlarged, augmented and normalized on the device."""

    crops: Crops
    row_N: Ints
    labels: Labels
    architecture: Architecture
    config: Config
    pool_P3HW: Tensor | None = None

    def batches(
        self, row_lists: Sequence[Ints], epoch: int, repeat_lists: Sequence[Ints] | None = None
    ) -> Generator[Batch]:
        """See `TrainingInput`. The augmentation of an image is a function of (seed, epoch, row, repeat)."""
        repeat_lists = [np.zeros_like(rows_B) for rows_B in row_lists] if repeat_lists is None else repeat_lists
        with closing(self.crops.batches(self.row_N[rows_B] for rows_B in row_lists)) as read:
            for draws, crops_B3HW in zip(self._draws(row_lists, repeat_lists, epoch), read, strict=True):
                yield self.finish(crops_B3HW, draws)

    def _draws(self, row_lists: Sequence[Ints], repeat_lists: Sequence[Ints], epoch: int) -> Iterator[Draws]:
        """The random numbers of each batch; those of several batches at once, since a GPU waits for each kernel."""
        seed, device = self.config.train.seed, self.labels.identity_N.device
        for start in range(0, len(row_lists), BATCHES_DRAWN):
            some = slice(start, start + BATCHES_DRAWN)
            lists = row_lists[some]
            rows, repeats = (torch.from_numpy(np.concatenate(each)) for each in (lists, repeat_lists[some]))
            draws = Draws.of(seed, epoch, rows, device, host_repeat_B=repeats)
            yield from draws.split([len(rows_B) for rows_B in lists])

    def finish(self, crops_B3HW: Tensor, draws: Draws) -> Batch:
        """Enlarge, augment and normalize stored crops, and add their labels."""
        size = self.architecture
        images_B3HW = enlarge(to_float(crops_B3HW), size)
        changed = augment(images_B3HW, draws, self.config.augment, size.mean, size.std, self.pool_P3HW)
        return self.labels.batch(normalize(changed, size.mean, size.std), draws.rows_B)


def open_input(data: TrainingSet, architecture: Architecture, config: Config, device: torch.device) -> DeviceInput:
    """The input of a run; copies labels and, if they fit, crops to the device."""
    images = data.images
    patched = config.augment.patch_probability > 0
    pool = patch_pool(images, architecture, config.train.seed, device) if patched else None
    return DeviceInput(
        crops=place_crops(images.crops, device, config.data.device_share),
        row_N=images.row_N,
        labels=Labels.of(data, device),
        architecture=architecture,
        config=config,
        pool_P3HW=pool,
    )


def patch_pool(images: ImageDataset, size: ImageSize, seed: int, device: torch.device) -> Tensor:
    """Images to cut patches from, drawn once per run, the same on every process; uint8, at the network's size."""
    generator = np.random.default_rng([seed, *PATCH_POOL_SEED])
    chosen = np.sort(generator.choice(len(images), min(POOL_SIZE, len(images)), replace=False))
    return to_bytes(enlarge(to_float(images.crops.gather(images.row_N[chosen]).to(device)), size))
