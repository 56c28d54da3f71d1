"""Embeddings of an image set.

Letters: N images, S this process's rows, Q some rows, D feature.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_accel.data.listing import UNKNOWN_CAMERA, UNKNOWN_TRACKLET, UNLABELED_PID
from reid_accel.distributed.collectives import ALONE, Group
from reid_accel.errors import InputError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

Features = Tensor | npt.NDArray[Any]
"""One row per image: float32, float16 or bfloat16 (float64 is rounded to float32)."""

Labels = Tensor | npt.NDArray[Any] | Sequence[int]
"""One integer per image."""


@dataclass(frozen=True)
class Embeddings:
    """N images for retrieval: labels of all of them, features of all or of this process's rows.

    >>> gallery = Embeddings.of(np.eye(3), pids=[1, 2, 2], cameras=[0, 0, 1])
    >>> gallery.select(np.array([2])).pid_N.tolist()
    [2]
    """

    embedding_SD: Tensor
    """Features as retrieval compares them: float32, or 16-bit floats that are converted to float32."""
    rows: range
    """The rows of `embedding_SD`; `range(N)` for all."""
    pid_N: Int64Array
    """Person number; 0 for distractors, -1 for junk, -2 if unknown."""
    camera_N: Int64Array
    """Camera number, -1 if unknown."""
    name_N: tuple[str, ...] = ()
    """Unique file names; empty if the images have none."""
    fingerprint: str = ""
    """Model and data that the features were computed from."""
    source_row_N: Int64Array | None = None
    """For images that `select` took from another set: their rows there, which the protocol course-strict removes from
    the queries' lists."""
    tracklet_N: Int64Array = field(default_factory=lambda: np.empty(0, np.int64))
    """Tracklet number, -1 if unknown; left out, all are unknown."""
    quality_N: Float32Array | None = None
    """For images with tracklets: the norm of the feature before batch norm; None if not known."""

    @classmethod
    def of(
        cls,
        features: Features,
        pids: Labels | None = None,
        cameras: Labels | None = None,
        names: Sequence[str] = (),
        source_rows: Labels | None = None,
        tracklets: Labels | None = None,
    ) -> "Embeddings":
        """Embeddings of arrays or tensors, checked. float32 and 16-bit features that are contiguous aren't copied.

        Raises InputError for arrays that don't fit together.
        """
        embedding_ND = as_features(features)
        _check_matrix(embedding_ND)
        num_rows = len(embedding_ND)
        return cls(
            embedding_ND,
            range(num_rows),
            np.full(num_rows, UNLABELED_PID, np.int64) if pids is None else _as_labels("pids", pids, num_rows),
            np.full(num_rows, UNKNOWN_CAMERA, np.int64)
            if cameras is None
            else _as_labels("cameras", cameras, num_rows),
            tuple(names),
            source_row_N=None if source_rows is None else _as_labels("source_rows", source_rows, num_rows),
            tracklet_N=unknown_tracklets(num_rows)
            if tracklets is None
            else _as_labels("tracklets", tracklets, num_rows),
        )

    def __post_init__(self) -> None:
        if not len(self.tracklet_N):
            object.__setattr__(self, "tracklet_N", unknown_tracklets(self.num_rows))
        _check_matrix(self.embedding_SD)
        if len(self.embedding_SD) != len(self.rows):
            raise InputError(f"{len(self.embedding_SD)} embeddings, but {len(self.rows)} rows")
        if self.rows.step != 1 or self.rows.start < 0 or self.rows.stop > self.num_rows:
            raise InputError(f"rows must be a range within the set's {self.num_rows} rows, got {self.rows}")
        for what, label_N in (
            ("pids", self.pid_N),
            ("cameras", self.camera_N),
            ("source_rows", self.source_row_N),
            ("tracklets", self.tracklet_N),
        ):
            if label_N is not None and (label_N.shape != self.pid_N.shape or label_N.ndim != 1):
                raise InputError(f"{what} has shape {label_N.shape}, but the set has {self.num_rows} rows")
            if label_N is not None and label_N.dtype != np.int64:
                raise InputError(f"{what} must be int64, got {label_N.dtype}")
        if self.quality_N is not None and (self.quality_N.shape, self.quality_N.dtype) != (
            self.pid_N.shape,
            np.float32,
        ):
            raise InputError(
                f"quality must be float32 with {self.num_rows} rows, got {self.quality_N.dtype} {self.quality_N.shape}"
            )
        if self.name_N and len(self.name_N) != self.num_rows:
            raise InputError(f"{len(self.name_N)} names, but the set has {self.num_rows} rows")
        if len(set(self.name_N)) != len(self.name_N):
            twice = Counter(self.name_N).most_common(1)[0][0]
            raise InputError(f"image {twice} appears twice: its embedding would be ranked twice")

    @property
    def num_rows(self) -> int:
        """Rows of the complete set, over all processes."""
        return len(self.pid_N)

    @property
    def is_complete(self) -> bool:
        """Whether this process has the features of all rows."""
        return len(self.rows) == self.num_rows

    @property
    def has_tracklets(self) -> bool:
        """Whether the tracklet of any image is known."""
        return bool((self.tracklet_N != UNKNOWN_TRACKLET).any())

    def shard(self, rows: range) -> "Embeddings":
        """A shard with a subset of the rows; shares the memory."""
        first = self.rows.start
        return replace(self, embedding_SD=self.embedding_SD[rows.start - first : rows.stop - first], rows=rows)

    def to(self, device: torch.device) -> "Embeddings":
        """The same embeddings on a device."""
        return replace(self, embedding_SD=self.embedding_SD.to(device))

    def select(self, rows_Q: Int64Array, group: Group = ALONE) -> "Embeddings":
        """The images at the given rows with features on every process; each must call it with the same rows."""
        return Embeddings(
            self.features_at(rows_Q, group),
            range(len(rows_Q)),
            self.pid_N[rows_Q],
            self.camera_N[rows_Q],
            tuple(self.name_N[row] for row in rows_Q) if self.name_N else (),
            self.fingerprint,
            rows_Q if self.source_row_N is None else self.source_row_N[rows_Q],
            self.tracklet_N[rows_Q],
            None if self.quality_N is None else self.quality_N[rows_Q],
        )

    def gathered(self, group: Group) -> "Embeddings":
        """The same set with all features on every process."""
        features_ND = self.features_at(np.arange(self.num_rows), group) if group.size > 1 else self.embedding_SD
        return replace(self, embedding_SD=features_ND, rows=range(self.num_rows))

    def features_at(self, rows_Q: Int64Array, group: Group = ALONE) -> Tensor:
        """The features of the given rows on every process; each must call it with the same rows."""
        own_Q = (rows_Q >= self.rows.start) & (rows_Q < self.rows.stop)
        assert group.size > 1 or own_Q.all(), "a single process can select rows that it holds only"
        own_rows = torch.from_numpy(rows_Q[own_Q] - self.rows.start).to(self.embedding_SD.device)
        if group.size == 1:
            return self.embedding_SD[own_rows]
        holders_Q = group.all_reduce(torch.from_numpy(own_Q.astype(np.int64)))
        assert bool((holders_Q == 1).all()), "each row must be held by exactly one process"
        found_QD = self.embedding_SD.new_zeros((len(rows_Q), self.embedding_SD.shape[1]))
        found_QD[torch.from_numpy(np.flatnonzero(own_Q)).to(found_QD.device)] = self.embedding_SD[own_rows]
        return group.all_reduce(found_QD)  # exact: one process's numbers plus zeros


def unknown_tracklets(num_rows: int) -> Int64Array:
    """The tracklets of images without known ones."""
    return np.full(num_rows, UNKNOWN_TRACKLET, np.int64)


def as_features(features: Features) -> Tensor:
    """A tensor that shares the memory where it can. Raises InputError unless it holds floating-point numbers."""
    tensor = features.detach() if isinstance(features, Tensor) else _from_numpy(np.asarray(features))
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def _from_numpy(array: npt.NDArray[Any]) -> Tensor:
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"features must be floating-point numbers, got {array.dtype}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")  # it is never written to
        return torch.from_numpy(np.ascontiguousarray(array))


def _check_matrix(embedding_SD: Tensor) -> None:
    if embedding_SD.ndim != 2:
        raise InputError(f"features must be a matrix with one row per image, got shape {tuple(embedding_SD.shape)}")
    if not embedding_SD.is_floating_point():
        raise InputError(f"features must be floating-point numbers, got {embedding_SD.dtype}")
    if embedding_SD.dtype not in DTYPES:
        raise InputError(f"features must be float32, float16 or bfloat16, got {embedding_SD.dtype}")
    if embedding_SD.shape[1] == 0:
        raise InputError("features have dimension 0: there is nothing to compare")


def _as_labels(name: str, labels: Labels, num_rows: int) -> Int64Array:
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.shape != (num_rows,):
        raise InputError(f"{name} has shape {array.shape}, but features has {num_rows} rows")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{name} must be integers, got {array.dtype}")
    if array.dtype == np.uint64 and array.max(initial=0) > np.iinfo(np.int64).max:
        raise InputError(f"{name} has the number {array.max()}, which is too large (64 bits with a sign)")
    return array.astype(np.int64)
