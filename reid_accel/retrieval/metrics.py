"""From the ranks of hits to AP, CMC, INP and their means.

Letters: Q queries, R matches, H hits (all queries' hits, nearest first within a query).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from reid_accel.retrieval.features import Float64Array, Int64Array
from reid_accel.retrieval.hit_ranks import ONE_IN, Counts
from reid_accel.retrieval.protocol import MatchRows, Settings


@dataclass(frozen=True)
class RetrievalScores:
    """Retrieval scores of one query set against one gallery, fractions in [0, 1], with their settings.

    All means are over the `num_valid` queries that have a match; the `num_left_out` others have NaN, 0 and NaN in the
    per-query arrays.
    """

    protocol: str
    average_precision: str
    metric: str
    rerank: str | None
    query_expansion: str | None
    mean_ap: float
    mean_inp: float
    cmc: dict[int, float]
    """Fraction of valid queries whose first hit has at most this rank."""
    tpr_at_fpr: dict[str, float]
    """Fraction of right pairs accepted at a false positive rate of 1e-4, 1e-3 and 1e-2."""
    num_queries: int
    num_valid: int
    num_left_out: int
    num_gallery: int
    """Gallery rows that were ranked (junk is not)."""
    ap_Q: Float64Array
    first_rank_Q: Int64Array
    inp_Q: Float64Array

    @property
    def stamp(self) -> str:
        """The settings of a score; scores with different stamps are not comparable."""
        return (
            f"protocol={self.protocol} ap={self.average_precision} metric={self.metric} "
            f"rerank={self.rerank or 'none'} query_expansion={self.query_expansion or 'none'}"
        )

    def summary(self) -> dict[str, Any]:
        """The scores without the per-query arrays, JSON-serializable."""
        return {
            "protocol": self.protocol,
            "average_precision": self.average_precision,
            "metric": self.metric,
            "rerank": self.rerank,
            "query_expansion": self.query_expansion,
            "stamp": self.stamp,
            "mAP": self.mean_ap,
            "mINP": self.mean_inp,
            "cmc": {str(rank): share for rank, share in self.cmc.items()},
            "tpr_at_fpr": dict(self.tpr_at_fpr),
            "num_queries": self.num_queries,
            "num_valid": self.num_valid,
            "num_left_out": self.num_left_out,
            "num_gallery": self.num_gallery,
        }


def finish_scores(counts: Counts, matches: MatchRows, settings: Settings) -> RetrievalScores:
    """Turn counts into scores."""
    query_H, rank_H = hit_ranks(counts, matches)
    num_hits_Q = matches.num_hits_Q
    valid_Q = matches.valid_Q
    first_H = np.cumsum(num_hits_Q) - num_hits_Q
    place_H = np.arange(len(rank_H)) - first_H[query_H] + 1
    precision_H = precisions(rank_H, place_H, settings.average_precision)
    with np.errstate(invalid="ignore"):  # 0/0 = NaN for queries without a match
        ap_Q = np.bincount(query_H, precision_H, minlength=len(valid_Q)) / num_hits_Q
    first_rank_Q = np.zeros(len(valid_Q), dtype=np.int64)
    first_rank_Q[valid_Q] = rank_H[first_H[valid_Q]]
    inp_Q = np.full(len(valid_Q), np.nan)
    inp_Q[valid_Q] = num_hits_Q[valid_Q] / rank_H[(first_H + num_hits_Q - 1)[valid_Q]]
    num_valid = int(valid_Q.sum())
    return RetrievalScores(
        protocol=settings.protocol,
        average_precision=settings.average_precision,
        metric=settings.metric,
        rerank=None if settings.rerank is None else str(settings.rerank),
        query_expansion=None if settings.query_expansion is None else str(settings.query_expansion),
        mean_ap=float(ap_Q[valid_Q].mean()),
        mean_inp=float(inp_Q[valid_Q].mean()),
        cmc={rank: float((first_rank_Q[valid_Q] <= rank).mean()) for rank in settings.cmc_at},
        tpr_at_fpr=tpr_at_fpr(counts.false_accepts_R, matches),
        num_queries=len(valid_Q),
        num_valid=num_valid,
        num_left_out=len(valid_Q) - num_valid,
        num_gallery=int((~matches.dropped_G).sum()),
        ap_Q=ap_Q,
        first_rank_Q=first_rank_Q,
        inp_Q=inp_Q,
    )


def precisions(rank_H: Int64Array, place_H: Int64Array, average_precision: str) -> Float64Array:
    """The contribution of each hit to its query's AP, before dividing by the number of hits.

    The k-th hit at rank r adds k / r (standard), or the mean of that and of the precision just before it,
    (k - 1) / (r - 1) and 1 at rank 1 (trapezoid, the original MATLAB evaluation of Market-1501).
    """
    at_hit_H = place_H / rank_H
    if average_precision == "standard":
        return at_hit_H
    just_before_H = np.where(rank_H == 1, 1.0, (place_H - 1) / np.maximum(rank_H - 1, 1))
    return (at_hit_H + just_before_H) / 2


def hit_ranks(counts: Counts, matches: MatchRows) -> tuple[Int64Array, Int64Array]:
    """Query and 1-based rank of each hit [H], not counting removed matches before it."""
    order = np.lexsort((matches.row_R, counts.distance_R, matches.query_R))
    query_R, hit_R = matches.query_R[order], matches.hit_R[order]
    removed_so_far_R = np.cumsum(~hit_R)
    removed_before_query_Q = np.concatenate([[0], removed_so_far_R])[matches.first_Q1[:-1]]
    rank_R = counts.before_R[order] + 1 - (removed_so_far_R - removed_before_query_Q[query_R])
    query_H, rank_H = query_R[hit_R], rank_R[hit_R]
    same_query = query_H[1:] == query_H[:-1]
    assert (rank_H >= 1).all(), "a hit came before the first rank"
    assert (rank_H[1:] > rank_H[:-1])[same_query].all(), "a gallery row was counted twice or not at all"
    return query_H, rank_H


def tpr_at_fpr(false_accepts_R: Int64Array, matches: MatchRows) -> dict[str, float]:
    """The TPR at each rate of `ONE_IN`, in [0, 1]; 1 if there is no wrong pair at all.

    A threshold accepts every pair up to its distance. The TPR at FPR f is the largest fraction of right pairs (query
    and hit) that a threshold accepts while accepting at most the fraction f of the wrong pairs (query and another
    person). A right pair at distance d is accepted exactly if at most f * wrong pairs are at most as far as d, so it
    suffices to count pairs and to keep the nearest hundredth of all distances.
    """
    false_accepts_H = false_accepts_R[matches.hit_R]
    wrong = matches.num_wrong_pairs
    return {rate: float((false_accepts_H <= wrong // one_in).mean()) for rate, one_in in ONE_IN.items()}
