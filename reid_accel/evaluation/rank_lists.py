"""The best and worst queries with their matches, as pictures for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reid_accel.data.dataset import ImageDataset
from reid_accel.data.listing import UNKNOWN_TRACKLET
from reid_accel.distributed.collectives import Group
from reid_accel.reporting.html.pictures import RankList, Shown
from reid_accel.retrieval.api import top_k
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.knn import NO_ROW
from reid_accel.retrieval.metrics import RetrievalScores
from reid_accel.retrieval.protocol import MARKET, TRACKLET_RULE, Settings

SHOWN_MATCHES = 10


@dataclass(frozen=True)
class Pictured:
    """Images and their embeddings, in the same order."""

    images: ImageDataset
    embeddings: Embeddings


def rank_lists(
    query: Pictured, gallery: Pictured, scores: RetrievalScores, number: int
) -> tuple[list[RankList], list[RankList]]:
    """The `number` best and worst valid queries with their top-ranked gallery images.

    query: the scored queries, complete on every process. Every process calls it.
    """
    valid = np.flatnonzero(~np.isnan(scores.ap_Q))
    order = valid[np.argsort(-scores.ap_Q[valid], kind="stable")]
    best, worst = order[:number].tolist(), order[::-1][:number].tolist()
    places = np.array(sorted({*best, *worst}), np.int64)
    if not len(places):
        return [], []
    # under protocol course, a list begins with the query itself
    protocol = "course-strict" if scores.protocol == "course" else scores.protocol
    shown_queries = query.embeddings.select(places)
    rows_PK, distance_PK = top_k(
        shown_queries,
        gallery.embeddings,
        min(SHOWN_MATCHES, len(gallery.images)),
        Settings(metric=scores.metric, protocol=protocol),
        Group.of(),
    )
    shown = {}
    for place, rows, distances in zip(places.tolist(), rows_PK.tolist(), distance_PK.tolist(), strict=True):
        pid = query.images.pid_N[place]
        matches = tuple(
            _shown(gallery.images, row, distance, correct=bool(gallery.images.pid_N[row] == pid))
            for row, distance in zip(rows, distances, strict=True)
            if row != NO_ROW
        )
        num_hits = _num_hits(query.embeddings, place, gallery.embeddings, protocol)
        shown[place] = RankList(_shown(query.images, place), matches, float(scores.ap_Q[place]), num_hits)
    return [shown[place] for place in best], [shown[place] for place in worst]


def with_names(lists: Sequence[RankList], people: Mapping[int, str]) -> list[RankList]:
    """The lists with the names of people that a data set names."""

    def named(shown: Shown) -> Shown:
        return replace(shown, person=people.get(shown.pid, ""))

    return [replace(one, query=named(one.query), matches=tuple(map(named, one.matches))) for one in lists]


def _num_hits(query: Embeddings, place: int, gallery: Embeddings, protocol: str) -> int:
    """The number of gallery images that are hits for a query."""
    hit_G = gallery.pid_N == query.pid_N[place]
    if protocol == MARKET:
        hit_G &= gallery.camera_N != query.camera_N[place]
    if protocol == TRACKLET_RULE and query.tracklet_N[place] != UNKNOWN_TRACKLET:
        hit_G &= gallery.tracklet_N != query.tracklet_N[place]
    if query.source_row_N is not None:
        hit_G[query.source_row_N[place]] = False
    return int(hit_G.sum())


def _shown(images: ImageDataset, position: int, distance: float | None = None, *, correct: bool | None = None) -> Shown:
    pixels = images.crops.crops_N3HW[images.row_N[position]].transpose(1, 2, 0)
    return Shown(
        image_HWC=np.ascontiguousarray(pixels),
        name=images.name_N[position],
        pid=int(images.pid_N[position]),
        camera=int(images.camera_N[position]),
        distance=distance,
        correct=correct,
    )
