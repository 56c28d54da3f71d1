"""Output that never decides a run: any character in any encoding, a reader that is gone, no terminal at all.

Also `visible`: text from outside (names, messages of libraries) without what a terminal would obey instead of show.
"""

import codecs
import io
import os
import select
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

PLAIN = "reid_accel.plain"
"""The error handler for characters that an encoding lacks, by its name for `codecs`."""

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format (bidirectional overrides), surrogates, separators of lines
_BYTES = range(0xDC80, 0xDD00)  # how Python reads bytes of names that are not UTF-8
_SIMILAR = {"→": "->", "–": "-", "—": "-", "±": "+-", "…": "...", "’": "'", "“": '"', "”": '"', "×": "x", "•": "*"}
_SIMILAR |= dict.fromkeys("─━═╴╶╸╺", "-") | dict.fromkeys("│┃║", "|")


def visible(text: str, kept: str = "\n\t") -> str:
    r"""`text` with control and bidirectional characters, and bytes that aren't text, as escapes; `kept` stay.

    >>> visible("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _OBEYED and c not in kept else c for c in text)


def printable(text: str, encoding: str) -> str:
    """`visible` text with the characters that an encoding lacks replaced by similar ones, or by escapes."""
    text = visible(text)
    return text if text.isascii() else text.encode(encoding, PLAIN).decode(encoding)


def _escaped(character: str) -> str:
    if ord(character) in _BYTES:
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_similar(character) for character in missing), error.end


def _similar(character: str) -> str:
    box = "+" if "\u2500" <= character <= "\u257f" else _escaped(character)
    return _SIMILAR.get(character, box)


codecs.register_error(PLAIN, _plain)


class _LastingFile(io.FileIO):
    """A file that drops what can't be written: its reader is gone (`| head`), its disk is full, its terminal closed."""

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view):
                written = super().write(view[done:])
                if written is None:  # non-blocking, and its reader is slow
                    select.select([], [self], [])
                done += written or 0
        except (OSError, ValueError):
            pass
        return len(view)


def open_output() -> None:
    """From now on, writing to standard output and standard error never raises; scripts call it first.

    Streams that are no files (a notebook's, a test's) only get `PLAIN` as their error handler, if they have one.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, _lasting(getattr(sys, name), number))


def _lasting(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:  # closed before Python started: otherwise the next opened file would take its number
        _occupy(number)
        return io.TextIOWrapper(io.BufferedWriter(_LastingFile(number, "w", closefd=False)), "utf-8", PLAIN)
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        stream.reconfigure(errors=PLAIN)
    except (OSError, ValueError):  # what was written before can't be flushed, or the stream is closed
        return stream
    raw = getattr(stream.buffer, "raw", stream.buffer)  # PYTHONUNBUFFERED: without a buffer
    if type(stream) is not io.TextIOWrapper or type(raw) is not io.FileIO:
        return stream
    lasting: Any = _LastingFile(raw.fileno(), "w", closefd=False)
    lasting = lasting if raw is stream.buffer else io.BufferedWriter(lasting)
    return io.TextIOWrapper(lasting, stream.encoding, PLAIN, None, stream.line_buffering, stream.write_through)


@contextmanager
def shown_as_it_is(words: Sequence[str]) -> Iterator[None]:
    """Around a library that prints words from outside: what it prints is made `visible`, if any word needs that."""
    if all(word.isprintable() for word in words):
        yield
        return
    said, complained = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(complained):
            yield
    finally:
        print(visible(said.getvalue()), end="")
        print(visible(complained.getvalue()), end="", file=sys.stderr)


def _occupy(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        nothing = os.open(os.devnull, os.O_RDWR)
        if nothing != number:
            os.dup2(nothing, number)
            os.close(nothing)
        os.set_inheritable(number, True)
