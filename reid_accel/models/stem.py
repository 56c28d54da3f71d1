"""Changes that published re-ID codes made to networks: a ResNet's stem, overlapping patches of a ViT."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn
from timm.layers import resample_abs_pos_embed, trunc_normal_
from torch import Tensor

from reid_accel.errors import InputError


def set_stem(backbone: nn.Module, stem: str, name: str) -> None:
    """Change the stem of a newly built ResNet: no ReLU before the max pooling, or a pooling that rounds sizes up."""
    if stem == "relu":
        return
    has_both = isinstance(getattr(backbone, "act1", None), nn.ReLU)
    if not has_both or not isinstance(getattr(backbone, "maxpool", None), nn.MaxPool2d):
        raise InputError(f"model.stem {stem} is for ResNets; {name} has another stem. Set --model.stem relu")
    if stem == "no-relu":
        backbone.act1 = nn.Identity()
    else:
        backbone.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)


def overlap_patches(backbone: nn.Module, stride: int | None, name: str) -> None:
    """Let the patches of a newly built ViT overlap, with a position embedding for their new number (He et al. 2021)."""
    if stride is None:
        return
    embed, position = getattr(backbone, "patch_embed", None), getattr(backbone, "pos_embed", None)
    projection = getattr(embed, "proj", None)
    if embed is None or not isinstance(projection, nn.Conv2d) or not isinstance(position, nn.Parameter):
        raise InputError(
            f"model.patch-stride is for ViTs with a position embedding; {name} is none. Leave it out for this backbone"
        )
    if stride > projection.kernel_size[0]:
        raise InputError(
            f"model.patch-stride must be at most the patch size of {name}, {projection.kernel_size[0]}, got {stride}"
        )
    projection.stride = (stride, stride)
    sizes = zip(embed.img_size, projection.kernel_size, strict=True)
    embed.grid_size = tuple((pixels - patch) // stride + 1 for pixels, patch in sizes)
    embed.num_patches = math.prod(embed.grid_size)
    tokens = _prefix_tokens(backbone)
    backbone.pos_embed = nn.Parameter(torch.zeros(1, tokens + embed.num_patches, position.shape[2]))
    trunc_normal_(backbone.pos_embed, std=0.02)


def with_overlapping_positions(weights: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Weights with a position embedding that fits overlapping patches, resampled if it is of patches side by side."""
    position, wanted = weights.get("pos_embed"), backbone.state_dict().get("pos_embed")
    if position is None or wanted is None or position.shape == wanted.shape:
        return dict(weights)
    embed: Any = backbone.get_submodule("patch_embed")
    tokens = _prefix_tokens(backbone)
    stride, patch = embed.proj.stride[0], embed.proj.kernel_size[0]
    grid = [pixels // patch for pixels in embed.img_size]
    count = position.shape[1] - tokens
    if stride == patch or (count != math.prod(grid) and math.isqrt(max(0, count)) ** 2 != count):
        return dict(weights)
    side = math.isqrt(count)
    old_size = grid if count == math.prod(grid) else [side, side]
    resampled = resample_abs_pos_embed(position, list(embed.grid_size), old_size, num_prefix_tokens=tokens)
    return {**weights, "pos_embed": resampled}


def _prefix_tokens(backbone: nn.Module) -> int:
    return 0 if getattr(backbone, "no_embed_class", False) else int(getattr(backbone, "num_prefix_tokens", 1))
