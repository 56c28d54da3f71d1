"""Settings from a recipe (YAML) and the command line.

A recipe is turned into flags and put before the command line's own, so that one strict parser sees everything: a
word where a number belongs is refused wherever it was written.
"""

import dataclasses
import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from reid_accel.errors import InputError

C = TypeVar("C")


def to_dict(config: Any) -> dict[str, Any]:
    """A config as nested plain values, fit for YAML and JSON."""
    return {
        f.name: to_dict(value) if dataclasses.is_dataclass(value) else _plain(value)
        for f in dataclasses.fields(config)
        for value in [getattr(config, f.name)]
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def to_yaml(config: Any) -> str:
    """A config as YAML that `parse` reads back to the same config."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def parse(kind: type[C], arguments: Sequence[str], *, default_recipe: Path | None = None) -> C:
    """A config from a recipe (`--config FILE`, or the default one) and flags, flags last.

    Raises InputError for a recipe that can't be used; leaves with a usage text (SystemExit 2) for a flag that
    can't.
    """
    recipe, rest = _take_recipe(list(arguments), default_recipe)
    flags = recipe_flags(kind, recipe) if recipe is not None else []
    return tyro.cli(
        kind,
        args=[*flags, *rest],
        description=f"{kind.__doc__}\n\n{_about_recipes(default_recipe)}",
        prog=Path(sys.argv[0]).name,
        console_outputs=os.environ.get("RANK", "0") == "0",
    )


def _about_recipes(default: Path | None) -> str:
    if default is None:
        return "--config FILE reads settings from a YAML file; flags win over it."
    return (
        "--config FILE takes a recipe, a YAML file of settings such as those in configs/ (without it: "
        f"{default.name}); flags win over it. The defaults below are those of settings that the recipe doesn't name."
    )


def _take_recipe(arguments: list[str], default: Path | None) -> tuple[Path | None, list[str]]:
    """The last `--config FILE` (or `--config=FILE`), and the other arguments."""
    recipe, rest, words = default, [], iter(arguments)
    for word in words:
        if word == "--config":
            value = next(words, None)
            if value is None:
                raise InputError("--config needs a file, e.g. --config configs/market1501.yaml")
            recipe = Path(value)
        elif word.startswith("--config="):
            recipe = Path(word.removeprefix("--config="))
        else:
            rest.append(word)
    return recipe, rest


def recipe_flags(kind: type, recipe: Path) -> list[str]:
    """A recipe as command-line flags; raises InputError at unknown names, with the nearest known one."""
    try:
        content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no recipe {recipe}; the ready ones are in the folder configs/") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"the recipe {recipe} cannot be read: {error}") from error
    if content is None:
        return []
    return _flags(kind, content, prefix="", recipe=recipe)


def _flags(kind: type, content: Any, prefix: str, recipe: Path) -> list[str]:
    if not isinstance(content, Mapping):
        raise InputError(f"{recipe}: {prefix.rstrip('.') or 'the file'} must hold `name: value` lines, got {content!r}")
    known = {f.name: f for f in dataclasses.fields(kind)}
    flags: list[str] = []
    for name, value in content.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f" (known: {', '.join(known)})"
            raise InputError(f"{recipe}: there is no setting {prefix}{name}{hint}")
        section: Any = known[name].default_factory
        if isinstance(section, type) and dataclasses.is_dataclass(section):
            flags += _flags(section, value, f"{prefix}{name}.", recipe)
        else:
            flags += _flag(f"{prefix}{name}", value)
    return flags


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        section, _, last = name.rpartition(".")
        return [f"--{name}" if value else f"--{section}{'.' if section else ''}no-{last}"]
    if isinstance(value, list):
        return [f"--{name}", *(str(item) for item in value)]
    return [f"--{name}", str(value)]
