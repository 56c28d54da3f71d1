"""Several processes: images per second of each against one process alone, and the share of time in all-reduce."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch.distributed as dist

from reid_accel.benchmarks.counting import synchronize
from reid_accel.benchmarks.gpu.made_run import loss_of, made_config, made_images, made_trainer
from reid_accel.benchmarks.gpu.rows import SCALING, Row
from reid_accel.benchmarks.gpu.setup import Setup, require_bf16
from reid_accel.benchmarks.training import random_batch, take_turns
from reid_accel.training.dataloader import Batch
from reid_accel.training.trainer import Trainer

STEPS, SMALL_STEPS = 20, 3
ALONE = "one process alone"
TOGETHER = "all processes, gradients not exchanged"
EXCHANGING = "all processes, data-parallel"


def scaling(setup: Setup, processes: int) -> Iterator[Row]:
    """The rows of the scaling benchmark; every process calls it and gets the same rows."""
    require_bf16(setup.device)
    each, steps = (128, STEPS) if setup.large else (8, SMALL_STEPS)
    config = made_config(setup, each * processes, "bf16" if setup.large else "no")
    config = replace(config, loss=replace(config.loss, triplet=0.0))  # metric losses would exchange features
    with made_trainer(setup, config, made_images(config, 2 * each * processes)) as trainer:
        assert trainer.accelerator.num_processes == processes
        batch = random_batch(trainer, each)
        alone = trainer.accelerator.is_main_process
        ways: dict[str, Callable[[], None]] = {
            ALONE: lambda: _steps(trainer, batch, steps if alone else 0, exchanging=False),
            TOGETHER: lambda: _steps(trainer, batch, steps, exchanging=False),
            EXCHANGING: lambda: _steps(trainer, batch, steps, exchanging=True),
        }
        seconds = {way: statistics.median(taken) for way, taken in take_turns(trainer, ways, turns=3).items()}
    images = steps * each
    for way, taken in seconds.items():
        yield _speed_row(way, images / taken, 1 if way == ALONE else processes)
    efficiency = seconds[ALONE] / seconds[EXCHANGING]
    exchange = max(0.0, 1 - seconds[TOGETHER] / seconds[EXCHANGING])
    backend = dist.get_backend()
    numbers = {"efficiency": efficiency, "all_reduce_share": exchange, "processes": float(processes)}
    result = f"{100 * efficiency:.0f} % of one process's speed each; {100 * exchange:.0f} % of the time in all-reduce"
    yield Row(SCALING, f"{processes} processes, {backend}", "measured", result, numbers)


def _speed_row(way: str, each: float, processes: int) -> Row:
    result = f"{each:,.0f} images/s each" + (f", {processes * each:,.0f} in all" if processes > 1 else "")
    return Row(SCALING, way, "measured", result, {"images_per_second_each": each})


def _steps(trainer: Trainer, batch: Batch, steps: int, *, exchanging: bool) -> None:
    """Run training steps; `exchanging=False` uses the unwrapped network, which doesn't exchange gradients."""
    device = trainer.accelerator.device
    model = trainer.model if exchanging else trainer.unwrapped
    for _ in range(steps):
        loss_of(trainer, batch, model).backward()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
    synchronize(device)
