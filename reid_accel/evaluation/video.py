"""Predictions for a tracker's crops: one row per tracklet.

Legend: K tracklets, A attribute groups, M values of all groups, N images, Q queries.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.config.schema import PredictConfig
from reid_accel.data.checks import formula_warning
from reid_accel.data.dataset import ImageDataset, Ints
from reid_accel.distributed.collectives import Group
from reid_accel.files import write_csv
from reid_accel.retrieval.api import top_k
from reid_accel.retrieval.embed import embed_dataset
from reid_accel.retrieval.exported import Embedder
from reid_accel.retrieval.features import Embeddings, Float32Array
from reid_accel.retrieval.protocol import Settings
from reid_accel.retrieval.tracklets import Pooling, Tracklets, find_tracklets, pooled

logger = logging.getLogger(__name__)

TRACKLETS_FILE = "tracklets.csv"
TRACKLET_RANKS_FILE = "rank_lists.csv"


@dataclass(frozen=True)
class PredictedTracklets:
    """K tracklets: embeddings named by their IDs, of this process's rows; the rest is complete on every process."""

    embeddings: Embeddings
    num_images_K: Ints
    value_KA: Ints
    groups: tuple[AttributeGroup, ...]


def predict_tracklets(
    model: Embedder,
    images: ImageDataset,
    ids: Sequence[str],
    config: PredictConfig,
    pooling: Pooling,
    progress: Callable[[int], None] | None = None,
) -> PredictedTracklets:
    """Embed all images and pool them by tracklet; attributes are those of the highest mean score.

    ids: by tracklet number. Every process calls it.
    """
    embeddings, predicted = embed_dataset(model, images, config, progress, keep_scores=True)
    tracklets = find_tracklets(embeddings, "the video's crops")
    rows = pooled(embeddings, tracklets, pooling, model.architecture.metric, Group.of())
    named = replace(rows, name_N=tuple(ids[number] for number in rows.tracklet_N))
    groups = model.architecture.groups
    assert predicted.score_NM is not None
    return PredictedTracklets(
        named, tracklets.size_K, best_values(predicted.score_NM.numpy(), tracklets, groups), groups
    )


def best_values(score_NM: Float32Array, tracklets: Tracklets, groups: Sequence[AttributeGroup]) -> Ints:
    """The value of each group with the highest mean score over a tracklet's images; no columns without groups."""
    if not groups:
        return np.empty((len(tracklets), 0), np.int64)
    sums_KM = np.add.reduceat(score_NM[tracklets.row_N].astype(np.float64), tracklets.start_K1[:-1], axis=0)
    ends = np.cumsum([len(group.values) for group in groups])
    of_groups = np.split(sums_KM, ends[:-1], axis=1)
    return np.stack([sums.argmax(1) for sums in of_groups], axis=1).astype(np.int64)


def write_tracklets(folder: Path, predicted: PredictedTracklets) -> Path:
    """Write tracklets.csv: the ID, number of images and attributes of each tracklet."""
    path = folder / TRACKLETS_FILE
    names = predicted.embeddings.name_N
    rows = [
        [name, number, *(group.values[value] for group, value in zip(predicted.groups, values, strict=True))]
        for name, number, values in zip(names, predicted.num_images_K, predicted.value_KA, strict=True)
    ]
    write_csv(path, [["id", "images", *(group.name for group in predicted.groups)], *rows])
    _warn_of_formulas(names, TRACKLETS_FILE)
    return path


def write_tracklet_ranks(folder: Path, queries: Embeddings, tracklets: Embeddings, metric: str, length: int) -> Path:
    """Write rank_lists.csv: the nearest tracklets of each query image, nearest first.

    Every process calls it with its own rows; process 0 writes.
    """
    path, group = folder / TRACKLET_RANKS_FILE, Group.of()
    settings = Settings(metric=metric, protocol="course")
    number = min(length, tracklets.num_rows)
    rows_QK, distance_QK = top_k(queries.gathered(group), tracklets, number, settings, group)
    if group.is_main:
        rows = [
            [query, rank, tracklets.name_N[row], f"{distance:.6f}"]
            for query, found, distances in zip(queries.name_N, rows_QK.tolist(), distance_QK.tolist(), strict=True)
            for rank, (row, distance) in enumerate(zip(found, distances, strict=True), 1)
        ]
        write_csv(path, [["query", "rank", "id", "distance"], *rows])
        _warn_of_formulas([*queries.name_N, *tracklets.name_N], TRACKLET_RANKS_FILE)
    return path


def _warn_of_formulas(names: Sequence[str], file_name: str) -> None:
    warning = formula_warning(names, file_name)
    if warning is not None:
        logger.warning(warning)
