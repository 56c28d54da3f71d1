import itertools
import math

import pytest
import torch

from reid_accel.config import OptimConfig
from reid_accel.training.optimizers import build_optimizer, set_rate
from reid_accel.training.schedule import rate_factor


def test_warm_up_is_linear_and_cosine_ends_at_zero() -> None:
    config = OptimConfig(schedule="cosine", warmup_epochs=2)
    factors = [rate_factor(step, 10, 12, config) for step in range(121)]
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
        assert rate_factor(step, 3, 10, OptimConfig(warmup_epochs=0)) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_steps_fall_at_their_epochs() -> None:
    config = OptimConfig(schedule="steps", warmup_epochs=0, step_epochs=(40, 70), step_factor=0.1)
    factors = [rate_factor(step, 2, 120, config) for step in (0, 79, 80, 139, 140, 239)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_warm_up_as_long_as_the_run_stays_finite() -> None:
    config = OptimConfig(warmup_epochs=10)
    assert all(math.isfinite(rate_factor(step, 5, 1, config)) for step in range(60))


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
