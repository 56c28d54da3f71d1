"""Manifests of saved features: what belongs to one save, with a checksum; all files of a save are written, or none."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from reid_accel.config.strict import from_json, parsed_json
from reid_accel.errors import InputError
from reid_accel.files import (
    ABANDONED_SECONDS,
    CHECKSUM,
    has_right_checksum,
    json_text,
    read_text,
    remove_leftovers,
    replacing,
    with_checksum,
)

FORMAT = "reid_accel features 1"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a split."""

    file: str
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The files of a split, in the order of their rows. digest: a hash of their content."""

    format: str
    fingerprint: str
    digest: str
    num_rows: int
    dimension: int
    shards: tuple[Shard, ...]


@contextmanager
def saving(folder: Path) -> Iterator[ExitStack]:
    """Collects files that are saved together: at the end all get their names, or none if one can't be written.

    They get them in the reverse order of their coming. Raises InputError if one can't be written.
    """
    is_new = not folder.exists()
    try:
        remove_leftovers(folder, foreign_seconds=ABANDONED_SECONDS)
        with ExitStack() as files:
            yield files
    except (OSError, SafetensorError) as error:
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise InputError(
            f"the features could not be written to {folder}: {error}; earlier files are intact. Free some space there, "
            "or choose another folder"
        ) from error


def stage_json(files: ExitStack, path: Path, content: Any) -> None:
    """Write JSON with a checksum under a temporary name, until `saving` ends."""
    temporary = files.enter_context(replacing(path))
    temporary.write_text(json_text(with_checksum(content)), encoding="utf-8")


def read_checked_json(path: Path, kind: type[T]) -> T:
    """The dataclass that `stage_json` wrote. Raises InputError if the file was changed."""
    try:
        content = parsed_json(read_text(path))
        if isinstance(content, dict) and CHECKSUM in content:  # earlier versions wrote none
            if not has_right_checksum(content):
                raise InputError("its checksum differs, so it was changed")
            del content[CHECKSUM]
        return from_json(kind, content, complete=False)  # of earlier versions, which had fewer fields
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(f"{path} is not a manifest of features: {error}; compute the features again") from error


def read_manifest(path: Path) -> Manifest:
    """The manifest of a split. Raises InputError if there is none, or if it names files outside its folder."""
    if not path.exists():
        raise InputError(f"{path} is missing: there are no complete features of that split")
    manifest = read_checked_json(path, Manifest)
    rows = [shard.num_rows for shard in manifest.shards]
    adds_up = bool(rows) and min(rows) >= 0 and sum(rows) == manifest.num_rows
    if manifest.format != FORMAT or not adds_up or any(Path(one.file).name != one.file for one in manifest.shards):
        raise InputError(
            f"{path} is not a manifest of features in the format {FORMAT!r} whose files lie beside it: compute the "
            "features again"
        )
    return manifest
