"""Atomic files and folders."""

import os
import socket
from pathlib import Path

import pytest
import torch
from helpers.time_limit import within
from safetensors.torch import save_file

from reid_accel.files import (
    check_regular,
    open_regular,
    read_text,
    remove_leftovers,
    replacing,
    replacing_folder,
    shown,
    write_text,
)


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


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "link to a FIFO"])
@pytest.mark.parametrize("read", [open_regular, read_text, check_regular])
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path, read: object, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    path = Path("/dev/zero" if kind == "device" else "image.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "socket":
            server.bind(str(path))
        elif kind == "FIFO":
            os.mkfifo(path)
        elif kind != "device":
            os.mkfifo("other")
            path.symlink_to("other")
        with within(5), pytest.raises(OSError, match=r"not a regular file|No such device or address"):
            read(path)  # type: ignore[operator]


def test_regular_files_and_links_to_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("ä\n".encode())
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        check_regular(tmp_path / name)
        assert read_text(tmp_path / name) == "ä\n"
        with open_regular(tmp_path / name) as file:
            assert file.read() == "ä\n".encode()
    with pytest.raises(IsADirectoryError):
        read_text(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("0001_c1s1_Ünïcode 日本.jpg", "0001_c1s1_Ünïcode 日本.jpg"),
        (os.fsdecode(b"a\xff.jpg"), "a\\xff.jpg"),
        ("red\x1b[31m\n.jpg", "red\\x1b[31m\\n.jpg"),
        ("\u202egpj.jpg", "\\u202egpj.jpg"),
        ("lone \ud800", "lone \\ud800"),
    ],
)
def test_names_are_shown_without_bytes_that_change_a_terminal_or_cannot_be_encoded(name: str, text: str) -> None:
    assert shown(name) == shown(Path(name)) == text
    text.encode("utf-8")


def test_any_text_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / "a", f"ä {os.fsdecode(bytes([255]))}\n")
    assert (tmp_path / "a").read_bytes() == "ä \\udcff\n".encode()
