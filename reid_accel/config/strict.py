"""Frozen dataclasses from JSON: every field is there, is known, and has the type that it is annotated with."""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from reid_accel.config.checks import check
from reid_accel.errors import InputError

T = TypeVar("T")
WORDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text", NoneType: "null"}


def from_json(kind: type[T], content: object, place: str = "", *, complete: bool = True) -> T:
    """An instance of a dataclass, with the dataclasses and tuples inside it, from parsed JSON.

    place: where the content is, for errors (`model`). complete: if false, fields with a default may be missing.
    Raises InputError for unknown and missing fields, and for values of another type: `true` is no number, and neither
    are "3" and NaN.
    """
    check(isinstance(content, Mapping), place or "the content", "an object with named fields", content)
    values = cast(Mapping[str, Any], content)
    known = {each.name: each for each in fields(cast(Any, kind))}
    named = f"{place}." if place else ""
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(f"unknown fields ({_listed(named, unknown)})")
    required = [name for name, each in known.items() if complete or _has_no_default(each)]
    missing = [name for name in required if name not in values]
    if missing:
        raise InputError(f"missing fields ({_listed(named, missing)})")
    hints = get_type_hints(kind)
    return kind(**{name: _typed(hints[name], value, f"{named}{name}", complete) for name, value in values.items()})


def _has_no_default(each: Any) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _listed(named: str, names: list[str]) -> str:
    return ", ".join(f"{named}{name}"[:80] for name in names[:5]) + (", ..." if len(names) > 5 else "")


def _typed(hint: Any, value: Any, place: str, complete: bool) -> Any:
    """The value as its annotation's type. Raises InputError if it has another one."""
    origin, parts = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return from_json(cast(type[Any], hint), value, place, complete=complete)
    if origin is tuple:
        check(isinstance(value, list | tuple), place, "a list", value)
        return tuple(_typed(parts[0], item, f"{place}[{number}]", complete) for number, item in enumerate(value))
    if origin is Literal:  # 1 == True == 1.0, so the types are compared, too
        check(any(type(value) is type(one) and value == one for one in parts), place, f"one of {parts}", value)
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in parts:
            return None
        return _typed(next(part for part in parts if part is not NoneType), value, place, complete)
    if hint is float and type(value) is int:
        value = _as_float(value)
    check(type(value) is hint and not (hint is float and not math.isfinite(value)), place, WORDS[hint], value)
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def parsed_json(text: str) -> Any:
    """The content of a JSON text. Raises InputError if it isn't JSON, or if an object has a name twice."""
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError as error:
        raise InputError("it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise InputError(f"it is not JSON: {error}") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"it has a number that cannot be read: {error}") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise InputError(f"it has the name {next(name for name in names if names.count(name) > 1)[:80]!r} twice")
    return content
