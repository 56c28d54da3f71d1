"""That the checks find faults, and that no loss or augmentation makes the host wait for the device."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reid_accel.benchmarks.counting import host_reads
from reid_accel.benchmarks.gpu import correctness
from reid_accel.benchmarks.gpu.correctness import small_run
from reid_accel.benchmarks.gpu.made_run import made_trainer, run_steps
from reid_accel.benchmarks.gpu.setup import Setup
from reid_accel.training.ema import EMA

CPU = torch.device("cpu")
MASK = torch.tensor([True, False])


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(CPU, tmp_path)


@pytest.mark.parametrize(
    ("loss", "model"),
    [
        ({"triplet": 1.0, "circle": 1.0, "center": 0.1}, {}),
        ({"triplet": 1.0, "triplet_margin": 0.0, "balance_attributes": True, "label_smoothing": 0.1}, {"neck": "bn"}),
        ({"attribute_reduction": "sum"}, {"classifier": "arcface", "stripes": (1, 2), "pooling": "gem"}),
        ({}, {"classifier": "cosface", "neck": "bn", "attribute_scores": "logits"}),
    ],
)
def test_no_loss_or_augmentation_waits_for_the_device(
    setup: Setup, loss: dict[str, Any], model: dict[str, Any]
) -> None:
    config, images = small_run(setup)
    config = replace(
        config,
        loss=replace(config.loss, **loss),
        model=replace(config.model, **model),
        optim=replace(config.optim, clip_norm=1.0),
        train=replace(config.train, ema_decay=0.9),
    )
    with (
        made_trainer(setup, config, images) as trainer,
        closing(trainer.open_batches(trainer.epoch_batches(0), 0)) as batches,
    ):
        sums = run_steps(trainer, batches, 1)
        with host_reads(CPU) as reads:
            run_steps(trainer, batches, 2, first=1, sums=sums)
    assert not reads


@pytest.mark.parametrize(
    "wait",
    [
        lambda values: values.sum().item(),
        lambda values: values.tolist(),
        lambda values: values.cpu(),
        lambda values: bool(MASK.all()),
        lambda values: values[MASK],
        lambda values: values.nonzero(),
        lambda values: float(values[0]),
        lambda values: torch.tensor([1.0]),
        lambda values: values.unique(),
        lambda values: values.masked_select(MASK),
    ],
)
def test_what_waits_for_a_device_is_counted(wait: Callable[[torch.Tensor], object]) -> None:
    values = torch.arange(2.0)
    with host_reads(CPU) as reads:
        values.add(1).mul(2)
    assert not reads
    with host_reads(CPU) as reads:
        wait(values)
    assert sum(reads.values()) >= 1


def statuses(check: Callable[[Setup], Any], setup: Setup) -> list[str]:
    return [row.status for row in check(setup)]


def test_an_average_that_stands_still_is_found(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses(correctness.ema_by_hand, setup) == ["passed"]
    monkeypatch.setattr(EMA, "update", lambda *arguments: None)
    assert statuses(correctness.ema_by_hand, setup) == ["failed"]


def test_a_resume_that_loses_something_is_found(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    real = correctness.load_checkpoint

    def forgetful(path: Path, state: Any, fingerprint: Any) -> Any:
        progress = real(path, state, fingerprint)
        state.optimizer.state_dict()["state"][0]["exp_avg"].zero_()
        return progress

    monkeypatch.setattr(correctness, "load_checkpoint", forgetful)
    assert statuses(correctness.stop_and_resume, setup) == ["failed"]


def test_a_seed_that_changes_nothing_or_too_much_is_found(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = correctness.state_of, iter(range(10))
    monkeypatch.setattr(correctness, "state_of", lambda trainer: {"x": torch.zeros(1)})
    assert statuses(correctness.same_seed_twice, setup) == ["failed"], "another seed gives the same"
    monkeypatch.setattr(correctness, "state_of", lambda trainer: real(trainer) | {"x": torch.tensor(next(calls))})
    assert statuses(correctness.same_seed_twice, setup) == ["failed"], "the same seed gives another"
