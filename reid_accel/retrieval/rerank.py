"""k-reciprocal re-ranking (Zhong et al., CVPR 2017) on sparse neighbor sets.

No N x N array is allocated (N: queries and gallery together): neighbors come from panels of distances, sets and their
weights are sparse matrices, and the final distances are computed in panels.

Letters: N union (queries first, then gallery), Q queries, G gallery, D feature, K neighbors, E stored entries.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from reid_accel.config.checks import check_positive
from reid_accel.errors import InputError
from reid_accel.retrieval.distances import distance_panels, prepare_gallery, query_block_rows
from reid_accel.retrieval.features import Float32Array, Int64Array
from reid_accel.retrieval.knn import nearest_columns

PAIRS_PER_STEP = 8192


@dataclass(frozen=True)
class KReciprocal:
    """k-reciprocal re-ranking as in the paper: final = (1 - lambda) * Jaccard + lambda * distance."""

    k1: int = 20
    """Number of neighbors that must be reciprocal."""
    k2: int = 6
    """Number of neighbors over which encodings are averaged; 1: no averaging."""
    lambda_value: float = 0.3
    """Weight of the original distance."""

    def __post_init__(self) -> None:
        check_positive("rerank.k1", self.k1)
        check_positive("rerank.k2", self.k2)
        if self.k2 > self.k1 + 1:
            raise InputError(f"rerank.k2 must be at most k1 + 1 = {self.k1 + 1}, got {self.k2}")
        if not 0 <= self.lambda_value <= 1:
            raise InputError(f"rerank.lambda_value must be between 0 and 1, got {self.lambda_value}")

    def __str__(self) -> str:
        return f"k-reciprocal(k1={self.k1},k2={self.k2},lambda={self.lambda_value:g})"


@dataclass(frozen=True)
class Neighbors:
    """The nearest neighbors of each image of the union, including itself."""

    column_NK: Int64Array
    distance_NK: Float32Array
    """Squared euclidean distances."""
    farthest_N: Float32Array
    """The largest squared distance to any image of the union, by which distances are normalized."""


def reranked_panels(
    query_QD: torch.Tensor,
    gallery_GD: torch.Tensor,
    settings: KReciprocal,
    *,
    metric: str,
    chunk_bytes: int,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (first query row, final distances of the next query rows to all gallery rows [B, G]).

    The original distances are squared euclidean, as in the paper; for metric cosine, between unit vectors. Junk must
    be removed from the gallery, or it would be among the neighbors. The panel is overwritten by the next one.
    """
    union_ND = torch.cat([query_QD.float(), gallery_GD.float()])
    if metric == "cosine":
        union_ND = torch.nn.functional.normalize(union_ND)
    num_queries = query_QD.shape[0]
    neighbors = find_neighbors(union_ND, settings.k1 + 1, chunk_bytes)
    encoding = encode(union_ND, neighbors, settings)
    by_neighbor = encoding[num_queries:].tocsc()
    gallery = prepare_gallery(union_ND[num_queries:], metric="euclidean")
    num_gallery = gallery_GD.shape[0]
    rows = query_block_rows(num_queries, num_gallery, chunk_bytes)
    panels = distance_panels(union_ND[:num_queries], gallery, metric="euclidean", query_block=rows)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start, panel_BG in panels:
            stop = start + len(panel_BG)
            shared = pool.map(lambda row: shared_weight(encoding, by_neighbor, row), range(start, stop))
            shared_BG = torch.from_numpy(np.stack(list(shared))).to(panel_BG.device)
            farthest_B1 = torch.from_numpy(neighbors.farthest_N[start:stop, None]).to(panel_BG.device)
            jaccard_BG = 1 - shared_BG / (2 - shared_BG)
            final_BG = panel_BG[:, :num_gallery] / farthest_B1 * settings.lambda_value
            yield start, final_BG.add_(jaccard_BG, alpha=1 - settings.lambda_value)


def find_neighbors(union_ND: torch.Tensor, k: int, chunk_bytes: int) -> Neighbors:
    """The k nearest neighbors of each image of the union, starting with itself at distance 0."""
    num_union = union_ND.shape[0]
    k = min(k, num_union)
    columns, distances, farthest = [], [], []
    tiles = prepare_gallery(union_ND, metric="euclidean")
    rows = query_block_rows(num_union, num_union, chunk_bytes)
    for start, panel_BG in distance_panels(union_ND, tiles, metric="euclidean", query_block=rows):
        row_B = torch.arange(len(panel_BG), device=panel_BG.device)
        panel_BG[row_B, row_B + start] = 0  # rounding must not put an equal image before the image itself
        distance_BK, column_BK = nearest_columns(panel_BG, k)
        columns.append(column_BK.cpu())
        distances.append(distance_BK.cpu())
        farthest.append(panel_BG[:, :num_union].amax(1).cpu())
    farthest_N = torch.cat(farthest)
    if not bool((farthest_N > 0).all()):
        raise InputError("re-ranking needs features that differ: all queries and gallery rows are the same point")
    return Neighbors(torch.cat(columns).numpy(), torch.cat(distances).numpy(), farthest_N.numpy())


def encode(union_ND: torch.Tensor, neighbors: Neighbors, settings: KReciprocal) -> sparse.csr_array:
    """The k-reciprocal encodings V, one sparse row per image (equations 4, 5, 7 and 11 of the paper)."""
    entries = reciprocal_sets(neighbors.column_NK, settings.k1)
    row_E = np.repeat(np.arange(entries.shape[0]), np.diff(entries.indptr))
    distance_E = _entry_distances(union_ND, neighbors, row_E, entries.indices.astype(np.int64))
    weight_E = np.exp(-distance_E / neighbors.farthest_N[row_E])
    weight_E = weight_E / np.bincount(row_E, weight_E)[row_E]
    encoding = sparse.csr_array((weight_E.astype(np.float32), entries.indices, entries.indptr), entries.shape)
    if settings.k2 == 1:
        return encoding
    near_NK = neighbors.column_NK[:, : settings.k2]
    return _membership(near_NK, np.float32(1 / near_NK.shape[1])) @ encoding


def reciprocal_sets(column_NK: Int64Array, k1: int) -> sparse.csr_array:
    """R*(i) of each image i: a sparse matrix with an entry at (i, j) if j belongs to R*(i), indices sorted.

    R(i, k) are the mutual k + 1 nearest neighbors, including i. R*(i) is the union of R(i, k1) and all R(c, k1 / 2), c
    in R(i, k1), of which more than two thirds lie in R(i, k1).
    """
    full = _mutual(column_NK[:, : k1 + 1])
    half = _mutual(column_NK[:, : round(k1 / 2) + 1])
    common = full.multiply(full @ half.T).tocoo()  # |R(i, k1) and R(c, k1 / 2)|, for c in R(i, k1)
    size_N = np.diff(half.indptr)
    joins = 3 * common.data > 2 * size_N[common.col]
    joined = sparse.csr_array((common.data[joins], (common.row[joins], common.col[joins])), shape=full.shape)
    sets = (full + joined @ half).tocsr()
    sets.sort_indices()
    return sets


def shared_weight(encoding: sparse.csr_array, by_neighbor: sparse.csc_array, row: int) -> Float32Array:
    """s[g] = sum over j of min(V_row[j], V_g[j]) for every gallery row g [G]; only stored entries are touched."""
    own = slice(encoding.indptr[row], encoding.indptr[row + 1])
    column_J = encoding.indices[own]
    first_J = by_neighbor.indptr[column_J]
    count_J = by_neighbor.indptr[column_J + 1] - first_J
    entry_E = np.repeat(first_J - (np.cumsum(count_J) - count_J), count_J) + np.arange(count_J.sum())
    least_E = np.minimum(by_neighbor.data[entry_E], np.repeat(encoding.data[own], count_J))
    shared = np.bincount(by_neighbor.indices[entry_E], least_E, minlength=by_neighbor.shape[0])
    return shared.astype(np.float32)


def _membership(column_NK: Int64Array, value: np.float32 | np.int32) -> sparse.csr_array:
    """A sparse matrix with `value` at (i, j) for each j in row i of column_NK."""
    num_rows, k = column_NK.shape
    columns = column_NK.flatten()  # a copy, which sort_indices may reorder
    data = np.full(num_rows * k, value)
    matrix = sparse.csr_array((data, columns, np.arange(num_rows + 1) * k), shape=(num_rows, num_rows))
    matrix.sort_indices()
    return matrix


def _mutual(column_NK: Int64Array) -> sparse.csr_array:
    """1 at (i, j) where i and j are among each other's columns."""
    nearest = _membership(column_NK, np.int32(1))
    return nearest.multiply(nearest.T).tocsr()


def _entry_distances(
    union_ND: torch.Tensor, neighbors: Neighbors, row_E: Int64Array, column_E: Int64Array
) -> Float32Array:
    """Squared distances of the pairs (row, column), reusing those of the neighbors."""
    num_union = len(neighbors.column_NK)
    key_K = (np.arange(num_union)[:, None] * num_union + neighbors.column_NK).ravel()
    order = np.argsort(key_K)
    key_E = row_E * num_union + column_E
    place_E = np.minimum(np.searchsorted(key_K, key_E, sorter=order), len(key_K) - 1)
    distance_E = neighbors.distance_NK.ravel()[order[place_E]]
    unknown = np.flatnonzero(key_K[order[place_E]] != key_E)
    for first in range(0, len(unknown), PAIRS_PER_STEP):
        some = unknown[first : first + PAIRS_PER_STEP]
        difference_ED = union_ND[row_E[some]] - union_ND[column_E[some]]
        distance_E[some] = difference_ED.square().sum(1).cpu().numpy()
    return distance_E
