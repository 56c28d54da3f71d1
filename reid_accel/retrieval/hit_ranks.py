"""Hit ranks: the number of gallery rows before each hit, which is all that AP, CMC and INP need.

Letters: Q queries, G gallery columns of this rank, R matches (`MatchRows`), H hits of a block, B block rows.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from reid_accel.distributed.collectives import ALONE, Group
from reid_accel.retrieval.features import BoolArray, Float32Array, Int64Array
from reid_accel.retrieval.protocol import MatchRows

MOST_ROWS_PER_TASK = 32
DISTANCES_PER_TASK = 2**19
TIES_PER_STEP = 256

ONE_IN = {"1e-4": 10_000, "1e-3": 1_000, "1e-2": 100}
"""False positive rates as 1 / rate."""

ROOM = 1 << 16


@dataclass(frozen=True)
class Counts:
    """The result of one pass over all distances."""

    distance_R: Float32Array
    """Distance of each match."""
    before_R: Int64Array
    """Gallery rows before each hit, including removed matches; 0 for matches that are no hit."""
    false_accepts_R: Int64Array
    """Wrong pairs over all queries that are at most as far as each hit; 0 for matches that are no hit."""


@dataclass(frozen=True)
class BlockHits:
    """The hits of one block of queries, with their columns on this rank."""

    first_B1: Int64Array
    distance_H: Float32Array
    column_H: Int64Array
    """Below 0 or beyond the panel if another rank has the row."""


def count_hit_ranks(
    panels: Iterator[tuple[int, torch.Tensor]], matches: MatchRows, rows: range, group: Group = ALONE
) -> Counts:
    """Count rows before each hit in panels of distances, for this process's gallery rows, then over the group.

    `panels` yields (first query, distances [B, width]); columns are the gallery rows `rows`, further columns are
    infinite. A hit's distance is read from the panel that it is counted in, so it equals itself exactly.
    """
    distance_R = np.zeros(len(matches.row_R), dtype=np.float32)
    before_R = np.zeros(len(matches.row_R), dtype=np.int64)
    nearest = NearestPairs.wanted_for(matches)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start, panel_BG in panels:
            first, last = matches.first_Q1[[start, start + len(panel_BG)]]
            column_R = matches.row_R[first:last] - rows.start
            block_row_R = matches.query_R[first:last] - start
            held_R = (column_R >= 0) & (column_R < len(rows))
            shared = torch.zeros(last - first, device=panel_BG.device)
            shared[torch.from_numpy(held_R)] = panel_BG[block_row_R[held_R], column_R[held_R]]
            distance_R[first:last] = group.all_reduce(shared).cpu().numpy()
            hit_R = matches.hit_R[first:last]
            hits = BlockHits(
                np.searchsorted(block_row_R[hit_R], np.arange(len(panel_BG) + 1)).astype(np.int64),
                distance_R[first:last][hit_R],
                column_R[hit_R],
            )
            count = count_rows if panel_BG.device.type == "cpu" else count_sorted
            before_R[first:last][hit_R] = count(panel_BG, hits, nearest, pool)
    all_before = group.all_reduce(torch.from_numpy(before_R)).numpy()
    accepts = group.all_reduce(torch.from_numpy(nearest.as_near_as(distance_R, matches.hit_R))).numpy()
    return Counts(distance_R, all_before, count_false_accepts(accepts, distance_R, matches))


class NearestPairs:
    """Keeps the `num_wanted` smallest distances in a buffer of bounded size."""

    def __init__(self, num_wanted: int) -> None:
        self._num_wanted = num_wanted
        self._kept = np.empty(num_wanted + max(num_wanted // 2, ROOM), dtype=np.float32)
        self._num_kept = 0
        self.limit = np.finfo(np.float32).max
        """Distances above this limit need not be added."""

    @classmethod
    def wanted_for(cls, matches: MatchRows) -> "NearestPairs":
        """Large enough for all matches and one more wrong pair than the largest FPR allows."""
        return cls(matches.num_wrong_pairs // min(ONE_IN.values()) + 1 + len(matches.row_R))

    def add(self, distances: Float32Array) -> None:
        """Add distances in any order."""
        while len(distances):
            if self._num_kept == len(self._kept):
                self._forget_far_ones()
            some = distances[: len(self._kept) - self._num_kept]
            self._kept[self._num_kept : self._num_kept + len(some)] = some
            self._num_kept += len(some)
            distances = distances[len(some) :]

    def as_near_as(self, distance_R: Float32Array, hit_R: BoolArray) -> Int64Array:
        """Number of added distances up to each hit's [R]; exact below `num_wanted`, else a lower bound."""
        near = self._kept[: self._num_kept]
        near.sort()  # in place, to save memory
        return np.where(hit_R, near.searchsorted(distance_R, side="right"), 0).astype(np.int64)

    def _forget_far_ones(self) -> None:
        self._kept.partition(self._num_wanted - 1)
        self._num_kept = self._num_wanted
        self.limit = self._kept[self._num_wanted - 1]


def count_false_accepts(as_near_R: Int64Array, distance_R: Float32Array, matches: MatchRows) -> Int64Array:
    """Subtract the matches (right and removed pairs) of valid queries from the number of pairs as near as each hit."""
    counted_R = matches.valid_Q[matches.query_R]
    related = np.sort(distance_R[counted_R]).searchsorted(distance_R, side="right")
    return np.where(matches.hit_R, as_near_R - related, 0).astype(np.int64)


def count_rows(panel_BG: torch.Tensor, hits: BlockHits, nearest: NearestPairs, pool: ThreadPoolExecutor) -> Int64Array:
    """Rows before each hit, on the CPU: per query, rows beyond the farthest hit are discarded without sorting."""
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

    # start with few queries, since all their distances are still candidates
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
    """Rows before each hit, on any device, by sorting the panel."""
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
    for hit in np.flatnonzero(equal_H > here_H):  # ties: the lower row comes first
        earlier = max(column_H[hit], 0)
        low_H[hit] += np.count_nonzero(distance_G[:earlier] == hit_H[hit])
    return low_H, near[: near.searchsorted(limit, side="right")]


def _equals_before(panel_BG: torch.Tensor, hits: BlockHits, row_H: Int64Array, equal_H: Int64Array) -> Int64Array:
    """Per hit, the number of rows at the same distance with a lower row number."""
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
