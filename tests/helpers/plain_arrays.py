"""Scores and rank lists of plain arrays, for tests that are written in arrays."""

from reid_accel.retrieval import api
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.protocol import Settings


def evaluate(
    query_features,
    gallery_features,
    query_pids,
    gallery_pids,
    query_cameras=None,
    gallery_cameras=None,
    *,
    query_rows=None,
    **settings,
):
    """`api.evaluate` of arrays."""
    query = Embeddings.of(query_features, query_pids, query_cameras, source_rows=query_rows)
    gallery = Embeddings.of(gallery_features, gallery_pids, gallery_cameras)
    return api.evaluate(query, gallery, Settings(**settings))


def top_k(query_features, gallery_features, k, *, labels=(None, None, None, None), **settings):
    """`api.top_k` of arrays: by default nothing is left out, with labels what Market-1501's rules remove."""
    query_pids, gallery_pids, query_cameras, gallery_cameras = labels
    query = Embeddings.of(query_features, query_pids, query_cameras)
    gallery = Embeddings.of(gallery_features, gallery_pids, gallery_cameras)
    protocol = "course" if query_pids is None else "market1501"
    return api.top_k(query, gallery, k, Settings(**{"protocol": protocol} | settings))
