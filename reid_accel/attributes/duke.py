"""DukeMTMC-reID's annotation `duke_attribute.mat` (Lin et al. 2019): 23 columns per person, as ten attribute groups.

The published file has what its description excludes: two people without a value of `top`, 23 with several lower-body
colors, and 26 without a color. A missing value is unknown; several colors are multicolor, as none of the list is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_accel.attributes.annotations import whole_number
from reid_accel.attributes.mat_file import MatFile, read_mat_fields
from reid_accel.attributes.vocabulary import MULTICOLOR, UNKNOWN, AttributeGroup
from reid_accel.errors import InputError, listed

UPPER_COLORS = ("black", "white", "red", "purple", "gray", "blue", "green", "brown")
LOWER_COLORS = ("black", "white", "red", "gray", "blue", "green", "brown")
NO_YES = ("no", "yes")

PLAIN_GROUPS: tuple[AttributeGroup, ...] = (
    AttributeGroup("gender", ("male", "female")),
    AttributeGroup("top", ("short", "long")),
    AttributeGroup("boots", NO_YES),
    AttributeGroup("hat", NO_YES),
    AttributeGroup("backpack", NO_YES),
    AttributeGroup("bag", NO_YES),
    AttributeGroup("handbag", NO_YES),
    AttributeGroup("shoes", ("dark", "light")),
)
DUKE_GROUPS: tuple[AttributeGroup, ...] = (
    *PLAIN_GROUPS,
    AttributeGroup("upper_color", (MULTICOLOR, *UPPER_COLORS)),
    AttributeGroup("lower_color", (MULTICOLOR, *LOWER_COLORS)),
)
UPPER_COLUMNS = tuple(f"up{color}" for color in UPPER_COLORS)
LOWER_COLUMNS = tuple(f"down{color}" for color in LOWER_COLORS)
DUKE_COLUMNS: tuple[str, ...] = (*(group.name for group in PLAIN_GROUPS), *UPPER_COLUMNS, *LOWER_COLUMNS)
"""The 23 annotation columns besides `image_index`: 1 and 2 as in Market-1501's file, 0 where nothing was annotated."""


def read_duke_mat(path: Path) -> tuple[dict[int, tuple[int, ...]], tuple[str, ...]]:
    """Class indices of each person of both halves in `DUKE_GROUPS`, and what is unusual in the file, as sentences.

    Raises InputError when the file isn't DukeMTMC-reID's annotation.
    """
    file = MatFile(
        path, "DukeMTMC-reID", ("duke_attribute",), "copy or download it again, or use --data.name market-layout"
    )
    people: dict[int, tuple[int, ...]] = {}
    several, unknown = [], []
    for half, fields in read_mat_fields(file).items():
        where = f"{path}, half {half!r}"
        missing = [name for name in ("image_index", *DUKE_COLUMNS) if name not in fields]
        if missing:
            raise InputError(f"{where}, lacks the fields: {listed(missing)}")
        for row, name in enumerate(fields["image_index"]):
            columns = {column: fields[column][row] for column in DUKE_COLUMNS}
            try:
                pid = whole_number(str(name))
                people_of_file = people.setdefault(pid, indices := _class_indices(columns))
            except ValueError as error:
                raise InputError(f"{where}, person {name}: {error}") from error
            if people_of_file is not indices:
                raise InputError(f"{where}: person {name} is listed twice")
            several += (
                [pid] if max(_num_colors(columns, UPPER_COLUMNS), _num_colors(columns, LOWER_COLUMNS)) > 1 else []
            )
            unknown += [pid] if UNKNOWN in indices else []
    return people, _notes(path.name, several, unknown)


def _class_indices(columns: Mapping[str, Any]) -> tuple[int, ...]:
    for column, value in columns.items():
        if value not in (0, 1, 2) or isinstance(value, str):
            raise ValueError(f"attribute {column} must be 1, 2, or 0 if unknown, got {value}")
    plain = tuple(int(columns[group.name]) - 1 for group in PLAIN_GROUPS)  # 0 becomes -1, unknown
    return (*plain, _color_index(columns, UPPER_COLUMNS), _color_index(columns, LOWER_COLUMNS))


def _color_index(columns: Mapping[str, Any], names: Sequence[str]) -> int:
    """1 + the position of the only color; 0 (multicolor) for none and for several."""
    if not any(columns[name] for name in names):
        return UNKNOWN
    return 1 + [columns[name] for name in names].index(2) if _num_colors(columns, names) == 1 else 0


def _num_colors(columns: Mapping[str, Any], names: Sequence[str]) -> int:
    return sum(columns[name] == 2 for name in names)


def _notes(name: str, several: Sequence[int], unknown: Sequence[int]) -> tuple[str, ...]:
    notes = []
    if several:
        notes.append(f"{name} gives {len(several)} people several colors at once ({listed(several, 3)}): multicolor")
    if unknown:
        notes.append(f"{name} lacks a value for {len(unknown)} people ({listed(unknown, 3)}): unknown")
    return tuple(notes)
