"""Validation of settings: an error names the setting, the requirement, and the value."""

import math
import os
import re
from dataclasses import fields
from operator import index
from typing import Any, Literal, SupportsIndex, get_args, get_origin, get_type_hints

from reid_accel.errors import InputError, shortened

MAX_NAME_BYTES = 100
"""Leaves room for a number and for temporary names within the 255 bytes of file systems."""
_NO_NAME = re.compile(
    r"[-.\s~].*|.*[.\s]|.*[/\\:*?\"<>|].*|(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE | re.DOTALL
)

LogLevel = Literal["debug", "info", "warning", "error"]


def check(condition: bool, name: str, requirement: str, value: object) -> None:
    """Raise InputError `name must be requirement, got value` unless the condition holds."""
    if not condition:
        raise InputError(f"{name} must be {requirement}, got {shortened(repr(value), 200)}")


def check_folder_name(setting: str, name: str) -> None:
    """Raise InputError unless a name is fit for a new folder on every system."""
    fits = 0 < len(name.encode(errors="replace")) <= MAX_NAME_BYTES and name.isprintable()
    requirement = (
        f"a folder's name: 1 to {MAX_NAME_BYTES} bytes, printable, without / \\ : * ? \" < > |, no dot, dash, tilde or "
        "space at its start, no dot or space at its end, not reserved by Windows (con, nul, ...)"
    )
    check(fits and not _NO_NAME.fullmatch(name), setting, requirement, name if len(name) < 200 else name[:200] + "...")


def check_each(config: object, section: str, names: tuple[str, ...], least: float, requirement: str) -> None:
    """Check that several fields of a section are at least `least`."""
    for name in names:
        value = getattr(config, name)
        check(least <= value < math.inf, f"{section}.{name.replace('_', '-')}", requirement, value)


def check_finite(config: Any, section: str) -> None:
    """Check that no field is NaN or infinite."""
    for field in fields(config):
        value = getattr(config, field.name)
        name = f"{section}.{field.name.replace('_', '-')}"
        check(not isinstance(value, float) or math.isfinite(value), name, "a finite number", value)


def check_choices(config: Any, section: str) -> None:
    """Check that every field with a fixed set of choices holds one of them."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            choices, value = get_args(hint), getattr(config, name)
            check(value in choices, f"{section}.{name.replace('_', '-')}", f"one of {choices}", value)


def in_home(path: str) -> str:
    """A path with a `~` at its start replaced by the user's home folder. Raises InputError if there is none."""
    if not path.startswith("~"):
        return path
    expanded = os.path.expanduser(path)
    if expanded == path:
        raise InputError(f"{path}: there is no such home folder; give the path without ~")
    return expanded


def expand_homes(config: object, names: tuple[str, ...]) -> None:
    """Replace a `~` at the start of paths among a new config's fields (of NAME:FOLDER entries, in the folder)."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, str):
            object.__setattr__(config, name, in_home(value))
        elif isinstance(value, tuple):
            entries = (entry.partition(":") for entry in value)
            object.__setattr__(config, name, tuple(f"{kind}{colon}{in_home(path)}" for kind, colon, path in entries))


def check_positive(name: str, value: object) -> None:
    """Raise InputError unless the value is an integer above 0."""
    number = index(value) if isinstance(value, SupportsIndex) and not isinstance(value, bool) else 0
    check(number > 0, name, "a positive integer", value)


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise InputError unless the value is one of the allowed words."""
    words = ", ".join(repr(word) if "," in word else word for word in allowed)
    check(value in allowed, name, f"one of {words}", value)
