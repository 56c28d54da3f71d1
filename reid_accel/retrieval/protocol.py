"""Retrieval protocols: the settings, and which gallery rows match a query or are removed.

Letters: Q queries, G gallery rows, R match rows (all queries' rows one after the other).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from reid_accel.config.checks import check_choice, check_positive
from reid_accel.data.listing import JUNK_PID, UNKNOWN_CAMERA, UNKNOWN_TRACKLET
from reid_accel.errors import InputError
from reid_accel.retrieval.distances import CHUNK_BYTES, GALLERY_BLOCK, METRICS
from reid_accel.retrieval.expansion import AlphaExpansion
from reid_accel.retrieval.features import BoolArray, Embeddings, Int64Array
from reid_accel.retrieval.knn import Removed
from reid_accel.retrieval.rerank import KReciprocal

MARKET = "market1501"
NO_CAMERA_RULE = "market1501, no camera rule"
TRACKLET_RULE = "market1501, tracklet rule"
PROTOCOLS = (MARKET, TRACKLET_RULE, NO_CAMERA_RULE, "course", "course-strict")
AVERAGE_PRECISIONS = ("standard", "trapezoid")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How queries are compared with a gallery and scored."""

    metric: str = "euclidean"
    """`euclidean` (orders like the mean squared difference) or `cosine`. Distances are computed in float32; ties are
    ordered by gallery row."""
    protocol: str = MARKET
    """`market1501` drops gallery pid -1 and removes rows of the query's pid and camera; `market1501, tracklet rule`
    removes those of the query's pid and tracklet instead, `market1501, no camera rule` only drops pid -1: for images of
    one camera or of unknown cameras. `course` removes nothing.
    `course-strict` removes the query itself (see `Embeddings.select`). Gallery pid 0 stays and matches no query."""
    average_precision: str = "standard"
    """`standard`, or `trapezoid` as in the original MATLAB evaluation (Zheng et al., ICCV 2015)."""
    cmc_at: tuple[int, ...] = (1, 5, 10, 20)
    """Ranks of the CMC."""
    rerank: KReciprocal | None = None
    query_expansion: AlphaExpansion | None = None
    chunk_bytes: int = CHUNK_BYTES
    """Size of a panel of distances."""
    gallery_block: int = GALLERY_BLOCK
    """Gallery rows per tile; changing it may change the last bit of a distance."""

    def __post_init__(self) -> None:
        check_choice("metric", self.metric, METRICS)
        check_choice("protocol", self.protocol, PROTOCOLS)
        check_choice("average_precision", self.average_precision, AVERAGE_PRECISIONS)
        check_positive("chunk_bytes", self.chunk_bytes)
        check_positive("gallery_block", self.gallery_block)
        object.__setattr__(self, "cmc_at", tuple(self.cmc_at))  # a YAML gives a list
        for rank in self.cmc_at:
            check_positive("cmc_at", rank)


NOTHING_REMOVED = Settings(protocol="course")


class Labeled(Protocol):
    """Images with labels: embeddings, or a data set."""

    @property
    def pid_N(self) -> Int64Array: ...
    @property
    def camera_N(self) -> Int64Array: ...
    @property
    def tracklet_N(self) -> Int64Array: ...


def fitting_protocol(query: Labeled, gallery: Labeled) -> str | None:
    """`market1501` if a query has a match by another camera, else `market1501, tracklet rule` if any has one of another
    tracklet, else `market1501, no camera rule` if any has a match.

    None if no query has one, so that nothing can be scored.
    """
    person_N = query.pid_N > 0
    _, query_R, row_R = rows_of_same_pid(query.pid_N[person_N], gallery.pid_N)
    if not len(row_R):
        return None
    query_R = np.flatnonzero(person_N)[query_R]
    if _differ(query.camera_N[query_R], gallery.camera_N[row_R], UNKNOWN_CAMERA).any():
        return MARKET
    tracklets_differ_R = _differ(query.tracklet_N[query_R], gallery.tracklet_N[row_R], UNKNOWN_TRACKLET)
    return TRACKLET_RULE if tracklets_differ_R.any() else NO_CAMERA_RULE


def _differ(query_R: Int64Array, gallery_R: Int64Array, unknown: int) -> BoolArray:
    return (query_R != unknown) & (gallery_R != unknown) & (query_R != gallery_R)


@dataclass(frozen=True)
class MatchRows:
    """The gallery rows with each query's pid, ordered by query, then by row."""

    first_Q1: Int64Array
    """Start of each query's rows, with the total at the end [Q + 1]."""
    query_R: Int64Array
    row_R: Int64Array
    hit_R: BoolArray
    """True for a hit; the others are removed from the query's list (same camera or tracklet, or the query itself)."""
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
        """Pairs of a valid query and a gallery row of another person, after all removals."""
        kept = len(self.dropped_G) - int(self.dropped_G.sum())
        matches_Q = np.diff(self.first_Q1)
        return int((kept - matches_Q[self.valid_Q]).sum())


def find_match_rows(query: Embeddings, gallery: Embeddings, protocol: str) -> MatchRows:
    """Apply a protocol's rules to the labels; gallery rows with a pid below 1 never match.

    Raises InputError if no query has a hit, or labels that the protocol needs are missing.
    """
    _check_gallery(gallery)
    invalid_Q = np.flatnonzero(query.pid_N <= 0)
    if len(invalid_Q):
        raise InputError(
            f"query_pids row {invalid_Q[0]} is {query.pid_N[invalid_Q[0]]}: a query needs a person number above 0 "
            "(0 marks distractors, -1 junk, which belong only into the gallery, -2 unlabeled images)"
        )
    _check_protocol(query, gallery, protocol)
    first_Q1, query_R, row_R = rows_of_same_pid(query.pid_N, gallery.pid_N)
    hit_R = ~_is_removed(query, gallery, query_R, row_R, protocol)
    found = MatchRows(first_Q1, query_R, row_R, hit_R, _dropped(gallery, protocol))
    if not found.valid_Q.any():
        raise InputError(
            f"no query has a match in the gallery under protocol {protocol}: "
            f"none of the {query.num_rows} queries' pids is in the gallery"
            + {MARKET: " under another camera", TRACKLET_RULE: " with another tracklet"}.get(protocol, "")
        )
    return found


def find_removed(query: Embeddings, gallery: Embeddings, protocol: str) -> Removed:
    """What a protocol removes from rank lists; only the rules on cameras and tracklets need labels."""
    _check_gallery(gallery)
    _check_protocol(query, gallery, protocol)
    dropped_G, none = _dropped(gallery, protocol), np.empty(0, np.int64)
    if protocol == "course-strict":
        assert query.source_row_N is not None
        return Removed(dropped_G, np.arange(query.num_rows), query.source_row_N)
    if protocol in ("course", NO_CAMERA_RULE):
        return Removed(dropped_G, none, none)
    _, query_R, row_R = rows_of_same_pid(query.pid_N, gallery.pid_N)
    again_R = _is_removed(query, gallery, query_R, row_R, protocol)
    return Removed(dropped_G, query_R[again_R], row_R[again_R])


def rows_of_same_pid(query_pids: Int64Array, gallery_pids: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """(first_Q1, query_R, row_R): the gallery rows of each query's pid, ascending within a query."""
    by_pid_G = np.argsort(gallery_pids, kind="stable")
    sorted_pids = gallery_pids[by_pid_G]
    low_Q = np.searchsorted(sorted_pids, query_pids, side="left")
    high_Q = np.searchsorted(sorted_pids, query_pids, side="right")
    first_Q1 = np.concatenate([[0], np.cumsum(high_Q - low_Q)]).astype(np.int64)
    query_R = np.repeat(np.arange(len(query_pids)), high_Q - low_Q)
    return first_Q1, query_R, by_pid_G[np.arange(first_Q1[-1]) - first_Q1[query_R] + low_Q[query_R]]


def _dropped(gallery: Embeddings, protocol: str) -> BoolArray:
    if protocol in (MARKET, TRACKLET_RULE, NO_CAMERA_RULE):
        return gallery.pid_N == JUNK_PID
    return np.zeros(gallery.num_rows, dtype=bool)


def _is_removed(
    query: Embeddings, gallery: Embeddings, query_R: Int64Array, row_R: Int64Array, protocol: str
) -> BoolArray:
    """Which pairs of the same pid a protocol removes from the query's list."""
    if protocol == MARKET:
        return gallery.camera_N[row_R] == query.camera_N[query_R]
    if protocol == TRACKLET_RULE:
        tracklet_R = query.tracklet_N[query_R]
        same_R = (tracklet_R != UNKNOWN_TRACKLET) & (gallery.tracklet_N[row_R] == tracklet_R)
        return same_R if query.source_row_N is None else same_R | (row_R == query.source_row_N[query_R])
    if protocol == "course-strict":
        assert query.source_row_N is not None
        return row_R == query.source_row_N[query_R]
    return np.zeros(len(row_R), dtype=bool)


def _check_gallery(gallery: Embeddings) -> None:
    if gallery.num_rows == 0:
        raise InputError("the gallery is empty: there is nothing to rank")


def _check_protocol(query: Embeddings, gallery: Embeddings, protocol: str) -> None:
    """Raise InputError if labels that the protocol needs are missing."""
    if protocol == MARKET and any((images.camera_N == UNKNOWN_CAMERA).all() for images in (query, gallery)):
        raise InputError(
            "protocol market1501 needs the pids and cameras of queries and gallery; without cameras, use the protocol "
            f"{NO_CAMERA_RULE!r}"
        )
    if protocol == TRACKLET_RULE and any((images.tracklet_N == UNKNOWN_TRACKLET).all() for images in (query, gallery)):
        raise InputError(
            f"protocol {TRACKLET_RULE} needs the pids and tracklets of queries and gallery; without tracklets, use the "
            f"protocol {NO_CAMERA_RULE!r}"
        )
    if protocol == "course-strict":
        if query.source_row_N is None:
            raise InputError(
                "protocol course-strict needs the gallery row of each query: take queries by gallery.select(rows)"
            )
        _check_source_rows(query.source_row_N, query.pid_N, gallery.pid_N)


def _check_source_rows(source_row_Q: Int64Array, query_pids: Int64Array, gallery_pids: Int64Array) -> None:
    outside = np.flatnonzero((source_row_Q < 0) | (source_row_Q >= len(gallery_pids)))
    if len(outside):
        raise InputError(
            f"source_rows names gallery row {source_row_Q[outside[0]]} for query {outside[0]}, "
            f"but the gallery has rows 0 to {len(gallery_pids) - 1}"
        )
    row, count = np.unique(source_row_Q, return_counts=True)
    if (count > 1).any():
        raise InputError(f"source_rows names gallery row {row[count > 1][0]} twice")
    wrong = np.flatnonzero(gallery_pids[source_row_Q] != query_pids)
    if len(wrong):
        query = wrong[0]
        raise InputError(
            f"query {query} has pid {query_pids[query]}, but its gallery row {source_row_Q[query]} "
            f"has pid {gallery_pids[source_row_Q[query]]}: source_rows does not fit this gallery"
        )
