"""Exponential moving average (EMA) of the weights, which is evaluated and saved instead of the model."""

from copy import deepcopy

import torch

from reid_accel.distributed.fsdp import local_shard
from reid_accel.models.reid import ReIDModel


class EMA:
    """average = d average + (1 - d) weights after every step, d growing from 0.1 to `decay` as steps go by.

    Applies to parameters and batch norm statistics; integer buffers are copied. Like the model's, parameters are equal
    on all processes and statistics are each process's own.
    """

    def __init__(self, model: ReIDModel, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: ReIDModel, step: int) -> None:
        """Update the average after the model's step `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        ours, theirs = (
            {name: local_shard(value) for name, value in each.state_dict().items()} for each in (self.model, model)
        )
        floats = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_([ours[name] for name in floats], [theirs[name] for name in floats], 1 - decay)
        for name in ours.keys() - set(floats):
            ours[name].copy_(theirs[name])
