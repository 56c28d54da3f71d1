"""Console output of process 0: errors, the log, a progress bar, the report's tables.

Everything that is printed goes through `PlainConsole` or `terminal.visible`: square brackets, escape sequences and
whatever else comes from outside is shown, never interpreted.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from reid_accel.errors import InputError, explaining_os_errors
from reid_accel.reporting.metrics import (
    ScoreTable,
    attribute_tables,
    headline,
    junk_sentence,
    protocol_label,
    recognition_sentence,
    retrieval_tables,
)
from reid_accel.reporting.schema import Report, Retrieval, count, percent
from reid_accel.terminal import open_output, printable, visible

MISUSE = 2
INTERRUPTED = 130
WIDTH = 100

logger = logging.getLogger("reid_accel")  # all modules log to its children


class PlainConsole(Console):
    """A console that shows strings as they are: no markup, emoji names or escape sequences; any encoding; no reader."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False, width: int | None = None) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, stderr=stderr, quiet=quiet)
        if width is not None and not self.is_terminal:
            self.width = width

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Every text passes here before colors are added."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, self.encoding), style, control)

    def render_str(self, text: str, **options: Any) -> Text:
        """Strings are measured as they will be shown."""
        return super().render_str(printable(text, self.encoding), **options)

    def on_broken_pipe(self) -> None:
        """The reader is gone: go on without output (rich would exit)."""
        self.quiet = True


def open_console(is_main_process: bool, log_level: str = "info") -> Console:
    """The terminal on process 0; a silent console on the others. The package's log is printed there from now on."""
    console = PlainConsole(quiet=not is_main_process, width=WIDTH)
    logger.handlers = [_ConsoleHandler(console)]
    logger.setLevel(log_level.upper())
    logger.propagate = False  # a handler of the root logger would print every line again
    return console


class _ConsoleHandler(logging.Handler):
    """Prints log records as plain text; warnings and errors are marked."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; on a terminal, above the progress bar."""
        mark = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        text = visible(record.getMessage(), kept="\t")  # a name with a line break must not look like another message
        if record.exc_info:
            text += f"\n{visible(logging.Formatter().formatException(record.exc_info))}"
        self._console.print(Text.assemble((mark, "yellow"), text), soft_wrap=True)


@contextmanager
def sentences_for_users() -> Iterator[None]:
    """Turn InputErrors and the operating system's errors into a framed sentence and exit code 2, without a traceback.

    Usually all processes fail with the same error: process 0 prints it, and the launcher then ends the others. A
    process that is still running after ten seconds has a different error and prints it, too.
    """
    open_output()
    try:
        with explaining_os_errors():
            yield
    except KeyboardInterrupt as error:  # outside the training loop, which handles it
        print(f"interrupted: {visible(str(error)) or 'the files written so far are complete'}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except InputError as error:
        rank = int(os.environ.get("RANK", "0"))
        if rank:
            time.sleep(10)
        title = "stopped" if rank == 0 else f"process {rank} stopped"
        logger.debug("the error in full:", exc_info=True)
        PlainConsole(stderr=True).print(Panel(Text(visible(str(error))), title=title, border_style="red"))
        sys.exit(MISUSE)


@contextmanager
def epoch_bar(console: Console, epoch: int, epochs: int, steps: int, done: int) -> Iterator[Callable[..., None]]:
    """A progress bar over the steps of an epoch; yields a function `update(position, **numbers)`."""
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not _shows_progress(console)) as bar:
        task = bar.add_task("", total=steps, completed=done, epoch=f"{epoch + 1}/{epochs}", numbers="")

        def update(position: int, **numbers: float) -> None:
            bar.update(task, completed=position)
            if numbers:
                bar.update(task, numbers="  ".join(f"{name} {value:.3g}" for name, value in numbers.items()))

        yield update


@contextmanager
def image_bar(console: Console, title: str, images: int) -> Iterator[Callable[[int], None]]:
    """A progress bar over images; yields a function to call with the number of images just done."""
    columns = (TextColumn(title, markup=False), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not _shows_progress(console)) as bar:
        task = bar.add_task("", total=images)
        yield lambda done: bar.advance(task, done)


def _shows_progress(console: Console) -> bool:
    return console.is_terminal and logger.isEnabledFor(logging.INFO)


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
        "val mA": line.get("validation_mA"),
        "val F1": line.get("validation_F1"),
        "val attributes": line.get("validation_attribute_accuracy"),
    }
    parts = [
        f"epoch {line['epoch']:>3}/{epochs}",
        f"loss {line['loss']:.3f} ({terms})",
        *(f"{name} {100 * value:.1f} %" for name, value in accuracies.items() if value is not None),
        f"{line['images_per_second']:.0f} img/s",
    ]
    return "  ".join(parts)


def print_report(console: Console, report: Report) -> None:
    """Print the measured scores of a run in at most 100 columns."""
    print_tables(console, [*retrieval_tables(report["retrieval"]), *attribute_tables(report["attributes"])])
    console.print()
    for sentence in _sentences(report):
        console.print(sentence, width=min(console.width, WIDTH))


def print_retrieval(console: Console, retrieval: Sequence[Retrieval]) -> None:
    """Print one table of retrieval scores."""
    print_tables(console, retrieval_tables(retrieval))


def print_tables(console: Console, tables: Iterable[ScoreTable]) -> None:
    """Print the score tables that are short enough for a terminal."""
    for table in tables:
        if table.is_brief:
            console.print()
            console.print(_table(table), width=min(console.width, WIDTH))


def _table(scores: ScoreTable) -> Table:
    """The first column is text and may wrap, the others are numbers and may not; headings break at spaces."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), header_style="bold", show_edge=False, collapse_padding=True)
    table.add_column(_text(scores.label), overflow="fold", min_width=14)
    for heading in scores.headings:
        table.add_column(_text(heading.replace(" ", "\n")), justify="right", no_wrap=True)
    for row in scores.rows:
        cells = ("\n".join((row.label, *row.details)), *row.cells)
        table.add_row(*map(_text, cells), style="yellow" if row.is_below_baseline else "")
    return table


def _sentences(report: Report) -> Iterable[Text]:
    best, junk, data = headline(report), report["junk"], report["data"]
    if best is not None:
        numbers = f"mAP {percent(best['mAP'])}, rank-1 {percent(best['cmc'].get('1'))}"
        yield _text(f" ({protocol_label(best)}; {best['split']})", numbers, "bold")
    attributes = report["attributes"]
    if attributes is not None and "protocol" in attributes:
        yield _text(f" ({attributes['protocol']}; {attributes['split']})", recognition_sentence(attributes), "bold")
    if junk is not None:
        yield _text(f"Junk score: {junk_sentence(junk)}")
    for warning in data["warnings"]:
        yield _text(f" {warning}", "Warning:", "yellow")
    skipped = data["skipped_images"]
    if skipped:
        first = f"{skipped[0]['name']}: {skipped[0]['reason']}"
        yield _text(f" images skipped: {count(len(skipped))}, e.g. {first}", "Warning:", "yellow")


def _text(content: str, start: str = "", style: str = "") -> Text:
    """Text for any console, not only for ours, after a styled start."""
    return Text.assemble((start, style), visible(content))
