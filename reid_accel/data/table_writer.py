"""The images of a data set as a CSV file, which `--data.name table` reads."""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.data.listing import UNKNOWN_CAMERA, UNKNOWN_TIME, UNKNOWN_TRACKLET, UNLABELED_PID, ImageFile
from reid_accel.files import write_text

COLUMNS = ("path", "person", "camera", "split", "tracklet", "time")


def write_table(path: Path, splits: Mapping[str, Sequence[ImageFile]], groups: Sequence[AttributeGroup]) -> None:
    """Write one row per image: COLUMNS, then one column per attribute group; what is unknown is empty.

    Paths are relative to the file's folder if the image is below it, else absolute. The file is written whole or not
    at all.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, *(group.name for group in groups)))
    folder = Path(os.path.abspath(path.parent))
    for split, images in splits.items():
        writer.writerows(_cells(image, split, folder, groups) for image in images)
    write_text(path, text.getvalue())


def _cells(image: ImageFile, split: str, folder: Path, groups: Sequence[AttributeGroup]) -> Iterator[str]:
    place = Path(os.path.abspath(image.path))
    yield (place.relative_to(folder) if place.is_relative_to(folder) else place).as_posix()
    yield "" if image.pid == UNLABELED_PID else str(image.pid)
    yield "" if image.camera == UNKNOWN_CAMERA else str(image.camera)
    yield split
    yield "" if image.tracklet == UNKNOWN_TRACKLET else str(image.tracklet)
    yield "" if image.time == UNKNOWN_TIME else str(image.time)
    for group, value in zip(groups, image.attributes, strict=True):
        yield "" if value == UNKNOWN else group.values[value]
