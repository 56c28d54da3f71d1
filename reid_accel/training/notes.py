"""Messages of a run before its first step."""

from pathlib import Path

import torch

from reid_accel.config.parse import recipe_config
from reid_accel.config.recipes import DEFAULT_RECIPE
from reid_accel.config.schema import Config
from reid_accel.data.dataset import ImageDataset
from reid_accel.data.sets import SYNTHETIC
from reid_accel.hardware import CPU_BF16_WIDTH_PX, num_cores
from reid_accel.reporting.provenance import software
from reid_accel.training.build import skips_steps
from reid_accel.training.trainer import Trainer


def opening(
    folder: Path, trainer: Trainer, validation: ImageDataset | None, steps_per_epoch: int, micro_batch_size: int
) -> tuple[str, str, str]:
    """Network, data, schedule, hardware and folder of a run, in three lines."""
    config, accelerator, versions = trainer.config, trainer.accelerator, software()
    held_out = f"{len(validation):,} for validation" if validation is not None else "no validation"
    return (
        f"{config.run.name}: {config.model.backbone} at {config.model.height_px}x{config.model.width_px}, "
        f"{len(trainer.data.images):,} training images {_of_people(trainer.data.num_identities)}, {held_out}",
        f"{config.train.epochs} epochs x {steps_per_epoch} steps x {config.train.batch_size} images on "
        f"{accelerator.num_processes} x {accelerator.device.type} (micro-batches of {micro_batch_size}), precision "
        f"{accelerator.mixed_precision}, seed {config.train.seed}",
        f"reid_accel {versions['reid_accel']}, torch {versions['torch']}; run folder {folder}",
    )


def _of_people(num_identities: int) -> str:
    return f"of {num_identities} identities" if num_identities else "without identities"


def notes(trainer: Trainer, load: float = 0.0) -> list[str]:
    """Notes on settings with possibly unexpected effects. load: of the machine before the run started."""
    config = trainer.config
    random_start = not (config.model.pretrained or config.model.weights_file)
    found = []
    if config.model == recipe_config(Config, DEFAULT_RECIPE).model and config.data.name not in SYNTHETIC:
        found.append(
            "this is the quickstart's small network, trained from scratch; for real data choose a recipe with --config "
            "(listed by `reid-accel recipes`)"
        )
    if config.model.attributes and config.loss.attributes > 0 and not trainer.data.images.groups:
        found.append(
            "this data has no attributes (market_attribute.mat next to its folders): only identities are trained. "
            "Set --model.no-attributes if this is intended"
        )
    if config.loss.identity and not trainer.data.num_identities:
        found.append(
            "this data has no identities: only attributes are trained. Set --loss.identity 0 if this is intended"
        )
    if config.optim.frozen_epochs and random_start:
        found.append(
            f"optim.frozen-epochs {config.optim.frozen_epochs:g} keeps the backbone at its random initial weights: set "
            "it to 0"
        )
    if config.train.skip_nonfinite and not skips_steps(config, trainer.accelerator):
        found.append(
            "train.skip-nonfinite has no effect in float16, whose gradient scaler skips any number of such steps by "
            "itself"
        )
    if config.train.batch_norm == "frozen" and random_start:
        found.append(
            "train.batch-norm frozen keeps the statistics of pretrained weights, but this run starts from random ones: "
            "the backbone's batch norms have no effect"
        )
    on_cpu = trainer.accelerator.device.type == "cpu"
    if on_cpu and trainer.accelerator.mixed_precision == "bf16" and config.model.width_px < CPU_BF16_WIDTH_PX:
        found.append(
            f"bf16 on a CPU can give NaN gradients with images narrower than {CPU_BF16_WIDTH_PX} px "
            f"(--model.width-px {config.model.width_px}): --run.mixed-precision auto or no avoids them"
        )
    if on_cpu and busy_machine(torch.get_num_threads(), load):
        found.append(
            f"other processes keep this machine busy (load {load:.1f}): several threads can be slower than one. "
            "Consider --run.cpu-threads 1"
        )
    return found


def busy_machine(num_threads: int, load: float) -> bool:
    """Whether several threads compete with other work for the cores."""
    return num_threads > 1 and load >= num_cores()
