"""Images with their labels, ready for training and embedding."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.data.builders import BASE_COLUMNS
from reid_accel.data.crop_cache import CropCache, Say, open_crop_cache
from reid_accel.data.images import ImageSize
from reid_accel.data.layouts import UNKNOWN_CAMERA, UNLABELED_PID, checked_images, fingerprint_of
from reid_accel.errors import InputError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageDataset:
    """N images: where their pixels are and what is known of them.

    row_N: place in the store. attributes_NA has no columns where the set has no attributes; -1 is unknown.
    """

    name_N: tuple[str, ...]
    pid_N: Ints
    camera_N: Ints
    attributes_NA: Ints
    row_N: Ints
    groups: tuple[AttributeGroup, ...]
    store: CropCache

    def __len__(self) -> int:
        return len(self.name_N)

    def select(self, indices: Ints) -> "ImageDataset":
        """The images at some positions, in that order."""
        return ImageDataset(
            name_N=tuple(self.name_N[index] for index in indices),
            pid_N=self.pid_N[indices],
            camera_N=self.camera_N[indices],
            attributes_NA=self.attributes_NA[indices],
            row_N=self.row_N[indices],
            groups=self.groups,
            store=self.store,
        )

    def fingerprint(self) -> str:
        """A hash of names and labels: the same images with the same labels, wherever they lie."""
        digest = hashlib.sha256("\n".join(self.name_N).encode())
        for labels in (self.pid_N, self.camera_N, self.attributes_NA):
            digest.update(np.ascontiguousarray(labels).tobytes())
        return digest.hexdigest()[:16]

    @property
    def num_identities(self) -> int:
        """People on these images, distractors and junk not counted."""
        return len(np.unique(self.pid_N[self.pid_N > 0]))

    @property
    def num_cameras(self) -> int:
        """Cameras that took these images, as far as known."""
        return len(np.unique(self.camera_N[self.camera_N >= 0]))


@dataclass(frozen=True)
class SkippedImage:
    """An image that could not be read and was left out."""

    name: str
    reason: str


def open_image_dataset(
    table: datasets.Dataset,
    size: ImageSize,
    *,
    on_bad_image: str,
    cache_dir: Path,
    fingerprint: str | None = None,
    verify: bool = True,
    progress: Callable[[int, int], None] | None = None,
    say: Say = lambda sentence: None,
) -> tuple[ImageDataset, tuple[SkippedImage, ...]]:
    """Decode a split (or find it decoded) and put its columns beside it; unreadable images are left out.

    fingerprint: of the listing, for a split that isn't a builder's own. verify, progress, say: as `open_crop_cache` has
    them.
    Raises InputError at an unreadable image when `on_bad_image` is "error".
    """
    columns = table.cast_column("image", datasets.Image(decode=False)).with_format("numpy")[:]
    paths = [Path(image["path"]) for image in columns["image"]]
    store = open_crop_cache(
        paths,
        size,
        fingerprint=fingerprint or listing_of(table),
        cache_dir=cache_dir,
        on_bad_image=on_bad_image,
        verify=verify,
        progress=progress,
        say=say,
    )
    groups = groups_of(table)
    attributes = [np.asarray(columns[group.name], np.int64) for group in groups]
    images = ImageDataset(
        name_N=tuple(str(name) for name in columns["name"]),
        pid_N=np.asarray(columns["pid"], np.int64),
        camera_N=np.asarray(columns["camera"], np.int64),
        attributes_NA=np.stack(attributes, 1) if attributes else np.empty((len(paths), 0), np.int64),
        row_N=np.arange(len(paths)),
        groups=groups,
        store=store,
    )
    return _without_unreadable(images, f"split {table.split}")


def open_unlabeled_folder(
    folder: Path,
    size: ImageSize,
    *,
    on_bad_image: str,
    cache_dir: Path,
    verify: bool = True,
    progress: Callable[[int, int], None] | None = None,
    say: Say = lambda sentence: None,
) -> tuple[ImageDataset, tuple[SkippedImage, ...]]:
    """Decode the images of a folder, sorted by name, of which nothing else is known.

    Raises InputError when the folder is missing or empty, or at an unreadable image.
    """
    paths = checked_images(folder)
    store = open_crop_cache(
        paths,
        size,
        fingerprint=fingerprint_of(folder, paths),
        cache_dir=cache_dir,
        on_bad_image=on_bad_image,
        verify=verify,
        progress=progress,
        say=say,
    )
    number = len(paths)
    images = ImageDataset(
        name_N=tuple(path.name for path in paths),
        pid_N=np.full(number, UNLABELED_PID, np.int64),
        camera_N=np.full(number, UNKNOWN_CAMERA, np.int64),
        attributes_NA=np.empty((number, 0), np.int64),
        row_N=np.arange(number),
        groups=(),
        store=store,
    )
    return _without_unreadable(images, str(folder))


def _without_unreadable(images: ImageDataset, where: str) -> tuple[ImageDataset, tuple[SkippedImage, ...]]:
    unreadable = images.store.unreadable
    if not unreadable:
        return images, ()
    if len(unreadable) == len(images):
        raise InputError(f"none of the {len(images)} images of {where} can be read")
    readable = np.setdiff1d(images.row_N, np.fromiter(unreadable, np.int64, len(unreadable)))
    skipped = tuple(SkippedImage(images.name_N[row], reason) for row, reason in unreadable.items())
    return images.select(readable), skipped


def listing_of(table: datasets.Dataset) -> str:
    """Which listing a builder's split was made from: another folder, or a changed one, is another."""
    return f"{table.info.config_name}/{table.split}"


def groups_of(table: datasets.Dataset) -> tuple[AttributeGroup, ...]:
    """The attribute groups among the columns of a split."""
    return tuple(
        AttributeGroup(name, tuple(feature.names))
        for name, feature in table.features.items()
        if name not in BASE_COLUMNS
    )


def split_by_person(pid_N: Ints, train_share: float) -> tuple[Ints, Ints]:
    """Positions of the training and of the validation images; nobody is in both.

    The images are in name order. The first `train_share` of them train, extended until the person changes;
    the rest validate (course report, section 2; its share is 0.7).
    """
    if np.count_nonzero(np.diff(pid_N)) != len(np.unique(pid_N)) - 1:
        raise InputError("the split by person needs each person's images in one run, as sorted names give them")
    end = math.floor(train_share * len(pid_N))
    while 0 < end < len(pid_N) and pid_N[end] == pid_N[end - 1]:
        end += 1
    return np.arange(end), np.arange(end, len(pid_N))


def identities_of(pids: Sequence[int] | Ints) -> tuple[Ints, Ints]:
    """Contiguous training labels: (the pids in ascending order, the label of each image)."""
    unique, labels = np.unique(np.asarray(pids, np.int64), return_inverse=True)
    return unique, labels.astype(np.int64)
