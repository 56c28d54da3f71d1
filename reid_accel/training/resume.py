"""Resuming a run from a checkpoint: choosing it, checking it, and loading its state."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch.nn as nn
from torch import Tensor

from reid_accel.config.schema import RunConfig
from reid_accel.distributed.collectives import Group
from reid_accel.distributed.fsdp import shards_like
from reid_accel.errors import InputError, listed
from reid_accel.training.checkpoint import (
    Checkpoint,
    RunFingerprint,
    TrainingState,
    checkpoint_of,
    newest_checkpoint,
    read_checkpoint,
    set_aside_later,
    step_of,
)
from reid_accel.training.optimizer_state import load_by_name
from reid_accel.training.progress import Progress

logger = logging.getLogger(__name__)

SECTIONS_THAT_MUST_MATCH = ("data", "model", "loss", "optim", "augment", "train")
MAY_DIFFER = {"data.cache_dir", "data.root", "data.device_share", "data.on_bad_image", "data.title"}
"""Locations of the images and how bad ones are handled may change; the fingerprint shows whether those that are trained
on are the same."""


def resume(config: RunConfig, checkpoints: Path, state: TrainingState, identity: RunFingerprint) -> Progress:
    """Load the checkpoint chosen by the settings into `state`; returns its progress, or that of a new run.

    Every process calls it.
    """
    if config.resume is None:
        return Progress()
    path: Path | None = Path(config.resume)
    if config.resume == "auto":
        path = _newest_for_all(checkpoints)
    if path is None:
        logger.info(f"there is no usable checkpoint in {checkpoints}: starting a new run")
        _set_aside(checkpoints, -1)
        return Progress()
    progress = load_checkpoint(path, state, identity, anyway=config.resume_anyway)
    _set_aside(checkpoints, step_of(path) if config.resume == "auto" else progress.step)
    logger.info(f"resuming from {path}: epoch {progress.epoch + 1}, step {progress.step}")
    return progress


def _set_aside(checkpoints: Path, step: int) -> None:
    """Those after a step: undone by going back, or damaged (found by `auto`), so no longer this run's newest."""
    if Group.of().is_main:
        set_aside_later(checkpoints, step)


def _newest_for_all(checkpoints: Path) -> Path | None:
    """Process 0's choice, since a shared file system may show the others a different state."""
    group = Group.of()
    path = newest_checkpoint(checkpoints) if group.is_main else None
    step = group.broadcast_int(step_of(path) if path is not None else -1)
    return checkpoint_of(checkpoints, step) if step >= 0 else None


def load_checkpoint(path: Path, state: TrainingState, identity: RunFingerprint, *, anyway: bool = False) -> Progress:
    """Put a checkpoint's weights, optimizer and scaler state in place; returns its progress.

    Every process calls it. What can't be identical to the run that the checkpoint is from is logged. Learning
    rates and weight decay are those of `state`'s optimizer, not those of the checkpoint. anyway: settings and data may
    differ (the epoch restarts then), the model's tensors may not; an optimizer of another kind starts without moments.
    Raises InputError, with nothing changed, when the checkpoint is damaged or of another run (the differing settings
    are named).
    """
    checkpoint = read_checkpoint(path)
    differing = differences(checkpoint, identity)
    if differing and not anyway:
        raise InputError(
            f"the checkpoint {path} was written with other settings: {'; '.join(differing)}. Use those, or resume with "
            f"the new ones: --run.resume-anyway{_about_epochs(checkpoint, identity)}"
        )
    _require_fitting(path, checkpoint.weights, state.model)
    if state.ema is not None and checkpoint.ema is not None:
        _require_fitting(path, checkpoint.ema, state.ema)
    _place(checkpoint, state)
    if checkpoint.content["world_size"] != identity.world_size:
        logger.warning(
            f"the checkpoint is from {checkpoint.content['world_size']} processes, this run has {identity.world_size}: "
            "the order of images and their augmentation stay the same; each process's batch statistics, dropout and "
            "the last bits of sums do not"
        )
    _report_other_test_images(checkpoint, identity)
    progress = Progress.from_json(checkpoint.content["progress"])
    if differing:
        logger.warning(f"resuming with other settings ({'; '.join(differing)}); epoch {progress.epoch + 1} restarts")
        return progress.at_epoch_start()
    return progress


def _place(checkpoint: Checkpoint, state: TrainingState) -> None:
    state.model.load_state_dict(shards_like(checkpoint.weights, state.model.state_dict()))
    if not load_by_name(state.model, state.optimizer, checkpoint.optimizer, checkpoint.content["optimizer"]):
        logger.warning("the checkpoint's optimizer is of another kind: this one starts without moments")
    if state.ema is not None:
        wanted = state.ema.state_dict()
        averages = checkpoint.ema if checkpoint.ema is not None else {**wanted, **checkpoint.weights}
        state.ema.load_state_dict(shards_like(averages, wanted))
    if state.scaler is not None and checkpoint.content["scaler"] is not None:
        state.scaler.load_state_dict(checkpoint.content["scaler"])


def _require_fitting(path: Path, weights: Mapping[str, Tensor], model: nn.Module) -> None:
    wanted = model.state_dict()
    unfit = sorted(set(wanted) ^ set(weights)) or [n for n in wanted if wanted[n].shape != weights[n].shape]
    if unfit:
        raise InputError(f"the checkpoint {path} is of another model: {len(unfit)} tensors differ ({unfit[0]}, ...)")


def differences(checkpoint: Checkpoint, identity: RunFingerprint) -> list[str]:
    """Descriptions of the settings and data that differ from the checkpoint's."""
    saved, now = checkpoint.content["config"], identity.config
    differing = [
        f"{section}.{name}: {saved[section].get(name)!r} then, {value!r} now"
        for section in SECTIONS_THAT_MUST_MATCH
        for name, value in now[section].items()
        if saved[section].get(name) != value and f"{section}.{name}" not in MAY_DIFFER
    ]
    # up to format 4: a hash of each split, that of `train` last
    if checkpoint.content["data_fingerprint"].rpartition("-")[2] != identity.data_fingerprint.rpartition("-")[2]:
        differing.append("the training set's files have changed since")
    return differing


def _report_other_test_images(checkpoint: Checkpoint, identity: RunFingerprint) -> None:
    saved = checkpoint.content.get("test_fingerprints", {})
    changed = [split for split, value in identity.test_fingerprints.items() if saved.get(split, value) != value]
    if changed:
        logger.warning(
            f"names or labels in {listed(changed)} have changed since the checkpoint was written: training continues "
            "as before, and the final scores are those of the present files"
        )


def _about_epochs(checkpoint: Checkpoint, identity: RunFingerprint) -> str:
    """A remark on the learning rate of a longer run."""
    before, now = (config["train"].get("epochs") for config in (checkpoint.content["config"], identity.config))
    if before is None or now is None or before >= now:
        return ""
    return f" (continues to epoch {now}; the learning rate follows the schedule of {now} epochs from here on)"
