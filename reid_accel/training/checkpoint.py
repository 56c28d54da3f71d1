"""Checkpoints: everything that a run needs to resume, in safetensors and JSON, written atomically.

A checkpoint is a folder `checkpoints/step-00000123/` with model.safetensors, optimizer.safetensors, ema.safetensors (if
EMA is enabled) and progress.json, which has the others' checksums. It contains no pickles. Randomness in training is a
function of seed, step and row, so there is no generator state.
"""

import hashlib
import json
import logging
import shutil
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
from reid_accel.errors import InputError
from reid_accel.files import open_regular, read_text, remove_leftovers, replacing_folder, write_json
from reid_accel.training.optimizer_state import tensors_by_name
from reid_accel.training.progress import Progress

FORMAT = 4
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
EMA_FILE = "ema.safetensors"
PROGRESS_FILE = "progress.json"
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
                "sha256": {name: _digest(temporary / name) for name in tensors},
            }
            write_json(temporary / PROGRESS_FILE, content)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"the checkpoint {final} could not be written: {error}. The earlier checkpoints are intact; free some "
            "space and resume with --run.resume auto"
        ) from error
    for old in _by_age(folder)[:-keep]:
        if old != checkpoint_of(folder, progress.best_step or 0):
            shutil.rmtree(old, ignore_errors=True)
    logger.debug(f"wrote {final}")
    return final


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises InputError when it is damaged or has another format."""
    content = _read_content(path)
    if content.get("format") != FORMAT:
        raise InputError(f"the checkpoint {path} has format {content.get('format')}, this version reads {FORMAT}")
    try:
        weights, optimizer = load_file(path / MODEL_FILE), load_file(path / OPTIMIZER_FILE)
        ema = load_file(path / EMA_FILE) if (path / EMA_FILE).exists() else None
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(f"the checkpoint {path} cannot be read ({error})") from error
    return Checkpoint(path, content, weights, optimizer, ema)


def _gathered(state: Mapping[str, Tensor], kept: bool) -> dict[str, Tensor]:
    """Full tensors on the CPU, gathered one by one; empty unless `kept`."""
    copies = ((name, full_tensor(tensor.detach())) for name, tensor in state.items())
    return {name: tensor.cpu().contiguous() for name, tensor in copies if kept}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def checkpoint_of(folder: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step of a checkpoint in a run's folder."""
    return int(path.name.removeprefix("step-"))


def _by_age(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-????????*"), key=step_of)


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
        aside = path.with_name(f"undone-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    if later:
        logger.warning(
            f"{len(later)} later checkpoints in {folder} are renamed to undone-...; delete them if you don't need them"
        )


def _read_content(path: Path) -> dict[str, Any]:
    """progress.json of a checkpoint, after verifying the checksums. Raises DamagedCheckpointError."""
    if not path.is_dir():
        raise DamagedCheckpointError(f"there is no checkpoint {path}")
    try:
        content = json.loads(read_text(path / PROGRESS_FILE))
        digests = dict(content["sha256"])
        wrong = [name for name, digest in digests.items() if _digest(path / name) != digest]
    except (OSError, ValueError, KeyError, TypeError) as error:
        pickles = sorted(other.name for other in path.iterdir() if other.suffix in PICKLES)
        what = (
            f"it contains {', '.join(pickles)}, and pickles are never read"
            if pickles
            else f"it is incomplete ({error})"
        )
        raise DamagedCheckpointError(f"the checkpoint {path} cannot be used: {what}") from error
    if wrong or not {MODEL_FILE, OPTIMIZER_FILE} <= set(digests):
        raise DamagedCheckpointError(f"the checkpoint {path} cannot be used: {', '.join(wrong) or 'a file'} is damaged")
    return dict(content)
