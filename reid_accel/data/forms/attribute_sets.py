"""Sets with attribute annotations: DukeMTMC-reID's people, and the images without identities of PA-100K, PETA and RAP.

Sets without identities have the splits train and test; the names of their official validation images are listed.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from reid_accel.attributes.duke import DUKE_GROUPS, read_duke_mat
from reid_accel.attributes.recognition_files import Annotation, read_pa100k, read_peta, read_rap
from reid_accel.data.listing import (
    UNKNOWN_CAMERA,
    UNLABELED_PID,
    ImageFile,
    Listing,
    annotation_warnings,
    count_warnings,
    fingerprint_of,
    labeled_images,
    require_layout,
)
from reid_accel.errors import InputError, listed

PUBLISHED = {
    "PA-100K": (90_000, 10_000),
    "PETA": (11_400, 7_600),
    "RAPv1": (33_268, 8_317),
    "RAPv2": (67_943, 16_985),
}
"""Images for training (with validation) and test, of every partition."""


@dataclass(frozen=True)
class DukeAttributes:
    """DukeMTMC-reID in Market-1501's folders with `duke_attribute.mat` (Lin et al. 2019) in one of the usual places."""

    name: str = "duke-attributes"

    folders: ClassVar[dict[str, str]] = {
        "train": "bounding_box_train",
        "query": "query",
        "gallery": "bounding_box_test",
    }
    places: ClassVar[tuple[str, ...]] = (
        "duke_attribute.mat",
        "attribute/duke_attribute.mat",
        "DukeMTMC-attribute/duke_attribute.mat",
    )
    published: ClassVar[dict[str, int]] = {"train": 16_522, "query": 2_228, "gallery": 17_661}

    def check(self, root: Path) -> None:
        """See `Layout`; the attributes are not read."""
        require_layout(self.name, root, tuple(self.folders.values()))
        first_of(root, self.places, self.name)
        for folder in self.folders.values():
            labeled_images(root / folder, {}, 0)

    def read(self, root: Path) -> Listing:
        """See `Layout`."""
        require_layout(self.name, root, tuple(self.folders.values()))
        annotation = first_of(root, self.places, self.name)
        people, notes = read_duke_mat(annotation)
        splits = {
            split: labeled_images(root / folder, people, len(DUKE_GROUPS)) for split, folder in self.folders.items()
        }
        warnings = [*notes, *count_warnings("DukeMTMC-reID", splits, self.published)]
        warnings += annotation_warnings(splits, people, annotation.name)
        return Listing(splits, DUKE_GROUPS, fingerprint_of(root, splits, [annotation]), tuple(warnings))


@dataclass(frozen=True)
class Pa100k:
    """PA-100K: `annotation.mat` and a folder of images."""

    name: str = "pa100k"

    annotations: ClassVar[tuple[str, ...]] = ("annotation.mat", "annotation/annotation.mat")
    folders: ClassVar[tuple[str, ...]] = ("data", "release_data/release_data", "release_data", "images")

    def check(self, root: Path) -> None:
        """See `Layout`; the annotation is not read."""
        check_places(self.name, root, self.annotations, self.folders)

    def read(self, root: Path) -> Listing:
        """See `Layout`."""
        return recognition_listing(self.name, root, (self.annotations, self.folders), read_pa100k)


@dataclass(frozen=True)
class Peta:
    """PETA: `PETA.mat` and `images/00001.png` to `19000.png`, in one of five official partitions."""

    name: str = "peta"
    partition: int = 1

    annotations: ClassVar[tuple[str, ...]] = ("PETA.mat",)
    folders: ClassVar[tuple[str, ...]] = ("images",)

    def check(self, root: Path) -> None:
        """See `Layout`; the annotation is not read."""
        check_places(self.name, root, self.annotations, self.folders)

    def read(self, root: Path) -> Listing:
        """See `Layout`."""
        places = (self.annotations, self.folders)
        return recognition_listing(self.name, root, places, lambda path: read_peta(path, self.partition))


@dataclass(frozen=True)
class Rap:
    """RAP version 1 or 2: `RAP_annotation/RAP_annotation.mat` and `RAP_dataset/`, in one of five official partitions.

    The literature on attributes trains and scores on all images; the people that version 2 names for some of them are
    not used.
    """

    name: str = "rap"
    partition: int = 1

    annotations: ClassVar[tuple[str, ...]] = ("RAP_annotation/RAP_annotation.mat", "RAP_annotation.mat")
    folders: ClassVar[tuple[str, ...]] = ("RAP_dataset",)

    def check(self, root: Path) -> None:
        """See `Layout`; the annotation is not read."""
        check_places(self.name, root, self.annotations, self.folders)

    def read(self, root: Path) -> Listing:
        """See `Layout`."""
        places = (self.annotations, self.folders)
        return recognition_listing(self.name, root, places, lambda path: read_rap(path, self.partition))


def check_places(name: str, root: Path, annotations: Sequence[str], folders: Sequence[str]) -> None:
    """Raise InputError unless `root` has one of the annotation files and one of the folders."""
    first_of(root, annotations, name)
    first_of(root, folders, name)


def first_of(root: Path, places: Sequence[str], name: str) -> Path:
    """The first of some files or folders below `root` that exists. Raises InputError if none does."""
    require_layout(name, root, ())
    for place in places:
        if os.path.lexists(root / place):  # a dangling link is an error when it is opened, not another layout
            return root / place
    found = sorted(entry.name for entry in root.iterdir())
    shown = listed(found, 12) or "nothing"
    raise InputError(f"{root} is not in the layout of {name}: it lacks {' or '.join(places)} (found {shown})")


def recognition_listing(
    name: str, root: Path, places: tuple[Sequence[str], Sequence[str]], read: Callable[[Path], Annotation]
) -> Listing:
    """The listing of a set without identities, by its annotation file and its folder of images."""
    file, folder = (first_of(root, some, name) for some in places)
    annotation = read(file)
    images = _image_files(folder, annotation, file)
    validation = [images[row] for row in annotation.splits.get("validation", ())]
    splits = {
        "train": _by_name([*(images[row] for row in annotation.splits["train"]), *validation]),
        "test": _by_name([images[row] for row in annotation.splits["test"]]),
    }
    return Listing(
        splits,
        annotation.groups,
        fingerprint_of(root, splits, [file]),
        (*_uncertain_warnings(annotation, file), *count_warnings(*_published(name, annotation.edition, splits))),
        edition=annotation.edition,
        validation=frozenset(image.name for image in validation),
    )


def _published(
    name: str, edition: str, splits: Mapping[str, tuple[ImageFile, ...]]
) -> tuple[str, Mapping[str, tuple[ImageFile, ...]], Mapping[str, int]]:
    """What to compare the size of a set with: title, found images, published numbers (validation images included)."""
    title = edition.partition(",")[0] if name == "rap" else {"pa100k": "PA-100K", "peta": "PETA"}[name]
    return title, splits, dict(zip(("train", "test"), PUBLISHED[title], strict=True))


def _image_files(folder: Path, annotation: Annotation, file: Path) -> list[ImageFile]:
    """The images of an annotation, which must all exist."""
    present = {entry.name for entry in os.scandir(folder)}
    missing = [name for name in annotation.names if name not in present]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing):,} of the {len(annotation.names):,} images in {file} "
            f"({listed(missing)}): unpack the images again"
        )
    return [
        ImageFile(folder / name, name, UNLABELED_PID, UNKNOWN_CAMERA, tuple(attributes))
        for name, attributes in zip(annotation.names, annotation.labels_NA.tolist(), strict=True)
    ]


def _by_name(images: Sequence[ImageFile]) -> tuple[ImageFile, ...]:
    return tuple(sorted(images, key=lambda image: image.name))


def _uncertain_warnings(annotation: Annotation, file: Path) -> tuple[str, ...]:
    if not annotation.num_uncertain:
        return ()
    total = annotation.labels_NA.size
    return (
        f"{file.name}: {annotation.num_uncertain:,} of {total:,} labels are 2 (uncertain); as in the "
        "literature's scores they count as no",
    )
