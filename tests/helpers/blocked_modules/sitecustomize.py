"""Put this folder on PYTHONPATH, and no process finds the modules that a bare GPU machine may lack.

The package itself is found as a folder, but as if it weren't installed.
"""

from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, PackageNotFoundError
from types import ModuleType

BLOCKED = ("datasets", "tyro", "rich")
_find_spec, _from_name = PathFinder.find_spec, Distribution.from_name


def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
    """As the import system looks for modules, but for those that are blocked."""
    return None if name.partition(".")[0] in BLOCKED else _find_spec(name, path, target)


def from_name(name: str) -> Distribution:
    """As `importlib.metadata` looks for packages, but for those that are blocked."""
    if name in (*BLOCKED, "reid_accel"):
        raise PackageNotFoundError(name)
    return _from_name(name)


PathFinder.find_spec = staticmethod(find_spec)  # type: ignore[method-assign, assignment]
Distribution.from_name = staticmethod(from_name)  # type: ignore[method-assign, assignment]
