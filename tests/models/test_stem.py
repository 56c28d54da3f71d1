import pytest
import torch

from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError
from reid_accel.models.backbone import build_backbone, load_pretrained
from reid_accel.models.stem import with_overlapping_positions


def images(height: int = 64, width: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def built(**settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_backbone(ModelConfig(**{"height_px": 64, "width_px": 32, **settings})).eval()  # type: ignore[arg-type]


def test_a_stem_without_relu_lets_negative_values_through() -> None:
    network = built(backbone="resnet18", stem="no-relu")
    reached = []
    network.maxpool.register_forward_pre_hook(lambda _, inputs: reached.append(inputs[0]))
    network(images())
    assert reached[0].min() < 0
    assert network.state_dict().keys() == built(backbone="resnet18").state_dict().keys()


def test_ceil_pooling_begins_at_the_border_and_keeps_the_size() -> None:
    plain, ceil = built(backbone="resnet18"), built(backbone="resnet18", stem="ceil-pool")
    maps = torch.zeros(1, 1, 8, 8)
    maps[..., 1, 1] = 1  # between the windows of He et al.'s pooling, in the first of the other
    assert ceil.maxpool(maps).shape == plain.maxpool(maps).shape == (1, 1, 4, 4)
    assert ceil.maxpool(maps).nonzero().tolist() == [[0, 0, 0, 0]]
    assert len(plain.maxpool(maps).nonzero()) == 4


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "test_vit", "osnet_x0_25"])
def test_other_families_have_no_such_stem(name: str) -> None:
    with pytest.raises(InputError, match=rf"model\.stem no-relu is for ResNets; {name} has another stem"):
        built(backbone=name, stem="no-relu")


def test_overlapping_patches_see_every_pixel_and_have_positions_of_their_own() -> None:
    network = built(backbone="test_vit", patch_stride=12)
    assert network.patch_embed.grid_size == (5, 2)
    assert network.pos_embed.shape == (1, 11, 64)
    assert network(images()).shape == (2, 64)
    tiles = torch.nn.functional.unfold(images(), 16, stride=12).transpose(1, 2)
    weight = network.patch_embed.proj.weight.flatten(1)
    patches = network.patch_embed(images()).flatten(1, 2)
    torch.testing.assert_close(patches, tiles @ weight.T + network.patch_embed.proj.bias, rtol=1e-4, atol=1e-5)


def test_positions_of_patches_side_by_side_are_resampled_for_overlapping_ones() -> None:
    network = built(backbone="test_vit", patch_stride=12)
    ramp = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 2, 64).reshape(1, 8, 64)
    position = torch.cat([torch.full((1, 1, 64), 9.0), ramp], 1)
    resampled = with_overlapping_positions({"pos_embed": position}, network)["pos_embed"]
    assert resampled.shape == (1, 11, 64)
    assert (resampled[:, 0] == 9).all(), "the class token keeps its own"
    down = resampled[0, 1:, 0].view(5, 2)
    assert (down.diff(dim=0) > 0).all()
    torch.testing.assert_close(down[:, 0], down[:, 1])


def test_a_plain_vits_file_starts_one_with_overlapping_patches(tmp_path: object) -> None:
    from pathlib import Path

    from safetensors.torch import save_file

    path = Path(str(tmp_path)) / "vit.safetensors"
    source = built(backbone="test_vit")
    save_file(source.state_dict(), path)
    network = built(backbone="test_vit", patch_stride=12)
    load_pretrained(network, "test_vit", str(path))
    assert torch.equal(network.cls_token, source.cls_token)
    assert network.pos_embed.std() > 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"backbone": "resnet18", "patch_stride": 12}, r"model\.patch-stride is for ViTs .* resnet18 is none"),
        ({"backbone": "test_vit", "patch_stride": 17}, r"at most the patch size of test_vit, 16, got 17"),
        ({"backbone": "test_vit", "patch_stride": 0}, r"model\.patch-stride must be positive, got 0"),
    ],
)
def test_impossible_strides_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        built(**settings)
