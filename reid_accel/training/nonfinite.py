"""Skips steps with non-finite gradients, up to a limit."""

import torch
import torch.nn as nn
from torch import Tensor

from reid_accel.errors import InputError


class NonFiniteSkipper:
    """Checks the gradient before each step. This synchronizes with the device, so it is off by default.

    Processes agree without communication, since gradients were averaged: a value that is not finite on one process is
    not finite on all.
    """

    def __init__(self, model: nn.Module, limit: int) -> None:
        self.model, self.limit = model, limit
        self._statistics: list[Tensor] = []

    def before_step(self) -> None:
        """Save what a forward pass changes: the batch norm statistics."""
        self._statistics = [buffer.clone() for buffer in self.model.buffers()]

    def gradient_is_finite(self) -> bool:
        """Whether the step may be applied."""
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        return bool(torch.stack([norm.isfinite() for norm in torch._foreach_norm(gradients)]).all())

    @torch.no_grad()
    def undo_forward(self) -> None:
        """Restore what the forward passes of this step changed."""
        for buffer, before in zip(self.model.buffers(), self._statistics, strict=True):
            buffer.copy_(before)

    def require_within_limit(self, skipped_steps: int, step: int) -> None:
        """Raise InputError if more steps were skipped than allowed; `step` (from 1) is the last one."""
        if skipped_steps > self.limit:
            raise InputError(
                f"the gradient is not finite at step {step}, and {self.limit} such steps were skipped already "
                "(--train.skip-nonfinite). Lower --optim.learning-rate, or train in "
                "float32 (--run.mixed-precision no)"
            )
