"""What a run says in the terminal, on process 0: sentences, epoch lines, a progress bar."""

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from reid_accel.errors import InputError

MISUSE = 2
INTERRUPTED = 130
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_console(is_main_process: bool) -> Console:
    """The terminal on process 0; on the others a console that says nothing."""
    return Console(quiet=not is_main_process, highlight=False, width=None if sys.stdout.isatty() else 100)


@contextmanager
def sentences_for_users() -> Iterator[None]:
    """Turn an InputError into a framed sentence and exit code 2, without a trace.

    All processes usually fail alike. Process 0 speaks first, and the launcher then ends the others; one that
    is still there after a moment has a trouble of its own and says it too.
    """
    try:
        yield
    except KeyboardInterrupt:  # outside the training loop, which has its own way to stop
        print("interrupted; what was written so far is whole", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (InputError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_SPACE:
            raise
        said = str(error)
        if isinstance(error, OSError):
            said = f"no space: {error}. What was written before is whole; free some space and go on"
        rank = int(os.environ.get("RANK", "0"))
        if rank:
            time.sleep(3)
        title = "stopped" if rank == 0 else f"process {rank} stopped"
        Console(stderr=True, highlight=False).print(Panel(said, title=title, border_style="red"), markup=False)
        sys.exit(MISUSE)


@contextmanager
def epoch_bar(console: Console, epoch: int, epochs: int, steps: int, done: int) -> Iterator[Callable[..., None]]:
    """A progress bar over the steps of an epoch; gives a function `update(position, **numbers)`."""
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=steps, completed=done, epoch=f"{epoch + 1}/{epochs}", numbers="")

        def update(position: int, **numbers: float) -> None:
            bar.update(task, completed=position)
            if numbers:
                bar.update(task, numbers="  ".join(f"{name} {value:.3g}" for name, value in numbers.items()))

        yield update


def epoch_line(line: Mapping[str, Any], epochs: int) -> str:
    """One line per epoch: the loss and its weighted terms, accuracies on the training images, validation, speed.

    >>> line = {"epoch": 3, "loss": 1.5, "losses": {"identity": 1.5}, "identity_accuracy": 0.9}
    >>> line |= {"attribute_accuracy": None, "images_per_second": 80.0}
    >>> epoch_line(line, 12)
    'epoch   3/12  loss 1.500 (identity 1.500)  train identity 90.0 %  80 img/s'
    """
    terms = " + ".join(f"{name} {value:.3f}" for name, value in line["losses"].items())
    accuracies = {
        "train identity": line["identity_accuracy"],
        "train attributes": line["attribute_accuracy"],
        f"val mAP ({line.get('validation_protocol')})": line.get("validation_mAP"),
        "val attributes": line.get("validation_attribute_accuracy"),
    }
    parts = [
        f"epoch {line['epoch']:>3}/{epochs}",
        f"loss {line['loss']:.3f} ({terms})",
        *(f"{name} {100 * value:.1f} %" for name, value in accuracies.items() if value is not None),
        f"{line['images_per_second']:.0f} img/s",
    ]
    return "  ".join(parts)
