"""Metric losses: on distances and cosines of features, margins of the classifier, and centers.

Pure functions of features and labels. All compute in float32 (float64 for float64 inputs), also under autocast, and
none synchronizes with the GPU: shapes never depend on the data, and masks select what counts.
Legend: B anchors, C images that they are compared with, D feature, I identities.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def pairwise_distance(feature_BD: Tensor, other_CD: Tensor) -> Tensor:
    """Euclidean distances, B x C; 0 with gradient 0 between equal rows.

    Sums squared differences instead of using a matrix product, which would lose small distances in TF32. The gradient
    allocates B x C x D numbers on a GPU.
    """
    return torch.cdist(_wide(feature_BD), _wide(other_CD), compute_mode="donot_use_mm_for_euclid_dist")


def triplet_loss(feature_BD: Tensor, identity_B: Tensor, margin: float | None) -> Tensor:
    """Batch-hard triplet loss: each anchor's farthest positive should be nearer than its nearest negative.

    Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017, eq. 5:
    max(0, margin + d_p - d_n); with margin None, the soft margin log(1 + exp(d_p - d_n)). Mean over the anchors that
    have both a positive (another image of the person) and a negative; 0 if there are none.

    >>> feature, identity = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([0, 0, 1, 1])
    >>> triplet_loss(feature, identity, margin=0.5)  # d_p - d_n: 1 - 3, 1 - 2, 4 - 2, 4 - 6
    tensor(0.6250)
    """
    feature_BD = _wide(feature_BD)
    positive_BC, negative_BC = _relations(identity_B)
    with torch.no_grad():  # hard mining needs no gradient: backward then handles B pairs instead of B x C
        distance_BC = pairwise_distance(feature_BD, feature_BD)
        farthest_B = distance_BC.masked_fill(~positive_BC, -math.inf).argmax(1)
        nearest_B = distance_BC.masked_fill(~negative_BC, math.inf).argmin(1)
    positive_distance_B = torch.linalg.vector_norm(feature_BD - feature_BD[farthest_B], dim=1)
    negative_distance_B = torch.linalg.vector_norm(feature_BD - feature_BD[nearest_B], dim=1)
    excess_B = positive_distance_B - negative_distance_B
    loss_B = F.softplus(excess_B) if margin is None else F.relu(excess_B + margin)
    return _mean_where(loss_B, positive_BC.any(1) & negative_BC.any(1))


def circle_loss(
    feature_BD: Tensor,
    identity_B: Tensor,
    margin: float = 0.25,
    scale: float = 64.0,
) -> Tensor:
    """Circle loss on cosines: every pair is weighted by its distance from its optimum.

    Sun et al., "Circle Loss", CVPR 2020, eq. 6, with O_p = 1 + m, O_n = -m, delta_p = 1 - m, delta_n = m (section 3.3)
    and the weights alpha as constants: softplus(logsumexp_n(scale alpha_n (s_n - delta_n)) +
    logsumexp_p(-scale alpha_p (s_p - delta_p))). Anchors and mean as in `triplet_loss`.
    """
    positive_BC, negative_BC = _relations(identity_B)
    cosine_BC = cosine_logits(feature_BD, feature_BD)
    positive_weight_BC = F.relu(1 + margin - cosine_BC.detach())
    negative_weight_BC = F.relu(cosine_BC.detach() + margin)
    positive_term_B = _logsumexp_where(-scale * positive_weight_BC * (cosine_BC - (1 - margin)), positive_BC)
    negative_term_B = _logsumexp_where(scale * negative_weight_BC * (cosine_BC - margin), negative_BC)
    return _mean_where(F.softplus(positive_term_B + negative_term_B), positive_BC.any(1) & negative_BC.any(1))


def cosine_logits(feature_BD: Tensor, weight_ID: Tensor) -> Tensor:
    """Cosines between features and each identity's weights (or any other rows), B x I."""
    with torch.autocast(feature_BD.device.type, enabled=False):
        return F.normalize(_wide(feature_BD), dim=1) @ F.normalize(_wide(weight_ID), dim=1).T


def arcface_logits(cosine_BI: Tensor, identity_B: Tensor, margin: float = 0.5, scale: float = 30.0) -> Tensor:
    """Logits for cross-entropy, with the angle to the right identity's weights enlarged by a margin in radians.

    Deng et al., "ArcFace", CVPR 2019, eq. 3: scale cos(theta + m) for the right identity, scale cos(theta) for others.
    Beyond theta = pi - m, where cos(theta + m) would increase again, it is replaced by cos(theta) - m sin(m), as in the
    authors' code. The sine is clamped above 0, where its gradient would be infinite.
    """
    cosine_BI = _wide(cosine_BI)
    right_B1 = cosine_BI.gather(1, identity_B[:, None])
    sine_B1 = (1 - right_B1.square()).clamp(min=torch.finfo(right_B1.dtype).eps).sqrt()
    enlarged_B1 = right_B1 * math.cos(margin) - sine_B1 * math.sin(margin)
    beyond_B1 = right_B1 < -math.cos(margin)
    right_B1 = torch.where(beyond_B1, right_B1 - margin * math.sin(margin), enlarged_B1)
    return scale * cosine_BI.scatter(1, identity_B[:, None], right_B1)


def cosface_logits(cosine_BI: Tensor, identity_B: Tensor, margin: float = 0.35, scale: float = 30.0) -> Tensor:
    """Logits for cross-entropy, with the right identity's cosine lowered by a margin.

    Wang et al., "CosFace", CVPR 2018, eq. 4: scale (cos(theta) - m) for the right identity, scale cos(theta) else.
    """
    cosine_BI = _wide(cosine_BI)
    right_B1 = cosine_BI.gather(1, identity_B[:, None])
    return scale * cosine_BI.scatter(1, identity_B[:, None], right_B1 - margin)


def center_loss(feature_BD: Tensor, identity_B: Tensor, center_ID: Tensor) -> Tensor:
    """Mean over the batch of the squared distance between a feature and its identity's center.

    Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016, eq. 2, in the
    normalization of Luo et al. (Bag of Tricks, CVPRW 2019; usual weight 0.0005): divided by the batch size, without the
    paper's factor 1/2. The centers are constants here; `moved_centers` or `descended_centers` updates them.
    """
    away_BD = _wide(feature_BD) - _wide(center_ID.detach())[identity_B]
    return away_BD.square().sum(1).mean()


@torch.no_grad()
def moved_centers(center_ID: Tensor, feature_BD: Tensor, identity_B: Tensor, rate: float = 0.5) -> Tensor:
    """The centers after a step towards the batch's features (Wen et al., ECCV 2016, eq. 4 and algorithm 1).

    c_j - rate * sum_i (c_j - x_i) / (1 + n_j) over the n_j images of identity j; other centers are unchanged.
    """
    center_ID = _wide(center_ID)
    one_B = torch.ones_like(center_ID[:, 0])[identity_B]
    count_I = torch.zeros_like(center_ID[:, 0]).index_put((identity_B,), one_B, accumulate=True)
    return center_ID - rate * _sums_away(center_ID, feature_BD, identity_B) / (1 + count_I)[:, None]


@torch.no_grad()
def descended_centers(
    center_ID: Tensor, feature_BD: Tensor, identity_B: Tensor, rate: float, batch_size: int
) -> Tensor:
    """The centers after a gradient step on `center_loss`, as in the code of Luo et al. (Bag of Tricks, CVPRW 2019).

    c_j - rate * 2 * sum_i (c_j - x_i) / batch_size over the images of identity j. batch_size: of the optimizer step, of
    which these images may be a part.
    """
    center_ID = _wide(center_ID)
    return center_ID - rate * 2 / batch_size * _sums_away(center_ID, feature_BD, identity_B)


def _sums_away(center_ID: Tensor, feature_BD: Tensor, identity_B: Tensor) -> Tensor:
    """The sum of c_j - x_i over the images of each identity j."""
    away_BD = center_ID[identity_B] - _wide(feature_BD)
    # index_put accumulates in a deterministic order; index_add on GPUs doesn't
    return torch.zeros_like(center_ID).index_put((identity_B,), away_BD, accumulate=True)


def _wide(values: Tensor) -> Tensor:
    """Convert to float32; float64 is kept."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _relations(identity_B: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of positives (other images of the anchor's person) and negatives (other people), B x B each."""
    same_BC = identity_B[:, None] == identity_B
    itself_BC = torch.eye(len(identity_B), dtype=torch.bool, device=identity_B.device)
    return same_BC & ~itself_BC, ~same_BC


def _mean_where(loss_B: Tensor, counts_B: Tensor) -> Tensor:
    return torch.where(counts_B, loss_B, 0.0).sum() / counts_B.sum().clamp(min=1)


def _logsumexp_where(values_BC: Tensor, counts_BC: Tensor) -> Tensor:
    # a finite replacement for -inf: logsumexp of only -inf has no gradient
    return values_BC.masked_fill(~counts_BC, torch.finfo(values_BC.dtype).min).logsumexp(1)
