"""Retrieval scores and rank lists: exact, in bounded memory, from features and labels alone.

No matrix of all distances and no full sort: an AP needs only how many gallery rows come before each hit.
`tiles` makes distances a panel at a time, `relatives` reads from the labels which rows are hits and which are to
be ignored, `counting` counts rows before each hit, `scores` turns counts into scores. `sharded` has the same two
functions for a gallery that is spread over ranks.

Letters: Q queries, G gallery, D feature, K nearest rows.
"""

import numpy as np
import numpy.typing as npt
import torch

from reid_accel.distributed.collectives import ALONE
from reid_accel.errors import InputError
from reid_accel.retrieval.checks import (
    BoolArray,
    Features,
    Int64Array,
    Labels,
    as_features,
    as_labels,
    as_optional_labels,
    check_k,
    check_pair,
)
from reid_accel.retrieval.distances import CHUNK_BYTES, GALLERY_BLOCK, exact_float32
from reid_accel.retrieval.expansion import AlphaExpansion
from reid_accel.retrieval.knn import Cells
from reid_accel.retrieval.metrics import RetrievalScores, finish_scores
from reid_accel.retrieval.protocol import find_match_rows, unlisted_rows
from reid_accel.retrieval.rerank import KReciprocal
from reid_accel.retrieval.search import Shard, count_matches, list_nearest
from reid_accel.retrieval.settings import Settings


def evaluate(
    query_features: Features,
    gallery_features: Features,
    query_pids: Labels,
    gallery_pids: Labels,
    query_cameras: Labels | None = None,
    gallery_cameras: Labels | None = None,
    *,
    metric: str = "euclidean",
    protocol: str = "market1501",
    average_precision: str = "standard",
    ranks: tuple[int, ...] = (1, 5, 10, 20),
    rerank: KReciprocal | None = None,
    query_expansion: AlphaExpansion | None = None,
    query_rows: Labels | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    gallery_block: int = GALLERY_BLOCK,
) -> RetrievalScores:
    """Score queries [Q, D] against a gallery [G, D]; both on one device, float32, float16 or bfloat16.

    metric: "euclidean" (orders like the mean squared difference) or "cosine". Distances are computed in float32;
    equal ones are ordered by gallery row.
    protocol: "market1501" drops gallery pid -1, removes rows of the query's pid and camera, and needs cameras;
    "course" removes nothing; "course-strict" removes the query itself, gallery row `query_rows[q]`. A gallery pid
    of 0 stays and matches nobody.
    average_precision: "standard", or "trapezoid" as in the original MATLAB evaluation (Zheng et al., ICCV 2015).
    ranks: those of the CMC.
    chunk_bytes: the size of a panel of distances. gallery_block: gallery rows per tile; another number may
    change the last bit of a distance.

    Raises InputError for what cannot be scored: NaN, lengths that don't fit, no query with a match.

    >>> scores = evaluate(np.eye(2), np.eye(2), [1, 2], [1, 2], [0, 0], [1, 1])
    >>> scores.mean_ap, scores.cmc[1]
    (1.0, 1.0)
    """
    settings = Settings(
        metric=metric,
        protocol=protocol,
        average_precision=average_precision,
        ranks=ranks,
        rerank=rerank,
        query_expansion=query_expansion,
        chunk_bytes=chunk_bytes,
        gallery_block=gallery_block,
    )
    query_QD = as_features("query_features", query_features)
    gallery_GD = as_features("gallery_features", gallery_features)
    check_pair(query_QD, gallery_GD)
    own_rows = as_optional_labels("query_rows", query_rows, len(query_QD), "query_features")
    relatives = find_match_rows(
        as_labels("query_pids", query_pids, len(query_QD), "query_features"),
        as_labels("gallery_pids", gallery_pids, len(gallery_GD), "gallery_features"),
        as_optional_labels("query_cameras", query_cameras, len(query_QD), "query_features"),
        as_optional_labels("gallery_cameras", gallery_cameras, len(gallery_GD), "gallery_features"),
        own_rows,
        protocol,
    )
    shard = Shard(gallery_GD, 0, len(gallery_GD))
    with exact_float32(query_QD.device):
        counts = count_matches(query_QD, shard, relatives, own_rows, settings, ALONE)
    return finish_scores(counts, relatives, settings)


def top_k(
    query_features: Features,
    gallery_features: Features,
    k: int,
    *,
    metric: str = "euclidean",
    query_pids: Labels | None = None,
    gallery_pids: Labels | None = None,
    query_cameras: Labels | None = None,
    gallery_cameras: Labels | None = None,
    query_rows: Labels | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    gallery_block: int = GALLERY_BLOCK,
) -> tuple[Int64Array, npt.NDArray[np.float32]]:
    """The k nearest gallery rows of each query: (rows [Q, K] int64, distances [Q, K] float32), best first.

    Distances are euclidean (not squared) or 1 - cosine; equal ones are ordered by gallery row. With all four
    labels, Market-1501's junk rules apply: gallery pid -1 and rows of the query's pid and camera aren't listed.
    With `query_rows`, gallery row `query_rows[q]` (the query itself) isn't. Where that leaves fewer than k rows, row
    -1 at an infinite distance fills the list.

    >>> rows, distances = top_k(np.array([[0.0]]), np.array([[3.0], [1.0], [-1.0]]), 2)
    >>> rows.tolist(), distances.tolist()
    ([[1, 2]], [[1.0, 1.0]])
    """
    settings = Settings(metric=metric, chunk_bytes=chunk_bytes, gallery_block=gallery_block)
    query_QD = as_features("query_features", query_features)
    gallery_GD = as_features("gallery_features", gallery_features)
    check_pair(query_QD, gallery_GD)
    check_k(k, len(gallery_GD))
    dropped_G, removed = read_unlisted(
        as_optional_labels("query_pids", query_pids, len(query_QD), "query_features"),
        as_optional_labels("gallery_pids", gallery_pids, len(gallery_GD), "gallery_features"),
        as_optional_labels("query_cameras", query_cameras, len(query_QD), "query_features"),
        as_optional_labels("gallery_cameras", gallery_cameras, len(gallery_GD), "gallery_features"),
        as_optional_labels("query_rows", query_rows, len(query_QD), "query_features"),
    )
    shard = Shard(gallery_GD, 0, len(gallery_GD))
    with exact_float32(query_QD.device):
        distance_QK, row_QK = list_nearest(query_QD, shard, k, dropped_G, removed, settings, ALONE)
    return row_QK.cpu().numpy(), reported_distances(distance_QK, metric)


def read_unlisted(
    query_pids: Int64Array | None,
    gallery_pids: Int64Array | None,
    query_cameras: Int64Array | None,
    gallery_cameras: Int64Array | None,
    query_rows: Int64Array | None,
) -> tuple[BoolArray | None, Cells | None]:
    """What rank lists leave out: (junk rows [G], removed pairs), None where nothing is asked for."""
    own = None if query_rows is None else (np.arange(len(query_rows)), query_rows)
    if query_pids is None and gallery_pids is None and query_cameras is None and gallery_cameras is None:
        return None, own
    if query_pids is None or gallery_pids is None or query_cameras is None or gallery_cameras is None:
        raise InputError("junk rules need all of query_pids, gallery_pids, query_cameras and gallery_cameras")
    dropped_G, again = unlisted_rows(query_pids, gallery_pids, query_cameras, gallery_cameras)
    if own is None:
        return dropped_G, again
    return dropped_G, (np.concatenate([again[0], own[0]]), np.concatenate([again[1], own[1]]))


def reported_distances(distance_QK: torch.Tensor, metric: str) -> npt.NDArray[np.float32]:
    """Distances as people read them: a euclidean one is the root of what is compared inside."""
    distances = distance_QK.cpu().numpy()
    return np.sqrt(distances) if metric == "euclidean" else distances
