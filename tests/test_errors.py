"""What the operating system refuses is one sentence with the path and a remedy, at every command."""

import errno
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.launching import TINY, environment
from helpers.made_sets import make_market
from safetensors.torch import save_file

import reid_accel.api as api
import reid_accel.preflight as preflight
from reid_accel.cli import main
from reid_accel.config.parse import parse
from reid_accel.config.schema import Config
from reid_accel.data.cache_dir import cache_folder
from reid_accel.errors import InputError, explaining_os_errors, sentence_of
from reid_accel.reporting.console import sentences_for_users

NUMBERS = [
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG, errno.ENOENT,
    errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOMEM,
]  # fmt: skip


def said(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return " ".join(printed.err.replace("│", " ").split())


@pytest.mark.parametrize("number", NUMBERS)
def test_each_error_names_the_path_what_is_wrong_and_the_remedy(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(number, os.strerror(number), "/data/[bold]set")
    with pytest.raises(SystemExit) as left, sentences_for_users():
        raise error
    assert left.value.code == 2
    text, problem = said(capsys), f"/data/[bold]set: {os.strerror(number)}; "
    assert problem in text
    assert len(text.partition(problem)[2]) > 20, "the remedy"
    assert sentence_of(OSError(number, os.strerror(number))).startswith(f"{os.strerror(number)}; ")


def test_errors_of_another_kind_are_told_as_they_are() -> None:
    assert sentence_of(OSError("the server said no")) == "the server said no"
    assert sentence_of(ConnectionResetError()) == "ConnectionResetError"
    with pytest.raises(InputError, match="PYTHONUTF8"), explaining_os_errors():
        "größe".encode("ascii")
    with pytest.raises(KeyError), explaining_os_errors():
        raise KeyError("a bug stays a bug")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what commands can stumble over, for root, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    make_market(tmp_path / "market")
    return tmp_path


LONG = "x" * 300
MARKET = ("--data.name=market-layout", "--data.root=market")


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["train", *MARKET, f"--run.dir={LONG}"], "xxx"),
        (["train", *MARKET, f"--run.dir={LONG}/run", "--run.overwrite"], "xxx"),
        (["train", *MARKET, f"--run.resume={LONG}"], "xxx"),
        (["train", *MARKET, f"--model.weights-file={LONG}"], "xxx"),
        (["train", "--data.name=market-layout", f"--data.root={LONG}"], "xxx"),
        (["train", "--data.name=market-layout", "--data.root=circle"], "circle"),
        (["train", "--data.name=market-layout", "--data.root=file"], "file"),
        (["train", f"--config={LONG}"], "xxx"),
        (["train", "--config=folder"], "folder"),
        (["train", "--config=circle"], "circle"),
        (["score", "--model=file/model", *MARKET], "file/model"),
        (["score", f"--model={LONG}", *MARKET], "xxx"),
        (["score", f"--features={LONG}"], "xxx"),
        (["score", "--features=circle"], "circle"),
        (["predict", "--model=circle", "--queries=market", "--test=market"], "circle"),
        (["predict", f"--model={LONG}", "--queries=market", "--test=market"], "xxx"),
        (["check-submission", "folder"], "folder"),
        (["check-submission", "circle"], "circle"),
        (["check-submission", f"{LONG}.csv"], "xxx"),
        (["check-submission", "file", f"--test={LONG}"], "xxx"),
        (["push", LONG, "user/name"], "xxx"),
        (["push", "circle", "user/name"], "circle"),
        (["push", "file", "user/name"], "file"),
        (["recipes", "folder"], "folder"),
        (["recipes", LONG], "xxx"),
        (["train", f"--launch={LONG}"], "xxx"),
        (["bench", "train", f"--config={LONG}"], "xxx"),
        (["bench", "gpu", "--device=cpu", f"--data={LONG}"], "xxx"),
    ],
)
def test_every_command_answers_with_a_sentence(
    place: Path, arguments: list[str], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    text = said(capsys)
    assert path in text.replace(" ", "")
    assert "Traceback" not in text


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("where", ["check_dataset", "check_run_folder", "check_model_name", "find_images"])
def test_what_only_other_users_meet_is_a_sentence_too(
    place: Path, where: str, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/foreign/place")

    monkeypatch.setattr(preflight, "check_model_name", lambda name: None)
    monkeypatch.setattr(preflight, where, refuse)
    command = "train" if where in ("check_dataset", "check_run_folder") else "predict"
    given = MARKET if command == "train" else ("--model=m", "--queries=market", "--test=market")
    with pytest.raises(SystemExit) as left:
        main([command, *given])
    assert left.value.code == 2
    assert f"/foreign/place: {os.strerror(number)}; " in said(capsys)


def test_python_callers_get_the_sentence_as_an_exception(place: Path) -> None:
    given = [*TINY, *MARKET, "--train.batch-size=8", f"--run.dir={place}/file/run", f"--data.cache-dir={place}/cache"]
    with pytest.raises(InputError, match=r"the run folder .*/file/run cannot be used: .*/file.*; "):
        api.train_model(parse(Config, given))


def test_without_a_home_folder_images_are_cached_in_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache_folder("~/.cache/reid_accel").parent == tmp_path
    assert cache_folder("here") == Path("here")


def test_a_full_disk_while_tensors_are_written_is_named(tmp_path: Path) -> None:
    """A limit on the size of files acts as a full disk does; safetensors has an error of its own for it."""
    save_file({"a": torch.zeros(10)}, tmp_path / "small.safetensors")
    code = (
        "import resource, torch\nfrom pathlib import Path\nfrom safetensors.torch import save_file\n"
        "from reid_accel.files import replacing, replacing_folder\n"
        "from reid_accel.reporting.console import sentences_for_users\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "with sentences_for_users(), {block} as path:\n    save_file(dict(a=torch.zeros(10**5)), {file})\n"
    )
    for block, file in (
        ("replacing(Path('features.safetensors'))", "path"),
        ("replacing_folder(Path('model'))", "path / 'model.safetensors'"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(block=block, file=file)],
            cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert f"{block.split(chr(39))[1]}: File too large; " in " ".join(done.stderr.replace("│", " ").split())
    assert [path.name for path in tmp_path.iterdir()] == ["small.safetensors"]
