"""Folder layouts of re-ID data sets.

A layout is a class with a name, a quick check, and `read`, which lists images and their labels. To add
one: write the class, add it to `LAYOUTS`, and add its name to `DatasetName` in the settings.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from reid_accel.attributes.annotations import PersonAttributes, read_course_csv, read_market_mat, whole_number
from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.data.forms.body_images import body_images, has_body_images
from reid_accel.data.listing import (
    ImageFile,
    Listing,
    annotation_warnings,
    describe,
    fingerprint_of,
    labeled_images,
    list_images,
    require_layout,
    unlabeled_images,
)
from reid_accel.data.scan import are_there
from reid_accel.errors import InputError, shortened
from reid_accel.files import read_text


class Layout(Protocol):
    """The folder layout of a data set."""

    @property
    def name(self) -> str: ...

    def check(self, root: Path) -> None:
        """Raise InputError unless folders, lists and file names are those of the layout; opens no image."""

    def read(self, root: Path) -> Listing:
        """The images and labels of the set. Raises InputError when they are missing or malformed."""


@dataclass(frozen=True)
class MarketLayout:
    """Market-1501's folders (Zheng et al., ICCV 2015), also used by CUHK03-NP, DukeMTMC-reID, Occluded-Duke and MARS.

    File names may also be CUHK03's own, and the folders those of P-DukeMTMC-reID.

    Attributes (Lin et al. 2019) are read from `market_attribute.mat` if it exists. published: the published counts of
    each split, for a warning when they differ or the attributes are missing.
    """

    name: str = "market-layout"
    published: Mapping[str, str] | None = None

    folders: ClassVar[Mapping[str, str]] = {
        "train": "bounding_box_train",
        "query": "query",
        "gallery": "bounding_box_test",
    }
    attribute_file: ClassVar[str] = "market_attribute.mat"

    def check(self, root: Path) -> None:
        """See `Layout`; the attributes are not read."""
        self._images(root, {})

    def read(self, root: Path) -> Listing:
        """See `Layout`."""
        annotation = root / self.attribute_file
        attributes: PersonAttributes = {}
        if os.path.lexists(annotation):  # a dangling link or a FIFO is an error, not a set without attributes
            halves = read_market_mat(annotation)
            attributes = {**halves["train"], **halves["test"]}
        splits = self._images(root, attributes)
        warnings = self._count_warnings(splits)
        if attributes:
            warnings += annotation_warnings(splits, attributes, annotation.name)
        elif self.published:
            warnings.append(f"{root.name}/{annotation.name} not found: training and scoring without attributes")
        groups = MARKET_GROUPS if attributes else ()
        return Listing(splits, groups, fingerprint_of(root, splits, [annotation]), tuple(warnings))

    def _images(self, root: Path, attributes: PersonAttributes) -> dict[str, tuple[ImageFile, ...]]:
        if has_body_images(root):
            return body_images(root)
        require_layout(self.name, root, tuple(self.folders.values()))
        num_groups = len(MARKET_GROUPS) if attributes else 0
        return {split: labeled_images(root / folder, attributes, num_groups) for split, folder in self.folders.items()}

    def _count_warnings(self, splits: Mapping[str, tuple[ImageFile, ...]]) -> list[str]:
        found = {split: describe(split, images) for split, images in splits.items()}
        return [
            f"{split} differs from the published Market-1501: found {found[split]}, expected {expected}"
            for split, expected in (self.published or {}).items()
            if found[split] != expected
        ]


MARKET1501 = MarketLayout(
    "market1501",
    {
        "train": "12,936 images of 751 identities",
        "query": "3,368 images of 750 identities",
        "gallery": "19,732 images of 750 identities, 2,798 distractors and 3,819 junk images",
    },
)


@dataclass(frozen=True)
class Msmt17:
    """MSMT17 (Wei et al., CVPR 2018), version 1 or 2 (blurred faces), read from its list files.

    train_lists: with `list_train.txt` alone, 30,248 images; with `list_val.txt`, 32,621 of the same 1,041 people.
    """

    name: str = "msmt17"
    train_lists: tuple[str, ...] = ("list_train.txt",)

    folders: ClassVar[tuple[Mapping[str, str], ...]] = (
        {"train": "train", "test": "test"},
        {"train": "mask_train_v2", "test": "mask_test_v2"},
    )
    test_lists: ClassVar[Mapping[str, str]] = {"query": "list_query.txt", "gallery": "list_gallery.txt"}
    _line: ClassVar[re.Pattern[str]] = re.compile(r"(\w+/[^/_\s]+_[^/_\s]+_(\d+)_[^/\s]+)\s+(\d+)", re.ASCII)

    def check(self, root: Path) -> None:
        """See `Layout`."""
        self._images(root)

    def read(self, root: Path) -> Listing:
        """See `Layout`."""
        splits = self._images(root)
        edition = "MSMT17-V2" if self._folders(root) == self.folders[1] else "MSMT17-V1"
        fingerprint = fingerprint_of(root, splits, (root / name for name in self._lists))
        return Listing(splits, (), fingerprint, edition=edition, numbered_apart=True)

    @property
    def _lists(self) -> tuple[str, ...]:
        return (*self.train_lists, *self.test_lists.values())

    def _images(self, root: Path) -> dict[str, tuple[ImageFile, ...]]:
        folders = self._folders(root)
        require_layout(self.name, root, tuple(folders.values()), self._lists)
        train = [image for name in self.train_lists for image in self._read_list(root / name, root / folders["train"])]
        test = {split: self._read_list(root / name, root / folders["test"]) for split, name in self.test_lists.items()}
        return {"train": _by_person(train), **test}

    def _folders(self, root: Path) -> Mapping[str, str]:
        first, second = self.folders
        return second if (root / second["train"]).is_dir() else first

    def _read_list(self, list_file: Path, folder: Path) -> tuple[ImageFile, ...]:
        """The images of a list, sorted by person and path."""
        try:
            lines = read_text(list_file).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{list_file} cannot be read: {error}") from error
        numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
        images = [self._read_line(f"{list_file}, line {number}", line, folder) for number, line in numbered]
        there = are_there([image.path for image in images])
        missing = [image.path for image, is_there in zip(images, there, strict=True) if not is_there]
        if missing:
            raise InputError(f"{list_file}: {len(missing)} of {len(images)} images do not exist ({missing[0]}, ...)")
        if not images:
            raise InputError(f"{list_file} lists no images")
        return _by_person(images)

    def _read_line(self, where: str, line: str, folder: Path) -> ImageFile:
        """An image with its person and camera; the list's person numbers start at 0 and are incremented, since pid 0
        means distractor."""
        match = self._line.fullmatch(line)
        if match is None:
            raise InputError(
                f"{where}: expected PERSON/PERSON_NUMBER_CAMERA_....jpg and a person number, got {shortened(line)!r}"
            )
        path = folder / match[1]
        try:
            return ImageFile(path, path.name, whole_number(str(int(match[3]) + 1)), whole_number(match[2]))
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error


@dataclass(frozen=True)
class Course:
    """The course variant of Market-1501: labeled `train`, unlabeled `queries` and `test`, attributes in a CSV file."""

    name: str = "course"

    folders: ClassVar[Mapping[str, str]] = {"train": "train", "queries": "queries", "test": "test"}
    attribute_file: ClassVar[str] = "annotations_train.csv"

    def check(self, root: Path) -> None:
        """See `Layout`."""
        self._images(root)

    def read(self, root: Path) -> Listing:
        """See `Layout`."""
        annotation = root / self.attribute_file
        splits, attributes = self._images(root)
        warnings = annotation_warnings(splits, attributes, annotation.name)
        return Listing(splits, MARKET_GROUPS, fingerprint_of(root, splits, [annotation]), tuple(warnings))

    def _images(self, root: Path) -> tuple[dict[str, tuple[ImageFile, ...]], PersonAttributes]:
        require_layout(self.name, root, tuple(self.folders.values()), (self.attribute_file,))
        attributes, num_groups = read_course_csv(root / self.attribute_file), len(MARKET_GROUPS)
        splits = {"train": labeled_images(root / self.folders["train"], attributes, num_groups)}
        for split in ("queries", "test"):
            splits[split] = unlabeled_images(list_images(root / self.folders[split]), num_groups)
        return splits, attributes


def _by_person(images: Iterable[ImageFile]) -> tuple[ImageFile, ...]:
    return tuple(sorted(images, key=lambda image: (image.pid, image.path)))


MSMT17_TRAINVAL = Msmt17("msmt17-trainval", ("list_train.txt", "list_val.txt"))

LAYOUTS: tuple[Layout, ...] = (MARKET1501, MarketLayout(), Msmt17(), MSMT17_TRAINVAL, Course())


def layout_named(name: str) -> Layout:
    """The layout of the data set `name`. Raises InputError if it is unknown."""
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    known = ", ".join(layout.name for layout in LAYOUTS)
    raise InputError(f"data.name must be one of {known}, synthetic, synthetic-course, got {name!r}")
