"""Boxes in MOTChallenge's text form: a person in a frame per line, from an annotation or a tracker.

FRAME, ID, LEFT, TOP, WIDTH, HEIGHT, then nothing; CONFIDENCE; CONFIDENCE, CLASS, VISIBILITY (annotations since MOT16);
or CONFIDENCE, X, Y, Z (MOT15, trackers). Frames and pixels are counted from 1. -1 stands for unknown.

Legend: N boxes.
"""

import io
import math
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reid_accel.data.text_files import read_user_text
from reid_accel.errors import InputError, shortened

NUM_COLUMNS = (6, 7, 9, 10)
LARGEST_BYTES = 2**30
PEDESTRIAN = 1
_UNKNOWN = -1.0
_LARGEST_WHOLE = 2**31

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Boxes:
    """The boxes of a file, in its order.

    box_N4: left, top, width, height in pixels, counted from 0. visibility_N: from 0 to 1, -1 if unknown.
    """

    frame_N: Ints
    person_N: Ints
    box_N4: npt.NDArray[np.float64]
    confidence_N: npt.NDArray[np.float64]
    class_N: npt.NDArray[np.float64]
    visibility_N: npt.NDArray[np.float64]
    line_N: Ints

    def __len__(self) -> int:
        return len(self.frame_N)

    @property
    def considered_N(self) -> Bools:
        """Boxes that count in an evaluation: pedestrians whose confidence isn't 0, which marks what is ignored."""
        return (self.confidence_N != 0) & ((self.class_N == PEDESTRIAN) | (self.class_N < 0))

    def select(self, rows: Ints | Bools) -> "Boxes":
        return Boxes(
            self.frame_N[rows],
            self.person_N[rows],
            self.box_N4[rows],
            self.confidence_N[rows],
            self.class_N[rows],
            self.visibility_N[rows],
            self.line_N[rows],
        )


def read_boxes(path: Path) -> Boxes:
    """The boxes of a file, separated by commas or spaces. Raises InputError, with the line, for anything else."""
    text = read_user_text(path, LARGEST_BYTES)
    row_N10 = _read_at_once(text)
    boxes = _as_boxes(_read_by_line(path, text) if row_N10 is None else row_N10)
    _check_unique(path, boxes)
    return boxes


def _read_at_once(text: str) -> npt.NDArray[np.float64] | None:
    """What `_read_by_line` returns, in a tenth of its time; None for a file that it must look at."""
    if not text.strip():
        return None
    try:
        found_NC = np.loadtxt(io.StringIO(text), delimiter=",", comments=None, ndmin=2)
    except ValueError:
        return None
    number, columns = found_NC.shape
    whole_N2 = found_NC[:, :2]
    if (
        number != text.rstrip("\n").count("\n") + 1  # else the numbers of lines would be wrong
        or columns not in NUM_COLUMNS
        or not np.isfinite(found_NC).all()
        or not ((whole_N2 == np.floor(whole_N2)) & (np.abs(whole_N2) < _LARGEST_WHOLE)).all()
    ):
        return None
    row_N10 = np.full((number, 10), _UNKNOWN)
    given = 7 if columns == 10 else columns  # the last three of ten are coordinates in space
    row_N10[:, :given], row_N10[:, 9] = found_NC[:, :given], np.arange(1, number + 1)
    return row_N10


def _read_by_line(path: Path, text: str) -> npt.NDArray[np.float64]:
    """Frame, person, left, top, width, height, confidence, class, visibility (-1: not given), and the line."""
    values = array("d")
    expected = 0
    for number, line in enumerate(text.splitlines(), 1):
        fields = _fields(line)
        if not fields:
            continue
        expected = expected or len(fields)
        where = f"{path}, line {number}"
        if len(fields) not in NUM_COLUMNS:
            raise InputError(
                f"{where}: expected FRAME, ID, LEFT, TOP, WIDTH, HEIGHT, and possibly CONFIDENCE; CONFIDENCE, CLASS, "
                f"VISIBILITY; or CONFIDENCE, X, Y, Z; got {len(fields):,} columns ({shortened(line.strip())!r})"
            )
        if len(fields) != expected:
            raise InputError(f"{where}: {len(fields)} columns, but the lines before have {expected}")
        values.extend(_row(where, fields))
        values.append(number)
    if not values:
        raise InputError(f"{path} has no boxes: it is empty")
    return np.frombuffer(values, np.float64).reshape(-1, 10)


def _fields(line: str) -> list[str]:
    """The fields of a line, without a separator at its end."""
    line = line.strip().rstrip(",").rstrip()
    return line.split(",") if "," in line else line.split()


def _row(where: str, fields: list[str]) -> list[float]:
    """Frame, person, left, top, width, height, confidence, class, visibility; -1 for what is not given."""
    try:
        row = [_number(field) for field in fields]
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    for name, value in zip(("frame", "id"), row, strict=False):
        if value != math.floor(value) or abs(value) >= _LARGEST_WHOLE:
            raise InputError(f"{where}: the {name} must be a whole number below 2^31, got {value:g}")
    if len(row) == 10:  # the last three are coordinates in space
        row = row[:7]
    return row + [_UNKNOWN] * (9 - len(row))


def _number(field: str) -> float:
    try:
        value = float(field) if "_" not in field else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{shortened(field.strip())!r} is not a number")
    return value


def _as_boxes(row_N10: npt.NDArray[np.float64]) -> Boxes:
    whole = row_N10[:, [0, 1, 9]].astype(np.int64)
    box_N4 = row_N10[:, 2:6] - np.array([1.0, 1.0, 0.0, 0.0])
    return Boxes(whole[:, 0], whole[:, 1], box_N4, row_N10[:, 6], row_N10[:, 7], row_N10[:, 8], whole[:, 2])


def _check_unique(path: Path, boxes: Boxes) -> None:
    """Raise InputError if a person is considered twice in a frame; detections (-1) are no persons."""
    known = boxes.select(boxes.considered_N & (boxes.person_N >= 0))
    order = np.lexsort((known.line_N, known.frame_N, known.person_N))
    again = (np.diff(known.person_N[order]) == 0) & (np.diff(known.frame_N[order]) == 0)
    if again.any():
        first = int(np.flatnonzero(again)[0])
        one, other = order[first], order[first + 1]
        raise InputError(
            f"{path}, line {known.line_N[other]}: id {known.person_N[one]} is in frame {known.frame_N[one]} a second "
            f"time (first in line {known.line_N[one]}): a person is in a frame once; remove one of the lines"
        )
