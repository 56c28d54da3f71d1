"""Files of embeddings: safetensors shards with a small manifest.

    FOLDER/gallery.json                            manifest, written last
    FOLDER/gallery-00000-of-00002.safetensors      embedding, pid, camera, name (bytes), name_end,
                                                   and if any is known: tracklet, quality

Saved features can be scored again without images or a GPU.
"""

import hashlib
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from reid_accel.errors import InputError
from reid_accel.files import check_regular, replacing
from reid_accel.retrieval.features import Embeddings, unknown_tracklets
from reid_accel.retrieval.manifest import FORMAT, read_manifest, saving, stage_json

ROWS_PER_FILE = 65_536

T = TypeVar("T")


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
            tracklet_N=_joined(shards, "tracklet", unknown_tracklets(0)),
            quality_N=_joined(shards, "quality", None),
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
    if sorted({*tensors} - {"tracklet", "quality"}) != ["camera", "embedding", "name", "name_end", "pid"]:
        raise InputError(f"{path} holds {sorted(tensors)}, not a shard of features")
    if len(tensors["embedding"]) != num_rows:
        raise InputError(
            f"{path} holds {len(tensors['embedding'])} rows, but the manifest has {num_rows}: "
            "compute the features again"
        )
    shapes = {
        "embedding": (num_rows, dimension),
        **dict.fromkeys(("camera", "pid", "tracklet", "quality", "name_end"), (num_rows,)),
    }
    types = {"embedding": torch.float32, "quality": torch.float32, "name": torch.uint8}
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
    return {name: torch.from_numpy(array[rows]) for name, array in _of_tracklets(embeddings).items()} | {
        "embedding": embeddings.embedding_SD[rows].contiguous(),
        "pid": torch.tensor(embeddings.pid_N[rows]),
        "camera": torch.tensor(embeddings.camera_N[rows]),
        "name": torch.frombuffer(bytearray(b"".join(encoded) or b"\0"), dtype=torch.uint8),
        "name_end": ends,
    }


def _of_tracklets(embeddings: Embeddings) -> dict[str, npt.NDArray[Any]]:
    """The arrays that are saved only for images with tracklets."""
    if not embeddings.has_tracklets:
        return {}
    quality = {} if embeddings.quality_N is None else {"quality": embeddings.quality_N}
    return {"tracklet": embeddings.tracklet_N, **quality}


def _joined(shards: Sequence[dict[str, torch.Tensor]], name: str, missing: T) -> npt.NDArray[Any] | T:
    """An array of all shards, or `missing` if one of them lacks it."""
    if not all(name in shard for shard in shards):
        return missing
    return np.concatenate([shard[name].numpy() for shard in shards])


def _unpack_names(name: torch.Tensor, name_end: torch.Tensor) -> list[str]:
    ends = name_end.tolist()
    joined = name.numpy().tobytes()
    return [
        joined[begin:end].decode(errors="surrogateescape") for begin, end in zip([0, *ends[:-1]], ends, strict=False)
    ]


def _digest(embeddings: Embeddings) -> str:
    """SHA-256 of all content, to check that all shards are from the same save."""
    digest = hashlib.sha256(f"{embeddings.fingerprint} {tuple(embeddings.embedding_SD.shape)}".encode())
    labels = (embeddings.pid_N, embeddings.camera_N, *_of_tracklets(embeddings).values())
    for array in (embeddings.embedding_SD.contiguous().numpy(), *labels):
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    digest.update("\0".join(embeddings.name_N).encode(errors="surrogateescape"))
    return digest.hexdigest()
