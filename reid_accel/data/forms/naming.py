"""Numbers for people, cameras and tracklets that have names: whole numbers keep their value, others are numbered."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from reid_accel.attributes.annotations import whole_number
from reid_accel.data.listing import UNKNOWN_CAMERA
from reid_accel.errors import InputError, listed, shortened

_DIGITS = re.compile(r"(\d+)", re.ASCII)
_WHOLE = re.compile(r"(-?\d+)(?:\.0*)?", re.ASCII)  # pandas writes 7.0 where another cell of the column is empty
_DATE = re.compile(
    r"(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3\d{2,4}"  # 2024-01-05, 5.1.2024
    r"|\d{1,2}[- ]?[a-z]{3}([- ]?\d{2,4})?|[a-z]{3}[- ]\d{2,4})"  # 2-Jan, Jan 2024: what spreadsheets make of 1-2
    r"([T ]\d{1,2}:\d{2}.*)?",
    re.ASCII | re.IGNORECASE,
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names as people do: `cam2` before `cam10`.

    >>> sorted(["cam10", "Cam2", "cam1"], key=natural_key)
    ['cam1', 'Cam2', 'cam10']
    """
    parts = enumerate(_DIGITS.split(name.casefold()))
    key = tuple(_number_key(part) if place % 2 else (1, 0, part) for place, part in parts if part)
    return (*key, (2, 0, name))


def _number_key(digits: str) -> tuple[int, int, str]:
    """By value: of numbers without leading zeros, those with more digits are larger."""
    significant = digits.lstrip("0")
    return (0, len(significant), significant)


def plain_spelling(name: str) -> str:
    """What two spellings of one name have in common: no case, no repeated spaces, no leading zeros.

    >>> plain_spelling("Anna") == plain_spelling(" anna"), plain_spelling("007") == plain_spelling("7")
    (True, True)
    """
    match = _WHOLE.fullmatch(name.strip())
    if match:
        significant = match[1].lstrip("-").lstrip("0") or "0"
        return f"-{significant}" if match[1].startswith("-") else significant
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def two_spellings(names: Iterable[str]) -> tuple[str, str] | None:
    """Two of the names that are spellings of one, as "Anna" and "anna ", or "1" and "01"; None if there are none."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(plain_spelling(name), name)
        if other != name:
            return other, name
    return None


def are_whole(names: Iterable[str]) -> bool:
    """Whether all names are whole numbers."""
    return all(_WHOLE.fullmatch(name.strip()) for name in names)


def numbered(names: Iterable[str]) -> dict[str, int]:
    """A number for each name: whole numbers keep theirs if all are, else all are numbered in natural order.

    >>> numbered(["10", "-1", "7"]), numbered(["cam10", "cam2"])
    ({'10': 10, '-1': -1, '7': 7}, {'cam2': 1, 'cam10': 2})

    Raises ValueError for numbers that don't fit into 64 bits.
    """
    distinct = list(dict.fromkeys(names))
    if are_whole(distinct):
        return {name: whole_number(name.strip().partition(".")[0]) for name in distinct}
    return {name: number for number, name in enumerate(sorted(distinct, key=natural_key), 1)}


def numbers_of(names: Iterable[str], what: str, where: Callable[[str], str]) -> dict[str, int]:
    """`numbered`, but for names in two spellings, which raise InputError. what: a person, camera, ...

    where: the place of a name in the user's files.
    """
    distinct = list(dict.fromkeys(names))
    pair = two_spellings(distinct)
    if pair is not None:
        first, second = (f"{shortened(name)!r} ({where(name)})" for name in pair)
        raise InputError(
            f"one {what} seems to be named in two spellings, {first} and {second}: use one, or two names that differ "
            "in more than case, spaces and zeros"
        )
    try:
        return numbered(distinct)
    except ValueError as error:
        raise InputError(f"{what}: {error}") from error


def names_given(numbers: Mapping[str, int]) -> dict[int, str]:
    """The name of each number that `numbered` gave; empty if the names are numbers themselves."""
    return {} if are_whole(numbers) else {number: name for name, number in numbers.items()}


def camera_numbers(names: Iterable[str], where: Callable[[str], str], remedy: str) -> dict[str, int]:
    """The numbers of cameras. Raises InputError if their names are dates or numbers below -1 (-1 is unknown)."""
    distinct = list(dict.fromkeys(names))
    dates = [name for name in distinct if _is_date(name)]
    if dates and (len(dates) == len(distinct) or not all(name.isdecimal() for name in dates)):
        raise InputError(f"{where(dates[0])}: the cameras look like dates ({listed(dates, 3)}): {remedy}")
    numbers = numbers_of(distinct, "camera", where)
    negative = [name for name, number in numbers.items() if number < UNKNOWN_CAMERA]
    if negative:
        raise InputError(f"{where(negative[0])}: the camera {negative[0]} is below 0 (-1: unknown): {remedy}")
    return numbers


def _is_date(name: str) -> bool:
    text = name.strip()
    if text.isdecimal() and text.isascii():
        return len(text) in (8, 14) and _is_calendar_day(text[:8]) and 1900 <= int(text[:4]) < 2100
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    letters = "".join(re.findall("[a-z]+", match[1].lower()))
    return not letters or letters in _MONTHS


def _is_calendar_day(digits: str) -> bool:
    try:
        datetime.strptime(digits, "%Y%m%d")
    except ValueError:
        return False
    return True
