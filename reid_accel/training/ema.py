"""Averaged weights: an exponential moving average follows the model, and is what is scored and saved."""

from copy import deepcopy

import torch

from reid_accel.distributed.fsdp import own_part
from reid_accel.models.reid import ReIDModel


class EMA:
    """average = d average + (1 - d) weights after every step, d growing from 0.1 to `decay` as steps go by.

    Parameters and the statistics of batch norm alike; whole-number buffers are copied. Parameters are the same on every
    process, because the weights are; statistics are each process's own, as the model's.
    """

    def __init__(self, model: ReIDModel, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: ReIDModel, step: int) -> None:
        """Follow the model after its step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        ours, theirs = (
            {name: own_part(value) for name, value in each.state_dict().items()} for each in (self.model, model)
        )
        floats = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_([ours[name] for name in floats], [theirs[name] for name in floats], 1 - decay)
        for name in ours.keys() - set(floats):
            ours[name].copy_(theirs[name])
