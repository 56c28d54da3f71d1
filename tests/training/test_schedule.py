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


def test_an_epochs_rate_is_that_of_the_public_codes() -> None:
    """Luo et al.'s WarmupMultiStepLR with its recipe, TransReID's CosineLRScheduler with its own, stepped once before
    each epoch; the numbers are those that their formulas give by hand."""
    steps = OptimConfig(schedule="steps", schedule_unit="epoch", warmup_epochs=10, step_epochs=(40, 70))
    rate = [lr_multiplier(5 * epoch + 3, 5, 120, steps) for epoch in range(120)]
    assert rate[:3] == pytest.approx([0.109, 0.208, 0.307]), "epoch N of the warm-up: 0.01 + 0.99 N / 10"
    assert rate[8:10] == pytest.approx([0.901, 1.0])
    assert (rate[38], rate[39]) == pytest.approx((1.0, 0.1)), "epoch 40 is the first with the lower rate"
    assert (rate[68], rate[69]) == pytest.approx((0.1, 0.01))
    assert all(lr_multiplier(5 * 20 + step, 5, 120, steps) == rate[20] for step in range(5)), "constant in an epoch"
    cosine = OptimConfig(schedule_unit="epoch", warmup_epochs=5, cosine_start="training", lowest_rate=0.002)
    rate = [lr_multiplier(7 * epoch, 7, 120, cosine) for epoch in range(120)]
    assert rate[:4] == pytest.approx([0.208, 0.406, 0.604, 0.802])
    for epoch in range(5, 121):
        expected = 0.002 + 0.998 * (1 + math.cos(math.pi * epoch / 120)) / 2
        assert rate[epoch - 1] == pytest.approx(expected)
    assert rate[119] == pytest.approx(0.002)


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
            below_the_head = blocks - int(name.split(".")[2])
            assert peak_of[id(parameter)] == pytest.approx(0.5 * 0.1**below_the_head, abs=0), name
        elif "patch_embed" in name:
            assert peak_of[id(parameter)] == pytest.approx(0.5 * 0.1 ** (blocks + 1), abs=0), name
    assert len(peak_of) == len(list(model.parameters()))
    assert optimizer.param_groups[-1]["peak"] == 1.0, "the heads' group is the last"


def test_what_timm_exempts_has_no_weight_decay() -> None:
    model = network()
    exempt = {f"backbone.{name}" for name in ("cls_token", "pos_embed")}
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}

    def decayed(**settings: bool) -> set[str]:
        groups = build_optimizer(model, OptimConfig(weight_decay=0.1, **settings)).param_groups  # type: ignore[arg-type]
        return {name_of[id(each)] for group in groups for each in group["params"] if group["weight_decay"]}

    assert exempt < set(name_of.values())
    assert not decayed() & exempt
    assert decayed() == {name for name, each in model.named_parameters() if each.ndim > 1} - exempt
    assert decayed(decay_everything=True) == set(name_of.values()), "as Luo et al. 2019 and TransReID"


def test_biases_have_their_own_rate() -> None:
    model = network()
    optimizer = build_optimizer(model, OptimConfig(learning_rate=0.1, bias_rate=2.0))
    peak_of = {id(p): group["peak"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert peak_of[id(parameter)] == pytest.approx(0.2 if name.endswith("bias") else 0.1), name
    plain = build_optimizer(model, OptimConfig(name="sgd", nesterov=False))
    assert not any(group["nesterov"] for group in plain.param_groups)


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
