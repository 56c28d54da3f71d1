"""Attribute groups of pedestrians, their values, and the columns of annotation files.

Inside the package, an attribute is a class index from 0, or -1 for unknown. Annotation files count from 1 and have one
yes/no column per color; `class_indices` and `annotation_columns` convert between the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reid_accel.errors import InputError

UNKNOWN = -1


@dataclass(frozen=True)
class AttributeGroup:
    """An attribute with mutually exclusive values, e.g. `hat: no | yes`."""

    name: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))  # JSON returns lists
        if len(self.values) < 2:
            raise InputError(f"attribute group {self.name!r} needs at least two values, got {self.values}")


UPPER_COLORS = ("black", "white", "red", "purple", "yellow", "gray", "blue", "green")
LOWER_COLORS = ("black", "white", "pink", "purple", "yellow", "gray", "blue", "green", "brown")
MULTICOLOR = "multicolor"

PLAIN_GROUPS: tuple[AttributeGroup, ...] = (
    AttributeGroup("age", ("young", "teenager", "adult", "old")),
    AttributeGroup("backpack", ("no", "yes")),
    AttributeGroup("bag", ("no", "yes")),
    AttributeGroup("handbag", ("no", "yes")),
    AttributeGroup("clothes", ("dress", "pants")),
    AttributeGroup("down", ("long", "short")),
    AttributeGroup("up", ("long", "short")),
    AttributeGroup("hair", ("short", "long")),
    AttributeGroup("hat", ("no", "yes")),
    AttributeGroup("gender", ("male", "female")),
)
UPPER_COLOR = AttributeGroup("upper_color", (MULTICOLOR, *UPPER_COLORS))
LOWER_COLOR = AttributeGroup("lower_color", (MULTICOLOR, *LOWER_COLORS))

MARKET_GROUPS: tuple[AttributeGroup, ...] = (*PLAIN_GROUPS, UPPER_COLOR, LOWER_COLOR)
"""The twelve groups of Market-1501's annotation (Lin et al. 2019), 41 values, in the order of its files."""

UPPER_COLUMNS = tuple(f"up{color}" for color in UPPER_COLORS)
LOWER_COLUMNS = tuple(f"down{color}" for color in LOWER_COLORS)
MARKET_COLUMNS: tuple[str, ...] = (*(group.name for group in PLAIN_GROUPS), *UPPER_COLUMNS, *LOWER_COLUMNS)
"""The 27 annotation columns after `id` in `annotations_train.csv`, each counted from 1."""


def column_maximum(column: str) -> int:
    """The largest value of an annotation column: 4 for age, 2 (= yes) for all others."""
    return 4 if column == "age" else 2


def class_indices(columns: Mapping[str, int]) -> tuple[int, ...]:
    """Class index (from 0) of each of `MARKET_GROUPS`, from the 27 annotation columns (from 1).

    >>> row = dict.fromkeys(MARKET_COLUMNS, 1) | {"age": 3, "upred": 2}
    >>> class_indices(row)
    (2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0)

    Raises InputError when a column is missing, out of range, or two colors of one group are set.
    """
    missing = [column for column in MARKET_COLUMNS if column not in columns]
    if missing:
        raise InputError(f"attribute columns are missing: {', '.join(missing)}")
    for column in MARKET_COLUMNS:
        if not 1 <= columns[column] <= column_maximum(column):
            raise InputError(
                f"attribute {column} must be between 1 and {column_maximum(column)}, got {columns[column]}"
            )
    plain = tuple(int(columns[group.name]) - 1 for group in PLAIN_GROUPS)
    return (*plain, _color_index(columns, UPPER_COLUMNS), _color_index(columns, LOWER_COLUMNS))


def _color_index(columns: Mapping[str, int], color_columns: Sequence[str]) -> int:
    """0 if no color is set (multicolor), else 1 + the position of the set color."""
    chosen = [index for index, column in enumerate(color_columns) if columns[column] == 2]
    if len(chosen) > 1:
        raise InputError(f"only one of {', '.join(color_columns)} may be 2, got {len(chosen)} of them")
    return chosen[0] + 1 if chosen else 0


def annotation_columns(indices: Sequence[int]) -> dict[str, int]:
    """The 27 annotation columns (from 1) of class indices (from 0): the inverse of `class_indices`.

    Multicolor becomes all ones. Raises InputError for unknown (-1) or out-of-range indices.
    """
    if len(indices) != len(MARKET_GROUPS):
        raise InputError(f"expected {len(MARKET_GROUPS)} attribute values, got {len(indices)}")
    for group, index in zip(MARKET_GROUPS, indices, strict=True):
        if not 0 <= index < len(group.values):
            raise InputError(f"attribute {group.name} must be between 0 and {len(group.values) - 1}, got {index}")
    columns = dict.fromkeys(MARKET_COLUMNS, 1)
    for group, index in zip(PLAIN_GROUPS, indices, strict=False):
        columns[group.name] = int(index) + 1
    upper, lower = indices[-2], indices[-1]
    if upper > 0:
        columns[UPPER_COLUMNS[upper - 1]] = 2
    if lower > 0:
        columns[LOWER_COLUMNS[lower - 1]] = 2
    return columns
