"""Tracklets and times of a table's rows."""

import math
import re
from collections.abc import Sequence
from datetime import datetime, timezone

from reid_accel.data.forms.naming import are_whole, numbers_of
from reid_accel.data.forms.table_rows import Rows
from reid_accel.data.listing import UNKNOWN_TIME, UNKNOWN_TRACKLET
from reid_accel.errors import InputError, shortened

PER_SECOND = 1_000_000
_DECIMAL = re.compile(r"\d{1,12}(\.\d*)?", re.ASCII)


def tracklets_of(rows: Rows, people: Sequence[int], cameras: Sequence[int]) -> list[int]:
    """The tracklet of each row, unique within the set; -1 for an empty cell, or -1.

    Whole numbers keep their value unless two people share one, as where the tracklets of each person are counted.
    """
    if "tracklet" not in rows.columns:
        return [UNKNOWN_TRACKLET] * len(rows.lines)
    names = rows.columns["tracklet"]
    number_of = numbers_of((name for name in names if name.strip()), "tracklet", rows.first_where("tracklet"))
    numbers = [number_of.get(name, UNKNOWN_TRACKLET) for name in names]
    for row, number in enumerate(numbers):
        if number < UNKNOWN_TRACKLET:
            raise InputError(f"{rows.where(row)}: the tracklet {number} is below 0 (-1: unknown)")
    known = {(number, pid) for number, pid in zip(numbers, people, strict=True) if number != UNKNOWN_TRACKLET}
    if len({number for number, _ in known}) == len(known):
        return numbers
    keys = list(zip(people, cameras, numbers, strict=True))
    distinct = sorted({key for key in keys if key[2] != UNKNOWN_TRACKLET})
    new = {key: number for number, key in enumerate(distinct, 1)}
    return [new.get(key, UNKNOWN_TRACKLET) for key in keys]


def times_of(rows: Rows) -> list[int]:
    """The time of each row: whole numbers as they are, else microseconds of decimal seconds or dates; -1: unknown."""
    if "time" not in rows.columns:
        return [UNKNOWN_TIME] * len(rows.lines)
    texts = [text.strip() for text in rows.columns["time"]]
    whole = are_whole(filter(None, texts))
    return [_time(rows, row, text, whole=whole) if text else UNKNOWN_TIME for row, text in enumerate(texts)]


def _time(rows: Rows, row: int, text: str, *, whole: bool) -> int:
    if whole:
        number = int(text.partition(".")[0][:30])
        if UNKNOWN_TIME <= number < 2**63:
            return number
    elif _DECIMAL.fullmatch(text):
        return math.floor(float(text) * PER_SECOND)
    else:
        moment = _moment(text)
        if moment is not None:
            return moment
    raise InputError(
        f"{rows.where(row)}: the time {shortened(repr(text))} is neither a number from 0 nor a date as 2024-01-31 "
        "12:30:59"
    )


def _moment(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    microseconds = (since.days * 86_400 + since.seconds) * PER_SECOND + since.microseconds
    return microseconds if microseconds >= 0 else None
