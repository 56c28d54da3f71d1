"""Alpha query expansion: search again with a weighted mean of the query and its nearest neighbors.

Letters: Q queries, D feature, K neighbors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from reid_accel.config.checks import check_positive
from reid_accel.errors import InputError


@dataclass(frozen=True)
class AlphaExpansion:
    """Alpha query expansion (Radenovic et al., TPAMI 2019, section 3.2)."""

    k: int = 10
    """Gallery neighbors that are averaged with the query."""
    alpha: float = 3.0
    """A neighbor's weight is its cosine similarity to this power; 0: plain average."""

    def __post_init__(self) -> None:
        check_positive("query_expansion.k", self.k)
        if not 0 <= self.alpha < float("inf"):
            raise InputError(f"query_expansion.alpha must be a number of at least 0, got {self.alpha}")

    def __str__(self) -> str:
        return f"alpha-qe(k={self.k},alpha={self.alpha:g})"


QUERIES_PER_STEP = 256


def expand_queries(
    query_QD: torch.Tensor,
    row_QK: torch.Tensor,
    gallery_rows: Callable[[torch.Tensor], torch.Tensor],
    expansion: AlphaExpansion,
) -> torch.Tensor:
    """`expanded_queries` with the gallery rows row_QK (-1 for none).

    `gallery_rows` returns the features of given rows [.., K] -> [.., K, D]; it is called for a few queries at a time.
    """
    parts = []
    for first in range(0, len(query_QD), QUERIES_PER_STEP):
        some = slice(first, first + QUERIES_PER_STEP)
        exists_QK1 = (row_QK[some] >= 0)[:, :, None]
        neighbor_QKD = gallery_rows(row_QK[some].clamp(min=0)).float() * exists_QK1
        parts.append(expanded_queries(query_QD[some], neighbor_QKD, expansion.alpha))
    return torch.cat(parts)


def expanded_queries(
    query_QD: torch.Tensor, neighbor_QKD: torch.Tensor, alpha: float, *, include_query: bool = True
) -> torch.Tensor:
    """The queries moved towards their neighbors with unchanged lengths, float32 [Q, D].

    query' = query + sum_k max(0, cos(query, neighbor_k))^alpha * neighbor_k. A missing neighbor is a row of zeros and
    has no weight. Keeping the length of a query keeps euclidean distances to the gallery meaningful for features that
    aren't unit vectors. `include_query=False` leaves the query itself out of the sum, for lists of neighbors that
    already contain it. If the sum is zero, the query is unchanged.
    """
    query_QD, neighbor_QKD = query_QD.float(), neighbor_QKD.float()
    length_Q1 = query_QD.norm(dim=1, keepdim=True)
    product_QK = (neighbor_QKD * query_QD[:, None]).sum(2)
    scale_QK = length_Q1 * neighbor_QKD.norm(dim=2)
    exists_QK = scale_QK > 0
    cosine_QK = (product_QK / scale_QK.where(exists_QK, torch.ones_like(scale_QK))).clamp(min=0)
    weight_QK = cosine_QK.pow(alpha) * exists_QK
    sum_QD = (weight_QK[:, :, None] * neighbor_QKD).sum(1)
    if include_query:
        sum_QD = sum_QD + query_QD
    sum_length_Q1 = sum_QD.norm(dim=1, keepdim=True)
    return torch.where(sum_length_Q1 > 0, sum_QD * (length_Q1 / sum_length_Q1), query_QD)
