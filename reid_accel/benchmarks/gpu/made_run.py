"""The trainer of training runs, on images generated in memory.

Legend: N images, B images of a batch.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.benchmarks.gpu.rows import LeftOutError
from reid_accel.benchmarks.gpu.setup import Setup
from reid_accel.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
)
from reid_accel.data.crop_cache import CropCache
from reid_accel.data.dataset import ImageDataset
from reid_accel.data.listing import ImageFile
from reid_accel.data.splits import TrainingSet
from reid_accel.distributed.setup import start_accelerator
from reid_accel.hardware import choose_kernels, choose_precision, compile_if_possible, tf32
from reid_accel.models.losses import total
from reid_accel.models.outputs import Outputs
from reid_accel.training.build import build_model, build_trainer
from reid_accel.training.dataloader import Batch
from reid_accel.training.metrics import EpochSums
from reid_accel.training.trainer import Trainer

ALL_AUGMENTATIONS = AugmentConfig(
    flip_probability=0.5,
    pad_px=6,
    rotation_degrees=10,
    color_jitter=0.2,
    white_balance=0.15,
    erase_probability=0.5,
    erase_with="noise",
    patch_probability=0.3,
)
"""Everything but TrivialAugment, whose operations round to integer levels."""


def made_config(
    setup: Setup, batch_size: int, precision: str = "no", augment: AugmentConfig | None = None, **run: Any
) -> Config:
    """ResNet-50 at 256x128, last stride 1, with attributes, identity and triplet; tiny on a CPU. run: see RunConfig."""
    large = setup.large
    return Config(
        data=DataConfig(device_share=0.5),
        model=ModelConfig(
            backbone="resnet50" if large else "test_resnet",
            pretrained=False,
            height_px=256 if large else 64,
            width_px=128 if large else 32,
            last_stride=1,
        ),
        loss=LossConfig(triplet=1.0),
        optim=OptimConfig(name="adamw", warmup_epochs=0),
        augment=augment or AugmentConfig(),
        train=TrainConfig(batch_size=batch_size, images_per_identity=4, epochs=50),
        run=RunConfig(mixed_precision=precision, cpu_threads=torch.get_num_threads(), **run),  # type: ignore[arg-type]
    )


def num_people(train: TrainConfig) -> int:
    """At least as many people as a batch holds."""
    return max(64, train.batch_size // train.images_per_identity)


def made_images(config: Config, number: int) -> TrainingSet:
    """Images of people of different colors, half the network's size as in Market-1501; some lack attributes."""
    rng = np.random.default_rng(0)
    identities = num_people(config.train)
    pid_N = 1 + np.arange(number) % identities
    height, width = config.model.height_px // 2, config.model.width_px // 2
    color_I3 = rng.integers(40, 216, (identities + 1, 3, 1, 1), dtype=np.int16)
    crops = np.empty((number, 3, height, width), np.uint8)
    for row, pid in enumerate(pid_N):  # one at a time to save memory
        noise = rng.integers(-40, 40, (3, height, width), dtype=np.int16)
        crops[row] = (color_I3[pid] + noise).clip(0, 255)
    values = np.array([len(group.values) for group in MARKET_GROUPS])
    attributes_NA = (pid_N[:, None] * (1 + np.arange(len(values)))) % values
    attributes_NA[::7] = -1
    names = (f"{pid:04d}_c{1 + row % 2}_{row:06d}.jpg" for row, pid in enumerate(pid_N))
    files = [
        ImageFile(Path(name), name, int(pid), 1 + row % 2, tuple(attributes_NA[row].tolist()))
        for row, (name, pid) in enumerate(zip(names, pid_N, strict=True))
    ]
    images = ImageDataset.of_files(files, MARKET_GROUPS, CropCache(crops, {}))
    return TrainingSet(images, pid_N - 1)


@contextmanager
def made_trainer(setup: Setup, config: Config, images: TrainingSet, *, dropout: float = 0.0) -> Iterator[Trainer]:
    """A trainer with the kernels and precision of a run; torch's global settings are restored afterwards.

    dropout: applied to the pooled features, so that training uses the device's random generator.
    """
    if setup.device.type == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # otherwise the first trainer's precision is kept
    precision = choose_precision(config.run.mixed_precision, config.model.width_px)
    accelerator = start_accelerator(precision, asked_threads=config.run.cpu_threads)
    choose_kernels(deterministic=config.run.deterministic)
    try:
        with tf32(config.run.tf32):
            model = build_model(config, images, accelerator)
            if dropout:
                model.backbone.register_forward_hook(_Dropout(dropout))
            yield build_trainer(config, accelerator, model, images)
    finally:
        choose_kernels(deterministic=False)
        if setup.device.type == "cuda":
            torch.cuda.empty_cache()


class _Dropout:
    """A forward hook that can be copied together with the model, as the EMA requires."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return F.dropout(output, self.share, module.training)


def run_steps(
    trainer: Trainer, batches: Iterator[Batch], steps: int, *, first: int = 0, sums: EpochSums | None = None
) -> EpochSums:
    """Run optimizer steps on given batches; `first`: the number of the first step."""
    sums = sums or EpochSums.restored({}, trainer.accelerator)
    for step in range(first, first + steps):
        sums = trainer.step(batches, step, sums)
    return sums


def train_steps(trainer: Trainer, start: int, stop: int) -> None:
    """Run a run's optimizer steps from `start` up to `stop`, on its own batches."""
    while start < stop:
        epoch, position = divmod(start, trainer.steps_per_epoch)
        rows_SB = trainer.epoch_batches(epoch)[: position + stop - start]
        with closing(trainer.open_batches(rows_SB, epoch, position)) as batches:
            run_steps(trainer, batches, len(rows_SB) - position, first=start)
        start += len(rows_SB) - position


def first_batch(trainer: Trainer) -> Batch:
    """The first batch of a run."""
    with closing(trainer.open_batches(trainer.epoch_batches(0)[:1], 0)) as batches:
        return next(batches)


def loss_of(trainer: Trainer, batch: Batch, model: Callable[[Tensor], Outputs] | None = None) -> Tensor:
    """The training loss of a batch, with gradient. model: default the trainer's."""
    outputs = (model or trainer.model)(batch.images_BCHW)
    return total(trainer.loss_terms(outputs, batch, trainer.pairs(outputs, batch)))


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    """All tensors that training changes, on the CPU: weights, statistics, optimizer, EMA."""
    tensors = {f"model.{name}": value for name, value in trainer.unwrapped.state_dict().items()}
    for index, entries in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in entries.items() if isinstance(value, Tensor)}
    if trainer.ema is not None:
        tensors |= {f"ema.{name}": value for name, value in trainer.ema.model.state_dict().items()}
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def require_compiled(trainer: Trainer) -> None:
    """Compile the trainer's network; raise LeftOutError on a machine that can't."""
    if not compile_if_possible(trainer.model, trainer.accelerator.device):
        raise LeftOutError("torch.compile doesn't work on this machine")


def with_run(config: Config, **run: Any) -> Config:
    """The config with changed settings in its section `run`."""
    return replace(config, run=replace(config.run, **run))
