"""What is printed never decides a run: encodings, readers that are gone, closed streams. Real processes."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.launching import PACKAGE, SMALL_RUN, command, environment, read_json
from helpers.made_sets import make_market
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from reid_accel.reporting.console import PlainConsole, open_console
from reid_accel.terminal import visible

NASTY = "a\x1b[31m\x9b2J\u202egpj.exe\x07[bold]\udcff"
SHOWN = "a\\x1b[31m\\x9b2J\\u202egpj.exe\\x07[bold]\\xff"


def python(code: str, *, shell: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-c", f"from reid_accel.terminal import open_output; open_output()\n{code}"]
    if shell:
        words = ["bash", "-c", f'"$@" {shell}', "bash", *words]
    return subprocess.run(words, capture_output=True, env=dict(os.environ, **variables), timeout=60)


def test_text_from_outside_is_shown_and_never_obeyed() -> None:
    assert visible(NASTY) == SHOWN
    assert visible("two\nlines\tété → ひ") == "two\nlines\tété → ひ"
    assert visible("one\nline", kept="") == "one\\nline"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "ascii:strict", "utf-8", "utf-16"])
def test_every_encoding_takes_every_character(encoding: str) -> None:
    code = "print('query → gallery ひ ─│ \\udcff')\nimport sys\nprint('→', file=sys.stderr)"
    done = python(code, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding.partition(":")[0])
    assert text.startswith("query -> gallery \\u3072 -|" if encoding in ("latin-1", "ascii") else "query ")
    assert "\\xff" in text or "\\udcff" in text


def test_help_is_shown_on_an_ascii_terminal(tmp_path: Path) -> None:
    plain = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    for words in (["--help"], ["recipes"], ["train", "--help"], ["recipes", "bot"], ["score", "--help", "data"]):
        done = subprocess.run(
            [sys.executable, "-m", "reid_accel.cli", *words],
            cwd=tmp_path, env=dict(os.environ) | plain, capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
        assert len(done.stdout) > 100


@pytest.mark.parametrize(
    "shell", [">&-", "2>&-", ">&- 2>&-", "> /dev/full", "2> /dev/full", "| head -c 0", "2>&1 | true"]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_streams_that_take_nothing_are_no_error(tmp_path: Path, shell: str, unbuffered: str) -> None:
    code = (
        "import sys, time; time.sleep(0.2)\n"
        "for _ in range(3000): print('output ' * 5); print('output', file=sys.stderr)\n"
        "sys.stdout.flush(); sys.stderr.flush()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "assert file.fileno() > 2, 'output of libraries would land in this file'\n"
        "file.write('reached')\n"
    )
    done = python(code, shell=f"{shell}; exit ${{PIPESTATUS[0]}}", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "reached"


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_everything() -> None:
    code = "import os, sys\nos.set_blocking(1, False)\nfor _ in range(40_000): print('0123456789')"
    done = python(code, shell="| (sleep 1; wc -c)")
    assert int(done.stdout) == 40_000 * 11


def test_a_recipe_can_be_piped_into_head() -> None:
    words = [sys.executable, "-m", "reid_accel.cli", "recipes", "bot"]
    done = subprocess.run(["bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "bash", *words], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_console_shows_strings_tables_and_titles_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    table = Table(title=NASTY)
    table.add_column(NASTY)
    table.add_row(NASTY)
    console = PlainConsole(width=200)
    for content in (NASTY, Text(NASTY), table, Panel(NASTY), ":smile: [/] [link=http://x]a[/link]"):
        console.print(content, soft_wrap=True)
    printed = capsys.readouterr().out
    assert printed.replace("\\x07", "").count(SHOWN.replace("\\x07", "")) == 6, "rich drops the bell"
    assert ":smile: [/] [link=http://x]a[/link]" in printed
    assert not {"\x9b", "\x07", "\u202e", "\udcff"} & set(printed)


def test_a_reader_that_is_gone_silences_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    console = open_console(is_main_process=True)
    console.print("nobody reads this")
    console.print("nor this")
    monkeypatch.setattr(sys, "stdout", None)
    open_console(is_main_process=True).print("no output at all, as in a program without a window")


@pytest.mark.launch
@pytest.mark.parametrize("streams", ["| head -n 1", ">&- 2>&-", pytest.param("2>&1 | true", marks=pytest.mark.long)])
def test_a_run_whose_output_nobody_takes_trains_to_its_end(tmp_path: Path, streams: str) -> None:
    """In a folder, with a name and on images whose names look like markup, for a terminal that only knows ASCII."""
    market = make_market(tmp_path / "[bold]market[/nothing]")
    given = [*SMALL_RUN, f"--data.root={market}", f"--data.cache-dir={tmp_path / '[cache]'}", "--train.epochs=2"]
    words = command(PACKAGE / "train.py", *given, f"--run.dir={tmp_path / '[/run]'}", "--run.name=[red]x[bold]")
    done = subprocess.run(
        ["bash", "-c", f'"$@" {streams}; exit ${{PIPESTATUS[0]}}', "bash", *words],
        cwd=tmp_path, env=environment(tmp_path) | {"PYTHONIOENCODING": "ascii"}, capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(read_json(tmp_path / "[/run]" / "report.json")["training"]["history"]) == 2
    assert b"Traceback" not in done.stderr + done.stdout
    assert done.stdout.count(b"\n") == (1 if streams == "| head -n 1" else 0)
