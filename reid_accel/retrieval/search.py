"""The search itself, for one rank's part of a gallery; `ranking` and `sharded` are the doors to it.

Letters: Q queries, G the whole gallery, S this rank's gallery rows, D feature, K nearest rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from reid_accel.distributed.collectives import Group
from reid_accel.retrieval.checks import BoolArray, Int64Array, check_k
from reid_accel.retrieval.distances import GalleryTiles, distance_panels, prepare_gallery, query_block_rows
from reid_accel.retrieval.expansion import expand_queries
from reid_accel.retrieval.hit_ranks import Counts, count_all
from reid_accel.retrieval.knn import Cells, merge_nearest, nearest_rows
from reid_accel.retrieval.protocol import MatchRows
from reid_accel.retrieval.rerank import KReciprocal, reranked_panels
from reid_accel.retrieval.settings import Settings


@dataclass(frozen=True)
class Shard:
    """Some contiguous rows of a gallery."""

    feature_SD: torch.Tensor
    first_row: int
    num_gallery: int
    """Rows of the whole gallery."""

    def tiles(self, metric: str, dropped_G: BoolArray | None, block: int) -> GalleryTiles:
        rows = slice(self.first_row, self.first_row + len(self.feature_SD))
        dropped_S = None if dropped_G is None else dropped_G[rows]
        return prepare_gallery(
            self.feature_SD, metric=metric, dropped_G=dropped_S, first_row=self.first_row, block=block
        )


def count_matches(
    query_QD: torch.Tensor,
    shard: Shard,
    relatives: MatchRows,
    query_rows: Int64Array | None,
    settings: Settings,
    ranks: Group,
) -> Counts:
    """The counts that `finish_scores` turns into scores, the same on every rank.

    Re-ranking compares gallery rows with each other and needs them all in `shard`.
    """
    if settings.query_expansion is not None:
        query_QD = _expand(query_QD, shard, relatives, query_rows, settings, ranks)
    if settings.rerank is not None:
        assert len(shard.feature_SD) == shard.num_gallery, "re-ranking needs the whole gallery"
        panels = _reranked_panels(query_QD, shard.feature_SD, relatives.dropped_G, settings.rerank, settings)
    else:
        block = settings.gallery_block
        tiles = ranks.together(lambda: shard.tiles(settings.metric, relatives.dropped_G, block))
        rows = query_block_rows(len(query_QD), shard.num_gallery, settings.chunk_bytes, block)
        panels = distance_panels(query_QD, tiles, metric=settings.metric, query_block=rows)
    return count_all(
        panels,
        relatives,
        first_row=shard.first_row,
        num_rows=len(shard.feature_SD),
        sum_over_ranks=ranks.all_reduce,
    )


def list_nearest(
    query_QD: torch.Tensor,
    shard: Shard,
    k: int,
    dropped_G: BoolArray | None,
    removed: Cells | None,
    settings: Settings,
    ranks: Group,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(distances, rows) of the k nearest of the whole gallery [Q, K], the same on every rank."""
    block = settings.gallery_block
    tiles = ranks.together(lambda: shard.tiles(settings.metric, dropped_G, block))
    rows = query_block_rows(len(query_QD), shard.num_gallery, settings.chunk_bytes, block)
    distance_QK, row_QK = nearest_rows(query_QD, tiles, k, metric=settings.metric, query_block=rows, removed=removed)
    return merge_nearest(ranks.all_gather(distance_QK), ranks.all_gather(row_QK), k)


def _expand(
    query_QD: torch.Tensor,
    shard: Shard,
    relatives: MatchRows,
    query_rows: Int64Array | None,
    settings: Settings,
    ranks: Group,
) -> torch.Tensor:
    """Queries averaged with what they find by cosine: no junk, and not themselves under course-strict."""
    expansion = settings.query_expansion
    assert expansion is not None
    check_k(expansion.k, int((~relatives.dropped_G).sum()), "query_expansion.k")
    itself: Cells | None = None
    if settings.protocol == "course-strict" and query_rows is not None:
        itself = (np.arange(len(query_rows)), query_rows)
    by_cosine = Settings(metric="cosine", chunk_bytes=settings.chunk_bytes, gallery_block=settings.gallery_block)
    _, row_QK = list_nearest(query_QD, shard, expansion.k, relatives.dropped_G, itself, by_cosine, ranks)

    def rows_of_all_ranks(row_QK: torch.Tensor) -> torch.Tensor:
        column_QK = row_QK - shard.first_row
        held_QK = (column_QK >= 0) & (column_QK < len(shard.feature_SD))
        feature_QKD = query_QD.new_zeros(*row_QK.shape, query_QD.shape[1], dtype=torch.float32)
        feature_QKD[held_QK] = shard.feature_SD[column_QK[held_QK]].float()
        return ranks.all_reduce(feature_QKD)

    return expand_queries(query_QD, row_QK, rows_of_all_ranks, expansion)


def _reranked_panels(
    query_QD: torch.Tensor,
    gallery_GD: torch.Tensor,
    dropped_G: BoolArray,
    rerank: KReciprocal,
    settings: Settings,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Re-ranked distances to every gallery row; junk takes no part in re-ranking and is infinitely far."""
    kept_G = torch.from_numpy(~dropped_G).to(gallery_GD.device)
    kept_KD = gallery_GD[kept_G] if dropped_G.any() else gallery_GD
    panels = reranked_panels(query_QD, kept_KD, rerank, metric=settings.metric, chunk_bytes=settings.chunk_bytes)
    for start, panel_BK in panels:
        panel_BG = torch.full((len(panel_BK), len(gallery_GD)), torch.inf, device=panel_BK.device)
        panel_BG[:, kept_G] = panel_BK
        yield start, panel_BG
