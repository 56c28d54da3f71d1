from collections.abc import Mapping
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError
from reid_accel.models.backbone import build_backbone, load_pretrained
from reid_accel.models.ibn import IBN, from_plain


def built(name: str, last_stride: int = 2, pooling: str = "avg") -> nn.Module:
    return build_backbone(
        ModelConfig(backbone=name, last_stride=last_stride, height_px=64, width_px=32, pooling=pooling)
    )


def plain_resnet() -> nn.Module:
    """A ResNet-18 whose norms differ from their start, and in every channel."""
    torch.manual_seed(0)
    resnet = timm.create_model("resnet18", num_classes=0)
    for value in resnet.state_dict().values():
        if value.ndim == 1:
            value.copy_(torch.rand_like(value) + 0.5)
    return resnet


def test_each_half_is_normalized_over_its_own_axes() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(4, 6, 5, 3, generator=generator) * 2 + 1
    scale, shift = torch.rand(6, generator=generator), torch.rand(6, generator=generator)
    norm = IBN(6)
    for part, rows in ((norm.instance, slice(0, 3)), (norm.batch, slice(3, 6))):
        assert part.weight.shape == part.bias.shape == (3,)
        part.load_state_dict({"weight": scale[rows], "bias": shift[rows]}, strict=False)
    normed = norm(maps)
    for channel in range(6):
        groups = [[image] for image in range(4)] if channel < 3 else [[0, 1, 2, 3]]
        for images in groups:
            values = maps[images, channel]
            expected = (values - values.mean()) / (values.var(unbiased=False) + 1e-5).sqrt()
            expected = expected * scale[channel] + shift[channel]
            torch.testing.assert_close(normed[images, channel], expected, rtol=1e-5, atol=1e-5)


def test_evaluation_takes_running_statistics_for_the_batch_half_only() -> None:
    torch.manual_seed(0)
    norm, maps = IBN(4).eval(), torch.randn(2, 4, 5, 5)
    normed = norm(maps)
    torch.testing.assert_close(normed[:, 2:], maps[:, 2:] / (1 + 1e-5) ** 0.5)  # mean 0, variance 1 as yet
    torch.testing.assert_close(normed[:, :2].mean((2, 3)), torch.zeros(2, 2), atol=1e-6, rtol=0)


def test_memory_order_changes_nothing() -> None:
    maps = torch.randn(2, 8, 5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(IBN(8)(maps.contiguous(memory_format=torch.channels_last)), IBN(8)(maps))


@pytest.mark.parametrize(("name", "num_blocks"), [("resnet18_ibn_a", 6), ("resnet50_ibn_a", 13)])
def test_the_first_norm_of_every_block_but_the_last_stages_is_replaced(name: str, num_blocks: int) -> None:
    backbone = built(name)
    replaced = [path for path, module in backbone.named_modules() if isinstance(module, IBN)]
    blocks = [f"{stage}.{n}" for stage in ("layer1", "layer2", "layer3") for n in range(len(getattr(backbone, stage)))]
    assert replaced == [f"{block}.bn1" for block in blocks]
    assert len(replaced) == num_blocks
    for path in replaced:
        conv = backbone.get_submodule(path.removesuffix("bn1") + "conv1")
        assert isinstance(conv, nn.Conv2d)
        norm = backbone.get_submodule(path)
        assert isinstance(norm, IBN)
        assert norm.instance.num_features == norm.batch.num_features == conv.out_channels // 2


def test_the_norms_outside_the_replaced_ones_are_timms() -> None:
    ours, plain = built("resnet101_ibn_a"), timm.create_model("resnet101", num_classes=0)
    left = {path: type(m) for path, m in ours.named_modules() if ".bn1." not in path and not isinstance(m, IBN)}
    assert left == {path: type(m) for path, m in plain.named_modules() if path in left}
    assert {path for path, _ in plain.named_modules()} - set(left) == {
        path for path, m in ours.named_modules() if isinstance(m, IBN)
    }


def test_the_backbone_has_maps_features_and_a_gradient() -> None:
    backbone = built("resnet18_ibn_a")
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    assert backbone.forward_features(images).shape == (2, 512, 2, 1)
    features = backbone(images)
    assert features.shape == (2, backbone.head_hidden_size)
    features.square().sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_last_stride_one_is_for_ibn_resnets_too() -> None:
    fine = built("resnet18_ibn_a", last_stride=1).eval()
    assert fine.forward_features(torch.zeros(1, 3, 64, 32)).shape == (1, 512, 4, 2)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050_ibn_a", "vit_tiny_patch16_224_ibn_a", "skresnet18_ibn_a"])
def test_other_networks_have_no_ibn(name: str) -> None:
    with pytest.raises(InputError, match=rf"_ibn_a is for ResNets; {name} has other blocks"):
        built(name)


def test_a_plain_resnets_weights_are_split_by_channel() -> None:
    plain, backbone = plain_resnet(), built("resnet18_ibn_a")
    source = plain.state_dict()
    weights = from_plain(source, backbone)
    assert {key: value.shape for key, value in weights.items()} == {
        key: value.shape for key, value in backbone.state_dict().items()
    }
    for path, norm in backbone.named_modules():
        if isinstance(norm, IBN):
            for part in ("weight", "bias"):
                halves = [weights[f"{path}.instance.{part}"], weights[f"{path}.batch.{part}"]]
                assert torch.equal(torch.cat(halves), source[f"{path}.{part}"])
            for part in ("running_mean", "running_var"):
                half = len(source[f"{path}.{part}"]) // 2
                assert torch.equal(weights[f"{path}.batch.{part}"], source[f"{path}.{part}"][half:])
    same = [key for key in source if key in weights]
    assert all(torch.equal(weights[key], source[key]) for key in same)
    assert len(source) - len(same) == 6 * 5  # weight, bias, mean, variance and counter of six blocks


def test_an_instance_half_that_sees_the_running_statistics_acts_like_the_plain_network() -> None:
    """With the split weights, all that differs from the plain ResNet is where the statistics come from."""
    plain, backbone = plain_resnet().eval(), built("resnet18_ibn_a").eval()
    source = plain.state_dict()
    backbone.load_state_dict(from_plain(source, backbone))
    for path, norm in list(backbone.named_modules()):
        if isinstance(norm, IBN):
            batch = nn.BatchNorm2d(norm.num_instance).eval()
            start = {key: source[f"{path}.{key}"][: norm.num_instance] for key in ("running_mean", "running_var")}
            batch.load_state_dict(start | dict(norm.instance.named_parameters()), strict=False)
            norm.instance = batch
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(backbone(images), plain(images), rtol=1e-4, atol=1e-4)


def test_pretrained_means_the_plain_resnets_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, asked = plain_resnet(), []

    def create(
        name: str, pretrained: bool, num_classes: int, pretrained_cfg_overlay: Mapping[str, object]
    ) -> nn.Module:
        asked.append((name, pretrained, pretrained_cfg_overlay["hf_hub_filename"]))
        return plain

    backbone = built("resnet18_ibn_a", pooling="gem")
    monkeypatch.setattr(timm, "create_model", create)
    load_pretrained(backbone, "resnet18_ibn_a", None)
    assert asked == [("resnet18", True, "model.safetensors")]
    expected = from_plain(plain.state_dict(), backbone) | {"global_pool.exponent": torch.tensor([3.0])}
    assert set(backbone.state_dict()) == set(expected)
    assert all(torch.equal(value, expected[key]) for key, value in backbone.state_dict().items())


def test_a_file_holds_the_plain_resnets_weights_or_our_own(tmp_path: Path) -> None:
    plain, first, second = plain_resnet(), built("resnet18_ibn_a"), built("resnet18_ibn_a")
    save_file(plain.state_dict(), tmp_path / "plain.safetensors")
    load_pretrained(first, "resnet18_ibn_a", str(tmp_path / "plain.safetensors"))
    save_file(first.state_dict(), tmp_path / "ours.safetensors")
    load_pretrained(second, "resnet18_ibn_a", str(tmp_path / "ours.safetensors"))
    expected = from_plain(plain.state_dict(), first)
    for backbone in (first, second):
        assert all(torch.equal(value, expected[key]) for key, value in backbone.state_dict().items())
