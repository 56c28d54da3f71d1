"""The parts of the training loss: functions of outputs and labels, nothing else.

Legend: B batch, I identities, A attribute groups, V values of one group.
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


def attribute_loss(
    logits: Sequence[Tensor],
    attributes_BA: Tensor,
    reduction: str = "mean",
    class_weights: Sequence[Tensor] | None = None,
) -> Tensor:
    """Cross-entropies of the groups, each averaged over the images where it is known, then added or averaged.

    attributes_BA: class indices; -1 (unknown) contributes nothing, and a group that is unknown on every image
    counts as 0. The groups' number divides the mean, known or not. class_weights: for each group its values'
    weights (`balancing_weights`), which make the average over images a weighted one, as torch's cross_entropy does.
    """
    if not logits:
        return torch.zeros((), device=attributes_BA.device)
    weights = [None] * len(logits) if class_weights is None else class_weights
    pairs = zip(logits, weights, strict=True)
    groups = [_group_loss(logit, attributes_BA[:, a], weight) for a, (logit, weight) in enumerate(pairs)]
    total = torch.stack(groups).sum()
    return total / len(groups) if reduction == "mean" else total


def _group_loss(logit_BV: Tensor, label_B: Tensor, weight_V: Tensor | None) -> Tensor:
    known_B = label_B != -1
    total = F.cross_entropy(logit_BV.float(), label_B, weight=weight_V, ignore_index=-1, reduction="sum")
    if weight_V is None:
        return total / known_B.sum().clamp(min=1)
    weight = (weight_V[label_B.clamp(min=0)] * known_B).sum()
    return total / torch.where(weight > 0, weight, 1.0)


def balancing_weights(count_V: Sequence[int]) -> Tensor:
    """Weights of an attribute's values by which rare ones count as much as common ones in all.

    Inverse frequencies, scaled so that their mean over the counted images is 1: the loss keeps its size. A value
    that no image has gets 0: its inverse frequency isn't a number, and there is nothing it could weigh.

    >>> balancing_weights([90, 10, 0])
    tensor([0.5556, 5.0000, 0.0000])
    """
    count = torch.tensor(count_V, dtype=torch.float32)
    occurs = count > 0
    return torch.where(occurs, count.sum() / (occurs.sum().clamp(min=1) * count.clamp(min=1)), 0.0)
