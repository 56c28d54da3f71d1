"""Attribute columns of a table: their values become the vocabulary."""

import re
from collections.abc import Sequence

from reid_accel.attributes.vocabulary import MARKET_GROUPS, UNKNOWN, AttributeGroup
from reid_accel.config.data import COLUMNS, NO_ATTRIBUTES
from reid_accel.data.forms.naming import are_whole, natural_key, two_spellings
from reid_accel.data.forms.table_rows import Rows
from reid_accel.errors import InputError, listed, shortened

MOST_VALUES = 100
"""A column of more values is more likely a comment or a measure than an attribute."""
_DECLARED = re.compile(r"(?P<name>[^:|]+):\s*(?P<values>[^|]+(?:\|[^|]+)+)")
_MARKET = {group.name: group for group in MARKET_GROUPS}

Attributes = tuple[list[tuple[int, ...]], tuple[AttributeGroup, ...], tuple[str, ...]]


def heading(group: AttributeGroup) -> str:
    """A column's heading with the values in their order, which `attribute_columns` reads.

    >>> heading(AttributeGroup("hat", ("no", "yes")))
    'hat: no | yes'
    """
    return f"{group.name}: {' | '.join(group.values)}"


def attribute_columns(rows: Rows, chosen: Sequence[str]) -> Attributes:
    """The values of each row (-1: an empty cell), the groups, and warnings on columns that are left out.

    chosen: the columns that are attributes; without them, all without another meaning that have at most MOST_VALUES
    values.
    Values are in natural order, or as in a heading `hat: no | yes`, or as Market-1501's group of that name has them.
    Raises InputError for a value in two spellings, one that the heading lacks, or a chosen column that isn't there.
    """
    names = [name for name in rows.columns if name not in COLUMNS and name and not name.startswith("Unnamed:")]
    short = {_short(name): name for name in names}
    if len(short) < len(names):
        raise InputError(f"{rows.path}: two columns are the attribute {listed(_twice(names))}: rename one")
    if chosen:
        missing = [name for name in chosen if name not in short and name != NO_ATTRIBUTES]
        if missing:
            raise InputError(
                f"{rows.path} lacks the attributes {listed(missing)}; it has {listed(short, 12) or 'none'}"
            )
        short = {name: column for name, column in short.items() if name in chosen}
    groups: list[AttributeGroup] = []
    columns: list[list[int]] = []
    warnings: list[str] = []
    for name, column in short.items():
        cells = _cells(rows, column)
        problem = _problem(cells, column, is_chosen=bool(chosen))
        if problem:
            warnings.append(f"{rows.path.name}: the column {shortened(name)} is no attribute: {problem}")
            continue
        groups.append(_group(rows, column, cells))
        place = {value: number for number, value in enumerate(groups[-1].values)}
        columns.append([place.get(cell, UNKNOWN) for cell in cells])
    values: list[tuple[int, ...]] = list(zip(*columns, strict=True)) if columns else [()] * len(rows.lines)
    return values, tuple(groups), tuple(warnings)


def _short(name: str) -> str:
    declared = _DECLARED.fullmatch(name)
    return declared["name"].strip() if declared else name


def _twice(names: Sequence[str]) -> list[str]:
    short = [_short(name) for name in names]
    return sorted({name for name in short if short.count(name) > 1})


def _cells(rows: Rows, column: str) -> Sequence[str]:
    """The cells without spaces around them; whole numbers without the .0 of spreadsheets and pandas."""
    cells = [cell.strip() for cell in rows.columns[column]]
    return [cell.partition(".")[0] for cell in cells] if are_whole(filter(None, set(cells))) else cells


def _problem(cells: Sequence[str], column: str, *, is_chosen: bool) -> str:
    number = len(set(cells) - {""})
    if number < 2 and not _DECLARED.fullmatch(column):
        return "it is empty" if number == 0 else "all its values are the same"
    if number > MOST_VALUES and not is_chosen:
        return f"it has {number:,} values; name the columns that are attributes with --data.attributes"
    return ""


def _group(rows: Rows, column: str, cells: Sequence[str]) -> AttributeGroup:
    values = sorted(set(cells) - {""}, key=natural_key)
    declared = _DECLARED.fullmatch(column)
    if declared:
        listed_values = tuple(value.strip() for value in declared["values"].split("|"))
        for value in values:
            if value not in listed_values:
                raise InputError(
                    f"{rows.where(cells.index(value))}: {shortened(_short(column))} is {shortened(repr(value))}, which "
                    f"the heading lacks ({listed(listed_values, 12)})"
                )
        return AttributeGroup(_short(column), listed_values)
    pair = two_spellings(values)
    if pair is not None:
        first, second = (f"{shortened(value)!r} ({rows.where(cells.index(value))})" for value in pair)
        raise InputError(f"{shortened(column)} has one value in two spellings, {first} and {second}: use one")
    known = _MARKET.get(column)
    return known if known is not None and set(values) <= set(known.values) else AttributeGroup(column, tuple(values))
