"""The Swin transformer as SOLIDER and mmdetection build it: timm's, with other padding and a shift after each merging.

Chen et al., "Beyond Appearance: a Semantic Controllable Self-Supervised Learning Framework for Human-Centric Visual
Tasks", CVPR 2023, arXiv:2303.17602. Its semantic embedding scales and shifts the maps between the stages by amounts
that depend on one number only; at a fixed number, the scale is part of the merging's weights and the shift is its bias.
Legend: B batch, H W positions of the map, C channels.
"""

import timm
import torch
import torch.nn as nn
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor

SOLIDER_SWINS = {f"solider_swin_{size}": f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")}
"""Our names -> timm's of the same sizes."""
_WINDOW = 7


class PaddedBlock(SwinTransformerBlock):
    """Pads maps to whole windows before they are shifted; timm shifts them first, and shrinks windows to small maps."""

    def _attn(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        padded_BHWC = nn.functional.pad(x, (0, 0, 0, -width % _WINDOW, 0, -height % _WINDOW))
        attended_BHWC: Tensor = super()._attn(padded_BHWC)
        return attended_BHWC[:, :height, :width].contiguous()


def build_solider_swin(name: str, height_px: int, width_px: int) -> nn.Module:
    """SOLIDER's Swin transformer: images B x 3 x H x W to pooled features B x C."""
    size = (height_px, width_px)
    swin: nn.Module = timm.create_model(
        SOLIDER_SWINS[name], num_classes=0, img_size=size, window_size=_WINDOW, always_partition=True
    )
    for module in swin.modules():
        if isinstance(module, SwinTransformerBlock):
            module.__class__ = PaddedBlock
            module.dynamic_mask = True  # for the padded map
            module.register_buffer("attn_mask", None, persistent=False)
    for stage in swin.get_submodule("layers").children():
        merging = getattr(stage, "downsample", None)
        if merging is not None and hasattr(merging, "reduction"):
            plain = merging.reduction
            merging.reduction = nn.Linear(plain.in_features, plain.out_features)
            with torch.no_grad():
                merging.reduction.weight.copy_(plain.weight)
                merging.reduction.bias.zero_()
    return swin
