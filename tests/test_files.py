"""Atomic files and folders."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reid_accel.files import remove_leftovers, replacing, replacing_folder, write_text


def content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with replacing_folder(tmp_path / "model") as temporary:
            write_text(temporary / "inner" / "file", text)
            assert content(tmp_path / "model") == ({} if text == "first" else {"inner/file": "first"})
    assert content(tmp_path) == {"model/inner/file": "second"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_is_unchanged_when_the_block_fails(tmp_path: Path) -> None:
    write_text(tmp_path / "model" / "file", "first")
    with pytest.raises(IsADirectoryError), replacing_folder(tmp_path / "model") as temporary:
        temporary.write_text("a folder has no text")
    assert content(tmp_path) == {"model/file": "first"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "model" / "file", "first")
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError("quota")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="quota"), replacing_folder(tmp_path / "model") as temporary:
        (temporary / "file").write_text("second")
    assert content(tmp_path) == {"model/file": "first"}


@pytest.mark.parametrize("good", [True, False])
def test_a_folder_that_came_first_is_kept_if_it_is_good(tmp_path: Path, good: bool) -> None:
    with replacing_folder(tmp_path / "set", keep_existing=lambda folder: good, sync=False) as temporary:
        (temporary / "file").write_text("slower")
        write_text(tmp_path / "set" / "file", "faster")
    assert content(tmp_path) == {"set/file": "faster" if good else "slower"}
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o007, 0o660)])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int, expected: int) -> None:
    before = os.umask(mask)
    try:
        with replacing(tmp_path / "features.safetensors") as file:
            save_file({"value": torch.zeros(1)}, file)
        with replacing_folder(tmp_path / "model") as folder:
            save_file({"value": torch.zeros(1)}, folder / "model.safetensors")
    finally:
        os.umask(before)
    for path in (tmp_path / "features.safetensors", tmp_path / "model" / "model.safetensors"):
        assert path.stat().st_mode & 0o777 == expected


def test_leftovers_of_killed_processes_are_cleaned_up(tmp_path: Path) -> None:
    write_text(tmp_path / ".model.12.old" / "file", "displaced")
    write_text(tmp_path / ".step-1.12.old" / "file", "replaced")
    write_text(tmp_path / "step-1" / "file", "new")
    write_text(tmp_path / ".model.12.part" / "file", "incomplete")
    (tmp_path / ".report.json.12.part").write_text("{")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".notes.old").write_text("not ours")
    remove_leftovers(tmp_path)
    assert content(tmp_path) == {"model/file": "displaced", "step-1/file": "new", ".notes.old": "not ours"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".git", ".notes.old", "model", "step-1"]
