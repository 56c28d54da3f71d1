"""The parts of the training loss: functions of outputs and labels, nothing else.

Legend: B batch, P parts, I identities, A attribute groups, V values of one group.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_accel.config.schema import LossConfig
from reid_accel.models.metric_losses import arcface_logits, center_loss, circle_loss, cosface_logits, triplet_loss
from reid_accel.models.reid import Outputs


class LossParts(NamedTuple):
    """The loss and what it is made of, each a scalar tensor."""

    total: Tensor
    identity: Tensor
    attributes: Tensor
    pairs: Tensor


class Pairs(NamedTuple):
    """What losses on pairs compare: features and identities of the batch, of all processes or of this one."""

    feature_CE: Tensor
    identity_C: Tensor


def loss_parts(
    outputs: Outputs,
    identity_B: Tensor,
    attributes_BA: Tensor,
    config: LossConfig,
    *,
    classifier: str = "linear",
    pairs: Pairs | None = None,
    center_IE: Tensor | None = None,
    class_weights: Sequence[Tensor] | None = None,
) -> LossParts:
    """Weighted sum of the identity loss, the attributes' cross-entropies (course report, section 3; Lin et al., eq. 5)
    and the losses on pairs.

    pairs: not given, those of `outputs`. center_IE: the centers of the center loss. class_weights: of each attribute
    group's values.
    """
    identity = identity_loss(outputs.identity_logits_BPI, identity_B, config, classifier)
    attributes = attribute_loss(outputs.attribute_logits, attributes_BA, config.attribute_reduction, class_weights)
    if not outputs.attribute_logits:
        attributes = identity.new_zeros(())
    compared = metric_loss(pairs or Pairs(outputs.metric_feature_BE, identity_B), config, center_IE)
    total = config.identity * identity + config.attributes * attributes + compared
    return LossParts(total, identity, attributes, compared)


def identity_loss(logits_BPI: Tensor, identity_B: Tensor, config: LossConfig, classifier: str = "linear") -> Tensor:
    """Mean cross-entropy over the batch and its parts, in float32; a margin classifier's logits are cosines."""
    identity_B = identity_B.repeat_interleave(logits_BPI.shape[1])  # an image's parts one after another
    logits_BI = logits_BPI.flatten(0, 1)
    if classifier == "arcface":
        logits_BI = arcface_logits(logits_BI, identity_B, config.classifier_margin, config.classifier_scale)
    elif classifier == "cosface":
        logits_BI = cosface_logits(logits_BI, identity_B, config.classifier_margin, config.classifier_scale)
    return F.cross_entropy(logits_BI.float(), identity_B, label_smoothing=config.label_smoothing)


def metric_loss(pairs: Pairs, config: LossConfig, center_IE: Tensor | None = None) -> Tensor:
    """Weighted sum of the triplet, circle and center losses that are on; 0 without any."""
    feature_CE, identity_C = pairs
    total = feature_CE.new_zeros((), dtype=torch.float32)
    if config.triplet:
        total = total + config.triplet * triplet_loss(feature_CE, identity_C, config.triplet_margin or None)
    if config.circle:
        total = total + config.circle * circle_loss(feature_CE, identity_C, config.circle_margin, config.circle_scale)
    if config.center and center_IE is not None:
        total = total + config.center * center_loss(feature_CE, identity_C, center_IE)
    return total


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
