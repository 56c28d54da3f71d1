"""How an attack ends, counted in one row per kind of attack."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from helpers.forked import Ended, is_proper

GRADES = ("right", "other content", "sentence", "silent", "lost", "trace", "hang", "crash")
FORBIDDEN = ("silent", "lost", "trace", "hang", "crash")


@dataclass
class Row:
    """One line of the table."""

    campaign: str
    grades: Counter[str] = field(default_factory=Counter)
    trouble: list[str] = field(default_factory=list)

    def add(self, grade: str, what: str, said: str = "") -> None:
        """Count a trial; what went wrong is kept with the end of what was said."""
        self.grades[grade] += 1
        if grade in FORBIDDEN:
            self.trouble.append(f"{self.campaign}: {grade}: {what}: {gist(said)}")
            print(self.trouble[-1], file=sys.stderr, flush=True)


def gist(said: str) -> str:
    """The last place in the package that a traceback names, and the last line."""
    lines = [line.strip("─╰╯╭╮│ ") for line in said.splitlines() if line.strip("─╰╯╭╮│ ")]
    own = [line for line in lines if line.startswith("File") and "reid_accel" in line.partition("line")[0]]
    return " ".join([*own[-1:], *lines[-4:]])[-400:]


def table(rows: Sequence[Row]) -> str:
    """The outcome in Markdown."""
    lines = [
        f"| {row.campaign} | {row.grades.total()} | {' | '.join(str(row.grades[grade]) for grade in GRADES)} |"
        for row in rows
    ]
    return "\n".join([f"| attack | trials | {' | '.join(GRADES)} |", "|---" + "|---:" * 9 + "|", *lines])


def grade(end: Ended, right: Sequence[Any], file: str = "") -> str:
    """How a child that read a damaged file ended, given what it may find: pairs as in `readable_files`."""
    if end.code is None:
        return "hang"
    if end.code < 0:
        return "crash"
    if not is_proper(end.said) or end.code not in (0, 2):
        return "trace"
    if end.code == 2:
        return "sentence" if end.said.strip() else "trace"
    if end.result is None:
        return "silent"
    if end.result in right:
        return "right"
    if file and f"{file} was changed" in " ".join(end.said.split()):
        return "sentence"
    return "other content" if end.result[0] in [first for first, _ in right] else "silent"
