"""The learning rate as a pure function of the step: no state to save or restore."""

import math

from reid_accel.config.schema import OptimConfig

WARMUP_START = 0.01


def lr_multiplier(step: int, steps_per_epoch: int, epochs: int, config: OptimConfig) -> float:
    """The factor of the peak learning rate at an optimizer step (counted from 0).

    Linear warm-up from 1 %, then cosine (reaching its end one step after the last), steps, or constant. With the unit
    `epoch`, all steps of an epoch have the value of the step after its last.

    >>> settings = OptimConfig(schedule="steps", warmup_epochs=0, step_epochs=(2,), step_factor=0.1)
    >>> [lr_multiplier(s, 1, 3, settings) for s in range(3)]
    [1.0, 1.0, 0.1]
    """
    if config.schedule_unit == "epoch":
        step = (step // steps_per_epoch + 1) * steps_per_epoch
    warmup_steps = config.warmup_epochs * steps_per_epoch
    warmup = 1.0
    if step < warmup_steps:
        warmup = WARMUP_START + (1 - WARMUP_START) * step / warmup_steps
    if config.schedule == "constant":
        return warmup
    if config.schedule == "steps":
        passed = sum(step >= epoch * steps_per_epoch for epoch in config.step_epochs)
        return warmup * config.step_factor**passed
    if step < warmup_steps:
        return warmup
    start = 0.0 if config.cosine_start == "training" else warmup_steps
    share = min(1.0, (step - start) / max(1.0, epochs * steps_per_epoch - start))
    return config.lowest_rate + (1 - config.lowest_rate) * (1 + math.cos(math.pi * share)) / 2
