"""timm backbones: features before the classifier, strides of the last stage, pretrained weights."""

import difflib
from pathlib import Path
from typing import Any

import timm
import torch.nn as nn
from safetensors import SafetensorError
from safetensors.torch import load_file

from reid_accel.errors import InputError


def build_backbone(name: str, *, last_stride: int, height_px: int, width_px: int) -> nn.Module:
    """A timm model without classifier: images B x 3 x H x W to pooled features B x num_features.

    last_stride 1 sets the strides of a ResNet's last stage to 1 and nothing else (Luo et al. 2019); timm's
    own `output_stride=16` would dilate the stage as well.
    Raises InputError for a name that timm lacks, with the closest ones.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=4, cutoff=0.4)
        raise InputError(f"timm has no model {name!r}; close names: {', '.join(near) or 'none'}")
    settings = timm.get_pretrained_cfg(name, allow_unregistered=True)
    sizes: dict[str, Any] = {}
    if settings and settings.fixed_input_size:  # a ViT's position embeddings are made for one size
        sizes["img_size"] = (height_px, width_px)
    backbone: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **sizes)
    if last_stride == 1:
        _keep_last_resolution(backbone, name)
    return backbone


def pooled_size(backbone: nn.Module) -> int:
    """P, the length of a backbone's pooled features."""
    size = backbone.head_hidden_size
    assert isinstance(size, int), size
    return size


def _keep_last_resolution(backbone: nn.Module, name: str) -> None:
    stage = getattr(backbone, "layer4", None)
    if stage is None:
        raise InputError(f"model.last-stride 1 is for ResNets; {name} has no layer4. Set --model.last-stride 2")
    for module in stage[0].modules():
        if isinstance(module, (nn.Conv2d, nn.AvgPool2d)) and _stride(module) == 2:
            module.stride = 1 if isinstance(module, nn.AvgPool2d) else (1, 1)
            if isinstance(module, nn.AvgPool2d):
                module.kernel_size = 1


def _stride(module: nn.Conv2d | nn.AvgPool2d) -> int:
    stride = module.stride
    return stride[0] if isinstance(stride, tuple) else stride


def load_pretrained(backbone: nn.Module, name: str, weights_file: str | None) -> None:
    """Fill a backbone with a local .safetensors file, or with timm's pretrained weights.

    Raises InputError when the file isn't there, doesn't fit, or the download fails.
    """
    if weights_file is not None:
        _load_file(backbone, Path(weights_file))
        return
    if not timm.list_models(name, pretrained=True) and "." not in name:
        raise InputError(
            f"timm has no pretrained weights for {name!r}; set --model.no-pretrained to train from scratch"
        )
    try:
        source = timm.create_model(name, pretrained=True, num_classes=0)
    except (OSError, RuntimeError) as error:  # no network, no such file on the hub
        raise InputError(
            f"the pretrained weights of {name} could not be downloaded ({_first_line(error)}). Without a "
            "connection: give a local file (--model.weights-file resnet50.safetensors), or train from scratch "
            "(--model.no-pretrained)"
        ) from error
    backbone.load_state_dict(source.state_dict())


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def _load_file(backbone: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise InputError(f"model.weights-file: there is no file {path}")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise InputError(
            f"{path} is not a safetensors file ({error}); pickled weights (.pth, .pt) are not read, convert them"
        ) from error
    wanted = backbone.state_dict()
    fitting = {key: value for key, value in weights.items() if key in wanted and value.shape == wanted[key].shape}
    missing = sorted(key for key in wanted if key not in fitting and not key.endswith("num_batches_tracked"))
    if missing:
        raise InputError(
            f"{path} does not fit the backbone: {len(missing)} of {len(wanted)} tensors are missing or have "
            f"another shape ({', '.join(missing[:3])}, ...)"
        )
    backbone.load_state_dict(fitting, strict=False)
