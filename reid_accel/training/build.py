"""Builds the trainer of a run: network, optimizer and input, on the device and over all processes."""

from collections.abc import Mapping

import numpy as np
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from reid_accel.config.schema import Config
from reid_accel.data.splits import TrainingSet
from reid_accel.distributed.fsdp import shard
from reid_accel.distributed.watchdog import Watchdog
from reid_accel.errors import InputError
from reid_accel.hardware import compile_if_possible
from reid_accel.models.camera_embedding import cameras_to_embed
from reid_accel.models.losses import balancing_weights
from reid_accel.models.reid import ReIDModel, on_device, synchronized
from reid_accel.training.additions import Loss
from reid_accel.training.dataloader import open_input
from reid_accel.training.ema import EMA
from reid_accel.training.nonfinite import NonFiniteSkipper
from reid_accel.training.optim import build_optimizer
from reid_accel.training.trainer import Trainer


def build_model(
    config: Config, training: TrainingSet, accelerator: Accelerator, weights: Mapping[str, Tensor] | None = None
) -> ReIDModel:
    """The network for these images, on the device. weights: initial weights of the backbone.

    Raises InputError when the settings need identities that the images lack.
    """
    if not training.num_identities:
        _check_without_identities(config, training)
    images = training.images
    cameras = cameras_to_embed(config.model.camera_embedding, images.camera_N, training.camera_set)
    model = ReIDModel.from_config(config, images.groups, training.num_identities, weights, cameras)
    if config.train.batch_norm == "synchronized":
        if accelerator.device.type != "cuda":
            raise InputError("train.batch-norm synchronized needs GPUs: torch has no such kernel for the CPU")
        model = synchronized(model)
    return on_device(model.train(), accelerator.device)


def _check_without_identities(config: Config, training: TrainingSet) -> None:
    loss = config.loss
    used = [name for name in ("triplet", "circle", "center") if getattr(loss, name)]
    settings = [f"--loss.{name} 0" for name in used]
    if config.train.images_per_identity:
        settings.append("--train.images-per-identity 0")
    if settings:
        raise InputError(
            f"these images have no identities, so that only attributes can be trained: set {' '.join(settings)}"
        )
    if not config.model.attributes or not loss.attributes or not training.images.groups:
        raise InputError(
            "these images have no identities, and attributes are off or missing, so nothing would be trained: set "
            "--loss.attributes 1 and --model.attributes, and label attributes"
        )


def build_trainer(
    config: Config,
    accelerator: Accelerator,
    model: ReIDModel,
    training: TrainingSet,
    own_losses: Mapping[str, Loss] | None = None,
    watchdog: Watchdog | None = None,
) -> Trainer:
    """Model and optimizer on the device, data-parallel, in mixed precision. Accelerate wraps `model` itself."""
    ema = EMA(model, config.train.ema_decay) if config.train.ema_decay else None
    if config.run.shard_weights:
        for each in [model] if ema is None else [model, ema.model]:
            shard(each, each.backbone, accelerator)
    optimizer = accelerator.prepare_optimizer(build_optimizer(model, config.optim))
    if config.optim.frozen_epochs:  # data parallelism waits for every gradient, unless it is told that some are missing
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    # a sharded model needs only mixed precision from accelerate: FSDP exchanges gradients itself
    wrapped = accelerator.prepare_model(model, evaluation_mode=config.run.shard_weights)
    if config.run.compile:
        compile_if_possible(wrapped, accelerator.device)
    return Trainer(
        accelerator=accelerator,
        model=wrapped,
        unwrapped=model,
        optimizer=optimizer,
        data=training,
        input=open_input(training, model.architecture, config, accelerator.device),
        config=config,
        own_losses=own_losses or {},
        watchdog=watchdog or Watchdog(),
        ema=ema,
        skipper=NonFiniteSkipper(model, config.train.skip_nonfinite) if skips_steps(config, accelerator) else None,
        class_weights=_class_weights(training, accelerator) if config.loss.balance_attributes else None,
    )


def skips_steps(config: Config, accelerator: Accelerator) -> bool:
    """Whether steps without a finite gradient may be skipped; with float16 the gradient scaler does that itself."""
    return config.train.skip_nonfinite > 0 and accelerator.mixed_precision != "fp16"


def _class_weights(training: TrainingSet, accelerator: Accelerator) -> tuple[Tensor, ...]:
    """Weights of each attribute group's values, from their frequencies among the training images."""
    images = training.images
    counts = [
        np.bincount(column_N[column_N >= 0], minlength=len(group.values)).tolist()
        for group, column_N in zip(images.groups, images.attributes_NA.T, strict=True)
    ]
    return tuple(balancing_weights(count_V).to(accelerator.device) for count_V in counts)
