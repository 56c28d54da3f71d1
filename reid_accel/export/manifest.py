"""`export.json`: what an export holds, how it was proven, and the hash of every file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_accel.config.strict import parsed_json
from reid_accel.errors import InputError
from reid_accel.files import read_text, sha256, write_json

MANIFEST = "export.json"
FORMAT = "reid_accel export 1"


def write_manifest(folder: Path, exports: Sequence[Mapping[str, Any]], tools: Sequence[str]) -> None:
    """Describe the files in a folder; exports: what is known of each exported file."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    hashes = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    write_json(folder / MANIFEST, {"format": FORMAT, "exports": exports, "tools": tools, "sha256": hashes})


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """The description of a folder's files. Raises InputError where there is none, or it can't be used."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder} is no export: it has no {MANIFEST}")
    try:
        content = parsed_json(read_text(path))
        usable = isinstance(content, dict) and content.get("format") == FORMAT and isinstance(content["sha256"], dict)
    except (InputError, UnicodeDecodeError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}): export again") from error
    if not usable:
        raise InputError(f"{path} is of another version or another program: export again")
    return content


def check_hashes(folder: Path, content: Mapping[str, Any]) -> None:
    """Raise InputError unless every file of an export is there and unchanged."""
    for name in content["sha256"]:
        path = folder / name
        if not path.is_file() or ".." in Path(name).parts or Path(name).is_absolute():
            raise InputError(f"{folder} lacks {name}, a file of the export: export again")
        _check_hash(path, name, content)


def check_hash(path: Path) -> None:
    """Raise InputError for a file of an export that isn't the one that was proven; others are left alone."""
    if (path.parent / MANIFEST).is_file():
        content = read_manifest(path.parent)
        if path.name in content["sha256"]:
            _check_hash(path, path.name, content)


def _check_hash(path: Path, name: str, content: Mapping[str, Any]) -> None:
    if sha256(path) != content["sha256"][name]:
        raise InputError(
            f"{path} is not the file that was proven: its SHA-256 is another than in {MANIFEST}; export or copy it "
            "again"
        )
