import itertools
import math

import pytest
import torch

from reid_accel.config.schema import ModelConfig, OptimConfig
from reid_accel.errors import InputError
from reid_accel.models.backbone import build_backbone
from reid_accel.training.optim import build_optimizer, set_rate
from reid_accel.training.schedule import lr_multiplier


def test_warm_up_is_linear_and_cosine_ends_at_zero() -> None:
    config = OptimConfig(schedule="cosine", warmup_epochs=2)
    factors = [lr_multiplier(step, 10, 12, config) for step in range(121)]
    assert factors[0] == pytest.approx(0.01)
    assert factors[10] == pytest.approx(0.505)
    assert factors[20] == pytest.approx(1.0)
    assert factors[70] == pytest.approx(0.5)
    assert factors[120] == pytest.approx(0.0, abs=1e-12)
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[20:]))


def test_cosine_is_torchs_without_warm_up() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    for step in range(30):
        assert lr_multiplier(step, 3, 10, OptimConfig(warmup_epochs=0)) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_steps_fall_at_their_epochs() -> None:
    config = OptimConfig(schedule="steps", warmup_epochs=0, step_epochs=(40, 70), step_factor=0.1)
    factors = [lr_multiplier(step, 2, 120, config) for step in (0, 79, 80, 139, 140, 239)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_warm_up_as_long_as_the_run_stays_finite() -> None:
    config = OptimConfig(warmup_epochs=10)
    assert all(math.isfinite(lr_multiplier(step, 5, 1, config)) for step in range(60))


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4))
        self.head = torch.nn.Linear(4, 2)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_every_parameter_has_its_rate_and_decay(name: str) -> None:
    config = OptimConfig(name=name, learning_rate=0.2, backbone_rate=0.1, weight_decay=0.3)  # type: ignore[arg-type]
    model = Net()
    optimizer = build_optimizer(model, config)
    set_rate(optimizer, 0.5)
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    expected = {
        "backbone.0.weight": (0.01, 0.3),
        "backbone.1.weight": (0.01, 0.0),
        "backbone.1.bias": (0.01, 0.0),
        "head.weight": (0.1, 0.3),
        "head.bias": (0.1, 0.0),
    }
    assert len(found) == sum(len(group["params"]) for group in optimizer.param_groups) == len(expected)
    for parameter_name, parameter in model.named_parameters():
        assert found[id(parameter)] == pytest.approx(expected[parameter_name])


def network() -> torch.nn.Module:
    backbone = build_backbone(ModelConfig(backbone="test_vit", last_stride=2, height_px=64, width_px=32))
    return torch.nn.ModuleDict({"backbone": backbone, "head": torch.nn.Linear(backbone.head_hidden_size, 3)})


def test_layers_learn_the_slower_the_nearer_they_are_to_the_image() -> None:
    model = network()
    config = OptimConfig(learning_rate=1.0, backbone_rate=0.5, layer_decay=0.1)
    optimizer = build_optimizer(model, config)
    peak_of = {id(p): group["peak"] for group in optimizer.param_groups for p in group["params"]}
    blocks = len(model["backbone"].blocks)
    for name, parameter in model.named_parameters():
        if name.startswith("head"):
            assert peak_of[id(parameter)] == 1.0
        elif ".blocks." in name:
            from_top = blocks - 1 - int(name.split(".")[2])
            assert peak_of[id(parameter)] == pytest.approx(0.5 * 0.1**from_top), name
        elif "patch_embed" in name:
            assert peak_of[id(parameter)] == pytest.approx(0.5 * 0.1**blocks), name
    assert len(peak_of) == len(list(model.parameters()))
    assert optimizer.param_groups[-1]["peak"] == 1.0, "the heads' group is the last"


def test_a_frozen_backbone_stays_as_it_is_and_the_heads_learn() -> None:
    model = network()
    optimizer = build_optimizer(model, OptimConfig(name="adamw", learning_rate=0.1, weight_decay=0.1))
    before = {name: value.clone() for name, value in model.named_parameters()}
    for frozen in (True, False):
        set_rate(optimizer, 1.0, backbone_frozen=frozen)
        model["head"](model["backbone"](torch.randn(4, 3, 64, 32))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
        assert any(name.startswith("backbone.") for name in moved) != frozen
        assert any(name.startswith("head.") for name in moved)


def test_layer_wise_rates_need_known_layers() -> None:
    backbone = build_backbone(ModelConfig(backbone="osnet_x0_25", last_stride=2, height_px=64, width_px=32))
    with pytest.raises(InputError, match="layer-decay needs a timm backbone"):
        build_optimizer(torch.nn.ModuleDict({"backbone": backbone}), OptimConfig(layer_decay=0.5))
