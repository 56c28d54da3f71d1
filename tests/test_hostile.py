"""The product withstands attacks; the harness that attacks it notices when something gives way."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.attacks import grade
from helpers.damage import damage, rename
from helpers.file_operations import FileOperations
from helpers.forked import Ended, in_a_child
from helpers.launching import REPOSITORY, environment
from helpers.tiny_runs import differences
from safetensors.torch import save_file

from reid_accel.errors import InputError
from reid_accel.files import replacing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the attacks use /proc and fork")


def sentence() -> None:
    raise InputError("the file is damaged: replace it")


def escape_sequence() -> None:
    print("the file \x1b[31m is damaged")
    sys.exit(2)


def endless_sentence() -> None:
    print("x" * 10**6)
    sys.exit(2)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda: [1, "pixels"], "right"),
        (lambda: [1, "others"], "other content"),
        (lambda: [2, "pixels"], "silent"),
        (lambda: None, "silent"),
        (sentence, "sentence"),
        (escape_sequence, "trace"),
        (endless_sentence, "trace"),
        (lambda: sys.exit(2), "trace"),
        (lambda: [][0], "trace"),
        (lambda: bytearray(2**45), "trace"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "crash"),
        (lambda: time.sleep(60), "hang"),
    ],
)
def test_each_kind_of_ending_has_its_column(work: Callable[[], Any], expected: str, tmp_path: Path) -> None:
    end = in_a_child(work, tmp_path / "log.txt", seconds=2 if expected == "hang" else 30)
    assert grade(end, [[1, "pixels"]]) == expected


def test_the_same_seed_does_the_same_damage_and_another_seed_does_other(tmp_path: Path) -> None:
    def damaged(seed: int) -> bytes:
        path = tmp_path / f"{seed}"
        path.write_bytes(bytes(range(256)) * 4)
        done = damage(path, random.Random(seed))
        return done.encode() + (path.read_bytes() if path.is_file() else b"")

    first = [damaged(seed) for seed in range(40)]
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    assert first == [damaged(seed) for seed in range(40)]
    assert len(set(first)) > 30


def test_a_renamed_file_keeps_its_content(tmp_path: Path) -> None:
    for seed in range(40):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "0002_c2s1_000001_00.png").write_bytes(b"pixels")
        rename(folder / "0002_c2s1_000001_00.png", random.Random(seed))
        (file,) = folder.iterdir()
        assert file.read_bytes() == b"pixels"


def write_three(folder: Path) -> None:
    """Each kind of operation that is counted."""
    with replacing(folder / "text") as temporary:
        temporary.write_text("ab" * 100)
    save_file({"x": torch.zeros(100)}, folder / "tensors")
    (folder / "text").unlink()


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_a_fault_happens_at_each_file_operation_and_none_is_passed_over(kind: str, tmp_path: Path) -> None:
    def work(folder: Path, number: int) -> int:
        operations = FileOperations(folder, kind, number)
        operations.install()
        write_three(folder)
        return operations.done["all" if kind == "kill" else "needing space"]

    def run(number: int) -> tuple[Ended, list[tuple[str, int]]]:
        folder = tmp_path / f"{number}"
        folder.mkdir()
        end = in_a_child(partial(work, folder, number), tmp_path / "log.txt")
        return end, sorted(
            (re.sub(r"(?<=text\.).+(?=\.part)", "N", path.name), path.stat().st_size) for path in folder.iterdir()
        )

    whole, files = run(0)
    assert (whole.code, files) == (0, [("tensors", 472)])
    ends = [run(number) for number in range(1, whole.result + 1)]
    assert {end.code for end, _ in ends} == ({-signal.SIGKILL} if kind == "kill" else {1, 2})
    left = [files for _, files in ends]
    if kind == "kill":
        assert [(".text.N.part", 100)] in left  # in the middle of a write
        assert [("text", 200)] in left
        assert any(("tensors", 1000) in files for files in left)  # in the middle of a library's write
    else:
        assert not any(name.endswith(".part") for files in left for name, _ in files)
    assert run(whole.result + 1)[0].code == 0


def test_a_run_that_lost_a_step_is_noticed(tmp_path: Path) -> None:
    for name, weight in (("whole", 1.0), ("other", 1.0 + 2**-23)):
        run = tmp_path / name
        (run / "model").mkdir(parents=True)
        (run / "checkpoints/step-00000001").mkdir(parents=True)
        for file in ("model", "ema", "optimizer"):
            save_file({"x": torch.tensor([weight])}, run / f"checkpoints/step-00000001/{file}.safetensors")
        save_file({"x": torch.ones(1)}, run / "model/model.safetensors")
        (run / "report.json").write_text('{"retrieval": []}')
        (run / "metrics.jsonl").write_text('{"step": 1}\n')
    assert differences(tmp_path / "whole", tmp_path / "whole") == []
    expected = [f"the last state of the {name} differs" for name in ("model", "ema", "optimizer")]
    assert differences(tmp_path / "whole", tmp_path / "other") == expected
    (tmp_path / "other/checkpoints/.step-00000003.17.part").mkdir()
    assert ".step-00000003.17.part was left behind" in differences(tmp_path / "whole", tmp_path / "other")


@pytest.mark.launch
def test_a_small_campaign_finds_nothing_that_gives_way(tmp_path: Path) -> None:
    small = ["--trials=45", "--flips=200", "--kills=1", "--full-disks=1", "--seed=1"]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "tests" / "hostile.py"), *small],
        env=environment(tmp_path), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    campaigns = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert {name.split(":")[0].split(" ")[0] for name in campaigns} == {"damaged", "flipped", "training", "saving"}
    assert done.stdout.count("| 0 | 0 | 0 | 0 | 0 |\n") == len(campaigns)
