"""IBN-a: instance norm on half of the channels of a ResNet's early blocks, which removes image style.

Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018, arXiv:1807.09441,
section 3. Legend: B batch, C channels, H W pixels.
"""

from collections.abc import Mapping

import torch
import torch.nn as nn
from torch import Tensor

from reid_accel.errors import InputError

_SUFFIX = "_ibn_a"
_CHANGED_STAGES = (
    "layer1",
    "layer2",
    "layer3",
)  # the paper leaves the last stage unchanged, since its maps are the most semantic


class IBN(nn.Module):
    """Instance norm on the first half of the channels, batch norm on the rest; B x C x H x W."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_instance = channels // 2
        self.instance = nn.InstanceNorm2d(self.num_instance, affine=True)
        self.batch = nn.BatchNorm2d(channels - self.num_instance)

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        per_image, per_batch = maps_BCHW[:, : self.num_instance], maps_BCHW[:, self.num_instance :]
        return torch.cat([self.instance(per_image), self.batch(per_batch)], dim=1)


def plain_name(name: str) -> str | None:
    """The plain ResNet of an IBN-a name, None for any other name; a tag of timm's weights is kept.

    >>> plain_name("resnet50_ibn_a"), plain_name("resnet50_ibn_a.a1_in1k"), plain_name("resnet50")
    ('resnet50', 'resnet50.a1_in1k', None)
    """
    model, dot, tag = name.partition(".")
    return model.removesuffix(_SUFFIX) + dot + tag if model.endswith(_SUFFIX) else None


def put_ibn_in(resnet: nn.Module, name: str) -> None:
    """Replace the first norm of every block in layer1 to layer3 of a newly built timm ResNet.

    Raises InputError for a network that isn't built from such blocks.
    """
    stages = [getattr(resnet, stage, None) for stage in (*_CHANGED_STAGES, "layer4")]
    blocks = [block for stage in stages[:-1] if isinstance(stage, nn.Sequential) for block in stage]
    # exactly BatchNorm2d: some of timm's norms include an activation
    if None in stages or not all(type(getattr(block, "bn1", None)) is nn.BatchNorm2d for block in blocks):
        raise InputError(f"{_SUFFIX} is for ResNets; {name} has other blocks. Set --model.backbone resnet50{_SUFFIX}")
    for block in blocks:
        norm = block.bn1
        assert isinstance(norm, nn.BatchNorm2d)
        block.bn1 = IBN(norm.num_features)


def from_plain(weights: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """A plain ResNet's state dict converted to the names of `backbone`, the same ResNet with IBN-a.

    The first half of a replaced norm's weights and biases goes to the instance norm; the rest, with its running
    statistics, to the batch norm. All other tensors are unchanged.
    """
    renamed = dict(weights)
    for path, module in backbone.named_modules():
        if not isinstance(module, IBN):
            continue
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            value = renamed.pop(f"{path}.{part}", None)
            if value is None:
                continue
            renamed[f"{path}.batch.{part}"] = value[module.num_instance :].clone() if value.ndim else value
            if part in ("weight", "bias"):
                renamed[f"{path}.instance.{part}"] = value[: module.num_instance].clone()
    return renamed
