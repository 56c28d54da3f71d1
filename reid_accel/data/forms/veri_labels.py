"""VeRi-776's label files: an XML element per image, `<Item imageName vehicleID cameraID colorID typeID/>`."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from reid_accel.attributes.annotations import whole_number
from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.data.text_files import CHINESE, read_user_text
from reid_accel.errors import InputError, first_line

COLORS = ("yellow", "orange", "green", "gray", "red", "blue", "white", "golden", "brown", "black")
TYPES = ("sedan", "suv", "van", "hatchback", "mpv", "pickup", "bus", "truck", "estate")
VEHICLE_GROUPS = (AttributeGroup("color", COLORS), AttributeGroup("type", TYPES))
COLUMNS = {"colorID": COLORS, "typeID": TYPES}  # both are counted from 1

LARGEST_BYTES = 64 * 2**20  # that of the training images has 4 MB


class VehicleLabel(NamedTuple):
    """What a label file says about an image. attributes: class indices in VEHICLE_GROUPS."""

    vehicle: int
    attributes: tuple[int, ...]


def read_veri_labels(path: Path) -> dict[str, VehicleLabel]:
    """The label of each image name. Raises InputError, with the line, for damaged files.

    Its encoding is UTF-8 or GB 2312, whatever it declares. A DOCTYPE is refused, since its entities can make a small
    file fill the memory.
    """
    text = read_user_text(path, LARGEST_BYTES, ("utf-8-sig", CHINESE))
    labels: dict[str, VehicleLabel] = {}
    parser = expat.ParserCreate("utf-8")

    def where() -> str:
        return f"{path}, line {parser.CurrentLineNumber}"

    def start(tag: str, values: Mapping[str, str]) -> None:
        if tag == "Item":
            name, label = _label(where(), values)
            if name in labels:
                raise InputError(f"{where()}: {name} is listed a second time: remove one of the two")
            labels[name] = label

    def doctype(*_: object) -> None:
        raise InputError(f"{where()}: a label file must not have a DOCTYPE: remove it")

    parser.StartElementHandler, parser.StartDoctypeDeclHandler = start, doctype
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        raise InputError(f"{path} is not XML: {first_line(error)}") from error
    if not labels:
        raise InputError(f'{path} has no element <Item imageName="..." vehicleID="..." .../>')
    return labels


def _label(where: str, values: Mapping[str, str]) -> tuple[str, VehicleLabel]:
    missing = [name for name in ("imageName", "vehicleID") if not values.get(name)]
    if missing:
        raise InputError(f"{where}: an Item lacks {' and '.join(missing)}")
    try:
        vehicle = whole_number(values["vehicleID"])
        attributes = tuple(_class_index(name, values.get(name), len(names)) for name, names in COLUMNS.items())
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    return values["imageName"], VehicleLabel(vehicle, attributes)


def _class_index(name: str, text: str | None, count: int) -> int:
    if text is None:
        return UNKNOWN
    number = whole_number(text)
    if not 1 <= number <= count:
        raise ValueError(f"{name} must be from 1 to {count}, got {number}")
    return number - 1
