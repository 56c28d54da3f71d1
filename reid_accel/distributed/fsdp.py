"""FSDP: weights, gradients and optimizer state sharded over the processes, for backbones that don't fit on one GPU.

torch's fully sharded data parallelism (Zhao et al., "PyTorch FSDP", VLDB 2023) is applied here instead of by
Accelerate, which requires GPUs. So it can be tested on CPUs, and checkpoints contain full tensors that any number of
processes can resume, sharded or not.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from reid_accel.config.schema import RunConfig
from reid_accel.distributed.collectives import Group
from reid_accel.errors import InputError


def check_sharding(accelerator: Accelerator, config: RunConfig) -> None:
    """Raise InputError for settings that sharding doesn't support."""
    wanted = config.shard_weights
    if wanted and accelerator.num_processes == 1:
        raise InputError("run.shard-weights needs several processes, this run has one: omit it")
    if wanted and accelerator.mixed_precision == "fp16":
        raise InputError("run.shard-weights does not support fp16: set --run.mixed-precision bf16 or no")
    if wanted and config.compile:
        raise InputError("run.shard-weights and run.compile cannot be combined: omit one of them")


def shard(model: nn.Module, backbone: nn.Module, accelerator: Accelerator) -> None:
    """Shard every parameter in place; a block's parameters are gathered while it computes.

    Batch norm statistics are not sharded and are set to process 0's before each training pass, as without sharding.
    """
    model.to(memory_format=torch.contiguous_format)  # FSDP supports no other
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for block in _blocks(backbone):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.register_forward_pre_hook(_before_training_pass)


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    """The repeated blocks of timm's networks (`blocks.3`, `layer2.0`), inner before outer."""
    found = []
    for name, module in backbone.named_modules():
        rows, _, number = name.rpartition(".")
        if number.isdigit() and rows.rpartition(".")[2].startswith(("blocks", "layer")):
            found.append(module)
    return found[::-1]


def _before_training_pass(model: nn.Module, inputs: Any) -> None:
    if model.training:
        Group.of().broadcast_buffers(model)


def local_shard(tensor: Tensor) -> Tensor:
    """This process's shard of a tensor, or the tensor itself if it isn't sharded. Shares the memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """The full tensor; every process must call it for a sharded one."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shards_like(values: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Shard full tensors like those of the same name in `wanted`; every process must call it."""
    return {name: shard_like(value, wanted[name]) for name, value in values.items()}


def shard_like(value: Tensor, wanted: Any) -> Tensor:
    """This process's shard of a full tensor if `wanted` is sharded, else the tensor itself."""
    if not isinstance(wanted, DTensor):
        return value
    return distribute_tensor(value.to(wanted.device), wanted.device_mesh, wanted.placements)
