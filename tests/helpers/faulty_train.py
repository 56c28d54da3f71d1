"""train.py with a fault at a chosen place: what the fault tests start instead of it.

The first arguments say what happens: KIND@PLACE:NUMBER[:RANK]. Kinds: raise, kill (SIGKILL to itself), term (SIGTERM to
itself), stall (the main thread sleeps for good), stop (SIGSTOP to itself: every thread). Places, each counted from 1:
part (a micro-batch's forward pass), step (an optimizer step that is done), checkpoint (just before one is written),
writing (some of its files are there, its name is not), validation. The word `rows` has the rows of each step and
process noted to a file, `frozen-neck` keeps the neck's batch norm from batch statistics. Processes that a launcher
has restarted have no fault. Everything after the word `train` goes to train.py.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import reid_accel.train as train_script
import reid_accel.training.checkpoint as checkpoint_module
import reid_accel.training.trainer as loop_module
from reid_accel.models.reid import ReIDModel


def main() -> None:
    """The script."""
    split = sys.argv.index("train")
    faults, arguments = sys.argv[1:split], sys.argv[split + 1 :]
    rank = int(os.environ.get("RANK", "0"))
    restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    for text in faults:
        if text == "frozen-neck":
            freeze_the_neck()
            continue
        if text == "rows":
            note_rows(Path(f"rows.{rank}.jsonl"))
            continue
        what, _, where = text.partition("@")
        place, number, *ranks = where.split(":")
        if not restarted and (not ranks or int(ranks[0]) == rank):
            install(what, place, int(number))
    train_script.main(arguments)


def happen(what: str) -> None:
    """The fault itself."""
    if what == "raise":
        raise ValueError("this process had a bad day")
    if what == "stall":
        time.sleep(10_000)
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}[what])


def install(what: str, place: str, number: int) -> None:
    """Let the fault happen when a place is reached for the number-th time."""
    if place == "part":
        wrap(loop_module, "loss_terms", what, number)
    elif place == "step":
        wrap(loop_module.EpochSums, "add", what, number)
    elif place == "checkpoint":
        wrap(train_script, "save_checkpoint", what, number)
    elif place == "writing":
        wrap(checkpoint_module, "write_json", what, number)
    elif place == "validation":
        wrap(train_script, "validate_epoch", what, number)
    else:
        raise ValueError(place)


def wrap(owner: Any, name: str, what: str, number: int) -> None:
    """Replace a function by one that faults at its number-th call, before it does its work."""
    real: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def faulty(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            happen(what)
        return real(*arguments, **named)

    setattr(owner, name, faulty)


def freeze_the_neck() -> None:
    """Have the neck in evaluation mode while the rest trains."""
    real = ReIDModel.train

    def train(self: ReIDModel, mode: bool = True) -> ReIDModel:
        real(self, mode)
        self.neck.eval()
        return self

    ReIDModel.train = train  # type: ignore[method-assign]


def note_rows(path: Path) -> None:
    """Write down which rows this process takes at each step, as they are used."""
    real = loop_module.Trainer.step
    opened = loop_module.Trainer.open_batches
    shares: list[list[int]] = []

    def open_batches(self: Any, rows_SB: Any, epoch: int, start: int = 0) -> Any:
        shares[:] = [share.tolist() for share in self.shares(rows_SB[start:])]
        return opened(self, rows_SB, epoch, start)

    def step(self: Any, batches: Any, number: int, sums: Any) -> Any:
        done = real(self, batches, number, sums)
        parts = self.config.train.accumulation_steps
        rows, shares[:] = shares[:parts], shares[parts:]
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": number, "rows": rows}) + "\n")
        return done

    loop_module.Trainer.step = step  # type: ignore[method-assign]
    loop_module.Trainer.open_batches = open_batches  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
