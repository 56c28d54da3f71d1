"""Embeddings of an image set, and their files: safetensors shards with a small manifest.

    FOLDER/gallery.json                            manifest, written last
    FOLDER/gallery-00000-of-00002.safetensors      embedding, pid, camera, name (bytes), name_end

Saved features can be scored again without images or a GPU. Letters: N images, S this process's rows, Q some rows,
D feature.
"""

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from reid_accel.data.listing import UNKNOWN_CAMERA, UNLABELED_PID
from reid_accel.distributed.collectives import ALONE, Group
from reid_accel.errors import InputError
from reid_accel.files import check_regular, replacing
from reid_accel.retrieval.manifest import FORMAT, read_manifest, saving, stage_json

ROWS_PER_FILE = 65_536
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

    @classmethod
    def of(
        cls,
        features: Features,
        pids: Labels | None = None,
        cameras: Labels | None = None,
        names: Sequence[str] = (),
        source_rows: Labels | None = None,
    ) -> "Embeddings":
        """Embeddings of arrays or tensors, checked. float32 and 16-bit features that are contiguous aren't copied.

        Raises InputError for arrays that don't fit together.
        """
        embedding_ND = _as_features(features)
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
        )

    def __post_init__(self) -> None:
        _check_matrix(self.embedding_SD)
        if len(self.embedding_SD) != len(self.rows):
            raise InputError(f"{len(self.embedding_SD)} embeddings, but {len(self.rows)} rows")
        if self.rows.step != 1 or self.rows.start < 0 or self.rows.stop > self.num_rows:
            raise InputError(f"rows must be a range within the set's {self.num_rows} rows, got {self.rows}")
        for what, label_N in (("pids", self.pid_N), ("cameras", self.camera_N), ("source_rows", self.source_row_N)):
            if label_N is not None and (label_N.shape != self.pid_N.shape or label_N.ndim != 1):
                raise InputError(f"{what} has shape {label_N.shape}, but the set has {self.num_rows} rows")
            if label_N is not None and label_N.dtype != np.int64:
                raise InputError(f"{what} must be int64, got {label_N.dtype}")
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
            self._features_at(rows_Q, group),
            range(len(rows_Q)),
            self.pid_N[rows_Q],
            self.camera_N[rows_Q],
            tuple(self.name_N[row] for row in rows_Q) if self.name_N else (),
            self.fingerprint,
            rows_Q if self.source_row_N is None else self.source_row_N[rows_Q],
        )

    def gathered(self, group: Group) -> "Embeddings":
        """The same set with all features on every process."""
        features_ND = self._features_at(np.arange(self.num_rows), group) if group.size > 1 else self.embedding_SD
        return replace(self, embedding_SD=features_ND, rows=range(self.num_rows))

    def _features_at(self, rows_Q: Int64Array, group: Group) -> Tensor:
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


def _as_features(features: Features) -> Tensor:
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


def save_features(folder: Path, split_name: str, embeddings: Embeddings, rows_per_file: int = ROWS_PER_FILE) -> None:
    """Write all rows in float32 as files of at most `rows_per_file` rows; replaces the split's old ones.

    Readers refuse a folder without the manifest, which is renamed last, so old and new files are never mixed. Raises
    InputError when a file can't be written; the old ones are intact then.
    """
    with saving(folder) as files:
        stage_features(files, folder, split_name, embeddings, rows_per_file)
    remove_old_shards(folder, split_name)


def stage_features(
    files: ExitStack, folder: Path, split_name: str, embeddings: Embeddings, rows_per_file: int = ROWS_PER_FILE
) -> None:
    """Write the files of a split under temporary names, until `saving` ends."""
    assert embeddings.is_complete
    assert len(embeddings.name_N) == embeddings.num_rows
    embeddings = replace(embeddings, embedding_SD=embeddings.embedding_SD.detach().cpu().float())
    _check_split_name(split_name)
    if rows_per_file < 1:
        raise InputError(f"rows_per_file must be at least 1, got {rows_per_file}")
    num_rows, digest = embeddings.num_rows, _digest(embeddings)
    num_shards = max(1, -(-num_rows // rows_per_file))
    rows = [slice(first, min(first + rows_per_file, num_rows)) for first in range(0, num_rows or 1, rows_per_file)]
    names = [f"{split_name}-{index:05d}-of-{num_shards:05d}.safetensors" for index in range(num_shards)]
    manifest = {
        "format": FORMAT,
        "fingerprint": embeddings.fingerprint,
        "digest": digest,
        "num_rows": num_rows,
        "dimension": embeddings.embedding_SD.shape[1],
        "shards": [{"file": name, "num_rows": part.stop - part.start} for name, part in zip(names, rows, strict=True)],
    }
    # the stack ends in reverse order: the shards get their names before the manifest
    stage_json(files, folder / f"{split_name}.json", manifest)
    for name, part in zip(names, rows, strict=True):
        metadata = {"format": FORMAT, "first_row": str(part.start), "digest": digest}
        temporary = files.enter_context(replacing(folder / name))
        save_file(_tensors(embeddings, part), temporary, metadata | {"fingerprint": embeddings.fingerprint})


def remove_old_shards(folder: Path, split_name: str) -> None:
    """Remove the split's shards that its manifest doesn't name."""
    current = {shard.file for shard in read_manifest(folder / f"{split_name}.json").shards}
    for path in sorted(folder.glob(f"{split_name}-*-of-*.safetensors")):
        if path.name not in current:
            path.unlink()


def read_features(folder: Path, split_name: str, fingerprint: str | None = None) -> Embeddings:
    """Read a split; raises InputError if a file is missing, incomplete or from another save.

    With `fingerprint`, also raises InputError for embeddings computed from another model or other data.
    """
    _check_split_name(split_name)
    manifest = read_manifest(folder / f"{split_name}.json")
    shards = [_read_shard(folder / shard.file, shard.num_rows, manifest.dimension) for shard in manifest.shards]
    try:
        embeddings = Embeddings(
            torch.cat([shard["embedding"] for shard in shards]),
            range(manifest.num_rows),
            torch.cat([shard["pid"] for shard in shards]).numpy(),
            torch.cat([shard["camera"] for shard in shards]).numpy(),
            tuple(name for shard in shards for name in _unpack_names(shard["name"], shard["name_end"])),
            manifest.fingerprint,
        )
        if _digest(embeddings) != manifest.digest:
            raise InputError("their checksum differs from the manifest's")
    except InputError as error:
        raise InputError(
            f"the shards of {split_name} in {folder} don't belong to one save or were changed ({error}): compute the "
            "features again"
        ) from error
    if fingerprint is not None and fingerprint != embeddings.fingerprint:
        raise InputError(
            f"the features of {split_name} in {folder} were computed from {embeddings.fingerprint}, "
            f"not from {fingerprint}: compute them again"
        )
    return embeddings


def _check_split_name(split_name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_]+", split_name):
        raise InputError(f"a split's name is made of letters, digits and underscores, got {split_name!r}")


def _read_shard(path: Path, num_rows: int, dimension: int) -> dict[str, torch.Tensor]:
    if not path.exists():
        raise InputError(f"{path} is missing: copy the complete folder, or compute the features again")
    try:
        check_regular(path)
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is incomplete ({error}): compute the features again") from error
    if sorted(tensors) != ["camera", "embedding", "name", "name_end", "pid"]:
        raise InputError(f"{path} holds {sorted(tensors)}, not a shard of features")
    if len(tensors["embedding"]) != num_rows:
        raise InputError(
            f"{path} holds {len(tensors['embedding'])} rows, but the manifest has {num_rows}: "
            "compute the features again"
        )
    shapes = {"embedding": (num_rows, dimension), **dict.fromkeys(("camera", "pid", "name_end"), (num_rows,))}
    types = {"embedding": torch.float32, "name": torch.uint8}
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes.get(name, (tensor.numel(),)) or tensor.dtype != types.get(name, torch.int64):
            raise InputError(
                f"{path} holds {name} as {tensor.dtype} {list(tensor.shape)}, not as it was saved: compute the "
                "features again"
            )
    return tensors


def _tensors(embeddings: Embeddings, rows: slice) -> dict[str, torch.Tensor]:
    encoded = [name.encode(errors="surrogateescape") for name in embeddings.name_N[rows]]
    ends = torch.tensor([len(name) for name in encoded], dtype=torch.int64).cumsum(0)
    return {
        "embedding": embeddings.embedding_SD[rows].contiguous(),
        "pid": torch.tensor(embeddings.pid_N[rows]),
        "camera": torch.tensor(embeddings.camera_N[rows]),
        "name": torch.frombuffer(bytearray(b"".join(encoded) or b"\0"), dtype=torch.uint8),
        "name_end": ends,
    }


def _unpack_names(name: torch.Tensor, name_end: torch.Tensor) -> list[str]:
    ends = name_end.tolist()
    joined = name.numpy().tobytes()
    return [
        joined[begin:end].decode(errors="surrogateescape") for begin, end in zip([0, *ends[:-1]], ends, strict=False)
    ]


def _digest(embeddings: Embeddings) -> str:
    """SHA-256 of all content, to check that all shards are from the same save."""
    digest = hashlib.sha256(f"{embeddings.fingerprint} {tuple(embeddings.embedding_SD.shape)}".encode())
    for array in (embeddings.embedding_SD.contiguous().numpy(), embeddings.pid_N, embeddings.camera_N):
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    digest.update("\0".join(embeddings.name_N).encode(errors="surrogateescape"))
    return digest.hexdigest()
