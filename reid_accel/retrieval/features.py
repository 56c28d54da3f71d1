"""Embeddings of an image set, and their files: safetensors shards beside a small manifest.

    FOLDER/gallery.json                            what there is, written last
    FOLDER/gallery-00000-of-00002.safetensors      embedding, pid, camera, name (bytes), name_end

Scoring again from these files needs neither images nor a GPU. Letters: N images, D feature.
"""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from reid_accel.errors import InputError
from reid_accel.files import replacing, write_json

FORMAT = "reid_accel features 1"
ROWS_PER_SHARD = 65_536


@dataclass(frozen=True)
class Embeddings:
    """What retrieval needs to know about N images."""

    embedding_ND: torch.Tensor
    """float32, as retrieval compares them."""
    pid_N: torch.Tensor
    """int64: person number, 0 for distractors, -1 for junk or unknown."""
    camera_N: torch.Tensor
    """int64."""
    name_N: tuple[str, ...]
    """File names, each once."""
    fingerprint: str
    """Which model made them from which data."""

    def __post_init__(self) -> None:
        num_rows = len(self.name_N)
        if self.embedding_ND.ndim != 2 or self.embedding_ND.dtype != torch.float32:
            raise InputError(
                "embeddings must be a float32 matrix with one row per image, "
                f"got {self.embedding_ND.dtype} {tuple(self.embedding_ND.shape)}"
            )
        if len(self.embedding_ND) != num_rows:
            raise InputError(f"{len(self.embedding_ND)} embeddings, but {num_rows} names")
        for what, label_N in (("pids", self.pid_N), ("cameras", self.camera_N)):
            if label_N.dtype != torch.int64 or label_N.shape != (num_rows,):
                raise InputError(
                    f"{what} must be int64 of shape ({num_rows},), got {label_N.dtype} {tuple(label_N.shape)}"
                )
        if len(set(self.name_N)) != num_rows:
            twice = Counter(self.name_N).most_common(1)[0][0]
            raise InputError(f"image {twice} is there twice: its embedding would be ranked twice")


def save_features(folder: Path, split_name: str, embeddings: Embeddings, rows_per_shard: int = ROWS_PER_SHARD) -> None:
    """Write `embeddings` as shards of at most `rows_per_shard` rows under `folder`; replaces the split's old ones.

    The manifest comes last: until it is there, readers refuse what is there instead of mixing old and new.
    """
    _check_split_name(split_name)
    if rows_per_shard < 1:
        raise InputError(f"rows_per_shard must be at least 1, got {rows_per_shard}")
    num_rows = len(embeddings.name_N)
    num_shards = max(1, -(-num_rows // rows_per_shard))
    digest = _digest(embeddings)
    shards = []
    for index in range(num_shards):
        rows = slice(index * rows_per_shard, min((index + 1) * rows_per_shard, num_rows))
        name = f"{split_name}-{index:05d}-of-{num_shards:05d}.safetensors"
        metadata = {"format": FORMAT, "first_row": str(rows.start), "digest": digest}
        with replacing(folder / name) as temporary:
            save_file(_tensors(embeddings, rows), temporary, metadata | {"fingerprint": embeddings.fingerprint})
        shards.append({"file": name, "num_rows": rows.stop - rows.start})
    manifest = {
        "format": FORMAT,
        "fingerprint": embeddings.fingerprint,
        "digest": digest,
        "num_rows": num_rows,
        "dimension": embeddings.embedding_ND.shape[1],
        "shards": shards,
    }
    write_json(folder / f"{split_name}.json", manifest)
    current = {shard["file"] for shard in shards}
    for path in sorted(folder.glob(f"{split_name}-*-of-*.safetensors")):
        if path.name not in current:
            path.unlink()


def read_features(folder: Path, split_name: str, fingerprint: str | None = None) -> Embeddings:
    """Read a split back; refuse it when a shard is missing, torn or of another save.

    With `fingerprint`, refuse embeddings that another model or other data made.
    """
    _check_split_name(split_name)
    manifest = _read_manifest(folder / f"{split_name}.json")
    shards = [_read_shard(folder / shard["file"], shard["num_rows"]) for shard in manifest["shards"]]
    embeddings = Embeddings(
        torch.cat([shard["embedding"] for shard in shards]),
        torch.cat([shard["pid"] for shard in shards]),
        torch.cat([shard["camera"] for shard in shards]),
        tuple(name for shard in shards for name in _unpack_names(shard["name"], shard["name_end"])),
        manifest["fingerprint"],
    )
    if _digest(embeddings) != manifest["digest"]:
        raise InputError(
            f"the shards of {split_name} in {folder} don't belong to one save or were changed "
            "(their checksum differs from the manifest's): compute the features again"
        )
    if fingerprint is not None and fingerprint != embeddings.fingerprint:
        raise InputError(
            f"the features of {split_name} in {folder} were made by {embeddings.fingerprint}, "
            f"not by {fingerprint}: compute them again"
        )
    return embeddings


def _check_split_name(split_name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_]+", split_name):
        raise InputError(f"a split's name is made of letters, digits and underscores, got {split_name!r}")


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} is missing: there are no complete features of that split")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not a manifest of features: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path} is not a manifest of features in the format {FORMAT!r}")
    return manifest


def _read_shard(path: Path, num_rows: int) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"{path} is missing: copy the whole folder, or compute the features again")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is torn or no safetensors file ({error}): compute the features again") from error
    if sorted(tensors) != ["camera", "embedding", "name", "name_end", "pid"]:
        raise InputError(f"{path} holds {sorted(tensors)}, not a shard of features")
    if len(tensors["embedding"]) != num_rows:
        raise InputError(
            f"{path} holds {len(tensors['embedding'])} rows where the manifest says {num_rows}: "
            "compute the features again"
        )
    return tensors


def _tensors(embeddings: Embeddings, rows: slice) -> dict[str, torch.Tensor]:
    encoded = [name.encode() for name in embeddings.name_N[rows]]
    ends = torch.tensor([len(name) for name in encoded], dtype=torch.int64).cumsum(0)
    return {
        "embedding": embeddings.embedding_ND[rows].detach().cpu().contiguous(),
        "pid": embeddings.pid_N[rows].cpu().contiguous(),
        "camera": embeddings.camera_N[rows].cpu().contiguous(),
        "name": torch.frombuffer(bytearray(b"".join(encoded) or b"\0"), dtype=torch.uint8),
        "name_end": ends,
    }


def _unpack_names(name: torch.Tensor, name_end: torch.Tensor) -> list[str]:
    ends = name_end.tolist()
    joined = name.numpy().tobytes()
    return [joined[begin:end].decode(errors="replace") for begin, end in zip([0, *ends[:-1]], ends, strict=False)]


def _digest(embeddings: Embeddings) -> str:
    """SHA-256 of everything, so that one number tells whether all shards are those of one save."""
    digest = hashlib.sha256(f"{embeddings.fingerprint} {tuple(embeddings.embedding_ND.shape)}".encode())
    for tensor in (embeddings.embedding_ND, embeddings.pid_N, embeddings.camera_N):
        digest.update(tensor.detach().cpu().contiguous().numpy().reshape(-1).view(np.uint8).data)
    digest.update("\0".join(embeddings.name_N).encode())
    return digest.hexdigest()
