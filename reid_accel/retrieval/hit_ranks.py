"""How many gallery rows come before each hit: all that AP, CMC and INP need to know about a ranking.

Letters: Q queries, G gallery columns of this rank, R relatives (`MatchRows`), H hits of a block, B block rows.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from reid_accel.retrieval.checks import BoolArray, Int64Array
from reid_accel.retrieval.protocol import MatchRows
from reid_accel.retrieval.verification import NearestPairs, count_false_accepts

Float32Array = npt.NDArray[np.float32]

MOST_ROWS_PER_TASK = 32
DISTANCES_PER_TASK = 2**19
TIES_PER_STEP = 256

SumOverRanks = Callable[[torch.Tensor], torch.Tensor]
"""Adds up one tensor over all ranks, element by element, and gives every rank the sum."""


@dataclass(frozen=True)
class Counts:
    """What one pass over all distances leaves behind."""

    distance_R: Float32Array
    """Distance of each relative."""
    before_R: Int64Array
    """Gallery rows that come before each hit, removed relatives included; 0 for relatives that are no hit."""
    false_accepts_R: Int64Array
    """Wrong pairs of the whole problem that are as near as each hit or nearer; 0 for relatives that are no hit."""


@dataclass(frozen=True)
class BlockHits:
    """The hits of one block of queries, with the columns where this rank would hold them."""

    first_B1: Int64Array
    distance_H: Float32Array
    column_H: Int64Array
    """Below 0 or beyond the panel where another rank holds the row."""


def alone(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over the ranks of a single rank."""
    return tensor


def count_all(
    panels: Iterator[tuple[int, torch.Tensor]],
    relatives: MatchRows,
    *,
    first_row: int = 0,
    num_rows: int | None = None,
    sum_over_ranks: SumOverRanks = alone,
) -> Counts:
    """Run through panels of distances and count, for this rank's gallery rows, then over all ranks.

    `panels` yields (first query, distances [B, width]); columns are the gallery rows `first_row` to
    `first_row + num_rows`, columns beyond them infinite. A hit's distance is read from the same panel that it is
    counted in, so it compares as exactly equal to itself.
    """
    if num_rows is None:
        num_rows = len(relatives.dropped_G) - first_row
    distance_R = np.zeros(len(relatives.row_R), dtype=np.float32)
    before_R = np.zeros(len(relatives.row_R), dtype=np.int64)
    nearest = NearestPairs.wanted_for(relatives)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start, panel_BG in panels:
            first, last = relatives.first_Q1[[start, start + len(panel_BG)]]
            column_R = relatives.row_R[first:last] - first_row
            block_row_R = relatives.query_R[first:last] - start
            held_R = (column_R >= 0) & (column_R < num_rows)
            shared = torch.zeros(last - first, device=panel_BG.device)
            shared[torch.from_numpy(held_R)] = panel_BG[block_row_R[held_R], column_R[held_R]]
            distance_R[first:last] = sum_over_ranks(shared).cpu().numpy()
            hit_R = relatives.hit_R[first:last]
            hits = BlockHits(
                np.searchsorted(block_row_R[hit_R], np.arange(len(panel_BG) + 1)).astype(np.int64),
                distance_R[first:last][hit_R],
                column_R[hit_R],
            )
            count = count_rows if panel_BG.device.type == "cpu" else count_sorted
            before_R[first:last][hit_R] = count(panel_BG, hits, nearest, pool)
    all_before = sum_over_ranks(torch.from_numpy(before_R)).numpy()
    accepts = sum_over_ranks(torch.from_numpy(nearest.as_near_as(distance_R, relatives.hit_R))).numpy()
    return Counts(distance_R, all_before, count_false_accepts(accepts, distance_R, relatives))


def count_rows(panel_BG: torch.Tensor, hits: BlockHits, nearest: NearestPairs, pool: ThreadPoolExecutor) -> Int64Array:
    """Rows before each hit, on the CPU: per query, what lies beyond its farthest hit is thrown away unsorted."""
    distance_BG: Float32Array = panel_BG.numpy()
    counted = np.flatnonzero(np.diff(hits.first_B1))
    before_H = np.zeros(len(hits.distance_H), dtype=np.int64)

    def count_some(rows: Int64Array, limit: np.float32) -> list[Float32Array]:
        near = []
        for row in rows:
            part = slice(hits.first_B1[row], hits.first_B1[row + 1])
            before_H[part], candidates = _count_row(distance_BG[row], hits.distance_H[part], hits.column_H[part], limit)
            near.append(candidates)
        return near

    # few distances at a time, for all of the first ones are still candidates
    rows_per_task = min(MOST_ROWS_PER_TASK, max(1, DISTANCES_PER_TASK // max(1, distance_BG.shape[1])))
    wave = rows_per_task * torch.get_num_threads()
    for first in range(0, len(counted), wave):
        rows = counted[first : first + wave]
        tasks = [rows[begin : begin + rows_per_task] for begin in range(0, len(rows), rows_per_task)]
        for near in pool.map(count_some, tasks, [nearest.limit] * len(tasks)):
            for candidates in near:
                nearest.add(candidates)
    return before_H


def count_sorted(
    panel_BG: torch.Tensor, hits: BlockHits, nearest: NearestPairs, pool: ThreadPoolExecutor
) -> Int64Array:
    """Rows before each hit on any device: the whole panel is sorted at once."""
    del pool  # the device has its own threads
    device = panel_BG.device
    num_hits_B = np.diff(hits.first_B1)
    counted_B = torch.from_numpy(num_hits_B > 0).to(device)
    row_H = np.repeat(np.arange(len(num_hits_B)), num_hits_B)
    slot_H = np.arange(len(row_H)) - hits.first_B1[row_H]
    hit_BS = torch.full((len(num_hits_B), int(num_hits_B.max(initial=0))), torch.inf, device=device)
    hit_BS[row_H, slot_H] = torch.from_numpy(hits.distance_H).to(device)
    sorted_BG = panel_BG.sort(dim=1).values
    low_H = torch.searchsorted(sorted_BG, hit_BS)[row_H, slot_H].cpu().numpy()
    high_H = torch.searchsorted(sorted_BG, hit_BS, right=True)[row_H, slot_H].cpu().numpy()
    near = panel_BG[(panel_BG <= float(nearest.limit)) & counted_B[:, None]]
    nearest.add(near.cpu().numpy())
    return low_H + _equals_before(panel_BG, hits, row_H, high_H - low_H)


def _count_row(
    distance_G: Float32Array, hit_H: Float32Array, column_H: Int64Array, limit: np.float32
) -> tuple[Int64Array, Float32Array]:
    """Rows before each hit of one query, and the distances up to `limit` (sorted)."""
    near = distance_G[distance_G <= max(hit_H.max(), limit)]
    near.sort()
    low_H = near.searchsorted(hit_H, side="left")
    equal_H = near.searchsorted(hit_H, side="right") - low_H
    here_H = (column_H >= 0) & (column_H < len(distance_G))
    for hit in np.flatnonzero(equal_H > here_H):  # somebody else is as near: the lower row comes first
        earlier = max(column_H[hit], 0)
        low_H[hit] += np.count_nonzero(distance_G[:earlier] == hit_H[hit])
    return low_H, near[: near.searchsorted(limit, side="right")]


def _equals_before(panel_BG: torch.Tensor, hits: BlockHits, row_H: Int64Array, equal_H: Int64Array) -> Int64Array:
    """Per hit, rows at exactly its distance that have a lower row number."""
    width = panel_BG.shape[1]
    column_G = torch.arange(width, device=panel_BG.device)
    here_H: BoolArray = (hits.column_H >= 0) & (hits.column_H < width)
    before_H = np.zeros(len(row_H), dtype=np.int64)
    tied = np.flatnonzero(equal_H > here_H)
    for first in range(0, len(tied), TIES_PER_STEP):
        some = tied[first : first + TIES_PER_STEP]
        distance_T1 = torch.from_numpy(hits.distance_H[some]).to(panel_BG.device)[:, None]
        column_T1 = torch.from_numpy(hits.column_H[some]).to(panel_BG.device)[:, None]
        earlier_TG = (panel_BG[row_H[some]] == distance_T1) & (column_G < column_T1)
        before_H[some] = earlier_TG.sum(1).cpu().numpy()
    return before_H
