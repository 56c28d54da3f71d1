"""torch optimizers with parameter groups for re-ID training."""

from typing import Any

import torch
import torch.nn as nn
from timm.models import group_parameters
from torch.distributed.tensor import DTensor

from reid_accel.config.schema import OptimConfig
from reid_accel.errors import InputError


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Parameter groups for the backbone's layers, then the heads, each with and without weight decay.

    Biases, norms and what timm's `no_weight_decay()` lists have none, unless the settings say so.
    Each group stores its `peak` rate in addition to `lr`, which `set_rate` changes.
    Raises InputError for a layer_decay below 1 with a backbone whose layers aren't known.
    """
    backbone = model.get_submodule("backbone")
    depth_of, exempt = _depths(backbone, config), _without_decay(backbone)
    deepest = max(depth_of.values(), default=0)
    groups: dict[tuple[int, bool, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        inner = name.removeprefix("backbone.")
        in_backbone = inner != name or name.startswith("camera_embedding.")
        decayed = config.decay_everything or (parameter.ndim > 1 and not (in_backbone and inner in exempt))
        depth = depth_of.get(inner, 0) if in_backbone else deepest + 1
        share = config.backbone_rate * config.layer_decay ** (deepest + 1 - depth) if in_backbone else 1.0
        factor = config.bias_rate if name.endswith("bias") else 1.0
        peak, decay = config.learning_rate * share * factor, config.weight_decay if decayed else 0.0
        group = {"params": [], "lr": peak, "peak": peak, "weight_decay": decay, "in_backbone": in_backbone}
        groups.setdefault((depth, not decayed, factor), group)["params"].append(parameter)
    return _optimizer([groups[key] for key in sorted(groups)], config)


def _depths(backbone: nn.Module, config: OptimConfig) -> dict[str, int]:
    """Depth of each parameter in timm's blocks; empty without layer-wise decay."""
    if config.layer_decay == 1:
        return {}
    matcher: Any = getattr(backbone, "group_matcher", None)
    if matcher is None:
        raise InputError("optim.layer-decay needs a timm backbone with layer groups: set it to 1 for this backbone")
    depths = group_parameters(backbone, matcher(coarse=False), reverse=True)
    last = max(depth for depth in depths.values() if depth < float("inf"))
    return {name: int(min(depth, last)) for name, depth in depths.items()}


def _without_decay(backbone: nn.Module) -> set[str]:
    """The parameters that a timm model exempts from weight decay: class token, position embeddings."""
    listed: Any = getattr(backbone, "no_weight_decay", None)
    return set(listed()) if callable(listed) else set()


def _optimizer(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.Optimizer:
    rate, fused = config.learning_rate, _can_be_fused(groups)
    if config.name == "sgd":
        momentum = config.momentum
        return torch.optim.SGD(
            groups, lr=rate, momentum=momentum, nesterov=config.nesterov and momentum > 0, fused=fused
        )
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate, fused=fused)


def _can_be_fused(groups: list[dict[str, Any]]) -> bool:
    """Whether torch has a fused kernel (not for sgd with sharded parameters)."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    return all(p.device.type in ("cpu", "cuda") and not isinstance(p, DTensor) for p in parameters)


def set_rate(optimizer: torch.optim.Optimizer, factor: float, *, backbone_frozen: bool = False) -> None:
    """Set every group's rate to its peak rate times `factor`, or 0 for a frozen backbone."""
    for group in optimizer.param_groups:
        group["lr"] = 0.0 if backbone_frozen and group["in_backbone"] else group["peak"] * factor
