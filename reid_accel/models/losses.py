"""The parts of the training loss: functions of outputs and labels, nothing else.

Legend: B batch, I identities, A attribute groups.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_accel.config import LossConfig
from reid_accel.models.reid import Outputs


class LossParts(NamedTuple):
    """The loss and what it is made of, each a scalar tensor."""

    total: Tensor
    identity: Tensor
    attributes: Tensor


def loss_parts(outputs: Outputs, identity_B: Tensor, attributes_BA: Tensor, config: LossConfig) -> LossParts:
    """Weighted sum of identity and attribute cross-entropies (course report, section 3; Lin et al., eq. 5)."""
    identity = identity_loss(outputs.identity_logits_BI, identity_B, config.label_smoothing)
    attributes = attribute_loss(outputs.attribute_logits, attributes_BA, config.attribute_reduction)
    if not outputs.attribute_logits:
        attributes = identity.new_zeros(())
    return LossParts(config.identity * identity + config.attributes * attributes, identity, attributes)


def identity_loss(logits_BI: Tensor, identity_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the batch, in float32."""
    return F.cross_entropy(logits_BI.float(), identity_B, label_smoothing=label_smoothing)


def attribute_loss(logits: Sequence[Tensor], attributes_BA: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropies of the groups, each averaged over the images where it is known, then added or averaged.

    attributes_BA: class indices; -1 (unknown) contributes nothing, and a group that is unknown on every image
    counts as 0. The groups' number divides the mean, known or not.
    """
    if not logits:
        return torch.zeros((), device=attributes_BA.device)
    groups = [
        F.cross_entropy(logit.float(), attributes_BA[:, a], ignore_index=-1, reduction="sum")
        / (attributes_BA[:, a] != -1).sum().clamp(min=1)
        for a, logit in enumerate(logits)
    ]
    total = torch.stack(groups).sum()
    return total / len(groups) if reduction == "mean" else total
