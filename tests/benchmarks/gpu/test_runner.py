"""`bench gpu` as a command: its budget, its exit code, and rows that outlive whatever goes wrong."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import bench_workers
from helpers.launching import PACKAGE, REPOSITORY, environment, launch, read_json
from helpers.made_sets import make_market

from reid_accel.bench import main
from reid_accel.benchmarks.gpu import limits, runner, setup, speed
from reid_accel.benchmarks.gpu.made_run import made_config, num_people
from reid_accel.benchmarks.gpu.parts import Part, all_parts
from reid_accel.benchmarks.gpu.rows import LeftOutError, Row, checked, markdown, within
from reid_accel.benchmarks.gpu.setup import Setup
from reid_accel.benchmarks.gpu.usual_loop import compared
from reid_accel.benchmarks.gpu.worker import rows_of
from reid_accel.data.sampler import uniform_identity_batches

BLOCKING = Path(bench_workers.__file__).with_name("blocked_modules")
ON_CPU = ("--device", "cpu")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "reid_accel.bench", "gpu", *ON_CPU, *(str(argument) for argument in arguments)]


def bare_machine(cache: Path) -> dict[str, str]:
    """The environment of a machine without datasets, tyro and rich."""
    return {**environment(cache), "PYTHONPATH": os.pathsep.join([str(BLOCKING), str(REPOSITORY)])}


def test_every_part_runs_on_the_cpu_without_datasets_tyro_and_rich(tmp_path: Path) -> None:
    root = make_market(tmp_path / "market", identities=6, images=8, size=(32, 64))
    done = subprocess.run(
        command("--budget", 100, "--json", tmp_path / "rows.json", "--data", root),
        env=bare_machine(tmp_path), capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    written = read_json(tmp_path / "rows.json")
    statuses = {row["title"]: row["status"] for row in written["rows"]}
    assert not {"failed", "left out"} & set(statuses.values()), done.stdout
    assert list(statuses.values()).count("passed") >= 10, "a slow machine has time for the first parts"
    assert {row["section"] for row in written["rows"]} == {"Correctness", "Training", "Scoring", "Real images"}
    assert written["machine"]["torch"] == torch.__version__
    assert (tmp_path / "rows.md").read_text() in done.stdout, "the table is ready for a document"


def test_the_blocked_modules_are_blocked(tmp_path: Path) -> None:
    """The control of the test above."""
    installed = "from importlib.metadata import version; version('reid_accel')"
    for code in ("import datasets", "import tyro", "import rich", installed):
        done = subprocess.run([sys.executable, "-c", code], env=bare_machine(tmp_path), capture_output=True)
        assert done.returncode == 1
        assert b"NotFoundError" in done.stderr


def test_a_budget_of_a_second_measures_nothing_and_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["gpu", *ON_CPU, "--budget", "1", "--json", str(tmp_path / "rows.json")])
    assert left.value.code == 0
    rows = read_json(tmp_path / "rows.json")["rows"]
    assert len(rows) == len(all_parts(large=False))
    assert {row["status"] for row in rows} == {"not measured"}
    assert "the budget of 1 s was spent" in capfd.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_keeps_its_rows(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        command("--json", tmp_path / "rows.json"), env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == 0, rest
    assert "passed" in first
    rows = read_json(tmp_path / "rows.json")["rows"]
    assert rows[0]["status"] == "passed"
    assert rows[-1]["status"] == "not measured"
    assert rows[-1]["result"] == "interrupted"
    assert "| Correctness | loss of a step" in rest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "0"], "--budget must be above 0 seconds, got 0"),
        (["--data", "nowhere"], "nowhere"),
        (["--json", "."], "--json . is a folder"),
    ],
)
def test_settings_that_cannot_be_used_are_a_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.main([*ON_CPU, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("reason", ["The NVIDIA driver on your system is too old (found version 11040).", "no CUDA"])
def test_a_missing_device_is_a_sentence_with_torchs_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reason: str
) -> None:
    def init() -> None:
        raise RuntimeError(reason)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    assert runner.main([]) == 2
    assert reason in capsys.readouterr().err


def test_a_card_without_bf16_leaves_parts_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: False)
    with pytest.raises(LeftOutError, match="no bf16"):
        setup.require_bf16(torch.device("cuda"))
    setup.require_bf16(torch.device("cpu"))


def test_a_part_that_needs_more_memory_than_there_is_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6 * 2**30, 8 * 2**30))
    setup.require_memory(torch.device("cuda"), 5)
    with pytest.raises(LeftOutError, match=r"needs about 20 GiB of device memory, 6\.0 GiB are free"):
        setup.require_memory(torch.device("cuda"), 20)


def small_setup(tmp_path: Path, **changes: Any) -> Setup:
    return Setup(torch.device("cpu"), tmp_path, **changes)


def test_a_part_that_fails_gives_its_rows_and_then_its_error(tmp_path: Path) -> None:
    def fail(setup: Setup) -> Iterator[Row]:
        yield checked("before", True, "")
        raise RuntimeError("CUDA error: unspecified launch failure\nmore")

    def leave_out(setup: Setup) -> Iterator[Row]:
        raise LeftOutError("no such thing here")
        yield

    def fill_the_memory(setup: Setup) -> Iterator[Row]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        yield

    rows = list(rows_of(Part("Correctness", "failing", fail, 1), small_setup(tmp_path)))
    assert [row.status for row in rows] == ["passed", "failed"]
    assert rows[1].result == "RuntimeError: CUDA error: unspecified launch failure"
    rows = list(rows_of(Part("Correctness", "missing", leave_out, 1), small_setup(tmp_path)))
    assert [(row.status, row.result) for row in rows] == [("left out", "no such thing here")]
    rows = list(rows_of(Part("Training", "large", fill_the_memory, 1), small_setup(tmp_path)))
    assert [(row.status, row.result) for row in rows] == [("left out", "it needs more memory than the device has free")]
    assert not list(tmp_path.iterdir())


def test_only_the_chosen_sections_are_measured() -> None:
    assert runner.parse_options(["--sections", "scoring", "real"]).sections == ["scoring", "real"]
    chosen = all_parts(large=True, sections=["scoring", "real"])
    everything = [part.title for part in all_parts(large=True) if part.section in ("Scoring", "Real images")]
    assert [part.title for part in chosen] == everything


@pytest.mark.parametrize("batch_size", [*speed.BATCHES, limits.LARGE_BATCH])
def test_there_are_enough_people_for_every_batch_that_a_gpu_gets(tmp_path: Path, batch_size: int) -> None:
    train = made_config(Setup(torch.device("cuda"), tmp_path), batch_size).train
    pid_N = np.arange(2 * batch_size) % num_people(train)
    assert (
        uniform_identity_batches(pid_N, train.batch_size, train.images_per_identity, seed=0, epoch=0).shape[1]
        == batch_size
    )


def test_a_part_for_which_there_is_no_time_is_not_started(tmp_path: Path) -> None:
    rows = list(rows_of(all_parts(large=False)[0], small_setup(tmp_path, deadline=time.monotonic() - 1)))
    assert [row.status for row in rows] == ["not measured"]


def test_a_part_that_crashes_or_hangs_does_not_take_the_others_along(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runner, "work", bench_workers.misbehaving)
    monkeypatch.setattr(runner, "all_parts", lambda **options: all_parts(**options)[: bench_workers.LAST_PART + 1])
    monkeypatch.setattr(runner, "LEAST_PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(runner, "PATIENCE", 0)
    assert runner.main([*ON_CPU, "--json", str(tmp_path / "rows.json")]) == 1
    rows = read_json(tmp_path / "rows.json")["rows"]
    assert [row["status"] for row in rows] == ["passed", "failed", "passed", "failed", "passed", "passed"]
    assert rows[1]["result"] == "its process ended with exit code 11"
    assert rows[3]["result"] == "timed out: it took far longer than estimated"


def test_a_worker_that_cannot_start_ends_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner, "work", bench_workers.dead_at_once)
    assert runner.main([*ON_CPU, "--json", str(tmp_path / "rows.json")]) == 1
    rows = read_json(tmp_path / "rows.json")["rows"]
    assert rows[0]["status"] == "failed"
    assert {row["status"] for row in rows[1:]} == {"not measured"}


def test_no_number_is_within_a_limit_that_it_cannot_be_compared_with() -> None:
    assert within("x", float("nan"), 1.0).status == "failed"
    assert within("x", 0.5, 1.0).status == "passed"


def test_the_table_keeps_its_columns() -> None:
    table = markdown([checked("a|b", True, "c|d")], {"card": "x"})
    assert table.splitlines()[0] == "card x"
    assert table.splitlines()[-1] == "| Correctness | a\\|b | passed | c\\|d |"


@pytest.mark.launch
def test_two_processes_report_how_training_scales(tmp_path: Path) -> None:
    done = launch(PACKAGE / "bench.py", "gpu", *ON_CPU, "--json", tmp_path / "rows.json", folder=tmp_path, processes=2)
    rows = {row["title"]: row for row in read_json(tmp_path / "rows.json")["rows"]}
    assert rows["2 processes, gloo"]["numbers"]["processes"] == 2
    assert rows["2 processes, gloo"]["numbers"]["efficiency"] > 0
    assert 0 <= rows["2 processes, gloo"]["numbers"]["all_reduce_share"] < 1
    assert rows["one process alone"]["numbers"]["images_per_second_each"] > 0
    assert done.stdout.count("2 processes, gloo") == 2, "one process prints, a row and the table"


def test_real_images_are_trained_on_and_scored(shared_data: Path, tmp_path: Path) -> None:
    part = all_parts(large=False)[-1]
    rows = list(rows_of(part, small_setup(tmp_path, data=shared_data / "cuhk03-np" / "detected")))
    assert [row.status for row in rows] == ["measured"]
    assert 0.001 < rows[0].numbers["mean_ap"] < 1


def test_the_loop_is_compared_with_the_usual_one_at_the_same_batch_size() -> None:
    ours = [Row("Training", f"batch {size}", "measured", "", {"images_per_second": 10.0 * size}) for size in (64, 128)]
    usual = {"images_per_second": 256.0, "batch": 128.0, "workers": 8.0}
    rows = [*ours, Row("Training", "usual loop, batch 128, 8 workers", "measured", "", usual)]
    assert [(row.title, row.numbers["times"]) for row in compared(rows)] == [("batch 128 against 8 workers", 5.0)]
    assert not list(compared(rows[:1]))
    left_out = Row("Training", "batch 128", "left out")
    assert not list(compared([left_out, rows[-1]]))
