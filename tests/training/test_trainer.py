"""The training step in this process."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers.trainers import trainer

from reid_accel.attributes.annotations import write_market_mat
from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.errors import InputError
from reid_accel.hardware import num_cores
from reid_accel.models.losses import LossTerms
from reid_accel.training import trainer as loop
from reid_accel.training.ema import EMA
from reid_accel.training.metrics import EpochSums
from reid_accel.training.nonfinite import NonFiniteSkipper
from reid_accel.training.notes import busy_machine, notes
from reid_accel.training.trainer import Trainer


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def weights_after(built: Trainer, steps: int) -> torch.Tensor:
    sums = EpochSums.restored({}, built.accelerator)
    batches = built.open_batches(built.epoch_batches(0)[:steps], epoch=0)
    for step in range(steps):
        sums = built.step(batches, step, sums)
    return torch.cat([parameter.detach().flatten() for parameter in built.model.parameters()])


def test_accumulated_parts_are_the_large_batch(small_market: Path) -> None:
    start = weights_after(trainer(small_market), 0)
    whole = weights_after(trainer(small_market), 2)
    parts = weights_after(trainer(small_market, "--train.accumulation-steps=2"), 2)
    other = weights_after(trainer(small_market, "--train.seed=0", "--optim.learning-rate=7e-4"), 2)
    assert (whole - start).abs().max() > 1e-5
    assert torch.allclose(parts, whole, atol=1e-7)
    assert not torch.allclose(other, whole, atol=1e-7)


def test_attributes_that_do_not_count_have_no_heads(small_market: Path) -> None:
    people = {pid: tuple(0 for _ in MARKET_GROUPS) for pid in range(1, 13)}
    write_market_mat(small_market / "market_attribute.mat", people, people)
    for weights, heads in (((), 12), (("--loss.attributes=0",), 0), (("--loss.identity=0",), 12)):
        assert len(trainer(small_market, *weights).unwrapped.attribute_heads) == heads


def test_training_nothing_is_refused(small_market: Path) -> None:
    with pytest.raises(InputError, match=r"no attributes, .* nothing would be trained\. Set --loss\.identity 1"):
        trainer(small_market, "--loss.identity=0")


def test_what_users_may_not_expect_is_noted(small_market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(*more: str) -> list[str]:
        built = trainer(small_market, "--run.name=mine", "--model.no-attributes", *more)
        return notes(built)

    assert not noted("--train.skip-nonfinite=1")
    assert "random initial weights: set it to 0" in noted("--optim.frozen-epochs=2")[0]
    assert "batch norms have no effect" in noted("--train.batch-norm=frozen")[0]
    monkeypatch.setattr(Accelerator, "mixed_precision", "bf16")
    assert "images narrower than 64 px (--model.width-px 32)" in noted()[0]
    assert not noted("--model.width-px=64")
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
    assert "any number of such steps" in noted("--train.skip-nonfinite=1")[0]
    assert not noted()


def test_a_backbone_has_its_own_normalization(small_market: Path) -> None:
    for backbone, mean in (("test_vit", 0.5), ("resnet10t", 0.485)):
        architecture = trainer(small_market, f"--model.backbone={backbone}").unwrapped.architecture
        assert architecture.mean[0] == mean


def test_clipping_bounds_the_step(small_market: Path) -> None:
    arguments = ("--optim.clip-norm=0.001", "--optim.momentum=0", "--optim.weight-decay=0", "--optim.learning-rate=1")
    start, clipped = weights_after(trainer(small_market), 0), weights_after(trainer(small_market, *arguments), 1)
    assert (clipped - start).norm().item() == pytest.approx(0.001, rel=0.05)


def test_averaged_weights_follow_by_the_formula(small_market: Path) -> None:
    built = trainer(small_market)
    ema = EMA(built.model, decay=0.5)
    expected = {name: value.clone() for name, value in built.model.state_dict().items()}
    following = dataclasses.replace(built, ema=ema)
    sums = EpochSums.restored({}, built.accelerator)
    batches = following.open_batches(built.epoch_batches(0)[:2], epoch=0)
    for step, decay in enumerate((0.1, 2 / 11)):
        sums = following.step(batches, step, sums)
        for name, value in built.model.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
    averaged = ema.model.state_dict()
    for name, value in expected.items():
        assert torch.allclose(averaged[name], value, atol=1e-6), name
    assert any(not torch.equal(averaged[name], value) for name, value in built.model.state_dict().items())
    assert EMA(built.model, decay=0.999).decay == 0.999


def test_steps_without_a_finite_gradient_are_left_out_up_to_a_number(
    small_market: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = trainer(small_market)
    built.model.train()
    skipping = dataclasses.replace(built, skipper=NonFiniteSkipper(built.model, limit=1))
    real, calls = loop.total, []

    def sometimes_infinite(terms: LossTerms) -> torch.Tensor:
        calls.append(1)
        return real(terms) * (float("inf") if len(calls) in (2, 3) else 1.0)

    monkeypatch.setattr(loop, "total", sometimes_infinite)
    batches = skipping.open_batches(built.epoch_batches(0)[:3], epoch=0)
    sums = skipping.step(batches, 0, EpochSums.restored({}, built.accelerator))
    before = {name: value.clone() for name, value in built.model.state_dict().items()}
    again = skipping.step(batches, 1, sums)
    assert again is sums
    for name, value in built.model.state_dict().items():
        assert torch.equal(value, before[name]), f"{name}: weights and statistics are as if the step had not been"
    assert skipping.step(batches, 2, sums) is sums


def test_a_frozen_backbone_has_no_gradient_no_moments_and_its_statistics_stay(small_market: Path) -> None:
    built = trainer(small_market, "--optim.name=adamw", "--optim.frozen-epochs=1")
    built.model.train()
    network, steps = built.unwrapped, built.steps_per_epoch
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with_batch_norm = [name for name in before if name.startswith("backbone.") and name.endswith("running_mean")]
    backbone = set(network.backbone.parameters())
    sums = EpochSums.restored({}, built.accelerator)
    batches = built.open_batches(np.concatenate([built.epoch_batches(epoch) for epoch in range(2)]), epoch=0)
    for step in range(steps):
        sums = built.step(batches, step, sums)
    after = network.state_dict()
    assert with_batch_norm
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("backbone."))
    assert any(not torch.equal(after[name], before[name]) for name in before if name.startswith("neck."))
    state = built.optimizer.optimizer.state
    assert state
    assert not backbone & set(state)
    built.model.eval()
    built.model.train()  # as a validation does
    assert not network.backbone.training
    built.step(batches, steps, sums)
    assert network.backbone.training
    assert backbone < set(state)
    for name in with_batch_norm:
        assert not torch.equal(network.state_dict()[name], before[name]), "the control: it learns afterwards"


def test_too_many_skipped_steps_end_the_run(small_market: Path) -> None:
    skipper = NonFiniteSkipper(trainer(small_market).model, limit=1)
    skipper.require_within_limit(1, step=2)
    with pytest.raises(InputError, match="not finite at step 3, and 1 such steps were skipped already"):
        skipper.require_within_limit(2, step=3)


def test_a_busy_machine_is_noted_where_threads_would_wait_for_each_other(small_market: Path) -> None:
    built = trainer(small_market)
    assert not any("busy" in note for note in notes(built, load=9.0)), "one thread waits for nobody"
    assert not busy_machine(num_cores(), load=0.4)
    assert busy_machine(max(2, num_cores()), load=num_cores())
    assert not busy_machine(1, load=9.0)


def test_the_quickstarts_network_on_real_images_is_noted_whatever_the_run_is_called(small_market: Path) -> None:
    sizes = ["--model.height-px=96", "--model.width-px=64", "--model.neck=bn", "--model.metric=cosine"]
    quickstart = ["--model.backbone=resnet10t_ibn_a", *sizes]
    for settings, noted in ((quickstart, True), ([*quickstart, "--model.last-stride=1"], False), ([], False)):
        built = trainer(small_market, "--run.name=shop", *settings)
        assert any("the quickstart's small network" in note for note in notes(built)) == noted
