"""Optimisers from torch, with the parameter groups that re-ID training needs."""

from typing import Any

import torch
import torch.nn as nn
from torch.distributed.tensor import DTensor

from reid_accel.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Four groups: backbone and heads, each with and without weight decay (biases and norms have none).

    Each group keeps its `peak` rate beside `lr`, which `set_rate` moves.
    """
    groups = []
    for part, share in (("backbone", config.backbone_rate), ("head", 1.0)):
        for decayed in (True, False):
            parameters = [
                parameter
                for name, parameter in model.named_parameters()
                if name.startswith("backbone.") == (part == "backbone") and (parameter.ndim > 1) == decayed
            ]
            peak = config.learning_rate * share
            decay = config.weight_decay if decayed else 0.0
            groups.append({"params": parameters, "lr": peak, "peak": peak, "weight_decay": decay})
    return _optimizer([group for group in groups if group["params"]], config)


def _optimizer(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.Optimizer:
    rate, fused = config.learning_rate, _can_be_fused(groups)
    if config.name == "sgd":
        momentum = config.momentum
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=fused)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate, fused=fused)


def _can_be_fused(groups: list[dict[str, Any]]) -> bool:
    """One kernel for all parameters, where torch has it (for those that are shared out it lacks sgd's)."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    return all(p.device.type in ("cpu", "cuda") and not isinstance(p, DTensor) for p in parameters)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group its peak rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
