"""Running out of memory ends in the setting that fits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.launching import TINY
from helpers.trainers import trainer

from reid_accel.errors import InputError
from reid_accel.models.reid import ReIDModel
from reid_accel.train import main as train
from reid_accel.training.out_of_memory import OutOfMemoryAdvice, advice
from reid_accel.training.trainer import Trainer


def limited(root: Path, fitting: int, *flags: str) -> Trainer:
    """A trainer whose network refuses more images than `fitting` at once, as a full GPU does."""
    built = trainer(root, *flags)

    def refuse(module: torch.nn.Module, inputs: Any) -> None:
        if len(inputs[0]) > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    built.unwrapped.backbone.register_forward_pre_hook(refuse)
    return built


def train_a_step(built: Trainer) -> None:
    with OutOfMemoryAdvice(built):
        built.model(next(built.input.batches([np.arange(8)], 0)).images_BCHW)


def test_the_largest_part_that_fits_is_named(small_market: Path) -> None:
    with pytest.raises(InputError, match=r"too small for 8 images at once; 4 fit: set --train.accumulation-steps 2"):
        train_a_step(limited(small_market, fitting=5))
    with pytest.raises(InputError, match=r"2 fit: set --train.accumulation-steps 4"):
        train_a_step(limited(small_market, fitting=2))


def test_accumulation_that_is_on_already_is_multiplied(small_market: Path) -> None:
    built = limited(small_market, 2, "--train.accumulation-steps=2")
    assert "too small for 4 images at once; 2 fit: set --train.accumulation-steps 4" in advice(built)


def test_a_network_of_which_nothing_fits_is_said_to_be_too_large(small_market: Path) -> None:
    with pytest.raises(InputError, match="choose a smaller network or input"):
        train_a_step(limited(small_market, fitting=1))


def test_several_processes_are_not_tried_out(small_market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = limited(small_market, fitting=2)
    monkeypatch.setattr(type(built.accelerator), "num_processes", 2)
    assert advice(built).endswith("too small for 4 images at once: take fewer with --train.accumulation-steps 2")


def test_other_errors_and_steps_that_fit_pass_through(small_market: Path) -> None:
    built = limited(small_market, fitting=8)
    train_a_step(built)
    with pytest.raises(ZeroDivisionError), OutOfMemoryAdvice(built):
        raise ZeroDivisionError


def test_a_run_that_does_not_fit_ends_with_the_sentence(
    small_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    real = ReIDModel.forward

    def forward(self: ReIDModel, images: torch.Tensor, cameras: torch.Tensor | None = None) -> Any:
        if len(images) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return real(self, images, cameras)

    monkeypatch.setattr(ReIDModel, "forward", forward)
    data = ["--data.name=market-layout", f"--data.root={small_market}", f"--data.cache-dir={tmp_path / 'cache'}"]
    with pytest.raises(SystemExit) as left:
        train([*TINY, *data, "--train.batch-size=8", "--data.validation-share=0", f"--run.dir={tmp_path / 'run'}"])
    assert left.value.code == 2
    assert "--train.accumulation-steps 2" in " ".join(capsys.readouterr().err.split())
