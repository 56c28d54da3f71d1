"""Plain retrieval as a baseline: the full distance matrix, and a sort of every row.

Letters: Q queries, G gallery, N both, D feature.
"""

import numpy as np
import numpy.typing as npt
import torch

from reid_accel.retrieval.features import Int64Array
from reid_accel.retrieval.rerank import KReciprocal

Float32Array = npt.NDArray[np.float32]


def plain_mean_ap(
    query_QD: torch.Tensor,
    gallery_GD: torch.Tensor,
    query_pids: Int64Array,
    gallery_pids: Int64Array,
    query_cameras: Int64Array,
    gallery_cameras: Int64Array,
) -> float:
    """mAP under Market-1501's protocol from a sorted distance matrix; the gallery must not contain junk."""
    order_QG = _argsort(_squared_distances(query_QD, gallery_GD))
    return _mean_ap(order_QG, query_pids, gallery_pids, query_cameras, gallery_cameras)


def plain_reranked_mean_ap(
    query_QD: torch.Tensor,
    gallery_GD: torch.Tensor,
    query_pids: Int64Array,
    gallery_pids: Int64Array,
    query_cameras: Int64Array,
    gallery_cameras: Int64Array,
    *,
    rerank: KReciprocal,
) -> float:
    """The same after k-reciprocal re-ranking on dense N x N matrices."""
    union_ND = torch.cat([query_QD, gallery_GD])
    distance_NN = _squared_distances(union_ND, union_ND).cpu().numpy()
    distance_NN /= distance_NN.max(1, keepdims=True)
    final_QG = _dense_rerank(distance_NN, len(query_QD), rerank)
    return _mean_ap(final_QG.argsort(1), query_pids, gallery_pids, query_cameras, gallery_cameras)


def _squared_distances(first_QD: torch.Tensor, second_GD: torch.Tensor) -> torch.Tensor:
    sums_QG = first_QD.square().sum(1)[:, None] + second_GD.square().sum(1)
    return sums_QG.addmm_(first_QD, second_GD.T, beta=1, alpha=-2)


def _argsort(distance_QG: torch.Tensor) -> Int64Array:
    if distance_QG.device.type == "cpu":
        return distance_QG.numpy().argsort(1)
    return distance_QG.argsort(1).cpu().numpy()


def _mean_ap(
    order_QG: Int64Array,
    query_pids: Int64Array,
    gallery_pids: Int64Array,
    query_cameras: Int64Array,
    gallery_cameras: Int64Array,
) -> float:
    average_precisions = []
    for order_G, pid, camera in zip(order_QG, query_pids, query_cameras, strict=True):
        same_G = gallery_pids[order_G] == pid
        hit_K = same_G[~(same_G & (gallery_cameras[order_G] == camera))]
        rank_H = np.flatnonzero(hit_K) + 1
        if len(rank_H):
            average_precisions.append(((np.arange(len(rank_H)) + 1) / rank_H).mean())
    return float(np.mean(average_precisions))


def _dense_rerank(distance_NN: Float32Array, num_queries: int, rerank: KReciprocal) -> Float32Array:
    nearest_NN = distance_NN.argsort(1).astype(np.int32)

    def mutual(row: int, k: int) -> npt.NDArray[np.int32]:
        near = nearest_NN[row, : k + 1]
        return near[(nearest_NN[near, : k + 1] == row).any(1)]

    encoding_NN = np.zeros_like(distance_NN)
    for row in range(len(distance_NN)):
        members = mutual(row, rerank.k1)
        joined = members
        for candidate in members:
            half = mutual(candidate, round(rerank.k1 / 2))
            if 3 * len(np.intersect1d(half, members)) > 2 * len(half):
                joined = np.append(joined, half)
        joined = np.unique(joined)
        weight = np.exp(-distance_NN[row, joined])
        encoding_NN[row, joined] = weight / weight.sum()
    encoding_NN = np.stack([encoding_NN[near].mean(0) for near in nearest_NN[:, : rerank.k2]])
    holders = [np.flatnonzero(column) for column in encoding_NN[num_queries:].T]
    final_QG = np.empty((num_queries, len(distance_NN) - num_queries), np.float32)
    for row in range(num_queries):
        shared_G = np.zeros(final_QG.shape[1], np.float32)
        for column in np.flatnonzero(encoding_NN[row]):
            held = holders[column]
            shared_G[held] += np.minimum(encoding_NN[row, column], encoding_NN[num_queries + held, column])
        final_QG[row] = (1 - rerank.lambda_value) * (1 - shared_G / (2 - shared_G))
    return final_QG + rerank.lambda_value * distance_NN[:num_queries, num_queries:]
