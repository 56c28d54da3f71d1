"""Retrieval scores and rank lists when every rank holds only some of the gallery.

Queries are the same on all ranks; the gallery's features are cut into contiguous runs of whole tiles
(`shard_rows`), one run per rank. Labels are small and go to all ranks. Features go nowhere, except to rank 0 for
re-ranking, which compares gallery rows with each other. Everything is exchanged as plain tensors, and works without a
process group too.

The numbers are the same bits on any number of ranks: tiles sit at the same global rows, each distance comes
from the one rank that holds its row, and what is added up over ranks are whole numbers, or one number and zeros.

Letters: Q queries, G the whole gallery, S this rank's gallery rows, D feature, K nearest rows, W ranks.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from reid_accel.distributed.collectives import ALONE, Group
from reid_accel.errors import InputError
from reid_accel.retrieval.api import read_unlisted, reported_distances
from reid_accel.retrieval.checks import (
    Features,
    Int64Array,
    Labels,
    as_features,
    as_optional_labels,
    check_k,
    check_pair,
)
from reid_accel.retrieval.distances import CHUNK_BYTES, GALLERY_BLOCK, exact_float32
from reid_accel.retrieval.expansion import AlphaExpansion
from reid_accel.retrieval.hit_ranks import Counts
from reid_accel.retrieval.metrics import RetrievalScores, finish_scores
from reid_accel.retrieval.protocol import MatchRows, find_match_rows
from reid_accel.retrieval.rerank import KReciprocal
from reid_accel.retrieval.search import Shard, count_matches, list_nearest
from reid_accel.retrieval.settings import Settings


def shard_rows(num_rows: int, world_size: int, rank: int, block: int = GALLERY_BLOCK) -> range:
    """The gallery rows that `rank` is to hold: a contiguous run of whole blocks, as even as blocks allow.

    >>> [shard_rows(2500, 2, rank, block=1000) for rank in range(2)]
    [range(0, 1000), range(1000, 2500)]
    """
    num_blocks = -(-num_rows // block)
    first = num_blocks * rank // world_size * block
    last = num_blocks * (rank + 1) // world_size * block
    return range(min(first, num_rows), min(last, num_rows))


def evaluate_sharded(
    query_features: Features,
    shard_features: Features,
    query_pids: Labels,
    shard_pids: Labels,
    query_cameras: Labels | None = None,
    shard_cameras: Labels | None = None,
    *,
    first_row: int,
    num_gallery: int,
    metric: str = "euclidean",
    protocol: str = "market1501",
    average_precision: str = "standard",
    ranks: tuple[int, ...] = (1, 5, 10, 20),
    rerank: KReciprocal | None = None,
    query_expansion: AlphaExpansion | None = None,
    query_rows: Labels | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    gallery_block: int = GALLERY_BLOCK,
    group: dist.ProcessGroup | None = None,
) -> RetrievalScores:
    """`ranking.evaluate` with this rank's gallery rows `first_row`, `first_row + 1`, ... of `num_gallery` only.

    Every rank of `group` calls it with the same queries and options and with the rows that `shard_rows` gives it; every
    rank gets the same scores. A row that no rank holds or two ranks hold is refused on all of them, and so
    is anything that is wrong on one rank only.
    """
    exchange = Group.of(group)

    def read() -> tuple[Settings, Problem]:
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
        problem = _read_problem(
            query_features, shard_features, query_pids, shard_pids, query_cameras, shard_cameras, query_rows
        )
        if problem.query_pids is None or problem.shard_pids is None:
            raise InputError("scores need query_pids and shard_pids")
        return settings, problem

    settings, problem = exchange.together(read)
    shard = Shard(problem.shard_SD, first_row, num_gallery)
    _check_shards(problem, shard, gallery_block, exchange)
    assert problem.query_pids is not None  # read() saw to it
    gallery_pids = _whole_labels(problem.shard_pids, shard, exchange)
    assert gallery_pids is not None
    relatives = find_match_rows(
        problem.query_pids,
        gallery_pids,
        problem.query_cameras,
        _whole_labels(problem.shard_cameras, shard, exchange),
        problem.query_rows,
        protocol,
    )
    count = count_matches if rerank is None else _count_on_first_rank
    with exact_float32(problem.query_QD.device):
        counts = count(problem.query_QD, shard, relatives, problem.query_rows, settings, exchange)
    return finish_scores(counts, relatives, settings)


def top_k_sharded(
    query_features: Features,
    shard_features: Features,
    k: int,
    *,
    first_row: int,
    num_gallery: int,
    metric: str = "euclidean",
    query_pids: Labels | None = None,
    shard_pids: Labels | None = None,
    query_cameras: Labels | None = None,
    shard_cameras: Labels | None = None,
    query_rows: Labels | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    gallery_block: int = GALLERY_BLOCK,
    group: dist.ProcessGroup | None = None,
) -> tuple[Int64Array, npt.NDArray[np.float32]]:
    """`ranking.top_k` with this rank's gallery rows only; the rows it returns are global, and the same on all ranks."""
    exchange = Group.of(group)

    def read() -> tuple[Settings, Problem]:
        settings = Settings(metric=metric, chunk_bytes=chunk_bytes, gallery_block=gallery_block)
        check_k(k, num_gallery)
        return settings, _read_problem(
            query_features, shard_features, query_pids, shard_pids, query_cameras, shard_cameras, query_rows
        )

    settings, problem = exchange.together(read)
    shard = Shard(problem.shard_SD, first_row, num_gallery)
    _check_shards(problem, shard, gallery_block, exchange)
    dropped_G, removed = read_unlisted(
        problem.query_pids,
        _whole_labels(problem.shard_pids, shard, exchange),
        problem.query_cameras,
        _whole_labels(problem.shard_cameras, shard, exchange),
        problem.query_rows,
    )
    with exact_float32(problem.query_QD.device):
        distance_QK, row_QK = list_nearest(problem.query_QD, shard, k, dropped_G, removed, settings, exchange)
    return row_QK.cpu().numpy(), reported_distances(distance_QK, metric)


@dataclass(frozen=True)
class Problem:
    """What one rank was given, as clean arrays."""

    query_QD: torch.Tensor
    shard_SD: torch.Tensor
    query_pids: Int64Array | None
    shard_pids: Int64Array | None
    query_cameras: Int64Array | None
    shard_cameras: Int64Array | None
    query_rows: Int64Array | None


def _read_problem(
    query_features: Features,
    shard_features: Features,
    query_pids: Labels | None,
    shard_pids: Labels | None,
    query_cameras: Labels | None,
    shard_cameras: Labels | None,
    query_rows: Labels | None,
) -> Problem:
    query_QD = as_features("query_features", query_features)
    shard_SD = as_features("shard_features", shard_features)
    check_pair(query_QD, shard_SD)
    num_queries, num_rows = len(query_QD), len(shard_SD)
    return Problem(
        query_QD,
        shard_SD,
        as_optional_labels("query_pids", query_pids, num_queries, "query_features"),
        as_optional_labels("shard_pids", shard_pids, num_rows, "shard_features"),
        as_optional_labels("query_cameras", query_cameras, num_queries, "query_features"),
        as_optional_labels("shard_cameras", shard_cameras, num_rows, "shard_features"),
        as_optional_labels("query_rows", query_rows, num_queries, "query_features"),
    )


def _check_shards(problem: Problem, shard: Shard, block: int, exchange: Group) -> None:
    """Refuse, on every rank, shards that aren't the whole gallery once each, and queries that differ."""
    query_bytes = problem.query_QD.contiguous().view(torch.uint8)
    labels = (problem.shard_pids, problem.shard_cameras)
    alike = [shard.num_gallery, block, query_bytes.numel(), int(query_bytes.sum(dtype=torch.int64))]
    alike += [int(label is not None) for label in labels]
    told_WI = exchange.all_gather(torch.tensor([shard.first_row, len(shard.feature_SD), *alike])).tolist()
    for rank, (*_, number, size, length, checksum, pids, cameras) in enumerate(told_WI):
        if [number, size, length, checksum, pids, cameras] != told_WI[0][2:]:
            raise InputError(
                f"ranks 0 and {rank} were given different queries, num_gallery, gallery_block, or kinds of labels"
            )
    _check_rows_once([range(first, first + count) for first, count, *_ in told_WI], shard.num_gallery, block)


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
        raise InputError(f"the ranks hold gallery rows 0 to {next_row - 1}, but num_gallery is {num_gallery}")


def _whole_labels(label_S: Int64Array | None, shard: Shard, exchange: Group) -> Int64Array | None:
    """The labels of the whole gallery, from those of each rank."""
    if label_S is None:
        return None
    whole = torch.zeros(shard.num_gallery, dtype=torch.int64)
    whole[shard.first_row : shard.first_row + len(label_S)] = torch.from_numpy(label_S)
    return exchange.all_reduce(whole).numpy()


def _count_on_first_rank(
    query_QD: torch.Tensor,
    shard: Shard,
    relatives: MatchRows,
    query_rows: Int64Array | None,
    settings: Settings,
    exchange: Group,
) -> Counts:
    """Bring the gallery to rank 0, count there, and tell the others."""
    gallery_GD = exchange.gather_rows(shard.feature_SD)

    def count() -> Counts:
        if gallery_GD is None:
            zeros = np.zeros(len(relatives.row_R), dtype=np.int64)
            return Counts(zeros.astype(np.float32), zeros, zeros)
        whole = Shard(gallery_GD, 0, shard.num_gallery)
        return count_matches(query_QD, whole, relatives, query_rows, settings, ALONE)

    counts = exchange.together(count)
    return Counts(
        exchange.all_reduce(torch.from_numpy(counts.distance_R)).numpy(),
        exchange.all_reduce(torch.from_numpy(counts.before_R)).numpy(),
        exchange.all_reduce(torch.from_numpy(counts.false_accepts_R)).numpy(),
    )
