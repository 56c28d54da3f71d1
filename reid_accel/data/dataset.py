"""Images with their labels, ready for training and embedding.

Legend: N images, A attribute groups, H W pixels.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.data.crop_cache import CropCache, Decoding, open_crop_cache
from reid_accel.data.left_out import left_out_warning
from reid_accel.data.listing import (
    UNKNOWN_CAMERA,
    UNKNOWN_TRACKLET,
    ImageFile,
    find_images,
    fingerprint_of,
    unlabeled_images,
)
from reid_accel.data.paths import Paths
from reid_accel.errors import InputError
from reid_accel.files import shown

logger = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageDataset:
    """N images: their labels, and their pixels if the split was decoded.

    path_N: the image files, or names for images in memory. attributes_NA: -1 is unknown; no columns if the set has no
    attributes. tracklet_N: -1 is unknown. row_N: the images' rows in the crop cache.
    """

    path_N: Paths
    name_N: tuple[str, ...]
    pid_N: Ints
    camera_N: Ints
    tracklet_N: Ints
    attributes_NA: Ints
    row_N: Ints
    groups: tuple[AttributeGroup, ...]
    crop_cache: CropCache | None

    @classmethod
    def of_files(
        cls, images: Sequence[ImageFile], groups: tuple[AttributeGroup, ...], crop_cache: CropCache | None
    ) -> "ImageDataset":
        """The listed images, in the order of the crop cache's rows."""
        attributes = [image.attributes for image in images]
        return cls(
            path_N=Paths.of((image.path for image in images), [image.name for image in images]),
            name_N=tuple(image.name for image in images),
            pid_N=np.array([image.pid for image in images], np.int64),
            camera_N=np.array([image.camera for image in images], np.int64),
            tracklet_N=np.array([image.tracklet for image in images], np.int64),
            attributes_NA=np.array(attributes, np.int64).reshape(len(images), len(groups)),
            row_N=np.arange(len(images), dtype=np.int64),
            groups=groups,
            crop_cache=crop_cache,
        )

    @classmethod
    def in_memory(cls, crops_N3HW: npt.NDArray[np.uint8], pid_N: Ints, camera_N: Ints | None = None) -> "ImageDataset":
        """Images without files or attributes, named by number."""
        cameras = np.full(len(pid_N), UNKNOWN_CAMERA, np.int64) if camera_N is None else camera_N
        files = [
            ImageFile(Path(f"{row:08d}"), f"{row:08d}", int(pid), int(camera))
            for row, (pid, camera) in enumerate(zip(pid_N, cameras, strict=True))
        ]
        return cls.of_files(files, (), CropCache(crops_N3HW, {}))

    def __len__(self) -> int:
        return len(self.name_N)

    @property
    def crops(self) -> CropCache:
        """The decoded images of a split that was opened with them."""
        assert self.crop_cache is not None, "this split was opened without its images"
        return self.crop_cache

    def select(self, indices: Ints) -> "ImageDataset":
        """The images at the given positions, in that order."""
        return ImageDataset(
            path_N=self.path_N.select(indices),
            name_N=tuple(self.name_N[index] for index in indices),
            pid_N=self.pid_N[indices],
            camera_N=self.camera_N[indices],
            tracklet_N=self.tracklet_N[indices],
            attributes_NA=self.attributes_NA[indices],
            row_N=self.row_N[indices],
            groups=self.groups,
            crop_cache=self.crop_cache,
        )

    def fingerprint(self) -> str:
        """A hash of names and labels, independent of the folder."""
        digest = hashlib.sha256("\n".join(self.name_N).encode("utf-8", "surrogatepass"))
        tracklets = (self.tracklet_N,) if (self.tracklet_N != UNKNOWN_TRACKLET).any() else ()
        for labels in (self.pid_N, self.camera_N, self.attributes_NA, *tracklets):
            digest.update(np.ascontiguousarray(labels).tobytes())
        return digest.hexdigest()[:16]

    @property
    def num_identities(self) -> int:
        """The number of persons, without distractors and junk."""
        return len(np.unique(self.pid_N[self.pid_N > 0]))

    @property
    def num_cameras(self) -> int:
        """The number of known cameras."""
        return len(np.unique(self.camera_N[self.camera_N >= 0]))


@dataclass(frozen=True)
class SkippedImage:
    """An image that could not be read and was left out."""

    name: str
    reason: str


def decode_images(
    images: Sequence[ImageFile], groups: tuple[AttributeGroup, ...], decoding: Decoding, *, fingerprint: str, title: str
) -> tuple[ImageDataset, tuple[SkippedImage, ...]]:
    """Decode listed images, or read them from the crop cache; unreadable ones are left out.

    fingerprint: changes whenever the files change. title: names the images in errors.
    Raises InputError when no image can be read, or any is unreadable and `on_bad_image` is "error".
    """
    cache = open_crop_cache([image.path for image in images], decoding, fingerprint)
    decoded = ImageDataset.of_files(images, groups, cache)
    unreadable = cache.unreadable
    if not unreadable:
        return decoded, ()
    if len(unreadable) == len(decoded):
        raise InputError(f"none of the {len(decoded)} images of {title} can be read")
    readable = np.setdiff1d(decoded.row_N, np.fromiter(unreadable, np.int64, len(unreadable)))
    skipped = tuple(SkippedImage(shown(decoded.name_N[row]), reason) for row, reason in unreadable.items())
    return decoded.select(readable), skipped


def open_unlabeled(place: Path, decoding: Decoding) -> tuple[ImageDataset, tuple[SkippedImage, ...]]:
    """Decode an image, or all images below a folder, without labels. Raises InputError if there are none."""
    paths = find_images(place)
    warning = left_out_warning(place, paths)
    if warning is not None:
        logger.warning(warning)
    images = unlabeled_images(paths)
    fingerprint = fingerprint_of(place, {"": images})
    return decode_images(images, (), decoding, fingerprint=fingerprint, title=str(place))
