"""Put this folder on PYTHONPATH, and no process finds the modules that a bare GPU machine may lack."""

from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

BLOCKED = ("datasets", "tyro", "rich")
_find_spec = PathFinder.find_spec


def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
    """As the import system looks for modules, but for those that are blocked."""
    return None if name.partition(".")[0] in BLOCKED else _find_spec(name, path, target)


PathFinder.find_spec = staticmethod(find_spec)  # type: ignore[method-assign, assignment]
