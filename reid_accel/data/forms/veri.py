"""VeRi-776, a set of vehicles; where messages say person, a vehicle is meant."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from reid_accel.attributes.vocabulary import UNKNOWN
from reid_accel.data.forms.veri_labels import VEHICLE_GROUPS, VehicleLabel, read_veri_labels
from reid_accel.data.listing import (
    UNKNOWN_TIME,
    UNKNOWN_TRACKLET,
    ImageFile,
    Listing,
    count_warnings,
    fingerprint_of,
    labeled_images,
    require_layout,
)
from reid_accel.data.text_files import read_user_text
from reid_accel.errors import listed

LARGEST_TRACKS = 64 * 2**20

Images = tuple[ImageFile, ...]


@dataclass(frozen=True)
class Veri:
    """VeRi-776 (Liu et al., ECCV 2016): 0001_c001_00016450_0.jpg is vehicle, camera, time and number.

    Colors and types are read from the label files, tracks of the test images from `test_track.txt`, where they exist.
    """

    name: str = "veri"

    folders: ClassVar[Mapping[str, str]] = {"train": "image_train", "query": "image_query", "gallery": "image_test"}
    labels: ClassVar[Mapping[str, str]] = {"train": "train_label.xml", "query": "test_label.xml"}
    tracks: ClassVar[str] = "test_track.txt"
    published: ClassVar[Mapping[str, int]] = {"train": 37_778, "query": 1_678, "gallery": 11_579}
    _time: ClassVar[re.Pattern[str]] = re.compile(r"\d+_c\d+_(\d{1,18})_", re.ASCII)

    def check(self, root: Path) -> None:
        """See `Layout`; labels and tracks are not read."""
        self._images(root)

    def read(self, root: Path) -> Listing:
        """See `Layout`."""
        files = [root / name for name in (*self.labels.values(), self.tracks)]
        found = {path.name: read_veri_labels(path) for path in files[:-1] if os.path.lexists(path)}
        tracklets = _tracklets(files[-1])
        labels = {name: label for of_file in found.values() for name, label in of_file.items()}
        splits = {
            split: tuple(self._labeled(image, labels, tracklets, bool(labels)) for image in images)
            for split, images in self._images(root).items()
        }
        warnings = count_warnings("VeRi-776", splits, self.published) + _label_warnings(splits, found)
        missing = [name for name in self.labels.values() if name not in found]
        if missing:
            warnings.append(f"{' and '.join(missing)} not found: colors and types are unknown")
        groups = VEHICLE_GROUPS if labels else ()
        return Listing(splits, groups, fingerprint_of(root, splits, files), tuple(warnings))

    def _images(self, root: Path) -> dict[str, Images]:
        require_layout(self.name, root, tuple(self.folders.values()))
        return {split: labeled_images(root / folder, {}, 0) for split, folder in self.folders.items()}

    def _labeled(
        self, image: ImageFile, labels: Mapping[str, VehicleLabel], tracklets: Mapping[str, int], with_attributes: bool
    ) -> ImageFile:
        label, time = labels.get(image.name), self._time.match(image.name)
        unknown = (UNKNOWN,) * len(VEHICLE_GROUPS) if with_attributes else ()
        return image._replace(
            attributes=label.attributes if label else unknown,
            tracklet=tracklets.get(image.name, UNKNOWN_TRACKLET),
            time=int(time[1]) if time else UNKNOWN_TIME,
        )


def _tracklets(path: Path) -> dict[str, int]:
    """The number of each image's track: the line that names it."""
    if not os.path.lexists(path):
        return {}
    lines = read_user_text(path, LARGEST_TRACKS).splitlines()
    return {name: number for number, line in enumerate(lines, 1) for name in line.split()}


def _label_warnings(splits: Mapping[str, Images], found: Mapping[str, Mapping[str, VehicleLabel]]) -> list[str]:
    """Warnings about images without a label, and labels that name another vehicle than the file name."""
    warnings = []
    for file, labels in found.items():
        names = ("train",) if file == Veri.labels["train"] else ("query", "gallery")
        images = {image.name: image.pid for split in names for image in splits[split]}
        without = sorted(set(images) - set(labels))
        other = [name for name, label in labels.items() if images.get(name, label.vehicle) != label.vehicle]
        if without:
            warnings.append(f"{file} has no label of {len(without):,} of {len(images):,} images ({listed(without, 3)})")
        if other:
            warnings.append(
                f"{file} gives {len(other):,} images another vehicle than their names, which are believed "
                f"({listed(other, 3)})"
            )
    return warnings
