"""Where the initial weights of a backbone came from: a name that stays valid when timm's defaults change, a hash."""

from pathlib import Path
from typing import NamedTuple

import timm
from huggingface_hub import try_to_load_from_cache

from reid_accel.config.schema import ModelConfig
from reid_accel.files import sha256
from reid_accel.models.ibn import plain_name
from reid_accel.weights.packages import PREFIX, resolved

_FILES = ("model.safetensors", "open_clip_model.safetensors")


class WeightsOrigin(NamedTuple):
    """The name of initial weights, and the SHA-256 of their file (None if it isn't in the hub's cache)."""

    name: str
    sha256: str | None


def weights_origin(settings: ModelConfig) -> WeightsOrigin | None:
    """The origin of the weights that `starting_weights` loads; None for random ones.

    The name is timm's with its tag (resnet50.tv_in1k), or that of the file without its folder, which may be private.
    """
    if settings.weights_file is not None:
        file = resolved(settings.weights_file)
        is_packaged = settings.weights_file.startswith(PREFIX)
        return WeightsOrigin(settings.weights_file if is_packaged else file.name, _sha256(file))
    if not settings.pretrained:
        return None
    name = timm_tagged(settings.backbone)
    source = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if source is None:
        return None
    return WeightsOrigin(name, _sha256(Path(source.file) if source.file else _cached(source.hf_hub_id)))


def timm_tagged(backbone: str) -> str:
    """timm's name of a backbone's pretrained weights with the tag that it resolves to.

    >>> timm_tagged("resnet50_ibn_a.tv_in1k"), timm_tagged("vit_base_patch16_224.orig_in21k_ft_in1k")
    ('resnet50.tv_in1k', 'vit_base_patch16_224.orig_in21k_ft_in1k')
    """
    name = plain_name(backbone) or backbone
    source = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return name if "." in name or source is None or not source.tag else f"{name}.{source.tag}"


def _cached(repository: str | None) -> Path | None:
    """The file of a repository in the hub's cache."""
    found = (try_to_load_from_cache(repository, file) for file in _FILES) if repository else ()
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _sha256(file: Path | None) -> str | None:
    return sha256(file) if file is not None and file.is_file() else None
