"""Correctness: FSDP and the backend's collectives on one process, and out-of-memory errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from reid_accel.benchmarks.gpu.correctness import small_run
from reid_accel.benchmarks.gpu.made_run import (
    first_batch,
    loss_of,
    made_config,
    made_images,
    made_trainer,
    train_steps,
    with_run,
)
from reid_accel.benchmarks.gpu.rows import Row, checked, within
from reid_accel.benchmarks.gpu.setup import Setup
from reid_accel.errors import InputError
from reid_accel.training.out_of_memory import OutOfMemoryAdvice
from reid_accel.training.trainer import Trainer

MEMORY_LIMIT_GIB = 3.0
LARGE_BATCH, SMALL_BATCH = 64, 16
FITTING_ON_CPU = 4


@contextmanager
def process_group_of_one(device: torch.device) -> Iterator[str]:
    """A process group of this process alone; yields its backend's name."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield backend
    finally:
        dist.destroy_process_group()


def sharded_weights(setup: Setup) -> Iterator[Row]:
    """The loss after several steps with and without FSDP, on one process."""
    losses = []
    with process_group_of_one(setup.device):
        for sharded in (False, True):
            config, images = small_run(setup, tf32=False)
            config = replace(config, optim=replace(config.optim, name="sgd"))  # Adam amplifies rounding differences
            with made_trainer(setup, with_run(config, shard_weights=sharded), images) as trainer:
                train_steps(trainer, 0, 3)
                losses.append(loss_of(trainer, first_batch(trainer)).item())
    yield within("FSDP on one process: loss after 3 steps", abs(losses[1] / losses[0] - 1), 1e-3)


def collectives(setup: Setup) -> Iterator[Row]:
    """The backend's collectives and data-parallel gradients, with one process."""
    config, images = small_run(setup, tf32=False)
    with process_group_of_one(setup.device) as backend, made_trainer(setup, config, images) as trainer:
        yield checked(f"{backend} on one process: collectives", _exchange_nothing(setup.device), "return what was sent")
        batch, model = first_batch(trainer), trainer.unwrapped
        expected = _gradient_norms(trainer, batch, model)
        wrapped = DistributedDataParallel(model)
        found = _gradient_norms(trainer, batch, wrapped)
        difference = ((found - expected).norm() / expected.norm()).item()
        yield within(f"{backend} on one process: gradients", difference, 1e-4)


def _gradient_norms(trainer: Trainer, batch: Any, model: nn.Module) -> torch.Tensor:
    trainer.optimizer.zero_grad()
    loss_of(trainer, batch, model).backward()
    return torch.stack([weight.grad.norm() for weight in model.parameters() if weight.grad is not None]).cpu()


def _exchange_nothing(device: torch.device) -> bool:
    sent = torch.arange(1000, dtype=torch.float32, device=device)
    summed, received = sent.clone(), [torch.empty_like(sent)]
    dist.all_reduce(summed)
    dist.all_gather(received, sent)
    gathered = [torch.empty_like(sent)]
    dist.gather(sent, gathered, dst=0)
    dist.broadcast(summed, src=0)
    dist.barrier()
    return all(torch.equal(tensor, sent) for tensor in (summed, received[0], gathered[0]))


def out_of_memory(setup: Setup) -> Iterator[Row]:
    """The error of a step that doesn't fit into memory names a batch size that does."""
    config = made_config(setup, LARGE_BATCH if setup.large else SMALL_BATCH)
    images = made_images(config, 2 * config.train.batch_size)
    title = "out of memory: the error names a size that fits"
    with made_trainer(setup, config, images) as trainer, _limited_memory(setup, trainer):
        try:
            with OutOfMemoryAdvice(trainer):
                train_steps(trainer, 0, 1)
        except InputError as error:
            sentence = str(error)
            yield checked(title, " fit: set --train." in sentence, sentence)
            return
    yield checked(title, False, "the step fit into the limited memory")


@contextmanager
def _limited_memory(setup: Setup, trainer: Trainer) -> Iterator[None]:
    """Limit torch's GPU memory; on the CPU, a forward pass of too many images raises torch's error."""
    if setup.device.type == "cuda":
        total = torch.cuda.get_device_properties(setup.device).total_memory / 2**30
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(MEMORY_LIMIT_GIB / total)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    hook = trainer.unwrapped.backbone.register_forward_pre_hook(_refuse_large_batches)
    try:
        yield
    finally:
        hook.remove()


def _refuse_large_batches(module: nn.Module, inputs: Any) -> None:
    if len(inputs[0]) > FITTING_ON_CPU:
        raise torch.OutOfMemoryError("simulated")
