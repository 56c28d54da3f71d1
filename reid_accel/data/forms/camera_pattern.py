"""Cameras found in file names by a user's regular expression.

Patterns run in RE2 (as `pyarrow`, which comes with `datasets`, has it): its time is linear in the length of a name,
where Python's `re` can take years for a pattern such as `(a+)+c(\\d)`.
"""

import re
from collections.abc import Sequence

from reid_accel.errors import InputError, first_line, listed, shortened

SETTING = "data.camera-pattern"
_GROUP = "camera"


def cameras_by_pattern(pattern: str, paths: Sequence[str]) -> dict[str, str]:
    """The text that the pattern's group matches in each path, searched in its file name if the pattern has no `/`.

    Paths where the group matches nothing, or the empty text, are left out.
    Raises InputError if the pattern is malformed, hasn't one group, or isn't found in all of the paths.
    """
    import pyarrow
    import pyarrow.compute

    named = with_named_group(pattern)
    places = paths if "/" in pattern else [path.rpartition("/")[2] for path in paths]
    texts = pyarrow.array([place.encode("utf-8", "replace").decode() for place in places], pyarrow.large_string())
    try:
        found = pyarrow.compute.extract_regex(texts, named).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{SETTING} {shortened(pattern)} cannot be used: {first_line(error)}") from error
    missing = [path for path, match in zip(paths, found, strict=True) if match is None]
    if missing:
        raise InputError(
            f"{SETTING} {shortened(pattern)} is not found in {len(missing):,} of {len(paths):,} images "
            f"({listed(missing)})"
        )
    return {path: match[_GROUP] for path, match in zip(paths, found, strict=True) if match[_GROUP]}


def with_named_group(pattern: str) -> str:
    """The pattern with a name for its one group. Raises InputError if it is malformed or has another number of groups.

    >>> with_named_group(r"[(]_c(\\d+)")
    '[(]_c(?P<camera>\\\\d+)'
    """
    try:
        groups = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(f"{SETTING} {shortened(pattern)} is not a regular expression: {first_line(error)}") from error
    if groups.groups != 1:
        raise InputError(
            f"{SETTING} {shortened(pattern)} must have one group in parentheses, the camera, as in _c(\\d+): it has "
            f"{groups.groups}; further parentheses are written (?:...)"
        )
    for name in groups.groupindex:
        return pattern.replace(f"(?P<{name}>", f"(?P<{_GROUP}>", 1)
    return _unescaped_group(pattern)


def _unescaped_group(pattern: str) -> str:
    """Name the first group that is neither escaped, nor in brackets, nor an extension `(?...)`."""
    tokens = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(\((?!\?))|.", re.DOTALL)
    return tokens.sub(lambda token: f"(?P<{_GROUP}>" if token[1] else token[0], pattern)
