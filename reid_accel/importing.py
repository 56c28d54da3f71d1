"""Importing other trainers' weights: a checkpoint becomes a model folder, or a file for `model.weights-file`.

    import reid_accel

    imported = reid_accel.import_weights("osnet_x1_0_market.pth", "models/osnet")
    features = reid_accel.ReIDModel.from_pretrained("models/osnet").embed(["a.jpg", "b.jpg"])

Nothing in the file is run, and nothing is written unless all of it is understood.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError, listed
from reid_accel.files import replacing_folder, sha256
from reid_accel.models.architecture import Architecture, Cameras
from reid_accel.models.backbone import build_backbone
from reid_accel.models.reid import ReIDModel
from reid_accel.reporting.card import write_imported_card
from reid_accel.weights.backbone_file import as_float32, write_backbone
from reid_accel.weights.containers import Checkpoint, read_checkpoint
from reid_accel.weights.finite import require_finite
from reid_accel.weights.published import PublishedSettings
from reid_accel.weights.recognized import IMAGENET, Recognized
from reid_accel.weights.schemes import check_complete, recognize

AS_PUBLISHED = PublishedSettings()
BACKBONE_FILE = "backbone.safetensors"


@dataclass(frozen=True)
class Imported:
    """What was written, and what became of the file's tensors. left_out: a reason -> their names."""

    folder: Path
    scheme: str
    backbone: str
    is_reid: bool
    inside: str
    used: int
    renamed: int
    left_out: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    model: ModelConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str

    def lines(self) -> list[str]:
        """The import as text."""
        kind = "a re-identification model" if self.is_reid else "a backbone"
        where = f" in the entry {self.inside}" if self.inside else ""
        size = f"{self.model.height_px} x {self.model.width_px} pixels, " if self.is_reid else ""
        mean, std = (" ".join(f"{value:.3g}" for value in numbers) for numbers in (self.mean, self.std))
        others = [
            f"{len(names)} not taken as they are ({listed(names, 3)}): {why}" for why, names in self.left_out.items()
        ]
        lines = [
            f"taken for {self.scheme}{where}: {kind}, {self.backbone}",
            f"{self.used} tensors used, {self.renamed} of them under another name",
            *others,
            f"input: {size}RGB, mean {mean}, std {std}, stored with the weights",
            *(f"note: {note}" for note in self.notes),
        ]
        if self.is_reid:
            return [*lines, f'written to {self.folder}: ReIDModel.from_pretrained("{self.folder}")']
        use = f"--model.backbone {self.backbone} --model.weights-file {self.folder / BACKBONE_FILE}"
        return [*lines, f"written to {self.folder}: reid-accel train {use}"]


def import_weights(file: str | Path, to: str | Path, settings: PublishedSettings = AS_PUBLISHED) -> Imported:
    """Import a checkpoint of torchreid, fast-reid, TransReID, LUPerson or another known scheme (see `weights.schemes`).

    A re-ID model becomes a model folder, as training leaves it; a backbone becomes `backbone.safetensors`. `to` is the
    new folder. Raises InputError, and writes nothing, for a file that isn't understood as a whole.
    """
    path, folder = Path(file).expanduser(), Path(to).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already: choose another folder with --to")
    checkpoint = read_checkpoint(path)
    found = recognize(checkpoint.tensors, str(path))
    if settings.source == "torchvision":
        found = replace(found, normalization=IMAGENET, notes=())
    check_complete(found, checkpoint.tensors, str(path))
    tensors = as_float32(found.tensors(checkpoint.tensors))
    require_finite(tensors, str(path), "import another one")
    model = model_settings(found, settings.changes())
    imported = _imported(folder, found, checkpoint, model, sha256(path))
    network = _network(found, model, tensors, path)
    with replacing_folder(folder) as temporary:
        if isinstance(network, ReIDModel):
            network.save_pretrained(temporary)
        else:
            write_backbone(temporary / BACKBONE_FILE, found, checkpoint.tensors)
        write_imported_card(temporary, imported, path.name, BACKBONE_FILE)
    return imported


def model_settings(found: Recognized, changes: Mapping[str, Any]) -> ModelConfig:
    """The network's settings: the scheme's, changed as the user says."""
    base: dict[str, Any] = {"pretrained": False, "attributes": False, "metric": "cosine"}
    known = {field.name for field in fields(ModelConfig)}
    assert set(found.model) <= known, set(found.model) - known
    return ModelConfig(**{**base, **found.model, **changes})


def _imported(folder: Path, found: Recognized, checkpoint: Checkpoint, model: ModelConfig, digest: str) -> Imported:
    reasons = found.reasons(checkpoint.tensors)
    left_out = {
        str(reason): tuple(name for name, given in reasons.items() if given == reason)
        for reason in Counter(reasons.values())
    }
    renamed = sum(ours.removeprefix("backbone.") != theirs for ours, theirs in found.names.items())
    mean, std = found.normalization
    return Imported(
        folder=folder,
        scheme=found.scheme,
        backbone=model.backbone,
        is_reid=found.is_reid,
        inside=checkpoint.inside,
        used=len(found.names),
        renamed=renamed,
        left_out=left_out,
        notes=found.notes,
        model=model,
        mean=mean,
        std=std,
        sha256=digest,
    )


def _network(found: Recognized, model: ModelConfig, tensors: dict[str, Tensor], path: Path) -> torch.nn.Module:
    """The network with the imported weights. Raises InputError unless it has exactly these tensors."""
    if found.is_reid:
        mean, std = found.normalization
        network: torch.nn.Module = ReIDModel(
            Architecture(model=model, mean=mean, std=std, cameras=Cameras(numbers=found.cameras))
        ).eval()
    else:
        network = build_backbone(model)
        ours = {name.removeprefix("backbone."): value for name, value in tensors.items()}
        tensors = {name: value for name, value in ours.items() if not name.startswith("classifier.")}  # of ImageNet
    state = network.state_dict()
    own = {name: value for name, value in state.items() if name not in tensors and _may_be_missing(name)}
    missing = sorted(set(state) - set(tensors) - set(own))
    reshaped = [
        f"{name} {list(tensors[name].shape)} instead of {list(value.shape)}"
        for name, value in state.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    unknown = sorted(set(tensors) - set(state))
    kinds = (("missing", missing), ("of another shape", reshaped), ("unknown", unknown))
    problems = [f"{len(names)} {kind} ({listed(names, 5, 200)})" for kind, names in kinds if names]
    if problems:
        raise InputError(
            f"{path} is taken for {found.scheme} ({model.backbone}), but its tensors are not that network's "
            f"{len(state)}: {', '.join(problems)}. The file is a part or another variant of it, or needs other settings"
        )
    network.load_state_dict({name: tensors.get(name, own.get(name)) for name in state}, assign=True)
    return network


def _may_be_missing(name: str) -> bool:
    return name.endswith("num_batches_tracked") or name.startswith("identity_classifier.")
