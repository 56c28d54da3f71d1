"""Steps whose gradient isn't finite are left out, up to a number of them."""

import torch
import torch.nn as nn
from torch import Tensor

from reid_accel.errors import InputError


class NonFiniteSkipper:
    """Looks at the gradient before each step; costs a wait for the device, so it is only there when asked for.

    Processes agree without talking: gradients are averaged over them before, and what isn't finite on one is not
    finite on all.
    """

    def __init__(self, model: nn.Module, limit: int, checkpoints: str) -> None:
        self.model, self.limit, self.checkpoints = model, limit, checkpoints
        self.skipped = 0
        self._statistics: list[Tensor] = []

    def before_step(self) -> None:
        """Keep what a forward pass changes: the statistics of batch norm."""
        self._statistics = [buffer.clone() for buffer in self.model.buffers()]

    def lets_pass(self) -> bool:
        """Whether the gradient is finite."""
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        return bool(torch.stack([norm.isfinite() for norm in torch._foreach_norm(gradients)]).all())

    @torch.no_grad()
    def leave_out(self, step: int) -> None:
        """Undo what the forward passes of this step changed. Raises InputError when it was one step too many."""
        for buffer, before in zip(self.model.buffers(), self._statistics, strict=True):
            buffer.copy_(before)
        self.skipped += 1
        if self.skipped > self.limit:
            raise InputError(
                f"the gradient is not finite at step {step + 1}, and {self.limit} such steps were left out already "
                f"(--train.skip-nonfinite). Checkpoints from before are intact in {self.checkpoints}. Lower "
                "--optim.learning-rate, or train without 16 bits (--run.mixed-precision no)"
            )
