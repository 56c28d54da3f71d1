"""PKU VehicleID, a set of vehicles; where messages say person, a vehicle is meant."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from reid_accel.attributes.annotations import whole_number
from reid_accel.attributes.vocabulary import UNKNOWN
from reid_accel.data.forms.vehicleid_attributes import ATTRIBUTE_FILES, read_attributes
from reid_accel.data.listing import (
    UNKNOWN_CAMERA,
    ImageFile,
    Listing,
    count_warnings,
    fingerprint_of,
    is_image_name,
    require_layout,
)
from reid_accel.data.text_files import read_user_text
from reid_accel.errors import InputError, listed, shortened

LARGEST_LIST = 64 * 2**20

Images = tuple[ImageFile, ...]


@dataclass(frozen=True)
class VehicleId:
    """PKU VehicleID (Liu et al., CVPR 2016). It has no cameras.

    test_vehicles: 800, 1600 or 2400: the test list. As published, one image of each test vehicle, drawn with `seed`,
    is the gallery, and the others are the queries.
    """

    test_vehicles: int = 800
    seed: int = 0
    name: str = "vehicleid"

    images: ClassVar[str] = "image"
    lists: ClassVar[str] = "train_test_split"
    attributes: ClassVar[str] = "attribute"
    published: ClassVar[Mapping[int, int]] = {800: 6_493, 1600: 13_377, 2400: 19_777}
    published_train: ClassVar[int] = 113_346

    def check(self, root: Path) -> None:
        """See `Layout`; the attributes are not read."""
        self._images(root)

    def read(self, root: Path) -> Listing:
        """See `Layout`. The edition names what was drawn."""
        groups, of_vehicle = read_attributes(root / self.attributes)
        unknown = (UNKNOWN,) * len(groups)
        train, test = (
            tuple(image._replace(attributes=of_vehicle.get(image.pid - 1, unknown)) for image in images)
            for images in self._images(root)
        )
        query, gallery = _drawn(test, self.seed)
        expected = {"train": self.published_train, "test": self.published.get(self.test_vehicles, len(test))}
        warnings = count_warnings("VehicleID", {"train": train, "test": test}, expected)
        splits = {"train": train, "query": query, "gallery": gallery}
        files = [*self._list_files(root), *(root / self.attributes / name for name in ATTRIBUTE_FILES)]
        edition = f"VehicleID-{self.test_vehicles}-seed-{self.seed}"
        return Listing(splits, groups, fingerprint_of(root, splits, files), tuple(warnings), edition)

    def _list_files(self, root: Path) -> tuple[Path, Path]:
        return root / self.lists / "train_list.txt", root / self.lists / f"test_list_{self.test_vehicles}.txt"

    def _images(self, root: Path) -> tuple[Images, Images]:
        """The training and the test images."""
        train, test = self._list_files(root)
        require_layout(self.name, root, (self.images, self.lists), (f"{self.lists}/{train.name}",))
        if not os.path.lexists(test):
            there = sorted(path.name for path in (root / self.lists).glob("test_list_*.txt"))
            raise InputError(
                f"there is no {test}: set --data.test-vehicles to the number in the name of a list; there are "
                f"{listed(there) or 'none'}"
            )
        names = {entry.name for entry in os.scandir(root / self.images)}
        return _read_list(train, root / self.images, names), _read_list(test, root / self.images, names)


def _read_list(path: Path, folder: Path, names: set[str]) -> Images:
    """The images of a list, by vehicle and name."""
    lines = enumerate(read_user_text(path, LARGEST_LIST).splitlines(), 1)
    images = [_listed_image(f"{path}, line {number}", line.strip(), folder) for number, line in lines if line.strip()]
    if not images:
        raise InputError(f"{path} lists no images")
    twice = [name for name, times in Counter(image.name for image in images).items() if times > 1]
    if twice:
        raise InputError(f"{path} lists {len(twice):,} images more than once ({listed(twice)}): remove the other lines")
    missing = [image.name for image in images if image.name not in names]
    if missing:
        raise InputError(
            f"{path}: {len(missing):,} of {len(images):,} images are not in {folder} ({listed(missing)}): complete the "
            "set, or remove their lines"
        )
    return tuple(sorted(images, key=lambda image: (image.pid, image.name)))


def _listed_image(where: str, line: str, folder: Path) -> ImageFile:
    """An image of a list. Vehicle numbers are incremented, since 0 may be a vehicle, but pid 0 means distractor."""
    fields = line.split()
    if len(fields) != 2 or "/" in fields[0] or "\\" in fields[0]:
        raise InputError(f"{where}: expected IMAGE VEHICLE, e.g. 0000001 77, got {shortened(line)!r}")
    name = fields[0] if is_image_name(fields[0]) else f"{fields[0]}.jpg"
    try:
        pid = whole_number(str(whole_number(fields[1]) + 1))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    if pid < 1:
        raise InputError(f"{where}: the number of a vehicle must be 0 or more, got {fields[1]}")
    return ImageFile(folder / name, name, pid, UNKNOWN_CAMERA)


def _drawn(test: Sequence[ImageFile], seed: int) -> tuple[Images, Images]:
    """Queries and gallery, by vehicle: a gallery image of each is drawn, all others are queries."""
    rng = np.random.default_rng(seed)
    of_vehicle: dict[int, list[ImageFile]] = {}
    for image in test:
        of_vehicle.setdefault(image.pid, []).append(image)
    query: list[ImageFile] = []
    gallery: list[ImageFile] = []
    for _, images in sorted(of_vehicle.items()):
        chosen = int(rng.integers(len(images)))
        gallery.append(images[chosen])
        query += images[:chosen] + images[chosen + 1 :]
    return tuple(query), tuple(gallery)
