"""Colors and models of PKU VehicleID: the folder `attribute`."""

import os
from collections.abc import Mapping
from pathlib import Path

from reid_accel.attributes.annotations import whole_number
from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.data.text_files import CHINESE, read_user_text
from reid_accel.errors import InputError, shortened

ATTRIBUTE_FILES = ("color_attr.txt", "color_names.txt", "model_attr.txt", "model_names.txt")
LARGEST_BYTES = 64 * 2**20
LARGEST_INDEX = 9_999


def read_attributes(folder: Path) -> tuple[tuple[AttributeGroup, ...], dict[int, tuple[int, ...]]]:
    """The groups color and model, where their files exist, and the class indices of the vehicles that have them.

    Vehicles have the numbers of the files. Raises InputError, with the line, for damaged files.
    """
    groups, values = [], []
    for name in ("color", "model"):
        file = folder / f"{name}_attr.txt"
        if os.path.lexists(file):
            of_vehicle = _class_indices(file)
            groups.append(AttributeGroup(name, _value_names(folder / f"{name}_names.txt", of_vehicle)))
            values.append(of_vehicle)
    vehicles = sorted({vehicle for of_vehicle in values for vehicle in of_vehicle})
    return tuple(groups), {vehicle: tuple(one.get(vehicle, UNKNOWN) for one in values) for vehicle in vehicles}


def _class_indices(path: Path) -> dict[int, int]:
    """The class index of each vehicle: VEHICLE INDEX per line."""
    found: dict[int, int] = {}
    for where, line in _numbered_lines(path):
        fields = line.split()
        try:
            if len(fields) != 2:
                raise ValueError(f"expected VEHICLE INDEX, got {shortened(line)!r}")
            found[whole_number(fields[0])] = _index(fields[1])
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error
    if not found:
        raise InputError(f"{path} is empty: remove it, or complete the set")
    return found


def _value_names(path: Path, of_vehicle: Mapping[int, int]) -> tuple[str, ...]:
    """The name of each class index: NAME INDEX per line; the index where there is no name, or several have the same."""
    names: dict[int, str] = {}
    for where, line in _numbered_lines(path) if os.path.lexists(path) else ():
        fields = line.rsplit(maxsplit=1)
        try:
            if len(fields) != 2:
                raise ValueError(f"expected NAME INDEX, got {shortened(line)!r}")
            names[_index(fields[1])] = fields[0]
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error
    values = [names.get(index, str(index)) for index in range(max(1, *of_vehicle.values(), *names) + 1)]
    return tuple(value if values.count(value) == 1 else f"{value} {index}" for index, value in enumerate(values))


def _index(text: str) -> int:
    number = whole_number(text)
    if not 0 <= number <= LARGEST_INDEX:
        raise ValueError(f"the index must be from 0 to {LARGEST_INDEX:,}, got {number}")
    return number


def _numbered_lines(path: Path) -> list[tuple[str, str]]:
    """The lines that aren't blank, and where they are; the names of models are Chinese."""
    lines = read_user_text(path, LARGEST_BYTES, ("utf-8-sig", CHINESE)).splitlines()
    return [(f"{path}, line {number}", line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
