"""A campaign of faults: training runs killed at random times, disks that fill up, and what becomes of the runs.

    python tests/faults.py --kills 200 --full-disks 20 --two-processes 10

Each run is disturbed again and again, taken up with `--run.resume auto` each time, and in the end compared with the
undisturbed run: all weights, the optimizer's state, averages, log and scores must be the same bits. Prints a table in
Markdown; exit code 1 when any run differs or could not go on. A kill is SIGKILL to all processes of the run at once
(as when memory runs out), or with two processes to one of them. A full disk is a tmpfs (needs root), or else a limit
on the size of files. The children are forked from a process that has loaded torch already, so that a run takes seconds.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true", HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")

import torch
from helpers.forked import PATIENCE_SECONDS, ended, fork, kill
from helpers.launching import PACKAGE, command, environment
from helpers.made_sets import make_market
from helpers.tiny_runs import differences, settings

import reid_accel.train as train_script
from reid_accel.training.checkpoint import newest_checkpoint, step_of

MANY_TRIES = 60  # a run that needs more has stopped making progress


@dataclass
class Row:
    """One kind of fault: a line of the table."""

    kind: str
    injected: int = 0
    while_writing: int = 0
    most_steps_lost: int = 0
    runs: int = 0
    same: int = 0
    trouble: list[str] = field(default_factory=list)


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="kill -9 at random times, one process")
    parser.add_argument("--full-disks", type=int, default=20, help="disks that are full after a random number of bytes")
    parser.add_argument("--two-processes", type=int, default=0, help="kill -9 of one or both of two processes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the times")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        make_market(folder / "market", identities=14, images=4)
        rows = [
            campaign(folder, Row("kill -9, one process"), given.kills, 1, kill_in_a_fork, given.seed),
            campaign(folder, Row("full disk"), given.full_disks, 1, fill_the_disk, given.seed),
            campaign(folder, Row("kill -9 of one or both of two processes"), given.two_processes, 2, kill_in_a_launch,
                     given.seed),
        ]  # fmt: skip
    print(table([row for row in rows if row.injected]))
    trouble = [sentence for row in rows for sentence in row.trouble]
    print("\n".join(trouble), file=sys.stderr)
    sys.exit(1 if trouble else 0)


def table(rows: list[Row]) -> str:
    """The outcome in Markdown."""
    head = "| fault | injected | while a checkpoint was written | steps lost, at most | runs equal to the undisturbed |"
    lines = [
        f"| {row.kind} | {row.injected} | {row.while_writing} | {row.most_steps_lost} | {row.same} of {row.runs} |"
        for row in rows
    ]
    return "\n".join([head, "|---|---:|---:|---:|---:|", *lines])


Disturb = Callable[[Path, list[str], random.Random], bool]


def campaign(folder: Path, row: Row, faults: int, processes: int, disturb: Disturb, seed: int) -> Row:
    """Disturb runs until so many faults have happened, and see each to its end."""
    chance = random.Random(seed)
    whole = folder / f"whole{processes}"
    if faults and not whole.exists():
        run_to_the_end(folder, settings(folder, whole), processes)
    while row.injected < faults and len(row.trouble) < 3:
        run = folder / f"run-{disturb.__name__}-{row.runs}"
        row.runs += 1
        try:
            disturbed_run(folder, run, row, faults, processes, disturb, chance)
            differing = differences(whole, run)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            differing = [f"could not go on: {error}"]
        row.same += not differing
        row.trouble += [f"{row.kind}, run {row.runs}: {what}" for what in differing[:3]]
        if differing:
            print((folder / "log.txt").read_text(errors="replace")[-3000:], file=sys.stderr)
        print(f"{row.kind}: {row.injected} faults, {row.same} of {row.runs} runs equal", file=sys.stderr, flush=True)
        if run.is_mount():
            subprocess.run(["umount", str(run)], check=True)
        shutil.rmtree(run, ignore_errors=True)
    return row


def disturbed_run(
    folder: Path, run: Path, row: Row, faults: int, processes: int, disturb: Disturb, chance: random.Random
) -> None:
    """Let faults happen to one run, then let it finish."""
    flags = [*settings(folder, run), "--run.resume=auto"]
    for _ in range(MANY_TRIES):
        if row.injected >= faults or chance.random() < 0.2:
            break
        if disturb(folder, flags, chance):
            return  # it finished first
        row.injected += 1
        row.while_writing += any((run / "checkpoints").glob(".step-*"))
        row.most_steps_lost = max(row.most_steps_lost, steps_lost(run))
    run_to_the_end(folder, flags, processes)


def steps_lost(run: Path) -> int:
    """Steps that were logged and aren't in the newest whole checkpoint."""
    log = run / "metrics.jsonl"
    logged = [line for line in log.read_text().split("\n")[:-1] if line] if log.exists() else []
    newest = newest_checkpoint(run / "checkpoints")
    return max((json.loads(line)["step"] for line in logged), default=0) - (step_of(newest) if newest else 0)


# one process: children of this one


def train(folder: Path, flags: list[str], limit_bytes: int | None = None) -> int:
    """Start train.py's main in a child; returns the child's number."""
    return fork(lambda: train_script.main(flags), folder / "log.txt", limit_bytes)


def kill_in_a_fork(folder: Path, flags: list[str], chance: random.Random) -> bool:
    """Start a run and kill it at a random time; true when it was done before."""
    child = train(folder, flags)
    code = ended(child, chance.uniform(0.0, 1.6))
    if code is None:
        kill(child)
        return False
    assert code == 0, f"exit code {code}"
    return True


def fill_the_disk(folder: Path, flags: list[str], chance: random.Random) -> bool:
    """Let a run come to a full disk, then make room; true when it was done before."""
    run = Path(flags[-2].removeprefix("--run.dir="))
    if os.geteuid() == 0 and not run.is_mount():
        run.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(run)], check=False)
    limit, filler = None, run / "filler"
    if run.is_mount():
        free = shutil.disk_usage(run).free
        filler.write_bytes(bytes(max(0, free - chance.randrange(4_000_000))))
    else:
        limit = chance.randrange(1, 1_000_000)
    code = ended(train(folder, flags, limit), PATIENCE_SECONDS)
    filler.unlink(missing_ok=True)
    assert code is not None, "it hangs on a full disk"
    said = (folder / "log.txt").read_text(errors="replace")
    assert code == 0 or "Traceback" not in said, "a traceback instead of a sentence"
    return code == 0


def kill_in_a_launch(folder: Path, flags: list[str], chance: random.Random) -> bool:
    """Start a run of two processes and kill one, all, or only the launcher; true when it was done before."""
    with open(folder / "log.txt", "wb") as log:
        started = subprocess.Popen(
            command(PACKAGE / "train.py", *flags, processes=2),
            cwd=folder, env=environment(folder, 2), stdout=log, stderr=log,
        )  # fmt: skip
    until = time.monotonic() + PATIENCE_SECONDS
    while started.poll() is None and b"; run folder" not in (folder / "log.txt").read_bytes():
        assert time.monotonic() < until, "it does not start"
        time.sleep(0.05)
    try:
        code = started.wait(chance.uniform(0.0, 2.5))
    except subprocess.TimeoutExpired:
        workers = workers_of(started.pid)
        victims = [[chance.choice(workers)] if workers else [], [started.pid], [started.pid, *workers]][
            chance.randrange(3)
        ]
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        assert started.wait(PATIENCE_SECONDS) != 0 or not victims, "a run that lost a process called itself a success"
        until = time.monotonic() + PATIENCE_SECONDS
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() < until, "processes outlive their launcher"
            time.sleep(0.1)
        return not victims
    assert code == 0, f"exit code {code}"
    return True


def workers_of(launcher: int) -> list[int]:
    """The processes that a launcher has started."""
    return [int(number) for number in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]


def run_to_the_end(folder: Path, flags: list[str], processes: int) -> None:
    """A run that nothing disturbs."""
    if processes == 1:
        code = ended(train(folder, flags), PATIENCE_SECONDS)
    else:
        with open(folder / "log.txt", "wb") as log:
            done = subprocess.run(
                command(PACKAGE / "train.py", *flags, processes=2),
                cwd=folder, env=environment(folder, 2), stdout=log, stderr=log, timeout=PATIENCE_SECONDS, check=False,
            )  # fmt: skip
        code = done.returncode
    assert code == 0, f"exit code {code}"


if __name__ == "__main__":
    main()
