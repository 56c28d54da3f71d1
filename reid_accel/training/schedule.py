"""The learning rate as a pure function of the step: no state to save or restore."""

import math

from reid_accel.config.schema import OptimConfig

WARMUP_START = 0.01


def lr_multiplier(step: int, steps_per_epoch: int, epochs: int, config: OptimConfig) -> float:
    """The factor of the peak learning rate at an optimizer step (counted from 0).

    Linear warm-up from 1 %, then cosine (reaching 0 one step after the last), steps, or constant.

    >>> settings = OptimConfig(schedule="steps", warmup_epochs=0, step_epochs=(2,), step_factor=0.1)
    >>> [lr_multiplier(s, 1, 3, settings) for s in range(3)]
    [1.0, 1.0, 0.1]
    """
    warmup_steps = config.warmup_epochs * steps_per_epoch
    warmup = 1.0
    if step < warmup_steps:
        warmup = WARMUP_START + (1 - WARMUP_START) * step / warmup_steps
    if config.schedule == "constant":
        return warmup
    if config.schedule == "steps":
        passed = sum(step >= epoch * steps_per_epoch for epoch in config.step_epochs)
        return warmup * config.step_factor**passed
    falling_steps = max(1.0, epochs * steps_per_epoch - warmup_steps)
    share = min(1.0, max(0.0, step - warmup_steps) / falling_steps)
    return warmup * (1 + math.cos(math.pi * share)) / 2
