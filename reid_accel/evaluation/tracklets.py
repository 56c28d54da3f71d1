"""Scores of tracklets instead of images."""

from collections.abc import Sequence
from dataclasses import replace

from reid_accel.distributed.collectives import Group
from reid_accel.evaluation.rank_lists import Pictured
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.metrics import RetrievalScores
from reid_accel.retrieval.tracklets import Pooling, Tracklets, find_tracklets, pooled


def tracklets_of(
    images: Embeddings, split: str, pooling: Pooling, metric: str, group: Group
) -> tuple[Tracklets, Embeddings]:
    """The tracklets of a split, and one row for each; every process of the group calls it with its own images.

    Raises InputError if there are none, or the images of one differ in person or camera.
    """
    tracklets = find_tracklets(images, split)
    return tracklets, pooled(images, tracklets, pooling, metric, group)


def compared(split_images: Pictured, split: str, pooling: Pooling | None, metric: str) -> Pictured:
    """The images of a split, or with `pooling` one for each tracklet; every process calls it with its own images."""
    if pooling is None:
        return split_images
    tracklets, rows = tracklets_of(split_images.embeddings, split, pooling, metric, Group.of())
    return Pictured(split_images.images.select(tracklets.first_K), rows)


def stamped(scores: Sequence[RetrievalScores], pooling: Pooling | None) -> list[RetrievalScores]:
    """The scores with the pooling in their protocol, since they aren't comparable with those of images."""
    if pooling is None:
        return list(scores)
    return [replace(each, protocol=f"{each.protocol}, tracklets ({pooling})") for each in scores]
