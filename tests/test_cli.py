"""`reid-accel`: exit codes and sentences as a student or a CI job meets them."""

from pathlib import Path

import numpy as np
import pytest

from reid_accel.cli import main
from reid_accel.course.submission import write_classification, write_rank_lists

NAMES = [f"{number:06d}.jpg" for number in range(6)]
QUERIES = ["900001.jpg", "900002.jpg"]


@pytest.fixture
def handed_in(tmp_path: Path) -> Path:
    for folder, names in (("test", NAMES), ("queries", QUERIES)):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    write_classification(tmp_path / "classification_test.csv", NAMES, np.zeros((6, 12), int))
    write_rank_lists(tmp_path / "reid_test.txt", QUERIES, [NAMES, NAMES[::-1]])
    return tmp_path


def _run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


def _check(folder: Path, *more: object) -> int:
    files = [folder / "reid_test.txt", folder / "classification_test.csv"]
    return _run("check-submission", *files, "--test", folder / "test", "--queries", folder / "queries", *more)


def test_a_right_pair_of_files_gives_a_sentence_each_and_exit_code_0(
    handed_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _check(handed_in) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    assert all("without problems" in line for line in printed)


def test_problems_are_printed_as_file_line_message_with_exit_code_1(
    handed_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = handed_in / "classification_test.csv"
    path.write_text(path.read_text().replace("000002.jpg,1", "000002.jpg,9"))
    assert _check(handed_in) == 1
    assert f"{path}:4: age must be a whole number from 1 to 4, got '9'" in capsys.readouterr().out


def test_the_length_of_the_lists_is_an_option(handed_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _check(handed_in, "--length", 5) == 1
    assert "6 names in the list, expected 5" in capsys.readouterr().out


def test_without_folders_the_sentence_says_what_was_not_compared(
    handed_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("check-submission", handed_in / "reid_test.txt", "--length", 6) == 0
    assert "give --test and --queries" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check-submission", "absent.csv"], "absent.csv: No such file"),
        (["check-submission", "."], "Is a directory"),
        (["check-submission", "reid_test.txt", "--test", "absent"], "there is no folder absent"),
        (["check-submission", "reid_test.txt", "--length", "0"], "1 or more"),
        (["check-submission"], "required: FILE"),
        (["push", "test", "user/name", "--dry-run"], "not a saved model"),
        (["push", "absent", "user/name"], "is not a folder"),
        (["push", "test", "name"], "user/name"),
        ([], "required: COMMAND"),
    ],
)
def test_misuse_is_one_sentence_on_stderr_and_exit_code_2(
    handed_in: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(handed_in)
    assert _run(*arguments) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == ""


def test_a_dry_run_lists_files_and_sizes(handed_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = handed_in / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(bytes(1500))
    assert _run("push", model, "user/name", "--dry-run", "--visibility=private") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["       2 B  config.json", "    1.5 kB  model.safetensors"]
    assert "2 files, 1.5 kB, would be pushed to" in printed[2]
    assert printed[2].endswith("user/name (private)")
