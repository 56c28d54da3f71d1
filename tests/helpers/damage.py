"""Damaging a file, or its name, at random; the same damage for the same generator."""

import os
import random
import re
from pathlib import Path

HEAD_BYTES = 400  # where headers are
NAME_PARTS = (
    b"\xff\xfe", b"\n", b"\x1b[31m", b"\x07", b"[bold]", b"=1+1", b"%s", b"..", b" ", b",", b":", b"0000", b"-1",
    b"99999999999999999999", b"_c99999", "\u0663".encode(), "\u202e".encode(), b"~", b"'", b'"', b"x" * 180,
)  # fmt: skip
VALUES = (
    "-1", "0", "1e309", "NaN", "null", "true", "no", '""', "[]", "{}", "9" * 40, "[" * 3000, "1.5", "0x10", "010",
    "1:30", "!!python/name:os.system", "*a", "&a [*a]", "~", "\u0663", "a: b", ",", "#",
)  # fmt: skip
_TOKEN = re.compile(r'"[^"\n]*"|[-\w.]+')
NOT_FILES = ("directory", "FIFO", "dangling link", "link in a circle")


def damage(path: Path, chance: random.Random) -> str:
    """Damage a file; returns what was done to it."""
    content = bytearray(path.read_bytes())
    text = as_text(content)
    if text is not None and chance.random() < 0.5:
        return damage_text(path, text, chance)
    kinds = ("flip", "flip", "flips", "truncate", "zeros", "noise", "append", "insert", "empty", "special")
    kind = chance.choice(kinds)
    if kind == "special":
        return replace_by(path, chance.choice(NOT_FILES))
    length = max(1, len(content))
    start, size = _place(length, chance), chance.choice((1, 4, 64, length // 4 + 1))
    if kind in ("flip", "flips"):
        places = [start] if kind == "flip" else [_place(length, chance) for _ in range(chance.randrange(2, 40))]
        for place in places:
            flip(content, 8 * place + chance.randrange(8))
    elif kind == "truncate":
        del content[start:]
    elif kind == "zeros":
        content[start : start + size] = bytes(len(content[start : start + size]))
    elif kind == "noise":
        content[start : start + size] = chance.randbytes(len(content[start : start + size]))
    elif kind == "append":
        content += chance.randbytes(size)
    elif kind == "insert":
        content[start:start] = chance.randbytes(chance.randrange(1, 16))
    else:
        content.clear()
    path.write_bytes(content)
    return f"{kind} at {start} of {length}, {size} bytes"


def as_text(content: bytes) -> str | None:
    """The content of a text file, None for other files."""
    try:
        return None if b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return None


def damage_text(path: Path, text: str, chance: random.Random) -> str:
    """Repeat, remove or exchange lines, or put another value in the place of a word or number."""
    lines, kind = text.split("\n"), chance.choice(("repeat", "remove", "exchange", "value", "value", "value"))
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    tokens = list(_TOKEN.finditer(text))
    if kind == "value" and tokens:
        token, value = chance.choice(tokens), chance.choice(VALUES)
        path.write_text(text[: token.start()] + value + text[token.end() :])
        return f"{value[:30]!r} in the place of {token[0]!r} at {token.start()}"
    if kind == "remove":
        del lines[one]
    elif kind == "exchange":
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines.insert(other, lines[one])
    path.write_text("\n".join(lines))
    return f"{kind} lines {one} and {other}"


def _place(length: int, chance: random.Random) -> int:
    return chance.randrange(min(length, HEAD_BYTES) if chance.random() < 0.4 else length)


def flip(content: bytearray, bit: int) -> None:
    """Flip one bit."""
    if content:
        content[bit // 8] ^= 1 << bit % 8


def replace_by(path: Path, what: str) -> str:
    """Put something that is no file in a file's place."""
    path.unlink()
    if what == "directory":
        path.mkdir()
    elif what == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name if what == "link in a circle" else "nowhere")
    return f"a {what} in its place"


def rename(path: Path, chance: random.Random) -> str:
    """Give a file a bad name; returns it, escaped."""
    stem, ending = os.fsencode(path.stem), os.fsencode(path.suffix)
    for _ in range(chance.randrange(1, 4)):
        place = chance.choice((0, 4, 7, len(stem)))
        stem = stem[:place] + chance.choice(NAME_PARTS) + stem[place + chance.choice((0, 0, 1, 4)) :]
    name = (stem[: 255 - len(ending)] + ending).replace(b"/", b"").replace(b"\0", b"")
    os.rename(path, os.fsencode(path.parent) + b"/" + name)
    return f"the name {name!r}"
