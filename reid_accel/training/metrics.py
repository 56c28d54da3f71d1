"""Metrics of a training epoch: running sums on the device, and their means by name.

Legend: B images of a micro-batch, A attribute groups.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from reid_accel.config.schema import LossConfig
from reid_accel.errors import InputError
from reid_accel.hardware import exact_float
from reid_accel.models.losses import LossTerms
from reid_accel.models.outputs import Outputs
from reid_accel.training.dataloader import Batch

TERM = "losses."  # prefix of the loss terms' names among the sums


@dataclass(frozen=True)
class EpochSums:
    """Sums over this process's micro-batches by name, on the device until they are read; float64 where it has that."""

    values: Mapping[str, Tensor]

    @classmethod
    def restored(cls, sums: Mapping[str, float], accelerator: Accelerator) -> "EpochSums":
        """Sums over all processes to continue from (empty at an epoch's start), assigned to process 0."""
        values = {
            name: value if accelerator.is_main_process else 0.0 for name, value in {"images": 0.0, **sums}.items()
        }
        device = accelerator.device
        exact = exact_float(device)
        return cls({name: torch.tensor(values[name], dtype=exact, device=device) for name in values})

    def over_processes(self, accelerator: Accelerator) -> dict[str, float]:
        """The sums over all processes; every process must call it."""
        total = accelerator.reduce(torch.stack(list(self.values.values())), reduction="sum")
        assert isinstance(total, Tensor)
        return dict(zip(self.values, total.tolist(), strict=True))

    def add(self, terms: LossTerms, loss: Tensor, outputs: Outputs, batch: Batch) -> "EpochSums":
        """The sums with one more micro-batch."""
        images, exact = len(batch.identity_B), self.values["images"].dtype
        counted: dict[str, Tensor | float] = {
            "images": images,
            "finite_losses": loss.detach().isfinite(),
            "loss": loss.detach().to(exact) * images,
            **{f"{TERM}{name}": term.detach().to(exact) * images for name, term in terms.items()},
            **right_answers(outputs, batch),
        }
        zero = torch.zeros_like(self.values["images"])
        return EpochSums({name: self.values.get(name, zero) + value for name, value in counted.items()})


def right_answers(outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
    """Numbers of correct identities and of correct known attributes."""
    counts = {}
    if outputs.identity_logits_BPI.shape[2]:
        identity_B = outputs.identity_logits_BPI.mean(1).argmax(1)
        counts["right_identities"] = (identity_B == batch.identity_B).sum()
    if outputs.attribute_logits:
        chosen_BA = torch.stack([logit.argmax(1) for logit in outputs.attribute_logits], dim=1)
        counts["right_attributes"] = (chosen_BA == batch.attributes_BA).sum()  # unknown (-1) is never chosen
        counts["known_attributes"] = (batch.attributes_BA >= 0).sum()
    return counts


def epoch_numbers(sums: Mapping[str, float], config: LossConfig) -> dict[str, Any]:
    """The means of `EpochSums.over_processes` for log and report: loss, its weighted terms, accuracies."""
    images = max(sums["images"], 1.0)
    terms = {name.removeprefix(TERM): value / images for name, value in sums.items() if name.startswith(TERM)}
    known, right = sums.get("known_attributes", 0.0), sums.get("right_identities")
    return {
        "loss": sums["loss"] / images,
        "losses": {
            name: value
            for name, value in terms.items()
            if getattr(config, name, 1) > 0 and (right is not None or name != "identity")
        },
        "identity_accuracy": right / images if right is not None and config.identity > 0 else None,
        "attribute_accuracy": sums["right_attributes"] / known if known else None,
    }


def require_finite(sums: Mapping[str, float], first_step: int, parts_per_step: int, checkpoints: Path) -> None:
    """Raise InputError, naming the step, if a loss of the epoch was not finite.

    Such a loss corrupts the weights, so every later one is not finite either, and the number of finite ones gives the
    step. parts_per_step: processes times accumulation steps. checkpoints: the run's folder of checkpoints.
    """
    if np.isfinite(sums["loss"]):
        return
    step = first_step + int(sums["finite_losses"]) // parts_per_step
    intact = f"Earlier checkpoints are intact in {checkpoints}. " if any(checkpoints.glob("step-????????")) else ""
    raise InputError(
        f"the loss is not finite at step {step + 1}. {intact}Lower "
        "--optim.learning-rate, clip gradients (--optim.clip-norm 5), or train in float32 (--run.mixed-precision no)"
    )
