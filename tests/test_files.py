"""Atomic files and folders."""

import errno
import json
import os
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.file_operations import FileOperations
from helpers.forked import in_a_child
from helpers.time_limit import within
from safetensors.torch import save_file

from reid_accel.files import (
    check_regular,
    has_right_checksum,
    open_regular,
    read_text,
    remove_folder,
    remove_leftovers,
    replacing,
    replacing_folder,
    shown,
    with_checksum,
    write_text,
)
from reid_accel.processes import this_process


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


@pytest.mark.parametrize("kind", ["part", "old"])
def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path, kind: str) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom reid_accel.files import replacing, replacing_folder\n"
        "with replacing_folder(Path('set')) as folder, replacing(Path('file')) as file:\n"
        "    (folder / 'half').write_text('half')\n"
        f"    if {kind == 'old'}: folder.rename(str(folder)[:-4] + 'old')\n"
        "    print('ready', flush=True)\n    time.sleep(1000)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    (writing,) = tmp_path.glob(f".set.*.{kind}")
    for seconds in (0, 3600):
        remove_leftovers(tmp_path, foreign_seconds=seconds)
        assert (writing / "half").read_text() == "half"
    writer.kill()
    writer.wait()
    with replacing_folder(tmp_path / "another set", sync=False):
        assert not writing.exists(), "a later writer in the same folder cleans up"
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another set", *(["set"] if kind == "old" else [])]


def test_what_another_machine_writes_is_left_alone_until_it_rests(tmp_path: Path) -> None:
    other, numbered = tmp_path / ".set.00000000-1-2-000007.part", tmp_path / ".set.77.part"
    own = tmp_path / f".set.{this_process().machine}-{os.getpid()}-1-000007.part"  # this number, another process
    for folder in (other, numbered, own):
        write_text(folder / "inner" / "half", "half")
    remove_leftovers(tmp_path, foreign_seconds=60)
    assert sorted(tmp_path.iterdir()) == [other, numbered]
    long_ago = time.time() - 100
    for path in (other, other / "inner", numbered):
        os.utime(path, (long_ago, long_ago))
    remove_leftovers(tmp_path, foreign_seconds=60)
    assert list(tmp_path.iterdir()) == [other], "a file inside was changed a moment ago"
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_errors_of_writing_name_the_file_and_not_its_temporary_one(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left.*report\.json'$"), replacing(tmp_path / "report.json"):
        full()
    with pytest.raises(OSError, match=r"No space left.*model'$"), replacing_folder(tmp_path / "model"):
        full()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match=r"file'$"), replacing(tmp_path / "file" / "report.json"):
        pass
    with pytest.raises(FileNotFoundError, match="absent"), replacing(tmp_path / "report.json"):
        (tmp_path / "absent").read_text()


def test_a_checksum_covers_every_value_and_every_name() -> None:
    content = with_checksum({"a": (1, 2.5), "b": {"c": None, "d": "é"}})
    assert has_right_checksum(json.loads(json.dumps(content)))
    for other in ({**content, "a": [1, 2.0]}, {**content, "e": 1}, {"a": [1, 2.5]}, {**content, "checksum": None}):
        assert not has_right_checksum(other)


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


@pytest.mark.skipif(sys.platform != "linux", reason="file operations are counted with /proc")
def test_a_folder_that_is_removed_is_never_there_in_part(tmp_path: Path) -> None:
    parent = tmp_path / "checkpoints"

    def remove_and_be_killed(number: int) -> int:
        operations = FileOperations(parent, "kill", number)
        operations.install()
        remove_folder(parent / "step")
        return operations.done["all"]

    for number in range(1, 6):
        (parent / "step").mkdir(parents=True, exist_ok=True)
        for name in "abc":
            (parent / "step" / name).touch()
        end = in_a_child(partial(remove_and_be_killed, number), tmp_path / "log.txt")
        assert end.code == -9
        assert not (parent / "step").exists() or len(list((parent / "step").iterdir())) == 3
        remove_leftovers(parent)
        assert [path.name for path in parent.iterdir()] in ([], ["step"])
    (parent / "step").mkdir(exist_ok=True)
    remove_folder(parent / "step")
    assert list(parent.iterdir()) == []
