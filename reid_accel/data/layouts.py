"""Folder layouts of re-ID sets: which image is whose, read from names, in sorted order.

A listing is plain data (no image is opened) and has a fingerprint that changes when a file is added, removed,
renamed, resized or touched.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reid_accel.attributes.annotations import PersonAttributes, read_course_csv, read_market_mat
from reid_accel.attributes.vocabulary import MARKET_GROUPS, UNKNOWN, AttributeGroup
from reid_accel.errors import InputError

JUNK_PID = -1
DISTRACTOR_PID = 0
UNLABELED_PID = -2
UNKNOWN_CAMERA = -1

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
MSMT17_FOLDERS = ({"train": "train", "test": "test"}, {"train": "mask_train_v2", "test": "mask_test_v2"})
MSMT17_LISTS = {"train": "list_train.txt", "query": "list_query.txt", "gallery": "list_gallery.txt"}
COURSE_FOLDERS = {"train": "train", "queries": "queries", "test": "test"}
MARKET_ATTRIBUTE_FILE = "market_attribute.mat"
COURSE_ATTRIBUTE_FILE = "annotations_train.csv"

_MSMT17_LINE = re.compile(r"(\w+/[^/_\s]+_[^/_\s]+_(\d+)_[^/\s]+)\s+(\d+)", re.ASCII)
_PERSON_AND_CAMERA = re.compile(r"([-\d]+)_c(\d+)")

MARKET1501_COUNTS = {
    "train": "12,936 images of 751 identities",
    "query": "3,368 images of 750 identities",
    "gallery": "19,732 images of 750 identities, 2,798 distractors and 3,819 junk images",
}
"""Market-1501 as published (Zheng et al., ICCV 2015) and distributed."""


@dataclass(frozen=True)
class ImageFile:
    """One image: where it is and who is on it (see the constants above for special pids)."""

    path: Path
    pid: int
    camera: int

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class Listing:
    """All images of a set by split, its attribute vocabulary (empty: none), and what looked odd."""

    splits: Mapping[str, tuple[ImageFile, ...]]
    groups: tuple[AttributeGroup, ...]
    attributes: PersonAttributes
    fingerprint: str
    warnings: tuple[str, ...]


def list_market(root: Path, *, expect_market1501: bool = False) -> Listing:
    """List a set in Market-1501's layout; attributes come from `market_attribute.mat` when it is there.

    With `expect_market1501`, counts that differ from the published ones are named in `warnings`.
    Raises InputError when the folders or the images are missing or a name has no person and camera.
    """
    splits = {split: _labeled(folder) for split, folder in _folders(root, MARKET_FOLDERS).items()}
    annotation = root / MARKET_ATTRIBUTE_FILE
    attributes: dict[int, tuple[int, ...]] = {}
    if annotation.is_file():
        halves = read_market_mat(annotation)
        attributes = {**halves["train"], **halves["test"]}
    groups = MARKET_GROUPS if attributes else ()
    warnings = [*_count_warnings(splits)] if expect_market1501 else []
    if expect_market1501 and not attributes:
        warnings.append(f"{annotation} is not there: training and scoring without attributes")
    warnings += _attribute_warnings(splits, attributes, annotation.name) if attributes else []
    return Listing(splits, groups, attributes, _fingerprint(root, splits, annotation), tuple(warnings))


def list_msmt17(root: Path) -> Listing:
    """List MSMT17 (Wei et al., CVPR 2018), first or second version, by the lists that it comes with.

    A line of a list is an image and a person from 0, who is one more here, 0 being taken; the camera is the third part
    of the image's name. `list_val.txt` stays out: published results are those of `list_train.txt` alone.
    Raises InputError when a list or an image of one is missing, or a line can't be understood.
    """
    folders = _msmt17_folders(root)
    splits = {
        split: _listed(root / name, folders["train" if split == "train" else "test"])
        for split, name in MSMT17_LISTS.items()
    }
    paths = [root / name for name in MSMT17_LISTS.values()]
    paths += [image.path for split in sorted(splits) for image in splits[split]]
    return Listing(splits, (), {}, fingerprint_of(root, paths), ())


def list_course(root: Path) -> Listing:
    """List the course variant: labeled `train/`, unlabeled `test/` and `queries/`, and the annotation CSV."""
    folders = _folders(root, COURSE_FOLDERS)
    splits = {split: _labeled(folder) if split == "train" else _unlabeled(folder) for split, folder in folders.items()}
    annotation = root / COURSE_ATTRIBUTE_FILE
    if not annotation.is_file():
        raise InputError(f"{annotation} is missing; the course layout keeps the attributes there")
    attributes = read_course_csv(annotation)
    warnings = _attribute_warnings(splits, attributes, annotation.name)
    fingerprint = _fingerprint(root, splits, annotation)
    return Listing(splits, MARKET_GROUPS, attributes, fingerprint, tuple(warnings))


def check_layout(name: str, root: str | Path | None) -> Path:
    """The folder of a data set; raises InputError unless it has the set's layout, as far as that shows at once.

    Folders and lists must exist; the names of images are read later, when they are listed.
    """
    if root is None:
        raise InputError(f"data.root must name the folder of {name}, e.g. --data.root path/to/{name}")
    folder = Path(root).expanduser()
    if name == "msmt17":
        _msmt17_folders(folder)
        lists = [folder / file for file in MSMT17_LISTS.values()]
    else:
        _folders(folder, COURSE_FOLDERS if name == "course" else MARKET_FOLDERS)
        lists = [folder / COURSE_ATTRIBUTE_FILE] if name == "course" else []
    missing = [file.name for file in lists if not file.is_file()]
    if missing:
        raise InputError(f"{folder} is not in the layout of {name}: it lacks {', '.join(missing)}")
    return folder


def _msmt17_folders(root: Path) -> dict[str, Path]:
    second = MSMT17_FOLDERS[1]
    return _folders(root, second if (root / second["train"]).is_dir() else MSMT17_FOLDERS[0])


def _listed(list_file: Path, folder: Path) -> tuple[ImageFile, ...]:
    """The images that a list of MSMT17's names, sorted."""
    try:
        lines = list_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{list_file} cannot be read ({error}); MSMT17 says there which images it has") from error
    images = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _MSMT17_LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(
                f"{list_file}, line {number}: expected PERSON/PERSON_NUMBER_CAMERA_....jpg and a person's number, "
                f"got {line!r}"
            )
        images.append(ImageFile(folder / match[1], int(match[3]) + 1, int(match[2])))
    missing = [image.path for image in images if not image.path.is_file()]
    if missing or not images:
        what = (
            f"{len(missing)} of {len(images)} images are not there ({missing[0]}, ...)" if missing else "names no image"
        )
        raise InputError(f"{list_file}: {what}")
    return tuple(sorted(images, key=lambda image: (image.pid, image.path)))


def parse_name(name: str) -> tuple[int, int]:
    """Person and camera of a file name such as `0474_c5_013563167.jpg`.

    >>> parse_name("-1_c1s1_000401_03.jpg")
    (-1, 1)
    """
    match = _PERSON_AND_CAMERA.match(name)
    try:
        if match:
            return int(match[1]), int(match[2])
    except ValueError:  # "1-2_c3": digits and dashes, but not a number
        pass
    raise InputError(
        f"the name {name!r} does not say who is on it: expected PERSON_cCAMERA..., e.g. 0002_c1s1_000451_03.jpg"
    )


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name; hidden files are passed over."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")
    )


def find_images(place: Path) -> list[Path]:
    """An image file, or all image files below a folder, sorted by path; hidden files and folders are ignored.

    Raises InputError when there are none.
    """
    if place.is_file():
        if place.suffix.lower() not in IMAGE_ENDINGS:
            raise InputError(f"{place} is not an image (expected one of {', '.join(IMAGE_ENDINGS)})")
        return [place]
    if not place.is_dir():
        raise InputError(f"there is no folder or image {place}")
    found = (path for path in place.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    paths = sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(place).parts))
    if not paths:
        raise InputError(f"{place} holds no images (looked for {', '.join(IMAGE_ENDINGS)})")
    return paths


def name_within(path: Path, place: Path) -> str:
    """What an image found by `find_images` is called: its path below the folder, with forward slashes."""
    return path.name if path == place else path.relative_to(place).as_posix()


def _folders(root: Path, expected: Mapping[str, str]) -> dict[str, Path]:
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; the data set's folder is what --data.root (or --also) names")
    folders = {split: root / name for split, name in expected.items()}
    missing = [folder.name for folder in folders.values() if not folder.is_dir()]
    if missing:
        found = sorted(entry.name for entry in root.iterdir())[:12]
        raise InputError(
            f"{root} is not in the expected layout: it lacks {', '.join(missing)} "
            f"(expected the folders {', '.join(expected.values())}; found {', '.join(found) or 'nothing'})"
        )
    return folders


def checked_images(folder: Path) -> list[Path]:
    """`list_images`, or an InputError when there is no such folder or nothing in it."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    paths = list_images(folder)
    if not paths:
        raise InputError(f"{folder} holds no images (looked for {', '.join(IMAGE_ENDINGS)})")
    return paths


def _labeled(folder: Path) -> tuple[ImageFile, ...]:
    images = []
    for path in checked_images(folder):
        try:
            pid, camera = parse_name(path.name)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
        images.append(ImageFile(path, pid, camera))
    return tuple(images)


def _unlabeled(folder: Path) -> tuple[ImageFile, ...]:
    return tuple(ImageFile(path, UNLABELED_PID, UNKNOWN_CAMERA) for path in checked_images(folder))


def describe(split: str, images: tuple[ImageFile, ...]) -> str:
    """Counts in words, e.g. "12,936 images of 751 identities"."""
    pids = [image.pid for image in images]
    parts = [f"{len(pids):,} images of {len({pid for pid in pids if pid > 0}):,} identities"]
    if split == "gallery":
        parts[0] += f", {pids.count(DISTRACTOR_PID):,} distractors and {pids.count(JUNK_PID):,} junk images"
    return parts[0]


def _count_warnings(splits: Mapping[str, tuple[ImageFile, ...]]) -> list[str]:
    found = {split: describe(split, images) for split, images in splits.items()}
    return [
        f"{split} differs from Market-1501 as published: found {found[split]}, expected {expected}"
        for split, expected in MARKET1501_COUNTS.items()
        if found[split] != expected
    ]


def _attribute_warnings(
    splits: Mapping[str, tuple[ImageFile, ...]], attributes: PersonAttributes, file_name: str
) -> list[str]:
    """Identities without annotation train and score without attributes; say which."""
    pids = {image.pid for images in splits.values() for image in images if image.pid > 0}
    missing = sorted(pids - set(attributes))
    if not missing:
        return []
    shown = ", ".join(str(pid) for pid in missing[:5]) + (", ..." if len(missing) > 5 else "")
    return [f"{file_name} has no attributes for {len(missing)} of {len(pids)} identities ({shown})"]


def attributes_of(image: ImageFile, listing: Listing) -> tuple[int, ...]:
    """Class index per group of the person on an image; -1 where nothing is known."""
    return listing.attributes.get(image.pid, (UNKNOWN,) * len(listing.groups))


def _fingerprint(root: Path, splits: Mapping[str, tuple[ImageFile, ...]], annotation: Path) -> str:
    paths = [image.path for split in sorted(splits) for image in splits[split]]
    return fingerprint_of(root, [*paths, *([annotation] if annotation.is_file() else [])])


def fingerprint_of(root: Path, paths: Iterable[Path]) -> str:
    """Hash of names, sizes and modification times; cheap enough to take at every start."""
    digest = hashlib.sha256(str(root.resolve()).encode())
    for path in paths:
        status = path.stat()
        digest.update(f"{path.parent.name}/{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
