"""What the network returns.

Legend: B batch, P parts, D feature of retrieval, E features that metric losses compare, I identities.
"""

from typing import NamedTuple

from torch import Tensor


class Outputs(NamedTuple):
    """The outputs of one forward pass.

    feature_BD is what retrieval compares. metric_feature_BE is what losses on pairs compare: the pooled features before
    batch norm with the neck `bn`, else the same. identity_logits_BPI has a classifier's logits for each part (cosines
    with a margin classifier). attribute_logits has the logits of each attribute group.
    """

    feature_BD: Tensor
    metric_feature_BE: Tensor
    identity_logits_BPI: Tensor
    attribute_logits: tuple[Tensor, ...]
