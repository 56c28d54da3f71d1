"""The terms of the training loss, as pure functions of outputs and labels.

Legend: B batch, P parts, I identities, A attribute groups, V values of one group.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_accel.config.schema import LossConfig
from reid_accel.models.metric_losses import center_loss, circle_loss, triplet_loss
from reid_accel.models.outputs import Outputs

LossTerms = dict[str, Tensor]
"""The weighted terms of the loss by name, each a scalar; their sum is the loss."""


class Labeled(Protocol):
    """The labels of a batch; -1 marks an unknown attribute."""

    @property
    def identity_B(self) -> Tensor: ...
    @property
    def attributes_BA(self) -> Tensor: ...


class Pairs(NamedTuple):
    """Features and identities that metric losses compare, of all processes or of this one."""

    feature_CE: Tensor
    identity_C: Tensor


Margin = Callable[[Tensor, Tensor, LossConfig], Tensor]
"""A classifier's `with_margin`: from logits, identities and settings to the training logits."""


def loss_terms(
    outputs: Outputs,
    batch: Labeled,
    config: LossConfig,
    *,
    margin: Margin | None = None,
    pairs: Pairs | None = None,
    center_IE: Tensor | None = None,
    class_weights: Sequence[Tensor] | None = None,
) -> LossTerms:
    """All enabled terms, weighted, under the names of their weights in `LossConfig`.

    The identity term is included even at weight 0, since data parallelism needs a gradient for every parameter.
    margin: of the identity classifier (see `heads`). pairs: compared by metric losses; default: the images of
    `outputs`. center_IE: the centers of the center loss. class_weights: of each attribute group's values.
    """
    feature_CE, identity_C = pairs or Pairs(outputs.metric_feature_BE, batch.identity_B)
    terms = {"identity": identity_loss(outputs.identity_logits_BPI, batch.identity_B, config, margin)}
    if outputs.attribute_logits:
        reduction = config.attribute_reduction
        terms["attributes"] = attribute_loss(outputs.attribute_logits, batch.attributes_BA, reduction, class_weights)
    if config.triplet:
        terms["triplet"] = triplet_loss(feature_CE, identity_C, config.triplet_margin or None)
    if config.circle:
        terms["circle"] = circle_loss(feature_CE, identity_C, config.circle_margin, config.circle_scale)
    if config.center and center_IE is not None:
        terms["center"] = center_loss(feature_CE, identity_C, center_IE)
    return {name: getattr(config, name) * term for name, term in terms.items()}


def total(terms: LossTerms) -> Tensor:
    """The loss: the sum of its terms."""
    return torch.stack(list(terms.values())).sum()


def identity_loss(logits_BPI: Tensor, identity_B: Tensor, config: LossConfig, margin: Margin | None = None) -> Tensor:
    """Mean cross-entropy over the batch, mean or sum over parts, in float32; 0 without identities."""
    if not logits_BPI.shape[2]:
        return logits_BPI.float().sum()  # with a gradient, which data parallelism needs
    num_parts = logits_BPI.shape[1]
    identity_B = identity_B.repeat_interleave(num_parts)  # parts of an image are consecutive
    logits_BI = logits_BPI.flatten(0, 1)
    if margin is not None:
        logits_BI = margin(logits_BI, identity_B, config)
    mean = F.cross_entropy(logits_BI.float(), identity_B, label_smoothing=config.label_smoothing)
    return num_parts * mean if config.stripe_reduction == "sum" else mean


def attribute_loss(
    logits: Sequence[Tensor],
    attributes_BA: Tensor,
    reduction: str = "mean",
    class_weights: Sequence[Tensor] | None = None,
) -> Tensor:
    """Cross-entropies of the groups, each averaged over the images with a known label, then summed or averaged.

    attributes_BA: class indices; -1 (unknown) is ignored, and a group that is unknown for all images counts as 0. The
    mean is over all groups, known or not. class_weights: the values' weights per group (`balancing_weights`), for a
    weighted average over images as in torch's cross_entropy.
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
    """Weights of an attribute's values that balance rare and common ones.

    Inverse frequencies, scaled to a mean of 1 over the counted images, so that the loss keeps its scale. A value that
    no image has gets weight 0.

    >>> balancing_weights([90, 10, 0])
    tensor([0.5556, 5.0000, 0.0000])
    """
    count = torch.tensor(count_V, dtype=torch.float32)
    occurs = count > 0
    return torch.where(occurs, count.sum() / (occurs.sum().clamp(min=1) * count.clamp(min=1)), 0.0)
