"""YAML files as text: every value is read as it is written, so that a recipe means what the same flags would mean.

YAML itself would turn 010 into 8, 1:30 into 90, `no` into false and 2026-01-02 into a date, and would let the last of
two settings of one name win.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from reid_accel.errors import InputError
from reid_accel.files import open_regular

MAX_BYTES, MAX_VALUES, MAX_DEPTH = 100_000, 5_000, 8
_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "seq", "map", "timestamp", "value")}
_NUMBERS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}  # Python's names for YAML's


def read_yaml(path: Path) -> Any:
    """The content: dicts, lists, texts, and None for an empty value.

    Raises InputError, with the line, for a file that isn't YAML, for a name that is given twice, and for tags, and for
    files too large or too deep for settings (aliases count each time).
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES:,} bytes, too many for settings: give another file")
        node = yaml.compose(content.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"the file {path} cannot be read: {error}") from error
    except RecursionError:
        raise InputError(f"{path} is nested too deeply for settings: give another file") from None
    return None if node is None else _Reader(path).value(node, MAX_DEPTH)


class _Reader:
    """Turns the nodes of one file into values, and counts them."""

    def __init__(self, path: Path) -> None:
        self.path, self.values = path, 0

    def value(self, node: Node, depth: int) -> Any:
        self.values += 1
        if self.values > MAX_VALUES or depth == 0:
            raise self._error(node, "more values, or deeper nested ones, than settings have (aliases count each time)")
        if node.tag not in _TAGS | {_NULL}:
            raise self._error(node, f"the tag {node.tag} has no meaning in settings: remove it")
        if isinstance(node, SequenceNode):
            return [self.value(item, depth - 1) for item in node.value]
        if isinstance(node, MappingNode):
            return self._mapping(node.value, depth)
        assert isinstance(node, ScalarNode)
        if node.tag == _NULL:
            return None
        return _NUMBERS.get(node.value.lower(), node.value) if node.style is None else node.value

    def _mapping(self, pairs: Sequence[tuple[Node, Node]], depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, node in pairs:
            line = key.start_mark.line + 1
            if key.tag == _MERGE:
                merged = self._merged(node, depth) | merged
                continue
            if not isinstance(key, ScalarNode):
                raise self._error(key, "the name of a setting must be a word")
            name = key.value
            if name in own:
                raise self._error(key, f"{name} is given twice (first in line {lines[name]}): remove one of them")
            own[name], lines[name] = self.value(node, depth - 1), line
        return merged | own

    def _merged(self, node: Node, depth: int) -> dict[str, Any]:
        """What `<<: *alias` brings in."""
        value = self.value(node, depth - 1)
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            raise self._error(node, "<< must name settings (<<: *alias)")
        return {name: inner for part in reversed(parts) for name, inner in part.items()}

    def _error(self, node: Node, problem: str) -> InputError:
        return InputError(f"{self.path}, line {node.start_mark.line + 1}: {problem}")
