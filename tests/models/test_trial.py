"""The training step on made images before any image is decoded."""

from pathlib import Path

import pytest
import timm
import torch

from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError
from reid_accel.models.reid import import_module
from reid_accel.models.trial import require_trainable

CPU = torch.device("cpu")


def settings(name: str, height_px: int = 256, width_px: int = 128, **more: object) -> ModelConfig:
    return ModelConfig(
        backbone=name,
        pretrained=False,
        height_px=height_px,
        width_px=width_px,
        neck_units=8,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("nest_tiny", "set --model.height-px 256 --model.width-px 256"),
        ("convit_tiny", "set --model.height-px 256 --model.width-px 256"),
        ("crossvit_tiny_240", "choose another --model.backbone"),
        ("efficientformer_l1", "set --model.height-px 224 --model.width-px 224"),
        ("halonet_h1", "set --model.height-px 256 --model.width-px 256"),
        ("haloregnetz_b", "set --model.height-px 224 --model.width-px 224"),
        ("sehalonet33ts", "set --model.height-px 256 --model.width-px 256"),
        ("bat_resnext26ts", "set --model.height-px 256 --model.width-px 256"),
    ],
)
def test_backbones_that_cannot_be_trained_at_this_size_are_refused_with_a_size_that_works(
    name: str, remedy: str
) -> None:
    expected = rf"the backbone {name} cannot be trained on images of 256 x 128 pixels \(.+\): "
    with pytest.raises(InputError, match=expected) as info:
        require_trainable(settings(name), CPU)
    assert remedy in str(info.value)
    assert "\n" not in str(info.value)
    if remedy.startswith("set"):
        side = int(remedy.split()[2])
        require_trainable(settings(name, side, side), CPU)


def test_a_backbone_for_squares_is_made_for_the_square_around_a_persons_image() -> None:
    require_trainable(settings("mvitv2_tiny"), CPU)


@pytest.mark.parametrize("name", ["efficientvit_b0", "inception_next_atto", "lowformer_b0"])
def test_stripes_before_layers_that_expect_one_vector_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name} cannot be trained .* with stripes 1 2 .*: set --model\.stripes 1,"):
        require_trainable(settings(name, 128, 64, stripes=(1, 2)), CPU)
    require_trainable(settings(name, 128, 64), CPU)


@pytest.mark.parametrize(
    "name",
    ["test_resnet", "test_vit", "deit_tiny_distilled_patch16_224", "osnet_x0_25", "resnet18_ibn_a", "levit_128s"],
)
def test_backbones_that_can_be_trained_pass(name: str) -> None:
    require_trainable(settings(name, 128, 64), CPU)


def test_the_step_leaves_the_random_number_generator_as_it_was() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    require_trainable(settings("test_vit", 64, 32), CPU)
    with pytest.raises(InputError):
        require_trainable(settings("nest_tiny", 64, 32), CPU)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert not torch.equal(torch.get_rng_state(), before), "the control"


OWN = """
import timm, torch

class Maps(torch.nn.Conv2d):
    head_hidden_size = 4
    def __init__(self):
        super().__init__(3, 4, 3)

@timm.models.register_model
def maps_without_pooling(pretrained=False, **settings):
    return Maps()
"""


def test_an_own_backbone_that_does_not_pool_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_maps.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    import_module("own_maps")
    with pytest.raises(InputError, match="the backbone maps_without_pooling cannot be trained"):
        require_trainable(settings("maps_without_pooling", 64, 32), CPU)
    timm.models._registry._model_entrypoints.pop("maps_without_pooling")
