"""Checkpoints: all that a run needs to go on, in safetensors and JSON, whole or not there.

A checkpoint is a folder `checkpoints/step-00000123/` with model.safetensors, optimizer.safetensors,
ema.safetensors (where weights are averaged) and progress.json, which has the others' checksums. It is written
under a temporary name and renamed when it is on the disk. Nothing in it is a pickle. What is random in training is a
function of seed, step and row, so there is no generator to save.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from reid_accel.distributed.fsdp import part_of, parts_of, whole
from reid_accel.errors import InputError
from reid_accel.files import remove_leftovers, replacing_folder, write_json

FORMAT = 4
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
EMA_FILE = "ema.safetensors"
PROGRESS_FILE = "progress.json"
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt")
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
    best_step: int | None = None
    skipped_steps: int = 0
    logged_lines: int = 0
    seconds: float = 0.0
    epoch_sums: Mapping[str, float] = field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = field(default=())

    def after_step(self, skipped_steps: int = 0) -> "Progress":
        """One optimizer step further; so many were left out in all."""
        return replace(self, step=self.step + 1, position=self.position + 1, skipped_steps=skipped_steps)

    def after_epoch(self, line: dict[str, Any], seconds: float) -> "Progress":
        """At the beginning of the next epoch; `line` is what this one came to."""
        history = (*self.history, line)
        return replace(
            self,
            epoch=self.epoch + 1,
            position=0,
            epoch_sums={},
            history=history,
            seconds=self.seconds + seconds,
        )


@dataclass(frozen=True)
class RunFingerprint:
    """What must be the same for a checkpoint to be continued; another number of processes is only said."""

    config: Mapping[str, Any]
    data_fingerprint: str
    world_size: int = 1


@dataclass(frozen=True)
class TrainingState:
    """All that changes while training, beside the progress. average: the averaged weights, where there are any."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None = None
    average: nn.Module | None = None


class DamagedCheckpointError(InputError):
    """A checkpoint that isn't whole."""


def save_checkpoint(
    folder: Path, state: TrainingState, progress: Progress, identity: RunFingerprint, *, keep: int, writes: bool = True
) -> Path:
    """Write a checkpoint into `folder`. The newest `keep` stay, and that of the best epoch.

    Every process calls it, for weights may be shared out over them; one `writes`.
    A full disk raises InputError and leaves the earlier checkpoints as they are.
    """
    final = checkpoint_of(folder, progress.step)
    weights = _whole_copy(state.model.state_dict(), writes)
    tensors, layout = _flatten(state.optimizer.state_dict(), writes)
    averages = _whole_copy(state.average.state_dict(), writes) if state.average is not None else None
    if not writes:
        return final
    remove_leftovers(folder)
    try:
        with replacing_folder(final) as temporary:
            save_file(weights, temporary / MODEL_FILE)
            save_file(tensors, temporary / OPTIMIZER_FILE)
            if averages is not None:
                save_file(averages, temporary / EMA_FILE)
            content = {
                "format": FORMAT,
                "progress": asdict(progress),
                "optimizer": layout,
                "scaler": state.scaler.state_dict() if state.scaler is not None else None,
                "config": identity.config,
                "data_fingerprint": identity.data_fingerprint,
                "world_size": identity.world_size,
                "sha256": {path.name: _digest(path) for path in sorted(temporary.iterdir())},
            }
            write_json(temporary / PROGRESS_FILE, content)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"the checkpoint {final} could not be written: {error}. The earlier checkpoints are intact; free "
            "some space and go on with --run.resume auto"
        ) from error
    for old in _by_age(folder)[:-keep]:
        if old != checkpoint_of(folder, progress.best_step or 0):
            shutil.rmtree(old, ignore_errors=True)
    return final


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def _whole_copy(state: Mapping[str, Tensor], kept: bool) -> dict[str, Tensor]:
    """All parts of all tensors, one after the other, in memory order where they are kept; empty where not."""
    copies = ((name, whole(tensor.detach())) for name, tensor in state.items())
    return {name: tensor.cpu().contiguous() for name, tensor in copies if kept}


def _flatten(state: Mapping[str, Any], kept: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as named tensors, and the rest as JSON."""
    tensors, rest = {}, {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                rest[f"{index}.{key}"] = value
    return _whole_copy(tensors, kept), {"param_groups": state["param_groups"], "rest": rest}


def _unflatten(tensors: Mapping[str, Tensor], layout: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **layout["rest"]}.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    return state


def _moments_fit(content: Mapping[str, Any], identity: RunFingerprint, groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a checkpoint's optimizer was of this kind, with the parameters in the same order."""
    kinds = (config["optim"].get("name") for config in (content["config"], identity.config))
    sizes = ([len(group["params"]) for group in each] for each in (content["optimizer"]["param_groups"], groups))
    return next(kinds) == next(kinds) and next(sizes) == next(sizes)


def _place_moments(optimizer: torch.optim.Optimizer) -> None:
    """Lay moments out as their parameters are: shared out, or channels last so that a step takes the same code path."""
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            if not isinstance(value, Tensor) or value.shape != parameter.shape:
                continue
            if isinstance(parameter, DTensor):
                entries[key] = part_of(value, parameter)
            elif value.ndim == 4:
                entries[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def checkpoint_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step of a checkpoint in a run's folder."""
    return int(path.name.removeprefix("step-"))


def _by_age(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-????????*"), key=step_of)


def newest_checkpoint(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint in a run's folder; torn ones are passed over, and named to `say`.

    Only the process that writes here may ask.
    """
    remove_leftovers(folder)
    for path in reversed(_by_age(folder)):
        try:
            _read_content(path)
        except DamagedCheckpointError as error:
            say(f"{error}; an older one is taken")
            continue
        return path
    return None


def set_aside_later(folder: Path, step: int, say: Callable[[str], None]) -> None:
    """Rename the checkpoints after a step, so that `auto` won't take up what a run has gone back behind.

    Only the process that writes here may call it.
    """
    later = [path for path in _by_age(folder) if step_of(path) > step]
    for path in later:
        aside = path.with_name(f"undone-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    if later:
        say(f"{len(later)} later checkpoints in {folder} are called undone-... now; delete them if you don't need them")


def _read_content(path: Path) -> dict[str, Any]:
    """progress.json of a checkpoint whose files are all what it says. Raises DamagedCheckpointError."""
    if not path.is_dir():
        raise DamagedCheckpointError(f"there is no checkpoint {path}")
    try:
        content = json.loads((path / PROGRESS_FILE).read_text(encoding="utf-8"))
        digests = dict(content["sha256"])
        wrong = [name for name, digest in digests.items() if _digest(path / name) != digest]
    except (OSError, ValueError, KeyError, TypeError) as error:
        pickles = sorted(other.name for other in path.iterdir() if other.suffix in PICKLES)
        what = f"it holds {', '.join(pickles)}, and pickles are never read" if pickles else f"not whole ({error})"
        raise DamagedCheckpointError(f"the checkpoint {path} cannot be used: {what}") from error
    if wrong or not {MODEL_FILE, OPTIMIZER_FILE} <= set(digests):
        raise DamagedCheckpointError(f"the checkpoint {path} cannot be used: {', '.join(wrong) or 'a file'} is damaged")
    return dict(content)


def load_checkpoint(
    path: Path,
    state: TrainingState,
    identity: RunFingerprint,
    *,
    anyway: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
) -> Progress:
    """Put a checkpoint's weights, optimizer and scaler state in place; returns its progress.

    Every process calls it. `say` is told what can't be identical to the run that it is from. Rates and weight decay
    are those of `state`'s optimizer, not those of the checkpoint. anyway: settings and data may differ (the epoch
    begins again then), tensors of the model may not; an optimizer of another kind or order begins anew.
    Raises InputError, with nothing changed, when the checkpoint is torn or belongs to another run (the differing
    settings are named).
    """
    content = _read_content(path)
    try:
        weights, tensors = load_file(path / MODEL_FILE), load_file(path / OPTIMIZER_FILE)
        averages = load_file(path / EMA_FILE) if (path / EMA_FILE).exists() else None
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(f"the checkpoint {path} cannot be read ({error})") from error
    if content.get("format") != FORMAT:
        raise InputError(f"the checkpoint {path} has format {content.get('format')}, this version reads {FORMAT}")
    differing = _differences(content, identity)
    if differing and not anyway:
        raise InputError(
            f"the checkpoint {path} was made with other settings: {'; '.join(differing)}. Give those, or go on in "
            "spite of it: --run.resume-anyway"
        )
    _require_fitting(path, weights, state.model)
    if state.average is not None and averages is not None:
        _require_fitting(path, averages, state.average)

    state.model.load_state_dict(parts_of(weights, state.model.state_dict()))
    groups = state.optimizer.state_dict()["param_groups"]
    if _moments_fit(content, identity, groups):
        moments = _unflatten(tensors, content["optimizer"])
        state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        _place_moments(state.optimizer)
    else:
        say("the optimizer is of another kind, or has its parameters in another order: its moments begin anew")
    if state.average is not None:
        wanted = state.average.state_dict()
        state.average.load_state_dict(parts_of(averages if averages is not None else {**wanted, **weights}, wanted))
    if state.scaler is not None and content["scaler"] is not None:
        state.scaler.load_state_dict(content["scaler"])
    values = content["progress"]
    progress = Progress(**{**values, "history": tuple(values["history"])})
    if content["world_size"] != identity.world_size:
        say(
            f"the checkpoint is from {content['world_size']} processes, this run has {identity.world_size}: the order "
            "of images and their augmentation stay the same; batch statistics of each process's part, dropout and the "
            "last bits of sums do not"
        )
    if differing:
        say(f"going on in spite of other settings ({'; '.join(differing)}); epoch {progress.epoch + 1} begins anew")
        return replace(progress, step=progress.step - progress.position, position=0, epoch_sums={})
    return progress


def _require_fitting(path: Path, weights: Mapping[str, Tensor], model: nn.Module) -> None:
    wanted = model.state_dict()
    unfit = sorted(set(wanted) ^ set(weights)) or [n for n in wanted if wanted[n].shape != weights[n].shape]
    if unfit:
        raise InputError(f"the checkpoint {path} is of another model: {len(unfit)} tensors differ ({unfit[0]}, ...)")


def _differences(content: Mapping[str, Any], identity: RunFingerprint) -> list[str]:
    saved, now = content["config"], identity.config
    differing = [
        f"{section}.{name}: {saved[section].get(name)!r} then, {value!r} now"
        for section in SECTIONS_THAT_MUST_MATCH
        for name, value in now[section].items()
        if saved[section].get(name) != value and f"{section}.{name}" not in MAY_DIFFER
    ]
    if content["data_fingerprint"] != identity.data_fingerprint:
        differing.append("the data set's files have changed since")
    return differing
