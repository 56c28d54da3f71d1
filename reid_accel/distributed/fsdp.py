"""Weights, gradients and optimizer state shared out over the processes, for backbones that one GPU can't hold.

torch's fully sharded data parallelism (Zhao et al., "PyTorch FSDP", VLDB 2023), applied here and not by Accelerate,
whose own needs GPUs: so that it can be tested anywhere, and checkpoints stay whole tensors that any number of
processes, sharded or not, goes on with.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.utils import parse_flag_from_env
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from reid_accel.config.schema import RunConfig
from reid_accel.distributed.collectives import Group
from reid_accel.errors import InputError


def check_sharding(accelerator: Accelerator, config: RunConfig) -> None:
    """Raise InputError where sharding can't be had as it is asked for."""
    wanted = config.shard_weights
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise InputError(
            "the launch file asks for Accelerate's FSDP; take launch/multi_gpu.yaml and --run.shard-weights instead"
        )
    if wanted and accelerator.num_processes == 1:
        raise InputError("run.shard-weights shares weights out over processes, and this is one: leave it out")
    if wanted and accelerator.mixed_precision == "fp16":
        raise InputError("run.shard-weights trains in bf16 or without 16 bits: --run.mixed-precision bf16")
    if wanted and config.compile:
        raise InputError("run.shard-weights and run.compile don't go together: leave one of them out")


def shard(model: nn.Module, backbone: nn.Module, accelerator: Accelerator) -> None:
    """Keep only this process's part of every parameter; a block's are whole while it computes. Changes the model.

    Statistics of batch norm stay on each process, and are process 0's at the beginning of each training pass, as
    without sharding.
    """
    model.to(memory_format=torch.contiguous_format)  # FSDP takes no other
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for block in _blocks(backbone):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.register_forward_pre_hook(_before_training_pass)


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    """The blocks that timm's networks are rows of (`blocks.3`, `layer2.0`), inner before outer."""
    found = []
    for name, module in backbone.named_modules():
        rows, _, number = name.rpartition(".")
        if number.isdigit() and rows.rpartition(".")[2].startswith(("blocks", "layer")):
            found.append(module)
    return found[::-1]


def _before_training_pass(model: nn.Module, inputs: Any) -> None:
    if model.training:
        Group.of().broadcast_buffers(model)


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: all of it where nothing is shared out. Shares the memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its parts; every process must call it for one that is shared out."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def parts_of(values: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Whole tensors, shared out where those of the same name in `wanted` are; every process must call it."""
    return {name: part_of(value, wanted[name]) for name, value in values.items()}


def part_of(value: Tensor, wanted: Any) -> Tensor:
    """This process's part of a whole tensor, where `wanted` is shared out."""
    if not isinstance(wanted, DTensor):
        return value
    return distribute_tensor(value.to(wanted.device), wanted.device_mesh, wanted.placements)
