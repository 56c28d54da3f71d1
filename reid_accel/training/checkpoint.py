"""Checkpoints: everything that a run needs to resume, in safetensors and JSON, written atomically.

A checkpoint is a folder `checkpoints/step-00000123/` with model.safetensors, optimizer.safetensors, ema.safetensors (if
EMA is enabled) and progress.json, which has the others' checksums and its own. It contains no pickles. Randomness in
training is a function of seed, step and row, so there is no generator state.
"""

import itertools
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from reid_accel.distributed.fsdp import full_tensor
from reid_accel.errors import InputError, sentence_of
from reid_accel.files import (
    CHECKSUM,
    has_right_checksum,
    read_text,
    remove_folder,
    remove_leftovers,
    replacing_folder,
    sha256,
    with_checksum,
    write_json,
)
from reid_accel.training.optimizer_state import tensors_by_name
from reid_accel.training.progress import Progress

FORMAT = 5
FORMAT_WITHOUT_CHECKSUM = 4
"""Of progress.json; still read."""
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
EMA_FILE = "ema.safetensors"
PROGRESS_FILE = "progress.json"
_NAME = re.compile(r"step-\d{8,}")  # a user's copy may be called step-00000123-good
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFingerprint:
    """What must match for a checkpoint to be resumed; other test images or processes are only reported."""

    config: Mapping[str, Any]
    data_fingerprint: str
    """Names and labels of the training images."""
    world_size: int = 1
    test_fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Names and labels of each other split."""


@dataclass(frozen=True)
class TrainingState:
    """All that changes in training, in addition to the progress. ema: the EMA's model, if enabled."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None = None
    ema: nn.Module | None = None


class DamagedCheckpointError(InputError):
    """A checkpoint with a missing or changed file."""


@dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint: progress.json and the tensors of each file."""

    path: Path
    content: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None


def save_checkpoint(
    folder: Path, state: TrainingState, progress: Progress, identity: RunFingerprint, *, keep: int, writes: bool = True
) -> Path:
    """Write a checkpoint into `folder`. The newest `keep` and that of the best epoch are kept.

    Every process calls it, since weights may be sharded; one `writes`.
    A full disk raises InputError and leaves the earlier checkpoints intact.
    """
    final = checkpoint_of(folder, progress.step)
    moments, optimizer_values = tensors_by_name(state.model, state.optimizer)
    files = {MODEL_FILE: state.model.state_dict(), OPTIMIZER_FILE: moments}
    if state.ema is not None:
        files[EMA_FILE] = state.ema.state_dict()
    tensors = {name: _gathered(values, writes) for name, values in files.items()}
    if not writes:
        return final
    remove_leftovers(folder)
    try:
        with replacing_folder(final) as temporary:
            for name, values in tensors.items():
                save_file(values, temporary / name)
            content = {
                "format": FORMAT,
                "progress": asdict(progress),
                "optimizer": optimizer_values,
                "scaler": state.scaler.state_dict() if state.scaler is not None else None,
                **asdict(identity),
                "sha256": {name: sha256(temporary / name) for name in tensors},
            }
            write_json(temporary / PROGRESS_FILE, with_checksum(content))
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"the checkpoint {final} could not be written: {error}. The earlier checkpoints are intact; free some "
            "space and resume with --run.resume auto"
        ) from error
    for old in _by_age(folder)[:-keep]:
        if old not in (final, checkpoint_of(folder, progress.best_step or 0)):
            remove_folder(old)
    logger.debug(f"wrote {final}")
    return final


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises InputError when it is damaged or has another format."""
    content = _read_content(path)
    try:
        weights, optimizer = load_file(path / MODEL_FILE), load_file(path / OPTIMIZER_FILE)
        ema = load_file(path / EMA_FILE) if EMA_FILE in content["sha256"] else None
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(f"the checkpoint {path} cannot be read ({error})") from error
    return Checkpoint(path, content, weights, optimizer, ema)


def _gathered(state: Mapping[str, Tensor], kept: bool) -> dict[str, Tensor]:
    """Full tensors on the CPU, gathered one by one; empty unless `kept`."""
    copies = ((name, full_tensor(tensor.detach())) for name, tensor in state.items())
    return {name: tensor.cpu().contiguous() for name, tensor in copies if kept}


def checkpoint_of(folder: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step of a checkpoint in a run's folder."""
    return int(path.name.removeprefix("step-"))


def _by_age(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)), key=step_of)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest intact checkpoint in a run's folder; damaged ones are skipped with a warning.

    Only the process that writes to the folder may call it.
    """
    remove_leftovers(folder)
    for path in reversed(_by_age(folder)):
        try:
            _read_content(path)
        except DamagedCheckpointError as error:
            logger.warning(f"{error}; using an older one")
            continue
        return path
    return None


def set_aside_later(folder: Path, step: int) -> None:
    """Rename the checkpoints after a step that a run goes back to, so that `auto` ignores them.

    Only the process that writes to the folder may call it.
    """
    later = [path for path in _by_age(folder) if step_of(path) > step]
    for path in later:
        path.rename(_unused(path.with_name(f"undone-{path.name}")))
    if later:
        logger.warning(
            f"{len(later)} later checkpoints in {folder} are renamed to undone-...; delete them if you don't need them"
        )


def _unused(path: Path) -> Path:
    """The path, with a number if something is there."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(free for free in itertools.chain([path], numbered) if not free.exists())


def _read_content(path: Path) -> dict[str, Any]:
    """progress.json of a checkpoint, after verifying all checksums.

    Raises DamagedCheckpointError, or InputError when a newer version wrote it or the rights to read it are missing.
    """
    if not path.is_dir():
        raise DamagedCheckpointError(f"there is no checkpoint {path}")
    try:
        content = json.loads(read_text(path / PROGRESS_FILE))
        _check_progress_file(path, content)
        digests = dict(content["sha256"])
        wrong = [name for name, digest in digests.items() if sha256(path / name) != digest]
    except PermissionError as error:  # it may be intact: an older one must not take its place
        raise InputError(sentence_of(error)) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        pickles = sorted(other.name for other in path.iterdir() if other.suffix in PICKLES)
        what = (
            f"it contains {', '.join(pickles)}, and pickles are never read"
            if pickles
            else f"it is incomplete or was changed ({error})"
        )
        raise DamagedCheckpointError(f"the checkpoint {path} cannot be used: {what}") from error
    if wrong or not {MODEL_FILE, OPTIMIZER_FILE} <= set(digests):
        raise DamagedCheckpointError(f"the checkpoint {path} cannot be used: {', '.join(wrong) or 'a file'} is damaged")
    return dict(content)


def _check_progress_file(path: Path, content: Any) -> None:
    """Raise ValueError, KeyError or TypeError for a changed file, InputError for another format."""
    if not isinstance(content, dict):
        raise TypeError(f"{PROGRESS_FILE} is no mapping")
    if CHECKSUM in content and not has_right_checksum(content):
        raise DamagedCheckpointError(f"the checkpoint {path} cannot be used: {PROGRESS_FILE} is damaged")
    if content["format"] not in (FORMAT, FORMAT_WITHOUT_CHECKSUM):
        raise InputError(
            f"the checkpoint {path} has format {content['format']}, this version reads {FORMAT_WITHOUT_CHECKSUM} and "
            f"{FORMAT}: resume it with the version that wrote it"
        )
    if content["format"] == FORMAT and CHECKSUM not in content:
        raise DamagedCheckpointError(f"the checkpoint {path} cannot be used: {PROGRESS_FILE} lacks its checksum")
    progress = Progress.from_json(content["progress"])
    if not all(type(count) is int and count >= 0 for count in (progress.step, progress.epoch, progress.position)):
        raise ValueError("step, epoch or position is no count")
    for name, kind in {"config": dict, "optimizer": dict, "world_size": int, "data_fingerprint": str}.items():
        if not isinstance(content[name], kind):
            raise TypeError(f"{name} is no {kind.__name__}")
    content["scaler"]
