"""OSNet: a small network whose blocks combine several receptive field sizes.

Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019, arXiv:1905.00953: sections 3.1
to 3.3 for the blocks, table 1 for the layers. With instance norm (`ibn`, `ain`): Zhou et al., "Learning Generalisable
Omni-Scale Representations for Person Re-Identification", TPAMI 2021, arXiv:1910.06827.
Legend: B batch, C channels, H W pixels, P pooled features.
"""

from typing import Literal

import torch.nn as nn
from timm.layers import SelectAdaptivePool2d
from torch import Tensor

OSNET_WIDTHS = {"osnet_x0_25": 0.25, "osnet_x0_5": 0.5, "osnet_x0_75": 0.75, "osnet_x1_0": 1.0}
"""Name to width multiplier, the paper's beta."""

InstanceNorms = Literal["none", "ibn", "ain"]
"""Where instance norm is: nowhere, after the first stage's blocks, or inside the blocks that were searched for it."""

OSNETS: dict[str, tuple[float, InstanceNorms]] = {name: (width, "none") for name, width in OSNET_WIDTHS.items()}
OSNETS |= {f"osnet_ain_{name.removeprefix('osnet_')}": (width, "ain") for name, width in OSNET_WIDTHS.items()}
OSNETS["osnet_ibn_x1_0"] = (1.0, "ibn")

Place = Literal["none", "inside", "after"]
_PLACES: dict[InstanceNorms, tuple[tuple[Place, Place], ...]] = {
    "none": (("none", "none"), ("none", "none"), ("none", "none")),
    "ibn": (("after", "after"), ("none", "none"), ("none", "none")),
    "ain": (("inside", "inside"), ("none", "inside"), ("inside", "none")),
}  # for both blocks of each stage

_STEM_CHANNELS = 64
_STAGE_CHANNELS = (256, 384, 512)
_NUM_STREAMS = 4
_BOTTLENECK = 4
_GATE_REDUCTION = 16


class OSNet(nn.Module):
    """Images B x 3 x H x W to pooled features B x P, P = 512 times the width.

    The paper's fully connected layer of 512 units after the pooling is omitted; the neck takes its place.

    >>> import torch
    >>> OSNet(0.25)(torch.zeros(2, 3, 64, 32)).shape
    torch.Size([2, 128])
    """

    def __init__(self, width: float, instance_norms: InstanceNorms = "none") -> None:
        super().__init__()
        stem = int(_STEM_CHANNELS * width)
        first, second, last = (int(channels * width) for channels in _STAGE_CHANNELS)
        places = _PLACES[instance_norms]
        self.conv1 = nn.Sequential(*_conv_norm(3, stem, kernel=7, stride=2), nn.ReLU(inplace=True))
        if instance_norms != "none":
            self.conv1[1] = nn.InstanceNorm2d(stem, affine=True)
        self.max_pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = nn.Sequential(*_blocks(stem, first, places[0]), *_transition(first))
        self.conv3 = nn.Sequential(*_blocks(first, second, places[1]), *_transition(second))
        self.conv4 = nn.Sequential(*_blocks(second, last, places[2]))
        self.conv5 = nn.Sequential(*_conv_norm(last, last), nn.ReLU(inplace=True))
        self.global_pool = SelectAdaptivePool2d(pool_type="avg", flatten=True)
        self.head_hidden_size = last
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward_features(self, images_B3HW: Tensor) -> Tensor:
        """The maps before the pooling, B x P x H/16 x W/16."""
        maps = self.conv2(self.max_pool(self.conv1(images_B3HW)))
        maps_BPHW: Tensor = self.conv5(self.conv4(self.conv3(maps)))
        return maps_BPHW

    def forward(self, images_B3HW: Tensor) -> Tensor:
        pooled_BP: Tensor = self.global_pool(self.forward_features(images_B3HW))
        return pooled_BP


class OmniScaleBlock(nn.Module):
    """A residual bottleneck of four streams; stream t has a receptive field of 2t + 1 (section 3.2).

    One gate, shared by the streams, weights each stream's channels before they are summed. instance_norm: in place of
    the last batch norm (`inside`), or `after` the sum with the shortcut.
    """

    def __init__(self, channels: int, out_channels: int, instance_norm: Place = "none") -> None:
        super().__init__()
        inner = out_channels // _BOTTLENECK
        self.reduce = nn.Sequential(*_conv_norm(channels, inner), nn.ReLU(inplace=True))
        depths = range(1, _NUM_STREAMS + 1)
        self.streams = nn.ModuleList(nn.Sequential(*(Lite3x3(inner) for _ in range(depth))) for depth in depths)
        self.gate = AggregationGate(inner)
        self.expand = nn.Sequential(*_conv_norm(inner, out_channels))
        if instance_norm == "inside":
            self.expand[1] = nn.InstanceNorm2d(out_channels, affine=True)
        same = channels == out_channels
        self.downsample = nn.Identity() if same else nn.Sequential(*_conv_norm(channels, out_channels))
        after = instance_norm == "after"
        self.after = nn.InstanceNorm2d(out_channels, affine=True) if after else nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        reduced = self.reduce(maps_BCHW)
        scales = [stream(reduced) for stream in self.streams]
        fused = sum(self.gate(scale) * scale for scale in scales)
        activated: Tensor = self.act(self.after(self.expand(fused) + self.downsample(maps_BCHW)))
        return activated


class Lite3x3(nn.Module):
    """A factorized 3x3 convolution: pointwise without bias, then depthwise (section 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        activated: Tensor = self.act(self.norm(self.depthwise(self.pointwise(maps_BCHW))))
        return activated


class AggregationGate(nn.Module):
    """A weight in (0, 1) per image and channel, from the channels' means: B x C x H x W to B x C x 1 x 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // _GATE_REDUCTION
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.act = nn.ReLU(inplace=True)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        means = maps_BCHW.mean((2, 3), keepdim=True)
        weights: Tensor = self.excite(self.act(self.squeeze(means))).sigmoid()
        return weights


def _conv_norm(channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(out_channels)]


def _blocks(channels: int, out_channels: int, places: tuple[Place, Place]) -> list[nn.Module]:
    return [OmniScaleBlock(channels, out_channels, places[0]), OmniScaleBlock(out_channels, out_channels, places[1])]


def _transition(channels: int) -> list[nn.Module]:
    return [*_conv_norm(channels, channels), nn.ReLU(inplace=True), nn.AvgPool2d(2, stride=2)]
