"""Listings of data sets: the sorted images of each split with labels from their names. No image is opened."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, takewhile
from pathlib import Path
from typing import NamedTuple

from reid_accel.attributes.annotations import PersonAttributes, whole_number
from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.data.left_out import left_out
from reid_accel.data.scan import entries_of, states_of
from reid_accel.errors import InputError, listed

JUNK_PID = -1
DISTRACTOR_PID = 0
UNLABELED_PID = -2
UNKNOWN_CAMERA = -1
UNKNOWN_TRACKLET = -1
UNKNOWN_TIME = -1

UNSPLIT = "all"
"""The one split of a set that has none yet."""

IMAGE_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
_PERSON_ONLY = re.compile(r"(-?\d+)[_.]")
_PERSON_AND_CAMERA = re.compile(r"([-\d]+)_c(\d+)")
_CUHK03 = re.compile(r"([1-5])_(\d{3})_([12])_\d{1,2}\.", re.ASCII)
_TRACKED = re.compile(r"0*(-1|\d{1,9})C(\d{1,2})T(\d{1,4})F(\d{1,9})\.", re.ASCII)


class ImageFile(NamedTuple):
    """One image: its file, its name in results, and its labels (special pids: see the constants above).

    attributes: the class index in each of the listing's groups; -1 is unknown. tracklet: a number for the images of
    one person that a tracker or annotator joined, unique within the set; -1 is unknown. time: in any unit of the set
    (such as a frame number), to order its images; -1 is unknown.
    """

    path: Path
    name: str
    pid: int
    camera: int
    attributes: tuple[int, ...] = ()
    tracklet: int = UNKNOWN_TRACKLET
    time: int = UNKNOWN_TIME


@dataclass(frozen=True)
class Listing:
    """The images of a data set by split, its attribute groups, and warnings about its content.

    The splits are train, query and gallery; or train, queries and test without labels; or train and test with labels
    of attributes, where retrieval can't be scored. fingerprint: changes when a file is added, removed, renamed, resized
    or touched. edition: of a set with several, whose scores aren't comparable (MSMT17-V1, MSMT17-V2). people: the names
    of people that the layout numbered. numbered_apart: train and test number their people independently, so that the
    same number is no same person. validation: the names of the training images that are the set's official validation
    images.
    """

    splits: Mapping[str, tuple[ImageFile, ...]]
    groups: tuple[AttributeGroup, ...]
    fingerprint: str
    warnings: tuple[str, ...] = ()
    edition: str = ""
    people: Mapping[int, str] = field(default_factory=dict)
    numbered_apart: bool = False
    validation: frozenset[str] = frozenset()

    @property
    def scores_attributes_only(self) -> bool:
        """Whether the test images have labels of attributes, but neither query nor gallery among them."""
        return "gallery" not in self.splits and "queries" not in self.splits


def parse_name(name: str) -> tuple[int, int]:
    """Person and camera of a file name such as `0474_c5_013563167.jpg`.

    >>> parse_name("-1_c1s1_000401_03.jpg")
    (-1, 1)
    """
    match = _PERSON_AND_CAMERA.match(name)
    problem = ""
    try:
        if match:
            return whole_number(match[1]), whole_number(match[2])
    except ValueError as error:  # digits and dashes as in "1-2_c3", or too many digits
        problem = f" ({error})"
    raise InputError(
        f"the file name {name!r} has no person and camera{problem}: expected PERSON_cCAMERA..., e.g. "
        "0002_c1s1_000451_03.jpg"
    )


def parse_person(name: str) -> tuple[int, int]:
    """Person of a file name without a camera such as `0474_013563167.jpg`, and the number for unknown cameras.

    >>> parse_person("-1_000401.jpg")
    (-1, -1)
    """
    match = _PERSON_ONLY.match(name)
    try:
        if match:
            return whole_number(match[1]), UNKNOWN_CAMERA
    except ValueError:  # too many digits
        pass
    return parse_name(name)


def parse_cuhk03(name: str) -> tuple[int, int]:
    """Person and camera of a name that public code gives CUHK03's images: CAMPUS-PAIR_PERSON_VIEW_NUMBER.

    >>> parse_cuhk03("2_017_1_05.png")
    (2017, 1)
    """
    match = _CUHK03.match(name)
    assert match is not None
    return 1000 * int(match[1]) + int(match[2]), int(match[3])


def parse_tracked(name: str) -> tuple[int, int, int, int] | None:
    """Person, camera, tracklet and frame of a name as in MARS (Zheng et al., ECCV 2016); None for other names.

    Its names number the tracklets of each person; here the number is made of person (+ 1), camera and tracklet, so that
    it is unique in the set.

    >>> parse_tracked("0012C3T0001F024.jpg"), parse_tracked("00-1C1T0002F003.jpg")
    ((12, 3, 13030001, 24), (-1, 1, 10002, 3))
    """
    match = _TRACKED.match(name)
    if match is None:
        return None
    pid, camera, tracklet, frame = (int(number) for number in match.groups())
    return pid, camera, ((pid + 1) * 100 + camera) * 10_000 + tracklet, frame


def tracked_image(path: Path, attributes: PersonAttributes, unknown: tuple[int, ...]) -> ImageFile | None:
    """An image labeled by its name as in MARS; None for other names."""
    labels = parse_tracked(path.name)
    if labels is None:
        return None
    pid, camera, tracklet, frame = labels
    return ImageFile(path, path.name, pid, camera, attributes.get(pid, unknown), tracklet, frame)


def _some_have_cameras(names: Iterable[str]) -> bool:
    """Whether a name has a camera, so that all must have one: else a misspelled one would lose its camera."""
    return any("_c" in name for name in names)


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name, without hidden files. Raises InputError if there are none."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    paths = [folder / name for name in entries_of(folder).files if is_image_name(name)]
    if not paths:
        raise no_images(folder)
    return paths


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its name; hidden ones are none."""
    return os.path.splitext(name)[1].lower() in IMAGE_ENDINGS and not name.startswith(".")


def no_images(folder: Path) -> InputError:
    there = left_out(folder, {})
    return InputError(f"{folder} contains no images ({', '.join(IMAGE_ENDINGS)})" + (f", but {there}" if there else ""))


def find_images(place: Path) -> list[Path]:
    """An image file, or all image files below a folder, sorted by path; hidden files and folders are ignored.

    Raises InputError if there are none, or if two have the same file name, since results identify images by file name.
    """
    if place.is_file():
        if place.suffix.lower() not in IMAGE_ENDINGS:
            raise InputError(f"{place} is not an image (expected one of {', '.join(IMAGE_ENDINGS)})")
        return [place]
    if not place.is_dir():
        raise InputError(f"there is no folder or image {place}")
    paths = images_below(place)
    first = {path.name: path for path in reversed(paths)}
    for path in paths:
        if first[path.name] != path:
            raise InputError(f"{first[path.name]} and {path} have the same file name: rename one of them")
    return paths


def images_below(place: Path) -> list[Path]:
    """All image files below a folder, sorted by path, without hidden ones. Raises InputError if there are none."""
    paths = list(_images_below(place))
    if not paths:
        raise no_images(place)
    return paths


def _images_below(folder: Path) -> Iterator[Path]:
    """The images below a folder, sorted by the parts of their paths; no links to folders and no hidden ones."""
    try:
        entries = entries_of(folder)
    except PermissionError:
        return
    inner = set(entries.folders) - set(entries.links)
    for name in sorted((*entries.files, *inner)):
        if name in inner and not name.startswith("."):
            yield from _images_below(folder / name)
        elif name not in inner and is_image_name(name):
            yield folder / name


def require_layout(name: str, root: Path, folders: Sequence[str], files: Sequence[str] = ()) -> None:
    """Raise InputError unless `root` has these folders and files."""
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; set --data.root (or --data.also) to the folder of the data set")
    missing = [entry for entry in folders if not (root / entry).is_dir()]
    missing += [entry for entry in files if not (root / entry).is_file()]
    if missing:
        found = sorted(entry.name for entry in root.iterdir())[:12]
        raise InputError(
            f"{root} is not in the layout of {name}: it lacks {', '.join(missing)} "
            f"(expected {', '.join((*folders, *files))}; found {', '.join(found) or 'nothing'})"
        )


def labeled_images(folder: Path, attributes: PersonAttributes, num_groups: int) -> tuple[ImageFile, ...]:
    """The images of a folder, labeled by their names and the attributes of each person."""
    unknown = (UNKNOWN,) * num_groups
    images, paths = [], list_images(folder)
    labeled = (tracked_image(path, attributes, unknown) for path in paths)
    tracked = tuple(image for image in takewhile(lambda image: image is not None, labeled) if image is not None)
    if len(tracked) == len(paths):
        return tracked
    names = [path.name for path in paths]
    parse = parse_name if _some_have_cameras(names) else parse_person
    if all(map(_CUHK03.match, names)):
        parse = parse_cuhk03
    for path in paths:
        try:
            pid, camera = parse(path.name)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
        images.append(ImageFile(path, path.name, pid, camera, attributes.get(pid, unknown)))
    return tuple(images)


def in_order_of_people(images: Iterable[ImageFile]) -> tuple[ImageFile, ...]:
    """The images sorted by name, as a folder of images is listed; by person first if that keeps no person together."""
    by_name = sorted(images, key=lambda image: image.name)
    if together(by_name):
        return tuple(by_name)
    return tuple(sorted(by_name, key=lambda image: image.pid))


def together(images: Iterable[ImageFile]) -> bool:
    """Whether the images of each person follow one another, as they must to be split by person."""
    people = [pid for pid, _ in groupby(images, key=lambda image: image.pid)]
    return len(people) == len(set(people))


def unlabeled_images(paths: Iterable[Path], num_groups: int = 0) -> tuple[ImageFile, ...]:
    """Images without labels."""
    unknown = (UNKNOWN,) * num_groups
    return tuple(ImageFile(path, path.name, UNLABELED_PID, UNKNOWN_CAMERA, unknown) for path in paths)


def describe(split: str, images: Sequence[ImageFile]) -> str:
    """The size of a split, e.g. "12,936 images of 751 identities"."""
    pids = [image.pid for image in images]
    text = f"{len(pids):,} images of {len({pid for pid in pids if pid > 0}):,} identities"
    if split == "gallery":
        text += f", {pids.count(DISTRACTOR_PID):,} distractors and {pids.count(JUNK_PID):,} junk images"
    return text


def count_warnings(title: str, splits: Mapping[str, Sequence[ImageFile]], published: Mapping[str, int]) -> list[str]:
    """A warning for each split that has another number of images than the published set."""
    return [
        f"{split} differs from the published {title}: found {len(splits[split]):,} images, expected {number:,}"
        for split, number in published.items()
        if len(splits[split]) != number
    ]


def annotation_warnings(
    splits: Mapping[str, Sequence[ImageFile]], attributes: PersonAttributes, file_name: str
) -> list[str]:
    """A warning when identities have no attributes."""
    pids = {image.pid for images in splits.values() for image in images if image.pid > 0}
    missing = sorted(pids - set(attributes))
    if not missing:
        return []
    shown = ", ".join(str(pid) for pid in missing[:5]) + (", ..." if len(missing) > 5 else "")
    return [f"{file_name} has no attributes for {len(missing)} of {len(pids)} identities ({shown})"]


def has_people(images: Iterable[ImageFile]) -> bool:
    """Whether any image shows a person with a number."""
    return any(image.pid > 0 for image in images)


def nobody_warnings(images: Sequence[ImageFile]) -> tuple[str, ...]:
    """A warning if some training images have no person, or numbers that mark distractors and junk: they are left out.

    No warning if no image has a person: attributes alone can be trained.
    """
    unknown = [image.name for image in images if image.pid == UNLABELED_PID]
    names = [image.name for image in images if image.pid <= 0 and image.pid != UNLABELED_PID]
    warnings: tuple[str, ...] = ()
    if unknown and len(unknown) < len(images):
        shown = listed(unknown, 3)
        warnings = (f"{len(unknown):,} of {len(images):,} training images have no person and are left out ({shown})",)
    if not names:
        return warnings
    return (
        *warnings,
        f"{len(names):,} of {len(images):,} training images have a person number below 1 and are left out "
        f"({listed(names, 3)}): 0 marks distractors and -1 junk. If 0 is a person, number people from 1",
    )


def fingerprint_of(root: Path, splits: Mapping[str, Sequence[ImageFile]], more: Iterable[Path] = ()) -> str:
    """A hash of the root and of the names, sizes and modification times of all images and further existing files."""
    digest = hashlib.sha256(_encoded(str(root.resolve())))
    images = (image.path for split in sorted(splits) for image in splits[split])
    for path, state in states_of(chain(images, (file for file in more if file.is_file()))):
        folder, _, name = str(path).rpartition(os.sep)
        digest.update(_encoded(f"{folder.rpartition(os.sep)[2]}/{name} {state}\n"))
    return digest.hexdigest()[:16]


def _encoded(name: str) -> bytes:
    """The bytes of a file name, even if they are not UTF-8."""
    return name.encode("utf-8", "surrogatepass")
