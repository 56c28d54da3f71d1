"""Retrieval scores and rank lists: exact, in bounded memory, from features and labels alone.

There is no full distance matrix and no full sort: an AP needs only the number of gallery rows before each hit.
`distances` computes distances panel by panel, `protocol` derives hits and removed rows from the labels, `hit_ranks`
counts rows before each hit, `metrics` turns counts into scores.

A gallery may be sharded over the processes of a group: one contiguous run of full tiles (`distances.shard_rows`) per
process. Queries and labels are the same on all of them. Features are not exchanged, except for re-ranking, which
compares gallery rows with each other on rank 0. The scores are bit-identical for any number of processes: tiles start
at the same global rows, each distance comes from the one process that has its row, and sums over processes are sums of
integers, or of one number and zeros.

Letters: Q queries, G the full gallery, S this process's gallery rows, K nearest rows, W processes.
"""

import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from reid_accel.config.checks import check_positive
from reid_accel.distributed.collectives import ALONE, Group
from reid_accel.errors import InputError
from reid_accel.retrieval.distances import (
    GalleryTiles,
    distance_panels,
    exact_float32,
    prepare_gallery,
    query_block_rows,
)
from reid_accel.retrieval.expansion import expand_queries
from reid_accel.retrieval.features import BoolArray, Embeddings, Float32Array, Int64Array
from reid_accel.retrieval.hit_ranks import Counts, count_hit_ranks
from reid_accel.retrieval.knn import Removed, merge_nearest, nearest_rows
from reid_accel.retrieval.metrics import RetrievalScores, finish_scores
from reid_accel.retrieval.protocol import NOTHING_REMOVED, MatchRows, Settings, find_match_rows, find_removed
from reid_accel.retrieval.rerank import reranked_panels


def evaluate(
    query: Embeddings, gallery: Embeddings, settings: Settings | None = None, group: Group = ALONE
) -> RetrievalScores:
    """Score queries against a gallery, by default by the protocol of Market-1501.

    group: the processes that share a sharded gallery. Each of them calls this with the same queries and settings and
    its gallery rows by `shard_rows`, and gets the same scores.
    Raises InputError for NaN, missing labels, or if no query has a match. An error on one process is raised on all.

    >>> query = Embeddings.of(np.eye(2), pids=[1, 2], cameras=[0, 0])
    >>> gallery = Embeddings.of(np.eye(2), pids=[1, 2], cameras=[1, 1])
    >>> scores = evaluate(query, gallery)
    >>> scores.mean_ap, scores.cmc[1]
    (1.0, 1.0)
    """
    settings = settings or Settings()

    def find() -> MatchRows:
        _check_pair(query, gallery)
        return find_match_rows(query, gallery, settings.protocol)

    matches = group.together(find)
    _check_shards(query, gallery, settings, group)
    with exact_float32(query.embedding_SD.device):
        counts = _count(query, gallery, matches, settings, group)
    return finish_scores(counts, matches, settings)


def top_k(
    query: Embeddings,
    gallery: Embeddings,
    k: int,
    settings: Settings = NOTHING_REMOVED,
    group: Group = ALONE,
) -> tuple[Int64Array, Float32Array]:
    """The k nearest gallery rows of each query: (rows [Q, K] int64, distances [Q, K] float32), best first.

    Distances are euclidean (not squared) or 1 - cosine; ties are ordered by gallery row. Rows that the protocol of
    `settings` removes are left out, by default none. If fewer than k rows remain, the list is padded with row -1 at an
    infinite distance. group: as in `evaluate`.

    >>> gallery = Embeddings.of(np.array([[3.0], [1.0], [-1.0]]))
    >>> rows, distances = top_k(Embeddings.of(np.array([[0.0]])), gallery, 2)
    >>> rows.tolist(), distances.tolist()
    ([[1, 2]], [[1.0, 1.0]])
    """

    def find() -> Removed:
        if settings.rerank is not None or settings.query_expansion is not None:
            raise InputError("rank lists are neither re-ranked nor expanded: leave rerank and query_expansion out")
        _check_pair(query, gallery)
        _check_k(k, gallery.num_rows)
        return find_removed(query, gallery, settings.protocol)

    removed = group.together(find)
    _check_shards(query, gallery, settings, group)
    with exact_float32(query.embedding_SD.device):
        distance_QK, row_QK = _list_nearest(query, gallery, k, removed, settings, group)
    distances = distance_QK.cpu().numpy()
    # inside, euclidean distances are squared
    return row_QK.cpu().numpy(), np.sqrt(distances) if settings.metric == "euclidean" else distances


def _count(query: Embeddings, gallery: Embeddings, matches: MatchRows, settings: Settings, group: Group) -> Counts:
    """The counts that `finish_scores` turns into scores, the same on every process."""
    if settings.rerank is not None and group.size > 1:
        return _count_on_main(query, gallery, matches, settings, group)
    if settings.query_expansion is not None:
        query = _expand(query, gallery, matches, settings, group)
    if settings.rerank is not None:
        panels = _reranked_panels(query.embedding_SD, gallery.embedding_SD, matches, settings)
    else:
        panels = _panels(query, gallery, matches, settings, group)
    return count_hit_ranks(panels, matches, gallery.rows, group)


def _count_on_main(
    query: Embeddings, gallery: Embeddings, matches: MatchRows, settings: Settings, group: Group
) -> Counts:
    """Gather the gallery on rank 0, count there, and broadcast the counts."""
    gallery_GD = group.gather_rows(gallery.embedding_SD)

    def count() -> Counts:
        if gallery_GD is None:
            zeros = np.zeros(len(matches.row_R), dtype=np.int64)
            return Counts(zeros.astype(np.float32), zeros, zeros)
        full = replace(gallery, embedding_SD=gallery_GD, rows=range(gallery.num_rows))
        return _count(query, full, matches, settings, ALONE)

    counts = group.together(count)
    return Counts(
        group.all_reduce(torch.from_numpy(counts.distance_R)).numpy(),
        group.all_reduce(torch.from_numpy(counts.before_R)).numpy(),
        group.all_reduce(torch.from_numpy(counts.false_accepts_R)).numpy(),
    )


def _panels(
    query: Embeddings, gallery: Embeddings, matches: MatchRows, settings: Settings, group: Group
) -> Iterator[tuple[int, torch.Tensor]]:
    """Distances of all queries to this process's gallery rows."""
    tiles = group.together(lambda: _tiles(gallery, matches.dropped_G, settings))
    rows = query_block_rows(query.num_rows, gallery.num_rows, settings.chunk_bytes, settings.gallery_block)
    return distance_panels(query.embedding_SD, tiles, metric=settings.metric, query_block=rows)


def _list_nearest(
    query: Embeddings, gallery: Embeddings, k: int, removed: Removed, settings: Settings, group: Group
) -> tuple[torch.Tensor, torch.Tensor]:
    """(distances, rows) of the k nearest of the full gallery [Q, K], the same on every process."""
    tiles = group.together(lambda: _tiles(gallery, removed.dropped_G, settings))
    rows = query_block_rows(query.num_rows, gallery.num_rows, settings.chunk_bytes, settings.gallery_block)
    distance_QK, row_QK = nearest_rows(
        query.embedding_SD, tiles, k, metric=settings.metric, query_block=rows, removed=removed
    )
    return merge_nearest(group.all_gather(distance_QK), group.all_gather(row_QK), k)


def _tiles(gallery: Embeddings, dropped_G: BoolArray, settings: Settings) -> GalleryTiles:
    first, last = gallery.rows.start, gallery.rows.stop
    return prepare_gallery(
        gallery.embedding_SD,
        metric=settings.metric,
        dropped_G=dropped_G[first:last],
        first_row=first,
        block=settings.gallery_block,
    )


def _expand(query: Embeddings, gallery: Embeddings, matches: MatchRows, settings: Settings, group: Group) -> Embeddings:
    """Queries averaged with their nearest neighbors by cosine: no junk, and not themselves under course-strict."""
    expansion = settings.query_expansion
    assert expansion is not None
    _check_k(expansion.k, int((~matches.dropped_G).sum()), "query_expansion.k")
    none = np.empty(0, np.int64)
    removed = Removed(matches.dropped_G, none, none)
    if settings.protocol == "course-strict":
        removed = find_removed(query, gallery, settings.protocol)
    by_cosine = replace(settings, metric="cosine")
    _, row_QK = _list_nearest(query, gallery, expansion.k, removed, by_cosine, group)

    def rows_of_all_processes(row_QK: torch.Tensor) -> torch.Tensor:
        column_QK = row_QK - gallery.rows.start
        held_QK = (column_QK >= 0) & (column_QK < len(gallery.rows))
        feature_QKD = query.embedding_SD.new_zeros(*row_QK.shape, query.embedding_SD.shape[1], dtype=torch.float32)
        feature_QKD[held_QK] = gallery.embedding_SD[column_QK[held_QK]].float()
        return group.all_reduce(feature_QKD)

    expanded_QD = expand_queries(query.embedding_SD, row_QK, rows_of_all_processes, expansion)
    return replace(query, embedding_SD=expanded_QD)


def _reranked_panels(
    query_QD: torch.Tensor, gallery_GD: torch.Tensor, matches: MatchRows, settings: Settings
) -> Iterator[tuple[int, torch.Tensor]]:
    """Re-ranked distances to every gallery row; junk is excluded from re-ranking and infinitely far."""
    assert settings.rerank is not None
    kept_G = torch.from_numpy(~matches.dropped_G).to(gallery_GD.device)
    kept_KD = gallery_GD[kept_G] if matches.dropped_G.any() else gallery_GD
    panels = reranked_panels(
        query_QD, kept_KD, settings.rerank, metric=settings.metric, chunk_bytes=settings.chunk_bytes
    )
    for start, panel_BK in panels:
        panel_BG = torch.full((len(panel_BK), len(gallery_GD)), torch.inf, device=panel_BK.device)
        panel_BG[:, kept_G] = panel_BK
        yield start, panel_BG


def _check_pair(query: Embeddings, gallery: Embeddings) -> None:
    """Raise InputError for two sets that cannot be compared."""
    query_QD, gallery_SD = query.embedding_SD, gallery.embedding_SD
    if not query.is_complete:
        raise InputError(f"queries must be complete on every process, got rows {query.rows} of {query.num_rows}")
    if query_QD.shape[1] != gallery_SD.shape[1]:
        raise InputError(
            f"query_features have dimension {query_QD.shape[1]}, gallery_features {gallery_SD.shape[1]}: "
            "both must come from the same model"
        )
    if query_QD.device != gallery_SD.device:
        raise InputError(
            f"query_features are on {query_QD.device}, gallery_features on {gallery_SD.device}: move one of them"
        )
    if query.num_rows == 0:
        raise InputError("query_features has no rows: there is nothing to search for")


def _check_k(k: int, num_gallery: int, name: str = "k") -> None:
    """Raise InputError if k exceeds the number of gallery rows."""
    check_positive(name, k)
    if num_gallery == 0:
        raise InputError("the gallery is empty: there is nothing to rank")
    if k > num_gallery:
        raise InputError(f"{name} must be at most the gallery's {num_gallery} rows, got {k}")


def _check_shards(query: Embeddings, gallery: Embeddings, settings: Settings, group: Group) -> None:
    """Raise InputError on every process unless the shards partition the gallery and the queries are equal."""
    own = [gallery.rows.start, len(gallery.rows)]
    alike = _checksums(query, gallery, settings) if group.size > 1 else []
    received_WI = group.all_gather(torch.tensor([*own, *alike])).tolist()
    for rank, numbers in enumerate(received_WI):
        if numbers[2:] != received_WI[0][2:]:
            raise InputError(f"ranks 0 and {rank} were given different queries, labels or settings")
    held_W = [range(first, first + count) for first, count, *_ in received_WI]
    _check_rows_once(held_W, gallery.num_rows, settings.gallery_block)


def _checksums(query: Embeddings, gallery: Embeddings, settings: Settings) -> list[int]:
    """Checksums of what must be the same on all processes."""
    query_bytes = query.embedding_SD.contiguous().view(torch.uint8)
    labels = [label_N for own in (query, gallery) for label_N in (own.pid_N, own.camera_N, own.tracklet_N)]
    return [
        gallery.num_rows,
        query_bytes.numel(),
        int(query_bytes.sum(dtype=torch.int64)),
        zlib.crc32(repr(settings).encode()),
        *(zlib.crc32(np.ascontiguousarray(label).data) for label in labels),
    ]


def _check_rows_once(held_W: list[range], num_gallery: int, block: int) -> None:
    next_row = 0
    for rank, held in enumerate(held_W):
        if not held:
            continue
        if held.start > next_row:
            raise InputError(f"gallery rows {next_row} to {held.start - 1} are held by no rank before rank {rank}")
        if held.start < next_row:
            raise InputError(f"gallery row {held.start} is held by rank {rank} and by another one before it")
        if held.start % block:
            raise InputError(f"rank {rank} holds rows from {held.start} on, which is no multiple of {block}")
        next_row = held.stop
    if next_row != num_gallery:
        raise InputError(f"the ranks hold gallery rows 0 to {next_row - 1}, but the gallery has {num_gallery}")
