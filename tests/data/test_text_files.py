"""Text that users and other programs wrote."""

import os
from pathlib import Path

import pytest

from reid_accel.data.text_files import CHINESE, read_user_text
from reid_accel.errors import InputError


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffä\r\n".encode())
    assert read_user_text(tmp_path / "a.txt", 100) == "ä\r\n"


def test_the_first_encoding_that_fits_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("大众".encode("gb2312"))
    assert read_user_text(tmp_path / "a.txt", 100, ("utf-8-sig", CHINESE)) == "大众"
    with pytest.raises(InputError, match=r"a\.txt is not UTF-8 text: save it as UTF-8"):
        read_user_text(tmp_path / "a.txt", 100)


def test_large_missing_and_special_files_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(InputError, match=r"a\.txt has more than 1 MB: is it the right file\?"):
        read_user_text(tmp_path / "a.txt", 2**20)
    with pytest.raises(InputError, match=r"b\.txt cannot be read: No such file"):
        read_user_text(tmp_path / "b.txt", 100)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError, match=r"fifo cannot be read: not a regular file"):
        read_user_text(tmp_path / "fifo", 100)
