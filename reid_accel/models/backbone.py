"""Backbones by name, without classifier: timm's models, ResNets with IBN-a, OSNet; and their initial weights."""

import difflib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch.nn as nn
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reid_accel.augment.ops import IMAGENET_MEAN, IMAGENET_STD
from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError, first_line, listed
from reid_accel.models.camera_embedding import require_tokens
from reid_accel.models.ibn import from_plain, plain_name, put_ibn_in
from reid_accel.models.last_stride import keep_last_resolution
from reid_accel.models.osnet import OSNETS, OSNet
from reid_accel.models.pooling import set_pooling
from reid_accel.models.saved_model import check_dtypes, is_missing_on_hub
from reid_accel.models.stem import overlap_patches, set_stem, with_overlapping_positions
from reid_accel.models.swin import SOLIDER_SWINS, build_solider_swin
from reid_accel.weights.finite import require_finite
from reid_accel.weights.packages import WAY_OUT, resolved, stored_normalization
from reid_accel.weights.schemes import backbone_tensors

_IN_OUR_MODELS = "backbone."  # prefix of the backbone's tensors in a model of this package
_OUR_NAMES = (*OSNETS, *SOLIDER_SWINS, "resnet18_ibn_a", "resnet34_ibn_a", "resnet50_ibn_a", "resnet101_ibn_a")


def build_backbone(settings: ModelConfig, *, registered_by: str | None = None) -> nn.Module:
    """A network without classifier: images B x 3 x H x W to pooled features B x C, with random weights.

    The name is a timm model, a timm ResNet followed by `_ibn_a` (see `ibn`), or one of `OSNETS`. last_stride 1
    only sets the last strides of a convolutional network to 1 (Luo et al. 2019); timm's `output_stride=16` would also
    dilate the last stage. A ViT's position embeddings match the input size. Its patches tile the image from the top
    left; a remainder at the bottom and right (4 of 256 rows at patches of 14) is ignored. With stripes other than (1,),
    the output is B x C x P, flattened (see `pooling`).
    registered_by: the module that registers a saved model's backbone, for the error message.
    Raises InputError for an unknown name, with the closest ones, and for settings that a backbone doesn't support.
    """
    name = settings.backbone
    if name in OSNETS or name in SOLIDER_SWINS:
        _require_drop_path(settings.drop_path == 0, name)
    if name in OSNETS:
        backbone: nn.Module = OSNet(*OSNETS[name])
    elif name in SOLIDER_SWINS:
        backbone = build_solider_swin(name, settings.height_px, settings.width_px)
    else:
        backbone = _timm_backbone(settings, registered_by)
    if settings.last_stride == 1:
        keep_last_resolution(backbone, name)
    set_stem(backbone, settings.stem, name)
    overlap_patches(backbone, settings.patch_stride, name)
    if settings.camera_embedding:
        require_tokens(backbone, name)
    set_pooling(backbone, settings.pooling, name, settings.stripes)
    return backbone


def starting_weights(settings: ModelConfig) -> dict[str, Tensor] | None:
    """The initial weights of the backbone, by its own names; None for random ones.

    This builds the backbone, so mistakes in the settings are found before any image is decoded.
    """
    backbone = build_backbone(settings)
    if not settings.pretrained and settings.weights_file is None:
        return None
    load_pretrained(backbone, settings.backbone, settings.weights_file)
    origin = settings.weights_file or f"the pretrained weights of {settings.backbone}"
    require_finite(backbone.state_dict(), origin, "give others with --model.weights-file")
    return backbone.state_dict()


def import_module(name: str) -> None:
    """Import a user's Python module by name, from the working directory or Python's module path."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"there is no module {error.name}: install it, or put its folder on PYTHONPATH") from error


def registering_module(name: str) -> str | None:
    """The Python module that registered a backbone's name with timm; None for timm's and this package's own."""
    if name in OSNETS or name in SOLIDER_SWINS or plain_name(name) is not None:
        return None
    module: str = timm.models.model_entrypoint(name.partition(".")[0]).__module__
    return None if module.startswith("timm.") else module


def pooled_size(backbone: nn.Module) -> int:
    """C, the number of a backbone's pooled features per stripe."""
    size = getattr(backbone, "head_hidden_size", None)
    if not isinstance(size, int):
        raise InputError(
            f"the backbone {type(backbone).__name__} must state the number of its pooled features in the attribute "
            "head_hidden_size, as timm's models do"
        )
    return size


def normalization(name: str, weights_file: str | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that a backbone's initial weights expect: ImageNet's for most.

    A file that `reid-accel import-weights` wrote says its own.
    """
    stored = stored_normalization(weights_file) if weights_file is not None else None
    if stored is not None:
        return stored
    if name in SOLIDER_SWINS:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    settings = timm.get_pretrained_cfg(plain_name(name) or name, allow_unregistered=True)
    if not settings:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(settings.mean), tuple(settings.std)


def _require_drop_path(condition: bool, name: str) -> None:
    if not condition:
        raise InputError(f"the backbone {name} has no drop path: set --model.drop-path 0")


def _timm_backbone(settings: ModelConfig, registered_by: str | None) -> nn.Module:
    name = settings.backbone
    plain = plain_name(name)
    timm_name = plain or name
    if not timm.is_model(timm_name):
        if registered_by is not None:
            raise InputError(
                f"the model's backbone {name} is registered with timm by the module {registered_by}, which is not "
                f"imported by itself: add --model-module {registered_by} (in Python: import {registered_by})"
            )
        near = difflib.get_close_matches(name, [*timm.list_models(), *_OUR_NAMES], n=4, cutoff=0.4)
        raise InputError(f"there is no model {name!r}; close names: {', '.join(near) or 'none'}")
    backbone = _built_for_size(timm_name, settings)
    if plain is not None:
        put_ibn_in(backbone, name)
    return backbone


def _built_for_size(name: str, settings: ModelConfig) -> nn.Module:
    """A timm model for this input size, or for the square around it where timm only builds for squares (MViTv2)."""
    height_px, width_px = settings.height_px, settings.width_px
    sizes = _at_size(name, height_px, width_px)
    dropped: dict[str, Any] = {"drop_path_rate": settings.drop_path} if settings.drop_path else {}
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **sizes, **dropped)
    except AssertionError:
        if not sizes or height_px == width_px:
            raise
        side = max(height_px, width_px)
        backbone = timm.create_model(name, pretrained=False, num_classes=0, **_at_size(name, side, side), **dropped)
    except TypeError:  # the network's class doesn't take the rate
        _require_drop_path(not dropped, name)
        raise
    return backbone


def _at_size(name: str, height_px: int, width_px: int) -> dict[str, Any]:
    """Arguments for timm's models with a fixed input size, such as ViTs; empty for others."""
    settings = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if not settings or not settings.fixed_input_size:
        return {}
    # the second stores the size in the model: `load_pretrained` reads it there
    return {
        "img_size": (height_px, width_px),
        "pretrained_cfg_overlay": {"input_size": (3, height_px, width_px)},
    }


def load_pretrained(backbone: nn.Module, name: str, weights_file: str | None) -> None:
    """Fill a backbone from `build_backbone` with a local .safetensors file, or with timm's pretrained weights.

    A ResNet with IBN-a starts from the plain ResNet's weights (see `from_plain`), since timm has none for IBN-a; a file
    may have either. Position embeddings for another image size are resampled by timm. A GeM exponent keeps its initial
    value if the file has none.
    Raises InputError when the file doesn't exist or doesn't fit, or the download fails.
    """
    if weights_file is not None:
        _load_file(backbone, name, resolved(weights_file))
        return
    if name in OSNETS:
        raise InputError(
            "OSNet has no pretrained weights; set --model.no-pretrained to train from scratch, or pass a local "
            "file (--model.weights-file)"
        )
    timm_name = plain_name(name) or name
    if not timm.list_models(timm_name, pretrained=True) and "." not in timm_name:
        raise InputError(
            f"timm has no pretrained weights for {timm_name!r}; set --model.no-pretrained to train from scratch"
        )
    source = _pretrained(timm_name, _size_of(backbone, timm_name))
    weights = from_plain(with_overlapping_positions(source.state_dict(), backbone), backbone)
    backbone.load_state_dict(weights | _own(backbone, weights))


def _pretrained(name: str, size: Mapping[str, Any]) -> nn.Module:
    """timm's model with its pretrained weights, read from safetensors."""
    remedy = (
        f"give a local file (--model.weights-file {name}.safetensors), or train from scratch (--model.no-pretrained)"
    )
    overlay = {**size.get("pretrained_cfg_overlay", {}), **_safetensors_only(name, remedy)}
    try:
        source: nn.Module = timm.create_model(
            name, pretrained=True, num_classes=0, **{**size, "pretrained_cfg_overlay": overlay}
        )
        return source
    except (EntryNotFoundError, OSError) as error:  # no such file on the hub, no network
        if is_missing_on_hub(error):
            raise InputError(f"the pretrained weights of {name} are not there as safetensors: {remedy}") from error
        raise InputError(
            f"the pretrained weights of {name} could not be downloaded ({first_line(error)}). Without a connection: "
            f"{WAY_OUT}, {remedy}"
        ) from error
    except (RuntimeError, SafetensorError) as error:
        raise InputError(
            f"the pretrained weights of {name} cannot be used at this input size ({first_line(error)}): {remedy}"
        ) from error


def _safetensors_only(name: str, remedy: str) -> dict[str, str]:
    """Settings with which timm reads a .safetensors file and nothing else: by itself, it falls back to pickled weights.

    Raises InputError where the weights are in another format.
    """
    source = timm.get_pretrained_cfg(name, allow_unregistered=True)
    assert source is not None, "timm lists it among the models with pretrained weights"
    if source.state_dict or (source.file or "").endswith(".safetensors"):
        return {}
    if source.file or not source.hf_hub_id:
        raise InputError(
            f"the pretrained weights of {name} are not safetensors ({source.file or source.url or 'none'}), and no "
            f"other format is read: {remedy}"
        )
    stem = Path(source.hf_hub_filename or "model").stem
    renamed = {"pytorch_model": "model", "open_clip_pytorch_model": "open_clip_model"}
    return {"hf_hub_filename": f"{renamed.get(stem, stem)}.safetensors", "url": ""}


def _size_of(backbone: nn.Module, name: str) -> dict[str, Any]:
    settings = backbone.pretrained_cfg
    assert isinstance(settings, dict)
    return _at_size(name, *settings["input_size"][1:])


def _own(backbone: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that a weights file may lack: batch norm counters and GeM exponents."""
    ends = ("num_batches_tracked", "global_pool.exponent", "global_pool.pool.exponent")
    return {key: value for key, value in backbone.state_dict().items() if key.endswith(ends) and key not in weights}


def _load_file(backbone: nn.Module, name: str, path: Path) -> None:
    if not path.is_file():
        raise InputError(f"model.weights-file: there is no file {path}")
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} is not a safetensors file ({error}); pickled weights (.pth, .pt) are not read: convert them with "
            "`reid-accel import-weights`"
        ) from error
    weights = backbone_tensors(weights)
    of_a_whole_model = {
        key.removeprefix(_IN_OUR_MODELS): value for key, value in weights.items() if key.startswith(_IN_OUR_MODELS)
    }
    weights = from_plain(with_overlapping_positions(of_a_whole_model or weights, backbone), backbone)
    wanted = {key: value for key, value in backbone.state_dict().items() if key in weights}
    check_dtypes(wanted, {key: value.dtype for key, value in weights.items()}, str(path))
    weights = _resampled(backbone, name, weights | _own(backbone, weights))
    misfit = _misfit(backbone.state_dict(), weights)
    if misfit is not None:
        raise InputError(
            f"{path} does not fit the backbone {name}: {misfit}. Set --model.backbone, last-stride and pooling to "
            "those of the network that the file is of, or give another file"
        )
    used = {key: weights[key] for key in backbone.state_dict()}  # a classifier in the file is ignored
    backbone.load_state_dict(used)


def _resampled(backbone: nn.Module, name: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights resampled by timm if only shapes differ, as for another image size; else, or if that fails, unchanged."""
    wanted = backbone.state_dict()
    complete = set(wanted) <= set(weights)
    if not complete or all(weights[key].shape == value.shape for key, value in wanted.items()):
        return weights
    if name in OSNETS or name in SOLIDER_SWINS:
        return weights
    settings = _size_of(backbone, plain_name(name) or name)
    if not settings:  # not made for one size: another shape is another network
        return weights
    settings["pretrained_cfg_overlay"]["state_dict"] = dict(weights)  # timm removes the classifier
    try:
        source = timm.create_model(name, pretrained=True, num_classes=0, **settings)
    except RuntimeError:  # shapes differ that timm doesn't resample
        return weights
    resampled: dict[str, Tensor] = source.state_dict()
    return resampled


def _misfit(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str | None:
    """A description of the tensors that don't match the backbone; None if all match."""
    missing = sorted(set(wanted) - set(weights))
    reshaped = sorted(key for key in set(wanted) & set(weights) if weights[key].shape != wanted[key].shape)
    if not missing and not reshaped:
        return None
    unexpected = sorted(set(weights) - set(wanted))
    shapes = [f"{key} {_shape(weights[key])} instead of {_shape(wanted[key])}" for key in reshaped]
    kinds = (("missing", missing), ("of another shape", shapes), ("unexpected", unexpected))
    misfits = [f"{len(keys)} {kind} ({listed(keys, 3, 200)})" for kind, keys in kinds if keys]
    return f"of its {len(wanted)} tensors " + ", ".join(misfits)


def _shape(tensor: Tensor) -> str:
    return " x ".join(str(length) for length in tensor.shape) or "one number"
