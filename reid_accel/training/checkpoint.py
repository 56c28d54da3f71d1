"""Checkpoints: all that a run needs to go on, in safetensors and JSON, whole or not there.

A checkpoint is a folder `checkpoints/step-00000123/` with model.safetensors, optimizer.safetensors and
progress.json. It is written under a temporary name and renamed when it is on the disk. Nothing in it is a
pickle. What is random in training is a function of seed, step and row, so there is no generator to save.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from reid_accel.errors import InputError
from reid_accel.files import write_json

FORMAT = 1
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
PROGRESS_FILE = "progress.json"
SECTIONS_THAT_MUST_MATCH = ("data", "model", "loss", "optim", "augment", "train")
MAY_DIFFER = {"data.cache_dir", "data.root", "data.device_share"}
"""Where the images lie may change; that they are the same ones, the fingerprint of names says."""


@dataclass(frozen=True)
class Progress:
    """How far a run is. `epoch` and `position` (steps done in it) name the next batch."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    best_score: float | None = None
    best_epoch: int | None = None
    seconds: float = 0.0
    epoch_sums: tuple[float, ...] = ()
    history: tuple[dict[str, Any], ...] = field(default=())

    def after_step(self) -> "Progress":
        """One optimiser step further."""
        return replace(self, step=self.step + 1, position=self.position + 1)

    def after_epoch(self, line: dict[str, Any], seconds: float) -> "Progress":
        """At the beginning of the next epoch; `line` is what this one came to."""
        history = (*self.history, line)
        return replace(
            self,
            epoch=self.epoch + 1,
            position=0,
            epoch_sums=(),
            history=history,
            seconds=self.seconds + seconds,
        )


@dataclass(frozen=True)
class RunIdentity:
    """What must be the same for a checkpoint to be continued."""

    config: Mapping[str, Any]
    data_fingerprint: str


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    progress: Progress,
    identity: RunIdentity,
    *,
    keep: int,
) -> Path:
    """Write a checkpoint into `folder` and remove all but the newest `keep`; called on one process only.

    A full disk raises InputError and leaves the earlier checkpoints as they are.
    """
    final = folder / f"step-{progress.step:08d}"
    temporary = folder / f".{final.name}.{os.getpid()}.part"
    try:
        temporary.mkdir(parents=True)
        tensors, layout = _flatten(optimizer.state_dict())
        _save(_contiguous(model.state_dict()), temporary / MODEL_FILE)
        _save(tensors, temporary / OPTIMIZER_FILE)
        content = {
            "format": FORMAT,
            "progress": asdict(progress),
            "optimizer": layout,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "config": identity.config,
            "data_fingerprint": identity.data_fingerprint,
        }
        write_json(temporary / PROGRESS_FILE, content)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        _sync_folder(folder)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"the checkpoint {final} could not be written: {error}. The earlier checkpoints are intact; free "
            "some space and go on with --run.resume auto"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in _by_age(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as named tensors, and the rest as JSON."""
    tensors, rest = {}, {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value.detach().cpu().contiguous()
            else:
                rest[f"{index}.{key}"] = value
    return tensors, {"param_groups": state["param_groups"], "rest": rest}


def _unflatten(tensors: Mapping[str, Tensor], layout: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **layout["rest"]}.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items()}
        for group in layout["param_groups"]
    ]
    return {"state": state, "param_groups": groups}


def _match_memory_order(optimizer: torch.optim.Optimizer) -> None:
    """Lay moments out as their parameters are (channels last), so that a step takes the same code path."""
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim == 4:
                entries[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _by_age(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-????????*"), key=lambda path: int(path.name.removeprefix("step-")))


def find_checkpoint(asked: str, folder: Path) -> Path:
    """The checkpoint to go on with: `auto` is the newest whole one in `folder`, anything else a path.

    Raises InputError when there is none.
    """
    if asked != "auto":
        path = Path(asked)
        if not (path / PROGRESS_FILE).is_file():
            raise InputError(f"run.resume: {path} is not a checkpoint (it has no {PROGRESS_FILE})")
        return path
    for path in reversed(_by_age(folder)):
        if all((path / name).is_file() for name in (MODEL_FILE, OPTIMIZER_FILE, PROGRESS_FILE)):
            return path
    raise InputError(f"run.resume auto: there is no checkpoint in {folder}; start without --run.resume")


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    identity: RunIdentity,
) -> Progress:
    """Put a checkpoint's weights, optimiser and scaler state in place; returns its progress.

    Every process calls it. Raises InputError, with nothing changed, when the checkpoint is torn or belongs to
    another run (the differing settings are named).
    """
    try:
        content = json.loads((path / PROGRESS_FILE).read_text(encoding="utf-8"))
        weights = load_file(path / MODEL_FILE)
        tensors = load_file(path / OPTIMIZER_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"the checkpoint {path} cannot be read ({error}); remove it to go on with an older one"
        ) from error
    if content.get("format") != FORMAT:
        raise InputError(f"the checkpoint {path} has format {content.get('format')}, this version reads {FORMAT}")
    _check_identity(path, content, identity)
    wanted = model.state_dict()
    unfit = sorted(set(wanted) ^ set(weights)) or [n for n in wanted if wanted[n].shape != weights[n].shape]
    if unfit:
        raise InputError(f"the checkpoint {path} is of another model: {len(unfit)} tensors differ ({unfit[0]}, ...)")
    model.load_state_dict(weights)
    optimizer.load_state_dict(_unflatten(tensors, content["optimizer"]))
    _match_memory_order(optimizer)
    values = content["progress"]
    if scaler is not None and content["scaler"] is not None:
        scaler.load_state_dict(content["scaler"])
    return Progress(**{**values, "epoch_sums": tuple(values["epoch_sums"]), "history": tuple(values["history"])})


def _check_identity(path: Path, content: Mapping[str, Any], identity: RunIdentity) -> None:
    saved, now = content["config"], identity.config
    differing = [
        f"{section}.{name}: {saved[section].get(name)!r} then, {value!r} now"
        for section in SECTIONS_THAT_MUST_MATCH
        for name, value in now[section].items()
        if saved[section].get(name) != value and f"{section}.{name}" not in MAY_DIFFER
    ]
    if differing:
        raise InputError(f"the checkpoint {path} was made with other settings: {'; '.join(differing)}")
    if content["data_fingerprint"] != identity.data_fingerprint:
        raise InputError(
            f"the checkpoint {path} was made with other images: the data set's files have changed since. "
            "Start anew with --run.overwrite"
        )
