"""The rows of the table, printed and written as text, Markdown and JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from reid_accel.files import write_json, write_text

CORRECTNESS = "Correctness"
TRAINING = "Training"
SCORING = "Scoring"
REAL = "Real images"
SCALING = "Several processes"
SECTIONS = {"correctness": CORRECTNESS, "training": TRAINING, "scoring": SCORING, "real": REAL}
"""The sections on one device, by their names in options."""

Status = Literal["passed", "failed", "measured", "goal met", "goal missed", "left out", "not measured"]


class LeftOutError(Exception):
    """A part cannot run on this machine."""


@dataclass(frozen=True)
class Row:
    """One result: what was measured or checked, the result as text, and its numbers by name."""

    section: str
    title: str
    status: Status
    result: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

    def line(self) -> str:
        """The row as one line for the terminal."""
        return f"{self.section:<17} {self.title:<44} {self.status:<12} {self.result}".rstrip()


def checked(title: str, passed: bool, result: str, **numbers: float) -> Row:
    """A row of the section "Correctness"."""
    return Row(CORRECTNESS, title, "passed" if passed else "failed", result, numbers)


def within(title: str, difference: float, limit: float, what: str = "relative difference") -> Row:
    """A check that a difference is at most `limit`; NaN fails."""
    return checked(title, difference <= limit, f"{what} {difference:.1e}, limit {limit:.0e}", difference=difference)


def correctness_failed(rows: Sequence[Row]) -> bool:
    """Whether any correctness check failed."""
    return any(row.section == CORRECTNESS and row.status == "failed" for row in rows)


def markdown(rows: Sequence[Row], machine: Mapping[str, str]) -> str:
    """The table as Markdown."""
    lines = [", ".join(f"{name} {value}" for name, value in machine.items()), ""]
    lines += ["| part | what | status | result |", "|---|---|---|---|"]
    for row in rows:
        cells = (row.section, row.title, row.status, row.result)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def write_results(path: Path, rows: Sequence[Row], machine: Mapping[str, str]) -> None:
    """Write the rows as JSON to `path`, and as Markdown to the same name with `.md`."""
    content: dict[str, Any] = {"machine": dict(machine), "rows": [_finite(asdict(row)) for row in rows]}
    write_json(path, content)
    write_text(path.with_suffix(".md"), markdown(rows, machine))


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: value if abs(value) < float("inf") else None for name, value in row["numbers"].items()}
    return {**row, "numbers": numbers}
