"""Which gallery rows show a query's own person, and which of them count as a hit.

Letters: Q queries, G gallery rows, R relatives (all queries' rows one after the other).
"""

from dataclasses import dataclass

import numpy as np

from reid_accel.errors import InputError
from reid_accel.retrieval.checks import BoolArray, Int64Array

PROTOCOLS = ("market1501", "course", "course-strict")
JUNK_PID = -1


@dataclass(frozen=True)
class MatchRows:
    """The gallery rows that bear each query's pid; query by query, ascending by row within a query."""

    first_Q1: Int64Array
    """Where each query's relatives begin, with the total at the end [Q + 1]."""
    query_R: Int64Array
    row_R: Int64Array
    hit_R: BoolArray
    """True for a hit; the others are removed from the query's list (own camera, or the query itself)."""
    dropped_G: BoolArray
    """Junk: rows that are removed from every query's list."""

    @property
    def num_queries(self) -> int:
        return len(self.first_Q1) - 1

    @property
    def num_hits_Q(self) -> Int64Array:
        return np.bincount(self.query_R[self.hit_R], minlength=self.num_queries).astype(np.int64)

    @property
    def valid_Q(self) -> BoolArray:
        """Queries with at least one hit; the others are left out of every mean."""
        return self.num_hits_Q > 0

    @property
    def num_wrong_pairs(self) -> int:
        """Pairs of a counted query and a gallery row of somebody else, after all removals."""
        kept = len(self.dropped_G) - int(self.dropped_G.sum())
        relatives_Q = np.diff(self.first_Q1)
        return int((kept - relatives_Q[self.valid_Q]).sum())


def find_match_rows(
    query_pids: Int64Array,
    gallery_pids: Int64Array,
    query_cameras: Int64Array | None,
    gallery_cameras: Int64Array | None,
    query_rows: Int64Array | None,
    protocol: str,
) -> MatchRows:
    """Apply a protocol's rules to the labels.

    market1501: pid -1 is dropped, rows of the query's pid and camera are removed. course: every row of the
    query's pid is a hit, the query itself too where the gallery holds it. course-strict: the query itself, gallery
    row `query_rows[q]`, is removed. Rows with a pid below 1 match nobody in any protocol.
    """
    _check_rules(query_pids, query_cameras, gallery_cameras, query_rows, gallery_pids, protocol)
    first_Q1, query_R, row_R = rows_of_same_pid(query_pids, gallery_pids)
    hit_R = np.ones(len(row_R), dtype=bool)
    dropped_G = np.zeros(len(gallery_pids), dtype=bool)
    if protocol == "market1501":
        assert query_cameras is not None
        assert gallery_cameras is not None
        hit_R = gallery_cameras[row_R] != query_cameras[query_R]
        dropped_G = gallery_pids == JUNK_PID
    elif protocol == "course-strict":
        assert query_rows is not None
        hit_R = row_R != query_rows[query_R]
    found = MatchRows(first_Q1, query_R, row_R, hit_R, dropped_G)
    if not found.valid_Q.any():
        raise InputError(
            f"no query has a match in the gallery under protocol {protocol}: "
            f"none of the {len(query_pids)} queries' pids is in the gallery"
            + (" under another camera" if protocol == "market1501" else "")
        )
    return found


def unlisted_rows(
    query_pids: Int64Array,
    gallery_pids: Int64Array,
    query_cameras: Int64Array,
    gallery_cameras: Int64Array,
) -> tuple[BoolArray, tuple[Int64Array, Int64Array]]:
    """What Market-1501's rules keep out of rank lists: junk [G], and (query, row) of pid and camera seen again."""
    _, query_R, row_R = rows_of_same_pid(query_pids, gallery_pids)
    again_R = gallery_cameras[row_R] == query_cameras[query_R]
    return gallery_pids == JUNK_PID, (query_R[again_R], row_R[again_R])


def rows_of_same_pid(query_pids: Int64Array, gallery_pids: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """(first_Q1, query_R, row_R): the gallery rows of each query's pid, ascending within a query."""
    by_pid_G = np.argsort(gallery_pids, kind="stable")
    sorted_pids = gallery_pids[by_pid_G]
    low_Q = np.searchsorted(sorted_pids, query_pids, side="left")
    high_Q = np.searchsorted(sorted_pids, query_pids, side="right")
    first_Q1 = np.concatenate([[0], np.cumsum(high_Q - low_Q)]).astype(np.int64)
    query_R = np.repeat(np.arange(len(query_pids)), high_Q - low_Q)
    return first_Q1, query_R, by_pid_G[np.arange(first_Q1[-1]) - first_Q1[query_R] + low_Q[query_R]]


def _check_rules(
    query_pids: Int64Array,
    query_cameras: Int64Array | None,
    gallery_cameras: Int64Array | None,
    query_rows: Int64Array | None,
    gallery_pids: Int64Array,
    protocol: str,
) -> None:
    if len(gallery_pids) == 0:
        raise InputError("the gallery is empty: there is nothing to rank")
    nobody = np.flatnonzero(query_pids <= 0)
    if len(nobody):
        raise InputError(
            f"query_pids row {nobody[0]} is {query_pids[nobody[0]]}: a query needs a person number above 0 "
            "(0 marks distractors, -1 junk; both belong into the gallery only)"
        )
    if protocol == "market1501" and (query_cameras is None or gallery_cameras is None):
        raise InputError("protocol market1501 needs query_cameras and gallery_cameras")
    if protocol == "course-strict":
        if query_rows is None:
            raise InputError("protocol course-strict needs query_rows, the gallery row of each query")
        _check_query_rows(query_rows, query_pids, gallery_pids)


def _check_query_rows(query_rows: Int64Array, query_pids: Int64Array, gallery_pids: Int64Array) -> None:
    outside = np.flatnonzero((query_rows < 0) | (query_rows >= len(gallery_pids)))
    if len(outside):
        raise InputError(
            f"query_rows names gallery row {query_rows[outside[0]]} for query {outside[0]}, "
            f"but the gallery has rows 0 to {len(gallery_pids) - 1}"
        )
    row, count = np.unique(query_rows, return_counts=True)
    if (count > 1).any():
        raise InputError(f"query_rows names gallery row {row[count > 1][0]} twice")
    wrong = np.flatnonzero(gallery_pids[query_rows] != query_pids)
    if len(wrong):
        query = wrong[0]
        raise InputError(
            f"query {query} has pid {query_pids[query]}, but its gallery row {query_rows[query]} "
            f"has pid {gallery_pids[query_rows[query]]}: query_rows does not fit this gallery"
        )
