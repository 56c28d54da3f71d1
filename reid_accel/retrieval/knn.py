"""The k nearest gallery rows of each query, ties in favor of the lower row.

Letters: Q queries, B rows of a panel, G its columns, K nearest ones, C removed pairs, W lists to merge.
"""

from dataclasses import dataclass

import torch

from reid_accel.retrieval.distances import GalleryTiles, distance_panels
from reid_accel.retrieval.features import BoolArray, Int64Array

NO_ROW = -1


@dataclass(frozen=True)
class Removed:
    """What a protocol removes from rank lists."""

    dropped_G: BoolArray
    """Junk, removed from all lists."""
    query_C: Int64Array
    """(query, gallery row) pairs, ascending by query."""
    row_C: Int64Array


def nearest_rows(
    query_QD: torch.Tensor,
    gallery: GalleryTiles,
    k: int,
    *,
    metric: str,
    query_block: int,
    removed: Removed,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(distances, global rows) of the k nearest [Q, K], nearest first; distances as in `distance_panels`.

    Dropped rows are infinitely far in `gallery` already. If fewer than k rows remain, the list is padded with row -1 at
    an infinite distance.
    """
    num_queries, device = query_QD.shape[0], query_QD.device
    distance_QK = torch.full((num_queries, k), torch.inf, device=device)
    row_QK = torch.full((num_queries, k), NO_ROW, dtype=torch.int64, device=device)
    for start, panel_BG in distance_panels(query_QD, gallery, metric=metric, query_block=query_block):
        _remove_pairs(panel_BG, removed, start, gallery)
        distance_BK, column_BK = nearest_columns(panel_BG, min(k, gallery.width))
        stop, found = start + len(panel_BG), column_BK.shape[1]
        distance_QK[start:stop, :found] = distance_BK
        row_QK[start:stop, :found] = column_BK + gallery.first_row
    return distance_QK, row_QK.masked_fill(distance_QK.isinf(), NO_ROW)


def nearest_columns(panel_BG: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(distances, columns) of the k nearest [B, K], in the order of a stable sort of each row."""
    width = panel_BG.shape[1]
    distance_BK, column_BK = panel_BG.topk(min(k + 1, width), dim=1, largest=False)
    # topk leaves the order of equal distances open, and whether the last one in has an equal left outside
    tied_B = ((distance_BK[:, 1:] == distance_BK[:, :-1]) & distance_BK[:, 1:].isfinite()).any(1)
    distance_BK, column_BK = distance_BK[:, :k].contiguous(), column_BK[:, :k].contiguous()
    for row in torch.nonzero(tied_B)[:, 0].tolist():
        candidates = torch.nonzero(panel_BG[row] <= distance_BK[row, -1])[:, 0]
        order = panel_BG[row, candidates].sort(stable=True).indices[:k]
        column_BK[row] = candidates[order]
        distance_BK[row] = panel_BG[row, column_BK[row]]
    return distance_BK, column_BK


def merge_nearest(distance_WQK: torch.Tensor, row_WQK: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(distances, rows) of the k nearest over W lists of candidates, ties in favor of the lower row."""
    distance_QC = distance_WQK.movedim(0, 1).flatten(1)
    row_QC = row_WQK.movedim(0, 1).flatten(1)
    by_row = row_QC.argsort(dim=1, stable=True)
    distance_QC, row_QC = distance_QC.gather(1, by_row), row_QC.gather(1, by_row)
    nearest = distance_QC.argsort(dim=1, stable=True)[:, :k]
    return distance_QC.gather(1, nearest), row_QC.gather(1, nearest)


def _remove_pairs(panel_BG: torch.Tensor, removed: Removed, start: int, gallery: GalleryTiles) -> None:
    """Make the removed pairs of a panel infinitely far, in place."""
    query_C, row_C = removed.query_C, removed.row_C - gallery.first_row
    here_C = (query_C >= start) & (query_C < start + len(panel_BG))
    here_C = here_C & (row_C >= 0) & (row_C < gallery.feature_GD.shape[0])
    panel_BG[query_C[here_C] - start, row_C[here_C]] = torch.inf
