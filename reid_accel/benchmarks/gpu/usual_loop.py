"""The same network trained the usual way: JPEG files, torchvision's transforms, a DataLoader, autocast."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from reid_accel.benchmarks.counting import synchronize
from reid_accel.benchmarks.gpu.made_run import loss_of, made_config, made_images, made_trainer
from reid_accel.benchmarks.gpu.rows import TRAINING, Row
from reid_accel.benchmarks.gpu.setup import Setup, require_bf16
from reid_accel.config.schema import Config, ModelConfig
from reid_accel.data.images import read_image
from reid_accel.data.splits import TrainingSet
from reid_accel.training.dataloader import Batch
from reid_accel.training.trainer import Trainer

WARMUP_STEPS = 3
TURN_SECONDS = 5.0

_kept: list[Iterator[Any]] = []
"""The loaders on a GPU. Stopping their workers took about 5 s each there: they idle until this process is ended."""


class _Files(Dataset[tuple[Any, ...]]):
    def __init__(self, folder: Path, data: TrainingSet, transform: v2.Compose) -> None:
        self.folder, self.data, self.transform = folder, data, transform

    def __len__(self) -> int:
        return len(self.data.images)

    def __getitem__(self, row: int) -> tuple[Tensor, int, Tensor, int]:
        changed = self.transform(read_image(self.folder / f"{row}.jpg"))
        attributes = torch.from_numpy(self.data.images.attributes_NA[row])
        return changed, int(self.data.identity_N[row]), attributes, row


def usual_transform(size: ModelConfig) -> v2.Compose:
    """Resize, flip, pad, crop, normalize: the default augmentation."""
    return v2.Compose(
        [
            v2.Resize((size.height_px, size.width_px)),
            v2.RandomHorizontalFlip(),
            v2.Pad(10),
            v2.RandomCrop((size.height_px, size.width_px)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


def usual_loop(workers: int) -> Callable[[Setup], Iterator[Row]]:
    """A part that measures the usual loop with a number of DataLoader workers."""

    def measure(setup: Setup) -> Iterator[Row]:
        """Images per second, without the start of the workers."""
        require_bf16(setup.device)
        batch_size = 128 if setup.large else 8
        config = made_config(setup, batch_size, "bf16")
        data = made_images(config, 32 * batch_size)
        folder = _write_jpegs(setup.folder / "jpegs", data.images.crops.crops_N3HW)
        with made_trainer(setup, config, data) as trainer:
            batches = chain.from_iterable(repeat(_loader(folder, config, data, workers)))
            if setup.large:
                _kept.append(batches)
            speed = _images_per_second(trainer, batches, TURN_SECONDS if setup.large else 0.5)
        numbers = {"images_per_second": speed, "batch": float(batch_size), "workers": float(workers)}
        title = f"usual loop, batch {batch_size}, {workers} workers"
        yield Row(TRAINING, title, "measured", f"{speed:,.0f} images/s", numbers)

    return measure


def compared(rows: Sequence[Row]) -> Iterator[Row]:
    """The speedup over the usual loop at the same batch size in the same run."""
    measured = [row for row in rows if "images_per_second" in row.numbers]
    ours = {row.title: row.numbers["images_per_second"] for row in measured if row.title.startswith("batch ")}
    for row in measured:
        same_batch = f"batch {row.numbers.get('batch', 0):.0f}"
        if row.title.startswith("usual loop") and same_batch in ours:
            times = ours[same_batch] / row.numbers["images_per_second"]
            title = f"{same_batch} against {row.numbers['workers']:.0f} workers"
            yield Row(TRAINING, title, "measured", f"{times:.1f} times the usual loop's speed", {"times": times})


def _write_jpegs(folder: Path, crops_N3HW: npt.NDArray[np.uint8]) -> Path:
    if not folder.exists():
        folder.mkdir(parents=True)
        for row, crop_3HW in enumerate(crops_N3HW):
            Image.fromarray(np.ascontiguousarray(crop_3HW.transpose(1, 2, 0))).save(folder / f"{row}.jpg", quality=90)
    return folder


def _loader(folder: Path, config: Config, data: TrainingSet, workers: int) -> "DataLoader[tuple[Any, ...]]":
    return DataLoader(
        _Files(folder, data, usual_transform(config.model)),
        config.train.batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        drop_last=True,
        persistent_workers=workers > 0,
    )


def _images_per_second(trainer: Trainer, batches: Iterator[Any], seconds: float) -> float:
    """Run the usual loop: autocast around the forward pass, AdamW with torch's defaults, epoch after epoch."""
    device, model = trainer.accelerator.device, trainer.unwrapped
    optimizer = torch.optim.AdamW(model.parameters(), lr=trainer.config.optim.learning_rate)

    def step(columns: tuple[Tensor, ...]) -> None:
        images, identity, attributes, row = (column.to(device, non_blocking=True) for column in columns)
        images = images.contiguous(memory_format=torch.channels_last)
        batch = Batch(images, identity, torch.zeros_like(identity), attributes, row)
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(trainer, batch, model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for columns in islice(batches, WARMUP_STEPS):
        step(columns)
    synchronize(device)
    begun, images = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        for columns in islice(batches, 4):
            step(columns)
            images += len(columns[0])
        synchronize(device)
    return images / (time.perf_counter() - begun)
