"""Settings and warnings without the folders of the machine that they are from, for a card that may become public."""

import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

PATH_SETTINGS = frozenset({"root", "also", "cache_dir", "dir", "weights_file", "features", "queries", "test"})
"""Settings that name a folder or a file, also relative to the working directory."""

_PART = r"[^\s/\\'\"()<>|,;]+"
_PATH = re.compile(rf"(?<![\w.:/\\~-])(?:~\w*|file:|[A-Za-z]:|\.{{1,2}})?[/\\]+(?:{_PART}[/\\]+)*({_PART})[/\\]?")
"""A path with a root, or one that begins with `~`, `.` or `..`."""


def without_folders(settings: Any, name: str = "") -> Any:
    """The same settings with paths cut to their last part; name: of the setting.

    >>> without_folders({"root": "/home/someone/data/market", "epochs": 3, "also": ["msmt17:~/sets/MSMT17"]})
    {'root': '.../market', 'epochs': 3, 'also': ['msmt17:.../MSMT17']}
    """
    if isinstance(settings, Mapping):
        return {key: without_folders(value, key) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [without_folders(value, name) for value in settings]
    if not isinstance(settings, str):
        return settings
    if name in PATH_SETTINGS:
        kind, colon, folder = settings.partition(":") if name == "also" else ("", "", settings)
        return f"{kind}{colon}{_last_part(folder)}"
    return (
        _last_part(settings) if _PATH.fullmatch(settings) or _is_absolute(settings) else text_without_folders(settings)
    )


def _is_absolute(path: str) -> bool:
    return path.startswith(("/", "~")) or PureWindowsPath(path).is_absolute()


def _last_part(path: str) -> str:
    """The end of a path with a folder, and anything else unchanged.

    >>> _last_part("../sets/market"), _last_part("market"), _last_part("C:\\\\sets\\\\market\\\\")
    ('.../market', 'market', '.../market')
    """
    name = PureWindowsPath(path).name
    return path if name == path else f".../{name}"


def text_without_folders(text: str, named: Mapping[str, str] | None = None) -> str:
    """A sentence with paths cut to their last part; named: folders by what is said instead.

    >>> text_without_folders("~/my sets/msmt17 lacks /etc/passwd and/or 1/2", {"~/my sets/msmt17": "msmt17"})
    'msmt17 lacks .../passwd and/or 1/2'
    """
    longest_first = sorted(named or {}, key=len, reverse=True)
    if named and longest_first:
        folders = "|".join(map(re.escape, longest_first))
        text = re.sub(rf"(?<![\w./\\-])(?:{folders})(?![\w-])", lambda match: named[match[0]], text)
    return _PATH.sub(r".../\1", text)


def named_folders(report: Mapping[str, Any]) -> dict[str, str]:
    """The folders of a run by what a public text says instead."""
    data = _section(report, "data")
    named = {str(Path.home()): "~", str(Path.cwd()): "."}
    cache = data.get("cache_dir")
    if cache:
        named |= {str(cache): "the cache", str(Path(str(cache)).expanduser()): "the cache"}
    for entry in data.get("also") or ():
        name, _, folder = str(entry).partition(":")
        named |= dict.fromkeys(_spellings(folder), name)
    named |= dict.fromkeys(_spellings(str(report["data"]["root"])), str(report["data"]["name"]))
    return {folder: words for folder, words in named.items() if folder not in ("", ".", "/")}


def _spellings(folder: str) -> tuple[str, ...]:
    path = Path(folder).expanduser()
    return folder.rstrip("/"), str(path), str(path.absolute()), str(path.resolve())


def _section(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    settings = report["config"].get(name)
    return settings if isinstance(settings, Mapping) else {}
