"""Tracklets: several images of a person as one row of retrieval.

Letters: N images, K tracklets, T images of one tracklet, S this process's rows, D feature, W processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reid_accel.data.listing import UNKNOWN_TRACKLET
from reid_accel.distributed.collectives import ALONE, Group
from reid_accel.errors import InputError
from reid_accel.retrieval.distances import shard_rows
from reid_accel.retrieval.features import BoolArray, Embeddings, Features, Int64Array, as_features

Pooling = Literal["mean", "quality", "medoid"]

IMAGES_AT_ONCE = 16_384


def pool_tracklet(features_TD: Features, weights_T: Features | None = None) -> Tensor:
    """One feature for a tracklet: the mean of its images' features, or their weighted mean [D], float32.

    weights: 0 or more for each image, such as the norm of its feature before batch norm, which is low for blurred or
    occluded crops. If all are 0, they count alike. The sum is computed in float64. Raises InputError for a tracklet
    without images, or weights that are negative, not finite or of another number.

    >>> pool_tracklet(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([3.0, 1.0])).tolist()
    [0.75, 0.25]
    """
    feature_TD = _checked(features_TD)
    if weights_T is None:
        return feature_TD.mean(0).float()
    weight_T = as_features(weights_T).double()
    if weight_T.shape != feature_TD.shape[:1]:
        raise InputError(f"weights has shape {tuple(weight_T.shape)}, but the tracklet has {len(feature_TD)} images")
    if not (torch.isfinite(weight_T) & (weight_T >= 0)).all():
        raise InputError("weights of a tracklet's images must be finite and 0 or more")
    if not weight_T.any():
        return feature_TD.mean(0).float()
    return ((weight_T / weight_T.sum()) @ feature_TD).float()


def medoid(features_TD: Features) -> int:
    """The image of a tracklet whose summed euclidean distance to the others is smallest; of equal ones the first.

    >>> medoid(np.array([[0.0], [1.0], [9.0]]))
    1
    """
    feature_TD = _checked(features_TD)
    distance_TT = torch.cdist(feature_TD, feature_TD, compute_mode="donot_use_mm_for_euclid_dist")
    return int(distance_TT.sum(1).argmin())


def _checked(features_TD: Features) -> Tensor:
    """The features on the CPU in float64, where sums don't depend on the device."""
    feature_TD = as_features(features_TD).cpu().double()
    if feature_TD.ndim != 2 or not len(feature_TD):
        raise InputError(f"a tracklet needs one feature per image, got shape {tuple(feature_TD.shape)}")
    return feature_TD


@dataclass(frozen=True)
class Tracklets:
    """The tracklets of N images, in the order of their first images; an image without a tracklet is one of its own."""

    row_N: Int64Array
    """The images of all tracklets, one tracklet after the other, each in its images' order."""
    start_K1: Int64Array
    """Where each tracklet's images start in `row_N`, with N at the end."""

    def __len__(self) -> int:
        return len(self.start_K1) - 1

    @property
    def first_K(self) -> Int64Array:
        """The first image of each tracklet."""
        return self.row_N[self.start_K1[:-1]]

    @property
    def size_K(self) -> Int64Array:
        """The number of images of each tracklet."""
        return np.diff(self.start_K1)

    @classmethod
    def of(cls, tracklet_N: Int64Array) -> "Tracklets":
        """Group images by their tracklet numbers.

        >>> Tracklets.of(np.array([7, -1, 3, 7])).row_N.tolist()
        [0, 3, 1, 2]
        """
        num_rows = len(tracklet_N)
        alone_N = tracklet_N == UNKNOWN_TRACKLET
        _, first, group_N = np.unique(tracklet_N, return_index=True, return_inverse=True)
        leader_N = np.where(alone_N, np.arange(num_rows), first[group_N])
        row_N = np.argsort(leader_N, kind="stable").astype(np.int64)
        starts = np.flatnonzero(np.diff(leader_N[row_N], prepend=-1))
        return cls(row_N, np.append(starts, num_rows).astype(np.int64))


def find_tracklets(images: Embeddings, what: str) -> Tracklets:
    """The tracklets of a set. `what` names the set in errors.

    Raises InputError if no image has a tracklet, or the images of one differ in person or camera.
    """
    if not images.has_tracklets:
        raise InputError(
            f"score.tracklets needs tracklets, but no image of {what} has one: use a data set with tracklets (names "
            "like 0001C1T0001F001.jpg, or a column tracklet), or leave score.tracklets out"
        )
    found = Tracklets.of(images.tracklet_N)
    for label, label_N in (("persons", images.pid_N), ("cameras", images.camera_N)):
        wrong_N = _differs_from_first(label_N, found)
        if wrong_N.any():
            row = found.row_N[wrong_N][0]
            first = found.first_K[np.searchsorted(found.start_K1, np.flatnonzero(wrong_N)[0], side="right") - 1]
            names = [_name(images, place) for place in (first, row)]
            raise InputError(
                f"tracklet {images.tracklet_N[row]} of {what} has images of two {label}, {label_N[first]} ({names[0]}) "
                f"and {label_N[row]} ({names[1]}): a tracklet is one person seen by one camera, so correct its number"
            )
    return found


def _differs_from_first(label_N: Int64Array, tracklets: Tracklets) -> BoolArray:
    """Which images, in the order of `row_N`, have another label than the first image of their tracklet."""
    return label_N[tracklets.row_N] != np.repeat(label_N[tracklets.first_K], tracklets.size_K)


def _name(images: Embeddings, row: int) -> str:
    return images.name_N[row] if images.name_N else f"row {row}"


def pooled(images: Embeddings, tracklets: Tracklets, how: Pooling, metric: str, group: Group = ALONE) -> Embeddings:
    """One row per tracklet, with the labels and the name of its first image; sharded by `shard_rows` of their number.

    metric: with cosine, features are of unit length before and after. Every process of the group calls it with its own
    rows; features are bit-identical for any number of processes. Raises InputError if quality weights are unknown.
    """
    if how == "quality" and images.quality_N is None:
        raise InputError(
            "score.tracklets quality needs each image's feature norm before batch norm, which exported models and "
            "features saved without tracklets don't have: use mean or medoid"
        )
    own = shard_rows(len(tracklets), group.size, group.rank)
    parts = [images.embedding_SD.new_empty((0, images.embedding_SD.shape[1])).float()]
    for block in _blocks(tracklets):
        rows = tracklets.row_N[tracklets.start_K1[block.start] : tracklets.start_K1[block.stop]]
        feature_ND = images.features_at(rows, group)
        mine = range(max(block.start, own.start), min(block.stop, own.stop))
        if mine:
            start_K1 = tracklets.start_K1 - tracklets.start_K1[block.start]
            pooled_rows = [
                _pool_one(feature_ND[start_K1[k] : start_K1[k + 1]], images, tracklets, k, how, metric) for k in mine
            ]
            parts.append(torch.stack(pooled_rows).to(images.embedding_SD.device))
    first_K = tracklets.first_K
    return replace(
        images,
        embedding_SD=torch.cat(parts),
        rows=own,
        pid_N=images.pid_N[first_K],
        camera_N=images.camera_N[first_K],
        tracklet_N=images.tracklet_N[first_K],
        name_N=tuple(images.name_N[row] for row in first_K) if images.name_N else (),
        source_row_N=None,
        quality_N=None,
    )


def _blocks(tracklets: Tracklets) -> Iterator[range]:
    """Runs of tracklets with about `IMAGES_AT_ONCE` images, the same on every process."""
    start = 0
    while start < len(tracklets):
        limit = tracklets.start_K1[start] + IMAGES_AT_ONCE
        stop = max(start + 1, int(np.searchsorted(tracklets.start_K1, limit, side="right")) - 1)
        yield range(start, stop)
        start = stop


def _pool_one(
    feature_TD: Tensor, images: Embeddings, tracklets: Tracklets, number: int, how: Pooling, metric: str
) -> Tensor:
    seen_TD = _unit(feature_TD.cpu().float(), metric)
    if how == "medoid":
        return seen_TD[medoid(seen_TD)]
    weight_T = None
    if how == "quality":
        assert images.quality_N is not None
        rows = tracklets.row_N[tracklets.start_K1[number] : tracklets.start_K1[number + 1]]
        weight_T = torch.from_numpy(images.quality_N[rows])
    return _unit(pool_tracklet(seen_TD, weight_T)[None], metric)[0]


def _unit(feature_TD: Tensor, metric: str) -> Tensor:
    return torch.nn.functional.normalize(feature_TD, dim=1) if metric == "cosine" else feature_TD
