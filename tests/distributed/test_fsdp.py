"""Weights sharded over two real processes: the same training, the same checkpoints."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from helpers.launching import SMALL_RUN, launch, log_of
from helpers.made_sets import make_market
from helpers.same_run import FAULTY, assert_same_run, last_state
from safetensors.torch import load_file

from reid_accel.config.schema import RunConfig
from reid_accel.distributed.fsdp import check_sharding
from reid_accel.distributed.setup import start_accelerator
from reid_accel.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharding")
    make_market(folder / "market", identities=14, images=4)
    return folder


def settings(folder: Path, run: str, *more: str) -> list[str]:
    """A transformer with a camera embedding, two epochs of five steps.

    Batch statistics of two images a part would blow last bits up."""
    return [
        *SMALL_RUN, "--model.backbone=test_vit", "--model.camera-embedding=0.1", f"--data.root={folder / 'market'}",
        f"--data.cache-dir={folder / 'cache'}", "--train.epochs=2", "--train.skip-nonfinite=1",
        "--optim.clip-norm=1", "--run.checkpoint-steps=2", f"--run.dir={folder / run}", *more,
    ]  # fmt: skip


def losses_of(folder: Path, run: str) -> torch.Tensor:
    return torch.tensor([line["loss"] for line in log_of(folder / run)])


@pytest.fixture(scope="module")
def sharded(folder: Path) -> str:
    """A run of two processes with sharded weights."""
    launch(
        FAULTY, "frozen-neck", "train", *settings(folder, "sharded", "--run.shard-weights"), folder=folder, processes=2
    )
    return "sharded"


@pytest.mark.launch
def test_sharded_training_is_data_parallel_training(folder: Path, sharded: str) -> None:
    launch(FAULTY, "frozen-neck", "train", *settings(folder, "plain"), folder=folder, processes=2)
    losses = [losses_of(folder, run) for run in ("plain", sharded)]
    assert losses[0].std() > 1e-2
    assert (losses[0] - losses[1]).abs().max() < 1e-4
    ours, theirs = (load_file(folder / run / "model/model.safetensors") for run in (sharded, "plain"))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-3) for name in ours)


@pytest.mark.launch
@pytest.mark.long
def test_a_sharded_run_that_was_killed_is_the_undisturbed_one(folder: Path, sharded: str) -> None:
    flags = settings(folder, "killed", "--run.shard-weights")
    launch(FAULTY, "frozen-neck", "kill@part:13:1", "train", *flags, folder=folder, processes=2, expect=None)
    done = launch(FAULTY, "frozen-neck", "train", *flags, "--run.resume=auto", folder=folder, processes=2)
    assert "resuming from" in done.stdout
    assert_same_run(folder, sharded, "killed")


@pytest.mark.launch
@pytest.mark.long
def test_a_sharded_run_goes_on_without_sharding(folder: Path, sharded: str) -> None:
    path = next((folder / sharded / "checkpoints").glob("step-*8"))
    flags = settings(folder, "unsharded", f"--run.resume={path}")
    launch(FAULTY, "frozen-neck", "train", *flags, folder=folder, processes=2)
    states = [last_state(folder, run) for run in (sharded, "unsharded")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.allclose(states[0][name].float(), states[1][name].float(), atol=1e-3) for name in states[0])


def test_sharding_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = Accelerator(cpu=True)
    with pytest.raises(InputError, match="this run has one: omit it"):
        check_sharding(accelerator, RunConfig(shard_weights=True))
    check_sharding(accelerator, RunConfig())
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="to shard weights, use --run"):
        start_accelerator("no")
