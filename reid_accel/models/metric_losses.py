"""Losses on what retrieval compares: distances and cosines of features, margins on the classifier's cosines, centers.

Functions of features and labels, nothing else. All count in float32 whatever they are given (float64 stays), also
under autocast, and none waits for the GPU: shapes never depend on the data, what doesn't count is masked out.
Legend: B a batch of anchors, C whom they are compared with, D feature, I identities.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def pairwise_distance(feature_BD: Tensor, other_CD: Tensor) -> Tensor:
    """Euclidean distances, B x C; between equal rows 0, with gradient 0.

    Sums squared differences instead of expanding them into a matrix product, which in TF32 would lose small distances.
    The gradient takes B x C x D numbers of memory on a GPU.
    """
    return torch.cdist(_wide(feature_BD), _wide(other_CD), compute_mode="donot_use_mm_for_euclid_dist")


def triplet_loss(feature_BD: Tensor, identity_B: Tensor, margin: float | None) -> Tensor:
    """Batch-hard triplet loss: each anchor's farthest positive has to be nearer than its nearest negative.

    Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017, eq. 5:
    max(0, margin + d_p - d_n); with margin None their soft margin, log(1 + exp(d_p - d_n)). The mean over the anchors
    that have both a positive (another image of the person) and a negative; 0 when there is none.

    >>> feature, identity = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([0, 0, 1, 1])
    >>> triplet_loss(feature, identity, margin=0.5)  # d_p - d_n: 1 - 3, 1 - 2, 4 - 2, 4 - 6
    tensor(0.6250)
    """
    feature_BD = _wide(feature_BD)
    positive_BC, negative_BC = _relations(identity_B)
    with torch.no_grad():  # the hardest are searched for without a gradient, which then has B pairs instead of B x C
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
    """Circle loss on cosines: every pair is pulled or pushed by as much as it is away from where it should be.

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
    Beyond theta = pi - m, where cos(theta + m) would grow again, cos(theta) - m sin(m) goes on falling (the authors'
    code). The sine is kept off 0, where its gradient would be infinite.
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
    normalization of Luo et al. (Bag of Tricks, CVPRW 2019), whose weight 0.0005 is the usual one: divided by the batch,
    without the paper's 1/2. The centers are constants here; `moved_centers` moves them.
    """
    away_BD = _wide(feature_BD) - _wide(center_ID.detach())[identity_B]
    return away_BD.square().sum(1).mean()


@torch.no_grad()
def moved_centers(center_ID: Tensor, feature_BD: Tensor, identity_B: Tensor, rate: float = 0.5) -> Tensor:
    """The centers after a step towards the batch's features (Wen et al., ECCV 2016, eq. 4 and algorithm 1).

    c_j - rate * sum_i (c_j - x_i) / (1 + n_j) over the n_j images of identity j; who isn't in the batch stays.
    """
    center_ID = _wide(center_ID)
    away_BD = center_ID[identity_B] - _wide(feature_BD)
    # accumulated by index_put, which adds in the same order every time; index_add on GPUs doesn't
    sum_ID = torch.zeros_like(center_ID).index_put((identity_B,), away_BD, accumulate=True)
    one_B = torch.ones_like(away_BD[:, 0])
    count_I = torch.zeros_like(center_ID[:, 0]).index_put((identity_B,), one_B, accumulate=True)
    return center_ID - rate * sum_ID / (1 + count_I)[:, None]


def _wide(values: Tensor) -> Tensor:
    """In float32, or in float64 if it was."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _relations(identity_B: Tensor) -> tuple[Tensor, Tensor]:
    """Which images show the anchor's person on another image, and which show another person, B x B each."""
    same_BC = identity_B[:, None] == identity_B
    itself_BC = torch.eye(len(identity_B), dtype=torch.bool, device=identity_B.device)
    return same_BC & ~itself_BC, ~same_BC


def _mean_where(loss_B: Tensor, counts_B: Tensor) -> Tensor:
    return torch.where(counts_B, loss_B, 0.0).sum() / counts_B.sum().clamp(min=1)


def _logsumexp_where(values_BC: Tensor, counts_BC: Tensor) -> Tensor:
    # a finite stand-in for -inf: logsumexp of nothing but -inf has no gradient
    return values_BC.masked_fill(~counts_BC, torch.finfo(values_BC.dtype).min).logsumexp(1)
