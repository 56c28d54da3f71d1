"""The split into training and validation images.

Legend: N images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reid_accel.data.dataset import ImageDataset, Ints, SkippedImage
from reid_accel.data.listing import UNLABELED_PID
from reid_accel.errors import InputError


@dataclass(frozen=True)
class OpenedData:
    """A data set's splits with their labels, warnings, and skipped images."""

    splits: dict[str, ImageDataset]
    warnings: tuple[str, ...]
    skipped: tuple[SkippedImage, ...]
    added_people: int = 0  # training pids up to this number are from `data.also`
    added_images: int = 0  # so many listed training images, the first ones, are from `data.also`
    edition: str = ""  # of the main set, if it has several
    validation: frozenset[str] = frozenset()  # names of the official validation images among the training images
    own_table: bool = False  # the main set was passed by the caller instead of named in the settings
    camera_set: str = ""  # see `DataConfig.camera_set`; "" for a table of the caller
    numbered_apart: bool = False  # see `Listing`
    people: Mapping[int, str] = field(default_factory=dict)  # names of people in query and gallery, see `Listing`

    @property
    def labeled_test(self) -> bool:
        """Whether there are labeled `query` and `gallery` (Market), not unlabeled `queries` and `test` (course)."""
        return "gallery" in self.splits

    @property
    def attributes_only(self) -> bool:
        """Whether `test` has labels of attributes, and there is neither query nor gallery."""
        return "test" in self.splits and "queries" not in self.splits and not self.labeled_test

    @property
    def has_test_labels(self) -> bool:
        """Whether anything can be scored on test images."""
        return self.labeled_test or self.attributes_only

    def fingerprint(self) -> str:
        """A hash of all names and labels."""
        return "-".join(self.split_fingerprints().values())

    def split_fingerprints(self) -> dict[str, str]:
        """A hash of the names and labels of each split, in alphabetical order."""
        return {split: self.splits[split].fingerprint()[:8] for split in sorted(self.splits)}


@dataclass(frozen=True)
class TrainingSet:
    """The training images with their contiguous identity labels, -1 for all if no image has a person, and the set
    whose cameras they have."""

    images: ImageDataset
    identity_N: Ints
    camera_set: str = ""

    @property
    def num_identities(self) -> int:
        """0 if only attributes can be trained."""
        return int(self.identity_N.max()) + 1


def split_training_images(data: OpenedData, validation_share: float) -> tuple[TrainingSet, ImageDataset | None]:
    """Training images with identity labels, and the images held out for validation (None if the share is 0).

    If no image has a person, all are for training, without identities. Official validation images, if the set has any,
    are held out whatever the share, unless it is 0. Additional sets (`data.also`) are used for training only: the share
    refers to the main set's images.
    Raises InputError when fewer than two identities remain for training, or nothing for validation.
    """
    train = data.splits["train"]
    if (train.pid_N[train.row_N >= data.added_images] == UNLABELED_PID).all():
        return _split_without_people(data, validation_share)
    people = train.select(np.flatnonzero(train.pid_N > 0))
    is_added = people.pid_N <= data.added_people
    own = np.flatnonzero(~is_added)
    if data.validation and validation_share > 0:
        kept, left_out = _official_validation(people.select(own), data.validation)
    else:
        kept, left_out = split_by_person(people.pid_N[own], 1 - validation_share)
    images = people.select(np.concatenate([np.flatnonzero(is_added), own[kept]]))
    pids, identity_N = identities_of(images.pid_N)
    if len(pids) < 2:
        raise InputError(
            f"there are {len(images)} training images of {len(pids)} identities, but training needs at least two "
            "identities: lower --data.validation-share, or add people"
        )
    if validation_share > 0 and not len(left_out):
        raise InputError(
            f"--data.validation-share {validation_share} holds out none of the {len(pids)} identities: raise it, or "
            "set it to 0 to train on all images and keep the last model"
        )
    return TrainingSet(images, identity_N, data.camera_set), people.select(own[left_out]) if len(left_out) else None


def _split_without_people(data: OpenedData, validation_share: float) -> tuple[TrainingSet, ImageDataset | None]:
    """All images are for training, but for the official validation images or, without any, an even share."""
    train = data.splits["train"]
    is_added = train.row_N < data.added_images
    own = np.flatnonzero(~is_added)
    if data.validation and validation_share > 0:
        kept, left_out = _official_validation(train.select(own), data.validation)
    else:
        kept, left_out = split_evenly(len(own), validation_share)
    images = train.select(np.concatenate([np.flatnonzero(is_added), own[kept]]))
    if len(images) < 2 or (validation_share > 0 and not len(left_out)):
        raise InputError(
            f"--data.validation-share {validation_share} leaves {len(images)} images for training and {len(left_out)} "
            "for validation: choose another share, or 0 to train on all images and keep the last model"
        )
    nobody_N = np.full(len(images), -1, np.int64)
    return TrainingSet(images, nobody_N, data.camera_set), train.select(own[left_out]) if len(left_out) else None


def _official_validation(images: ImageDataset, names: frozenset[str]) -> tuple[Ints, Ints]:
    """Positions of the training images and of the official validation images."""
    held_N = np.array([name in names for name in images.name_N], bool)
    return np.flatnonzero(~held_N), np.flatnonzero(held_N)


def split_evenly(number: int, validation_share: float) -> tuple[Ints, Ints]:
    """Positions of training and of validation images: one of every 1 / share images, in name order, is for validation.

    >>> split_evenly(10, 0.3)[1].tolist()
    [3, 6, 9]
    """
    counted = np.floor(np.arange(number + 1) * validation_share + 1e-9)
    held_N = np.diff(counted) > 0
    return np.flatnonzero(~held_N), np.flatnonzero(held_N)


def split_by_person(pid_N: Ints, train_share: float) -> tuple[Ints, Ints]:
    """Positions of the training images and of the validation images; no person is in both.

    The images are in name order. The first `train_share` of them are for training, extended to the end of a person;
    the rest are for validation (course report, section 2; its share is 0.7).
    """
    if np.count_nonzero(np.diff(pid_N)) != len(np.unique(pid_N)) - 1:
        raise InputError("the images of each person must be consecutive, as in sorted names, to be split by person")
    end = math.floor(train_share * len(pid_N))
    while 0 < end < len(pid_N) and pid_N[end] == pid_N[end - 1]:
        end += 1
    return np.arange(end), np.arange(end, len(pid_N))


def identities_of(pids: Sequence[int] | Ints) -> tuple[Ints, Ints]:
    """Contiguous training labels: (the pids in ascending order, the label of each image)."""
    unique, labels = np.unique(np.asarray(pids, np.int64), return_inverse=True)
    return unique, labels.astype(np.int64)
