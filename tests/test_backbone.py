from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from reid_accel.errors import InputError
from reid_accel.models.backbone import build_backbone, load_pretrained


def built(name: str, last_stride: int = 2) -> torch.nn.Module:
    return build_backbone(name, last_stride=last_stride, height_px=64, width_px=32).eval()


@pytest.mark.parametrize("name", ["resnet10t", "resnet18", "resnet50"])
def test_last_stride_one_doubles_the_last_map_without_dilation(name: str) -> None:
    images = torch.randn(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    coarse, fine = built(name), built(name, last_stride=1)
    fine.load_state_dict(coarse.state_dict())  # the same weights fit
    assert coarse.forward_features(images).shape[-2:] == (2, 1)
    assert fine.forward_features(images).shape[-2:] == (4, 2)
    dilations = {m.dilation for m in fine.modules() if isinstance(m, torch.nn.Conv2d)}
    assert dilations == {(1, 1)}


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto"])
def test_other_families_give_pooled_features_at_this_size(name: str) -> None:
    backbone = built(name)
    assert backbone(torch.zeros(2, 3, 64, 32)).shape == (2, backbone.head_hidden_size)


def test_last_stride_one_is_for_resnets() -> None:
    with pytest.raises(InputError, match="no layer4"):
        built("mobilenetv3_small_050", last_stride=1)


def test_an_unknown_name_gets_the_close_ones() -> None:
    with pytest.raises(InputError, match=r"no model 'resnet51'; close names: .*resnet50"):
        built("resnet51")


def test_a_local_file_fills_the_backbone(tmp_path: Path) -> None:
    source, target = built("test_resnet"), built("test_resnet")
    weights = {key: value.clone() for key, value in source.state_dict().items()}
    save_file(weights | {"fc.weight": torch.zeros(1000, 128)}, tmp_path / "weights.safetensors")
    load_pretrained(target, "test_resnet", str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(value, weights[key]) for key, value in target.state_dict().items())


def test_a_file_that_does_not_fit_is_counted(tmp_path: Path) -> None:
    weights = built("test_resnet").state_dict()
    first, second = sorted(name for name in weights if name.endswith("weight"))[:2]
    del weights[first]
    weights[second] = torch.zeros(1, 1)
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=rf"2 of {len(weights) + 1} tensors .*{first}, {second}"):
        load_pretrained(built("test_resnet"), "test_resnet", str(tmp_path / "weights.safetensors"))


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    torch.save(built("test_resnet").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match="not a safetensors file"):
        load_pretrained(built("test_resnet"), "test_resnet", str(tmp_path / "weights.pth"))


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"could not be downloaded.*--model\.weights-file.*--model\.no-pretrained"):
        load_pretrained(built("resnet10t"), "resnet10t", None)


def test_a_model_without_pretrained_weights_says_so() -> None:
    name = next(name for name in timm.list_models("resnet*") if not timm.list_models(name, pretrained=True))
    with pytest.raises(InputError, match="no pretrained weights"):
        load_pretrained(torch.nn.Identity(), name, None)
