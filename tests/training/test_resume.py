"""Runs that are stopped, killed or broken at chosen places, and what becomes of them. Real processes."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.launching import SMALL_RUN, environment, launch
from helpers.made_sets import make_market
from helpers.same_run import FAULTY, assert_same_run, last_state

pytestmark = pytest.mark.launch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a small market: 44 training images, 5 steps of 8 an epoch."""
    folder = tmp_path_factory.mktemp("survival")
    make_market(folder / "market", identities=14, images=4)
    return folder


def settings(folder: Path, run: str, *more: str) -> list[str]:
    """Three epochs of five steps, everything on that has a state."""
    return [
        "train", *SMALL_RUN, f"--data.root={folder / 'market'}", f"--data.cache-dir={folder / 'cache'}",
        "--train.epochs=3", "--augment.erase-probability=0.5", f"--run.dir={folder / run}", *more,
    ]  # fmt: skip


class Undisturbed(dict[int, str]):
    """The runs to compare with, by number of processes; each is made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, processes: int) -> str:
        run = f"whole{processes}"
        launch(FAULTY, "rows", *settings(self.folder, run), folder=self.folder, processes=processes)
        for rank in range(processes):
            (self.folder / f"rows.{rank}.jsonl").rename(self.folder / f"{run}.{rank}.jsonl")
        self[processes] = run
        return run


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Undisturbed:
    """See the class."""
    return Undisturbed(folder)


@pytest.mark.long
def test_another_seed_is_another_run(folder: Path, undisturbed: Undisturbed) -> None:
    launch(FAULTY, *settings(folder, "seed1", "--train.seed=1"), folder=folder)
    states = [last_state(folder, run) for run in (undisturbed[1], "seed1")]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0] if name in states[1])


STOPS = {
    "in the middle of an epoch, between two parts of a step": "term@part:16",
    "killed between a step and its checkpoint": "kill@checkpoint:5",
    "killed while a checkpoint is written": "kill@writing:4",
}


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize("where", STOPS)
def test_a_resumed_run_is_the_undisturbed_one(
    folder: Path, undisturbed: Undisturbed, where: str, processes: int
) -> None:
    run = f"resumed{processes}{list(STOPS).index(where)}"
    flags = settings(folder, run, "--run.checkpoint-steps=4")
    launch(FAULTY, STOPS[where], *flags, folder=folder, processes=processes, expect=None)
    assert not (folder / run / "report.json").exists()
    done = launch(FAULTY, *flags, "--run.resume=auto", folder=folder, processes=processes)
    assert "resuming from" in done.stdout
    assert_same_run(folder, undisturbed[processes], run)


@pytest.mark.long
def test_other_numbers_of_processes_keep_the_order_of_the_data(folder: Path, undisturbed: Undisturbed) -> None:
    flags = settings(folder, "changing", "--run.checkpoint-steps=1")
    rows: dict[int, list[int]] = {}
    for processes, fault in ((2, "term@part:9"), (1, "term@part:9"), (2, "none")):
        given = [fault] if fault != "none" else []
        expect = None if fault != "none" else 0
        done = launch(
            FAULTY, "rows", *given, *flags, "--run.resume=auto", folder=folder, processes=processes, expect=expect
        )
        for step, taken in union_of_rows(folder, "rows", processes).items():
            assert step not in rows, "no step twice: a checkpoint after each"
            rows[step] = taken
        for rank in range(processes):
            (folder / f"rows.{rank}.jsonl").unlink()
    assert "processes, this run has" in done.stdout
    assert rows == union_of_rows(folder, undisturbed[1], 1) == union_of_rows(folder, undisturbed[2], 2)


def union_of_rows(folder: Path, name: str, processes: int) -> dict[int, list[int]]:
    """The rows of each step over all processes, sorted."""
    rows: dict[int, list[int]] = {}
    for rank in range(processes):
        for line in (folder / f"{name}.{rank}.jsonl").read_text().splitlines():
            entry = json.loads(line)
            rows.setdefault(entry["step"], []).extend(row for part in entry["rows"] for row in part)
    return {step: sorted(taken) for step, taken in rows.items()}


FAILURES = {
    "raise@part:7:1": "process 1 failed: ValueError: this process had a bad day",
    "raise@validation:1:0": "process 0 failed: ValueError: this process had a bad day",
    "kill@part:7:1": "process 1 is gone",
    "stall@part:7:1": "process 1 made no progress for",
}


LONG = "raise@part:7:1"


@pytest.mark.parametrize("fault", [pytest.param(name, marks=[pytest.mark.long] * (name == LONG)) for name in FAILURES])
def test_one_process_in_trouble_ends_all_within_seconds(folder: Path, fault: str) -> None:
    run = f"trouble{list(FAILURES).index(fault)}"
    begun = time.monotonic()
    flags = settings(folder, run, "--run.stall-minutes=0.25")  # more than any start takes
    done = launch(FAULTY, fault, *flags, folder=folder, processes=2, expect=None)
    assert time.monotonic() - begun < 90, "starting takes some 15 s of it"
    assert FAILURES[fault] in done.stderr
    assert not (folder / run / "report.json").exists()


def test_a_launcher_that_restarts_processes_has_the_undisturbed_run(folder: Path, undisturbed: Undisturbed) -> None:
    flags = settings(folder, "restarted", "--run.checkpoint-steps=4")
    done = launch(FAULTY, "kill@part:16:1", *flags, folder=folder, processes=2, restarts=1)
    assert "resuming from" in done.stdout
    assert_same_run(folder, undisturbed[2], "restarted")


@pytest.mark.long
def test_frozen_statistics_make_two_processes_one(folder: Path) -> None:
    """The neck's too, here alone: what is left must not depend on who sees which image."""

    def losses(run: str, processes: int, statistics: str) -> torch.Tensor:
        words = ["frozen-neck"] if statistics == "frozen" else []
        flags = settings(folder, run, f"--train.batch-norm={statistics}", "--train.epochs=5", "--optim.name=sgd")
        flags += ["--optim.learning-rate=0.05", "--optim.weight-decay=0.02"]
        launch(FAULTY, *words, *flags, folder=folder, processes=processes)
        lines = [json.loads(line) for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
        return torch.tensor([line["loss"] for line in lines if "validation_mAP" not in line][:20])

    one, two = losses("frozen1", 1, "frozen"), losses("frozen2", 2, "frozen")
    assert len(one) == 20
    assert one[0] - one[-1] > 0.01, "something is learned"
    assert (one - two).abs().max() < 1e-5
    control = [losses("local1", 1, "local"), losses("local2", 2, "local")]
    assert (control[0] - control[1]).abs().max() > 1e-4, "the control: each process's own statistics"


def test_a_copied_run_goes_on_elsewhere(folder: Path, undisturbed: Undisturbed) -> None:
    shutil.copytree(folder / undisturbed[1], folder / "copied")
    done = launch(FAULTY, *settings(folder, "copied"), "--run.resume=auto", folder=folder)
    assert "epoch 4, step 15" in " ".join(done.stdout.split()), "nothing is left to train; it is scored again"
    assert_same_run(folder, undisturbed[1], "copied")


def test_a_small_campaign_of_random_faults(tmp_path: Path) -> None:
    """At length by hand: `python tests/faults.py`; its table is in the README."""
    given = ["--kills=8", "--full-disks=4", "--seed=1"]
    script = Path(__file__).resolve().parents[1] / "faults.py"
    done = subprocess.run(
        [sys.executable, str(script), *given],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    injected = [int(line.split("|")[2]) for line in done.stdout.splitlines()[2:]]
    assert injected == [8, 4]
