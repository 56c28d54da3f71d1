"""Settings from a recipe (YAML) and the command line.

A recipe is turned into flags, which are parsed as strictly as the command line's own; the result is the default of the
command line, so that help and errors show the recipe's values.
"""

import dataclasses
import difflib
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import tyro
import yaml

from reid_accel.config.help import registry
from reid_accel.config.recipes import recipe_path
from reid_accel.config.yaml_text import read_yaml
from reid_accel.errors import InputError
from reid_accel.terminal import shown_as_it_is, visible

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


def parse(kind: type[C], arguments: Sequence[str], *, default_recipe: str | None = None) -> C:
    """A config from a recipe and flags; flags take precedence.

    The recipe is that of `--config NAME_OR_FILE`, else the default one. `--help SECTION` shows the settings of one
    section. Raises InputError for an unusable recipe; exits with a message (SystemExit 2) for an unusable flag.
    """
    recipe, words = _take_recipe(list(arguments), default_recipe)
    section, words = _take_help_section(kind, words)
    if recipe is None:
        return _parse(section or kind, words, description=_description(kind, default_recipe))
    flags = recipe_flags(kind, recipe)
    if not _is_all_sections(kind):  # it has required settings, which a recipe may lack
        return _parse(section or kind, [*flags, *words], description=_description(kind, None))
    default = _parse_recipe(kind, flags, recipe)
    if section is not None:
        name = dataclasses.fields(section)[0].name
        _parse(section, words, default=section(**{name: getattr(default, name)}))
    return _parse(kind, words, default=default, description=_description(kind, default_recipe))


def recipe_config(kind: type[C], name: str) -> C:
    """The config of a recipe alone."""
    recipe = recipe_path(name)
    return _parse_recipe(kind, recipe_flags(kind, recipe), recipe)


LAUNCHED = ("reid-accel train", "reid-accel score", "reid-accel predict")
"""Commands that several processes can run."""


def _parse(kind: type[Any], words: Sequence[str], **more: Any) -> Any:
    with shown_as_it_is(words):
        return tyro.cli(
            kind, args=words, prog=_command(), console_outputs=_is_main_process(), registry=registry, **more
        )


def _command() -> str:
    """What the user called: `train.py`, or `reid-accel train`."""
    command = Path(sys.argv[0]).name
    return f"{command} {sys.argv[1]}" if command == "reid-accel" and len(sys.argv) > 1 else command


def _parse_recipe(kind: type[C], flags: Sequence[str], recipe: Path) -> C:
    try:
        return _parse(kind, flags)
    except SystemExit:
        if _is_main_process():
            print(visible(f"this setting is in the recipe {recipe}"), file=sys.stderr)
        raise


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _description(kind: type, default_recipe: str | None) -> str:
    recipes = "`--config FILE`: read settings from a YAML file; flags take precedence."
    if default_recipe is not None:
        recipes = (
            "`--config RECIPE`: start from the settings of a recipe, a YAML file or a packaged one (`reid-accel "
            f"recipes` lists them; default: {default_recipe}); flags take precedence."
        )
    names = ", ".join(_sections(kind))
    if _command() in LAUNCHED:
        recipes += "\n`--nproc N`: use N processes; `--launch FILE`: start with an accelerate launch file."
    return f"{kind.__doc__}\n{recipes}\n`--help SECTION` shows the settings of one section: {names}."


def _sections(kind: Any) -> dict[str, type]:
    """The fields of a config that are dataclasses themselves."""
    factories: dict[str, Any] = {f.name: f.default_factory for f in dataclasses.fields(kind)}
    return {n: f for n, f in factories.items() if isinstance(f, type) and dataclasses.is_dataclass(f)}


def _is_all_sections(kind: Any) -> bool:
    return len(_sections(kind)) == len(dataclasses.fields(kind))


def _take_recipe(arguments: list[str], default: str | None) -> tuple[Path | None, list[str]]:
    """The last `--config RECIPE` (or `--config=RECIPE`), and the other arguments."""
    recipe, rest, words = default, [], iter(arguments)
    for word in words:
        if word == "--config":
            recipe = next(words, "")
        elif word.startswith("--config="):
            recipe = word.removeprefix("--config=")
        else:
            rest.append(word)
    if recipe == "":
        raise InputError("--config needs a recipe, e.g. --config market1501")
    return recipe_path(recipe) if recipe is not None else None, rest


def _take_help_section(kind: type, words: list[str]) -> tuple[Any | None, list[str]]:
    """For `--help SECTION`, a config of that section alone, and the arguments without its name."""
    sections = _sections(kind)
    for place, (word, following) in enumerate(itertools.pairwise(words)):
        if word not in ("-h", "--help") or following.startswith("-"):
            continue
        if following not in sections:
            raise InputError(f"--help {following}: there is no such section, only {', '.join(sections)}")
        section = sections[following]
        field = (following, section, dataclasses.field(default_factory=section))
        return dataclasses.make_dataclass(kind.__name__, [field]), [*words[: place + 1], *words[place + 2 :]]
    return None, words


def recipe_flags(kind: type, recipe: Path) -> list[str]:
    """A recipe as command-line flags; raises InputError at unknown names, with the nearest known one."""
    content = read_yaml(recipe)
    if content is None:
        return []
    return _flags(kind, content, prefix="", recipe=recipe)


def _flags(kind: type, content: Any, prefix: str, recipe: Path) -> list[str]:
    if not isinstance(content, Mapping):
        raise InputError(f"{recipe}: {prefix.rstrip('.') or 'the file'} must hold `name: value` lines, got {content!r}")
    known, sections, hints = [f.name for f in dataclasses.fields(kind)], _sections(kind), get_type_hints(kind)
    flags: list[str] = []
    for name, value in content.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f" (known: {', '.join(known)})"
            raise InputError(f"{recipe}: there is no setting {prefix}{name}{hint}")
        if name in sections:
            flags += _flags(sections[name], value, f"{prefix}{name}.", recipe)
        else:
            flags += _flag(f"{prefix}{name}", value, hints[name], recipe)
    return flags


def _flag(name: str, value: Any, hint: Any, recipe: Path) -> list[str]:
    """One setting as a flag. A value can't become another flag, whatever it is."""
    if hint is bool:
        return [_bool_flag(name, value, recipe)]
    if get_origin(hint) is not tuple:
        if not isinstance(value, str | None):
            raise InputError(f"{recipe}: {name} must be one value, got {value!r}")
        if value is None and type(None) not in get_args(hint):
            raise InputError(f"{recipe}: {name} has no value: give one, or remove the line")
        return [f"--{name}={value}"]
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, str) or (item.startswith("-") and not _is_number(item)):
            raise InputError(f"{recipe}: {name} must be a list of values that don't start with -, got {item!r}")
    return [f"--{name}", *items]


def _bool_flag(name: str, value: Any, recipe: Path) -> str:
    word = value.lower() if isinstance(value, str) else ""
    if word not in _BOOLEANS:
        raise InputError(f"{recipe}: {name} must be true or false, got {value!r}")
    section, _, last = name.rpartition(".")
    return f"--{name}" if _BOOLEANS[word] else f"--{section}{'.' if section else ''}no-{last}"


_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
