"""The course's submission files `classification_test.csv` and `reid_test.txt`: writers and a validator.

The writers refuse ambiguous content. The validator accepts arbitrary bytes and reports every problem with its line, so
that it can check files written by other code.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from reid_accel.attributes.vocabulary import (
    LOWER_COLUMNS,
    MARKET_COLUMNS,
    PLAIN_GROUPS,
    UPPER_COLUMNS,
    annotation_columns,
    column_maximum,
)
from reid_accel.data.checks import name_problem
from reid_accel.errors import InputError, listed
from reid_accel.files import open_regular, read_bytes, write_text

UPPER_MULTICOLOR = "upmulticolor"
LOWER_MULTICOLOR = "downmulticolor"
HEADER_28 = ("id", *MARKET_COLUMNS)
HEADER_30 = (
    "id",
    *(group.name for group in PLAIN_GROUPS),
    *UPPER_COLUMNS,
    UPPER_MULTICOLOR,
    *LOWER_COLUMNS,
    LOWER_MULTICOLOR,
)
DEFAULT_LENGTH = 50
SHOWN_PER_LINE = 5

Kind = Literal["classification", "rank lists"]


@dataclass(frozen=True, order=True)
class Problem:
    """A reason why a file would be rejected or misread; `line` counts from 1."""

    line: int
    message: str


# --- writing ---------------------------------------------------------------------------------------------


def write_classification(
    path: Path, names: Sequence[str], indices_NA: np.ndarray, multicolor_columns: bool = False
) -> None:
    """Write one row per image: its file name and the annotation columns of its predicted attributes.

    `indices_NA` contains class indices in the order of MARKET_GROUPS. Multicolor is written as all ones (28 columns),
    or with `multicolor_columns` as a 2 in `upmulticolor` and `downmulticolor` (30 columns).
    """
    assert len(names) == len(indices_NA), f"{len(names)} names for {len(indices_NA)} rows of attributes"
    _refuse_names(names, "classification")
    header = HEADER_30 if multicolor_columns else HEADER_28
    lines = [",".join(header)]
    for name, indices in zip(names, indices_NA.tolist(), strict=True):
        values = annotation_columns(indices)
        values |= {UPPER_MULTICOLOR: 1 + (indices[-2] == 0), LOWER_MULTICOLOR: 1 + (indices[-1] == 0)}
        lines.append(",".join([name, *(str(values[column]) for column in header[1:])]))
    write_text(path, "\n".join(lines) + "\n")


def write_rank_lists(path: Path, query_names: Sequence[str], ranked_names: Sequence[Sequence[str]]) -> None:
    """Write one line per query, `query.jpg: best.jpg, second.jpg, ...`."""
    assert len(query_names) == len(ranked_names), f"{len(query_names)} queries, {len(ranked_names)} lists"
    _refuse_names(query_names, "queries")
    _refuse_names(sorted({name for names in ranked_names for name in names}), "rank lists")
    for query, names in zip(query_names, ranked_names, strict=True):
        if not names:
            raise InputError(f"the rank list of {query} is empty: there are no images to rank")
        _refuse_names(names, f"the rank list of {query}", check_spelling=False)
    lines = [f"{query}: {', '.join(names)}\n" for query, names in zip(query_names, ranked_names, strict=True)]
    write_text(path, "".join(lines))


def _refuse_names(names: Sequence[str], what: str, check_spelling: bool = True) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InputError(f"{what}: {listed(twice)} appears more than once; file names must be unique")
    for name in names if check_spelling else ():
        problem = name_problem(name)
        if problem:
            raise InputError(f"{what}: {problem}; rename the image")


# --- reading ---------------------------------------------------------------------------------------------


def submission_kind(path: Path) -> Kind:
    """Which of the two files this is, by its first line or, if that is ambiguous, by its name."""
    with open_regular(path) as file:
        first = file.readline(10_000).decode("utf-8", errors="replace").lstrip("\ufeff")
    before_comma, comma, _ = first.partition(",")
    if ":" in before_comma:
        return "rank lists"
    if before_comma.strip(' "') == "id" and comma:
        return "classification"
    if path.suffix.lower() in {".csv", ".txt"}:
        return "classification" if path.suffix.lower() == ".csv" else "rank lists"
    if comma:
        return "classification"
    raise InputError(
        f"{path} is neither a classification file (its first line starts with `id,age,...`) "
        "nor a file of rank lists (`query.jpg: a.jpg, b.jpg, ...`)"
    )


def check_classification(path: Path, test_names: Collection[str] | None = None) -> list[Problem]:
    """All problems of a `classification_test.csv`; with `test_names`, also missing and unknown images."""
    lines, problems = _read_lines(path)
    if not lines:
        return problems
    header = lines[0].split(",")
    problems += [Problem(1, message) for message in _header_problems(header)]
    rows, blank = _split_off_blank(list(enumerate(lines, 1))[1:])
    problems += blank
    if not rows:
        problems.append(Problem(1, "there is no row after the header"))
    ids: list[tuple[int, str]] = []
    for number, line in rows:
        fields = line.split(",")
        if len(fields) != len(header):
            problems.append(Problem(number, f"{len(fields)} fields, the header has {len(header)}"))
        values = dict(zip(header, fields, strict=False))
        name = values.pop("id", fields[0])
        ids.append((number, name))
        messages = [*_spelling(name), *_value_problems(values), *_color_problems(values)]
        problems += [Problem(number, message) for message in messages]
    problems += _identity_problems(ids, test_names, "test image", len(lines))
    return sorted(problems)


def check_rank_lists(
    path: Path,
    test_names: Collection[str] | None = None,
    query_names: Collection[str] | None = None,
    length: int = DEFAULT_LENGTH,
) -> list[Problem]:
    """All problems of a `reid_test.txt`; with names, also missing queries and unknown images.

    Each list must have `length` names, or all test images if there are fewer.
    """
    lines, problems = _read_lines(path)
    known = None if test_names is None else frozenset(test_names)
    expected = length if known is None else min(length, len(known))
    rows, blank = _split_off_blank(list(enumerate(lines, 1)))
    problems += blank
    queries: list[tuple[int, str]] = []
    for number, line in rows:
        query, colon, rest = line.partition(":")
        if not colon:
            problems.append(Problem(number, f"no `query.jpg: ` at the start of {_short(line)}"))
            continue
        queries.append((number, query))
        messages = [*_spelling(query), *_list_problems(rest.split(","), known, expected)]
        problems += [Problem(number, message) for message in messages]
    if lines:
        problems += _identity_problems(queries, query_names, "query", len(lines))
    return sorted(problems)


def _read_lines(path: Path) -> tuple[list[str], list[Problem]]:
    """Decoded lines without their endings, and problems of encoding and line endings."""
    content = read_bytes(path)
    if not content:
        return [], [Problem(1, "the file is empty")]
    problems: list[Problem] = []
    if content.startswith(b"\xef\xbb\xbf"):
        problems.append(Problem(1, "the file starts with a byte order mark; save it as UTF-8 without BOM"))
        content = content[3:]
    raw_lines = content.split(b"\n")
    if raw_lines[-1]:
        problems.append(Problem(len(raw_lines), "the last line does not end with a line feed"))
    else:
        raw_lines.pop()
    carriage_returns = [number for number, raw in enumerate(raw_lines, 1) if raw.endswith(b"\r")]
    if carriage_returns:
        more = f" (and {len(carriage_returns) - 1:,} further lines)" if len(carriage_returns) > 1 else ""
        problems.append(Problem(carriage_returns[0], f"the line ends with CR LF, LF alone is expected{more}"))
    lines = [raw.removesuffix(b"\r").decode("utf-8", errors="replace") for raw in raw_lines]
    undecodable = [number for number, raw in enumerate(raw_lines, 1) if not _is_utf8(raw)]
    problems += [Problem(number, "the line is not UTF-8") for number in undecodable]
    return lines, problems


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _split_off_blank(numbered: Sequence[tuple[int, str]]) -> tuple[list[tuple[int, str]], list[Problem]]:
    blank = [Problem(number, "the line is empty") for number, line in numbered if not line.strip()]
    return [(number, line) for number, line in numbered if line.strip()], blank


# --- problems of one line ---------------------------------------------------------------------------------


def _header_problems(header: Sequence[str]) -> Iterator[str]:
    with_multicolor = UPPER_MULTICOLOR in header or LOWER_MULTICOLOR in header
    expected = HEADER_30 if with_multicolor else HEADER_28
    if tuple(header) == expected:
        return
    missing = [column for column in expected if column not in header]
    unknown = [column for column in header if column not in expected]
    twice = [column for column, times in Counter(header).items() if times > 1]
    if missing:
        yield f"header: missing columns {listed(missing)}"
    if unknown:
        yield f"header: unknown columns {listed([repr(column) for column in unknown])}"
    if twice:
        yield f"header: duplicate columns {listed([repr(column) for column in twice])}"
    if not missing and not unknown and not twice:
        yield f"header: wrong column order, expected {','.join(expected)}"


def _value_problems(values: Mapping[str, str]) -> Iterator[str]:
    for column, value in values.items():
        maximum = column_maximum(column)
        allowed = [str(number) for number in range(1, maximum + 1)]
        if column not in HEADER_30 or value in allowed:
            continue
        if value.strip() in allowed:
            yield f"{column}: whitespace around the value {_short(value)}"
        else:
            yield f"{column} must be an integer from 1 to {maximum}, got {_short(value)}"


def _color_problems(values: Mapping[str, str]) -> Iterator[str]:
    groups = (("upper", UPPER_COLUMNS, UPPER_MULTICOLOR), ("lower", LOWER_COLUMNS, LOWER_MULTICOLOR))
    for name, colors, multicolor in groups:
        columns = (*colors, multicolor)
        chosen = [column for column in columns if values.get(column) == "2"]
        if len(chosen) > 1:
            yield f"at most one {name} color may be 2, got {len(chosen)}: {', '.join(chosen)}"
        if not chosen and all(values.get(column) == "1" for column in columns):
            yield f"no {name} color is 2; with {multicolor} in the header one of the columns must be"


def _list_problems(pieces: Sequence[str], known: frozenset[str] | None, expected: int) -> Iterator[str]:
    names = [piece.strip() for piece in pieces]
    if any(piece != f" {name}" for piece, name in zip(pieces, names, strict=True)):
        yield "names must be separated by a comma and one space, with one space after the colon"
    misspelled = [problem for name in names for problem in _spelling(name)]
    yield from misspelled[:SHOWN_PER_LINE]
    if len(misspelled) > SHOWN_PER_LINE:
        yield f"{len(misspelled) - SHOWN_PER_LINE:,} more names of the list are misspelled"
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        yield f"more than once in the list: {listed([_short(name) for name in twice])}"
    unknown = [name for name in names if known is not None and name not in known]
    if unknown:
        yield f"not a test image: {listed([_short(name) for name in unknown])}"
    if len(names) != expected:
        yield f"{len(names)} names in the list, expected {expected}"


def _spelling(name: str) -> list[str]:
    problem = name_problem(name)
    return [problem] if problem else []


def _identity_problems(
    found: Sequence[tuple[int, str]], expected: Collection[str] | None, what: str, last_line: int
) -> Iterator[Problem]:
    """Duplicate names and, if `expected` is given, unknown and missing ones."""
    first_line: dict[str, int] = {}
    for number, name in found:
        if first_line.setdefault(name, number) != number:
            yield Problem(number, f"{_short(name)} is also on line {first_line[name]}")
    if expected is None:
        return
    wanted = frozenset(expected)
    for number, name in found:
        if name not in wanted:
            yield Problem(number, f"unknown {what} {_short(name)}")
    missing = sorted(wanted - first_line.keys())
    if missing:
        plural = {"query": "queries"}.get(what, f"{what}s")
        counted = f"1 {what} is" if len(missing) == 1 else f"{len(missing):,} {plural} are"
        yield Problem(last_line, f"{counted} missing: {listed(missing)}")


def _short(text: str, limit: int = 60) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "…")
