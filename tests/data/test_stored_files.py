"""Folders of the cache with files that are made once."""

import logging
from pathlib import Path
from typing import Any

import pytest

from reid_accel.data.stored_files import INDEX_FILE, stored_files
from reid_accel.errors import InputError


def make(folder: Path) -> dict[str, Any]:
    (folder / "a.txt").write_bytes(b"made")
    return {"bytes": {"a.txt": 4}, "more": [1, 2]}


def never(folder: Path) -> dict[str, Any]:
    raise AssertionError("the files are there")


def test_files_are_made_once(tmp_path: Path) -> None:
    index = stored_files(tmp_path / "folder", make, "the files")
    assert index["more"] == [1, 2]
    assert (tmp_path / "folder" / "a.txt").read_bytes() == b"made"
    assert stored_files(tmp_path / "folder", never, "the files") == index


@pytest.mark.parametrize("damage", ["file gone", "file cut", "index cut", "index changed", "index gone"])
def test_damaged_files_are_made_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "folder"
    index = stored_files(folder, make, "the files")
    text = (folder / INDEX_FILE).read_text()
    if damage.startswith("file"):
        (folder / "a.txt").write_bytes(b"ma")
    if damage.endswith("gone"):
        (folder / ("a.txt" if damage == "file gone" else INDEX_FILE)).unlink()
    if damage == "index cut":
        (folder / INDEX_FILE).write_text(text[:20])
    if damage == "index changed":
        (folder / INDEX_FILE).write_text(text.replace("1", "3", 1))
    caplog.set_level(logging.WARNING)
    assert stored_files(folder, make, "the files") == index
    assert "the files in" in caplog.text
    assert (folder / "a.txt").read_bytes() == b"made"


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    def full(folder: Path) -> dict[str, Any]:
        make(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"the files cannot be written to .*: No space left.*--data\.cache-dir"):
        stored_files(tmp_path / "folder", full, "the files")
    assert list(tmp_path.iterdir()) == []
