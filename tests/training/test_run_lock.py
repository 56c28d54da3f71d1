"""One process at a time writes to a run folder; dead ones hold nothing. Real processes."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.launching import SMALL_RUN, command, environment, launch, log_of
from helpers.made_sets import make_market
from helpers.same_run import FAULTY

import reid_accel.training.run_lock as run_lock
from reid_accel.processes import this_process
from reid_accel.training.run_lock import LOCK_FILE, RunInUseError, lock_run


@contextmanager
def held_elsewhere(folder: Path, more: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Another process holds the folder."""
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom reid_accel.training.run_lock import lock_run\n"
        f"lock = lock_run(Path(sys.argv[1]))\n{more}\nprint('held', flush=True)\ntime.sleep(1000)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("has_locks", [True, False])
def test_a_living_process_is_named_and_a_dead_one_is_followed(
    tmp_path: Path, has_locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on file systems without locks, by the process's number and time of birth."""
    if not has_locks:
        monkeypatch.setattr(run_lock, "fcntl", None)
    with held_elsewhere(tmp_path) as holder:
        for _ in range(2):
            with pytest.raises(RunInUseError, match=f"in use by process {holder.pid} on {platform.node()}: wait"):
                lock_run(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        lock = lock_run(tmp_path)
    with pytest.raises(RunInUseError, match=f"process {os.getpid()} on"):
        lock_run(tmp_path)
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_child_of_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    """A fork inherits the open file and its lock; killing the parent leaves both."""
    with held_elsewhere(tmp_path, "child = os.fork()\nif child == 0: time.sleep(30); os._exit(0)") as holder:
        holder.kill()
        holder.wait()
        lock_run(tmp_path).release()


def test_a_number_that_was_given_again_is_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "fcntl", None)
    process = this_process()
    content = {"machine": process.machine, "pid": process.pid, "born": process.born - 100, "host": "h", "beats": 3}
    (tmp_path / LOCK_FILE).write_text(json.dumps(content))
    lock_run(tmp_path).release()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"machine": 3}', "x" * 600])
def test_a_spoilt_lock_file_locks_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_FILE).write_text(text)
    lock = lock_run(tmp_path)
    assert json.loads((tmp_path / LOCK_FILE).read_text()[:512])["pid"] == os.getpid()
    lock.release()


@pytest.mark.parametrize("lives", [True, False])
def test_a_process_of_another_machine_is_watched(
    tmp_path: Path, lives: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_lock, "WATCH_SECONDS", 1.0)
    content = {"machine": "00000000", "pid": 7, "born": 1, "host": "node17"}

    def beat(number: int) -> None:
        (tmp_path / LOCK_FILE).write_text(json.dumps(content | {"beats": number}))

    beat(0)
    if lives:
        threading.Timer(0.5, beat, [1]).start()
        with pytest.raises(RunInUseError, match="in use by process 7 on node17"):
            lock_run(tmp_path)
    else:
        lock_run(tmp_path).release()
        assert "process 7 on node17 gave none" in caplog.text


def test_a_lock_beats_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.05)
    lock = lock_run(tmp_path)
    seen = set()
    until = time.monotonic() + 10
    while len(seen) < 3 and time.monotonic() < until:
        seen.add(json.loads((tmp_path / LOCK_FILE).read_text())["beats"])
        time.sleep(0.05)
    lock.release()
    assert len(seen) == 3


@pytest.mark.launch
def test_a_second_run_beside_a_living_one_changes_nothing(tmp_path: Path) -> None:
    market = make_market(tmp_path / "market", identities=14)
    flags = [
        "train", *SMALL_RUN, f"--data.root={market}", f"--data.cache-dir={tmp_path / 'cache'}", "--train.epochs=2",
        "--run.checkpoint-steps=2", f"--run.dir={tmp_path / 'run'}",
    ]  # fmt: skip
    words = command(FAULTY, "stall@part:9", *flags)
    with open(tmp_path / "log.txt", "w") as log:
        first = subprocess.Popen(words, cwd=tmp_path, env=environment(tmp_path), stdout=log, stderr=log)
    try:
        until = time.monotonic() + 120
        while not (tmp_path / "run/checkpoints/step-00000004").is_dir() and time.monotonic() < until:
            time.sleep(0.2)
        holder = json.loads((tmp_path / "run" / LOCK_FILE).read_text())
        before = log_of(tmp_path / "run")
        for more in (["--run.resume=auto"], ["--run.overwrite"]):
            second = launch(FAULTY, *flags, *more, folder=tmp_path, expect=None)
            said = " ".join(second.stderr.replace("│", " ").split())
            assert f"in use by process {holder['pid']} on {platform.node()}" in said, second.stderr
            assert "Traceback" not in said.partition("subprocess.CalledProcessError")[0].partition("╯")[0]
        assert log_of(tmp_path / "run") == before
    finally:
        os.kill(holder["pid"], signal.SIGKILL)
        first.wait(60)
    done = launch(FAULTY, *flags, "--run.resume=auto", folder=tmp_path)
    assert "resuming from" in done.stdout
    assert not (tmp_path / "run" / LOCK_FILE).exists()
