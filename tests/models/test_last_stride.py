"""The last stride: which networks can have 1, and what changes in them."""

import re

import pytest
import timm
import torch
import torch.nn as nn

from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError
from reid_accel.models.backbone import build_backbone
from reid_accel.models.last_stride import keep_last_resolution

MODULES = ("resnet", "resnest", "res2net", "sknet", "senet", "resnetv2")


def smallest_of_each_family() -> list[str]:
    """timm's ResNets without those that differ from another in numbers only (resnet26d and resnet101d)."""
    families: dict[str, list[str]] = {}
    for name in (name for module in MODULES for name in timm.list_models(module=module)):
        families.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    return [
        min(names, key=lambda name: [int(each) for each in re.findall(r"\d+", name)]) for names in families.values()
    ]


OTHERS = [
    "tf_efficientnet_lite0", "efficientnet_b0", "tf_efficientnetv2_b0", "mobilenetv2_100", "mobilenetv3_small_050",
    "mobilenetv3_large_100", "mobilenetv4_conv_small", "regnetx_002", "regnety_002", "convnext_atto", "convnextv2_atto",
    "resnetv2_50",
]  # fmt: skip
REFUSED = ["vit_tiny_patch16_224", "test_vit", "osnet_x0_25", "hrnet_w18_small", "swin_tiny_patch4_window7_224"]


def built(name: str, last_stride: int = 2) -> nn.Module:
    return build_backbone(ModelConfig(backbone=name, last_stride=last_stride, height_px=64, width_px=32)).eval()


def dilations(network: nn.Module) -> list[object]:
    return [module.dilation for module in network.modules() if isinstance(module, (nn.Conv2d, nn.MaxPool2d))]


@pytest.mark.parametrize("name", smallest_of_each_family())
def test_every_resnet_family_of_timm_can_keep_its_last_resolution(name: str) -> None:
    with torch.device("meta"):  # shapes without computing
        network = timm.create_model(name, num_classes=0).eval()
        keys = {key: value.shape for key, value in network.state_dict().items()}
        dilated = dilations(network)
        images = torch.empty(2, 3, 192, 96)
        height, width = network.forward_features(images).shape[-2:]
        keep_last_resolution(network, name)
        assert network.forward_features(images).shape[-2:] == (2 * height, 2 * width)
    assert dilations(network) == dilated
    assert {key: value.shape for key, value in network.state_dict().items()} == keys, "pretrained weights fit"


@pytest.mark.parametrize("name", ["resnest14d", "res2net50_14w_8s", "resnetaa50d", "resnet26t", "skresnet18", *OTHERS])
def test_a_network_of_twice_the_last_resolution_trains(name: str) -> None:
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    coarse, fine = built(name), built(name, last_stride=1)
    fine.load_state_dict(coarse.state_dict())
    assert dilations(fine) == dilations(coarse)
    assert coarse.forward_features(images).shape[-2:] == (2, 1)
    assert fine.forward_features(images).shape[-2:] == (4, 2)
    fine.train()(images).sum().backward()
    assert all(each.grad is not None for each in fine.parameters())


@pytest.mark.parametrize("name", ["resnet10t", "resnet18", "resnet50", "resnet50d", "resnet10t_ibn_a"])
def test_the_strides_are_those_of_luos_code(name: str) -> None:
    plain, fine = built(name), built(name, last_stride=1)
    changed = {}
    modules = dict(fine.named_modules())
    for path, before in plain.named_modules():
        after = modules[path]
        if getattr(before, "stride", None) != getattr(after, "stride", None):
            changed[path] = after.stride
    assert changed
    assert all(path.startswith("layer4.0.") for path in changed)
    assert all(stride in (1, (1, 1)) for stride in changed.values())
    layers = [module for module in fine.layer4.modules() if isinstance(module, (nn.Conv2d, nn.AvgPool2d))]
    assert all(module.stride in (1, (1, 1)) for module in layers)


def test_looking_for_strides_changes_nothing_else() -> None:
    network = timm.create_model("resnest14d", num_classes=0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    generator = torch.get_rng_state()
    network.bn1.eval()
    modes = [module.training for module in network.modules()]
    keep_last_resolution(network, "resnest14d")
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused_before_anything_is_decoded(name: str) -> None:
    with pytest.raises(InputError, match=rf"which {name} doesn't\. Set --model\.last-stride 2"):
        built(name, last_stride=1)
