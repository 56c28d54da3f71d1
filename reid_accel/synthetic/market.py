"""A small Market-1501 of drawn pedestrians, written to disk in two layouts.

`FOLDER/market` has the layout of Market-1501 and `FOLDER/course` that of the course variant, with the same images. The
same settings give the same bytes. Query images are not in the gallery, and training and test identities are disjoint.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np

from reid_accel.attributes.annotations import write_course_csv, write_market_mat
from reid_accel.errors import InputError
from reid_accel.files import read_bytes, read_text, replacing_folder, write_json
from reid_accel.synthetic.cameras import (
    Camera,
    encode_jpeg,
    make_camera,
    photograph,
    sample_junk_pose,
    sample_pose,
    sample_track,
)
from reid_accel.synthetic.pedestrians import Person, sample_person

logger = logging.getLogger(__name__)

DRAWING_VERSION = 1
"""Increase it when the images for given settings change, so that old caches are not used."""

# the layouts that are written: those that `data.forms.layouts` and `data.listing` read
MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
MARKET_ATTRIBUTES = "market_attribute.mat"
COURSE_FOLDERS = {"train": "train", "queries": "queries", "test": "test"}
COURSE_ATTRIBUTES = "annotations_train.csv"
DISTRACTOR_PID, JUNK_PID = 0, -1

SETTINGS_FILE = "synthetic.json"
CHECKSUM = "sha256"
IMAGES_PER_CHUNK = 256

# second number of a generator's seed, so that different kinds of generators differ (cameras have 1)
PERSON_STREAM, PLAN_STREAM, TRACK_STREAM, IMAGE_STREAM, STRANGER_STREAM = 2, 3, 4, 5, 6

Kind = Literal["person", "distractor", "junk"]
Split = Literal["train", "query", "gallery"]


@dataclass(frozen=True)
class SyntheticMarket:
    """The size and seed of a set, which determine every image."""

    train_identities: int = 200
    test_identities: int = 40
    train_images_per_camera: int = 3
    """Mean number of training images of a person under each camera that sees it."""
    test_images_per_camera: int = 5
    """The same for test persons; one image is the query, the others are in the gallery."""
    num_cameras: int = 6
    distractors: int = 100
    """Gallery images of other people or of nobody (pid 0)."""
    junk: int = 60
    """Gallery images that show little of a test person (pid -1)."""
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "train_identities": (1, 100_000),
            "test_identities": (1, 100_000),
            "train_images_per_camera": (1, 99),
            "test_images_per_camera": (2, 99),
            "num_cameras": (2, 9),
            "distractors": (0, 1_000_000),
            "junk": (0, 1_000_000),
            "seed": (0, 2**32 - 1),
        }
        for field in fields(self):
            low, high = limits[field.name]
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise InputError(f"{field.name} must be an integer from {low} to {high}, got {value!r}")


@dataclass(frozen=True)
class Shot:
    """One image to be drawn."""

    split: Split
    kind: Kind
    pid: int
    """As in the file name: a person number, 0 for distractors, -1 for junk."""
    subject: int
    """The person shown: the pid, or the number of a distractor."""
    camera: int
    number: int
    """Index of the image among those of the same person and camera, or of the same kind."""

    @property
    def market_name(self) -> str:
        """A name as in Market-1501: person, camera and sequence, frame, box (queries have box 0)."""
        start = 1000 * (self.pid % 997) if self.kind == "person" else 0
        frame = start + 1 + 25 * self.number
        box = 0 if self.split == "query" else 1 + self.number % 5
        person = "-1" if self.kind == "junk" else f"{self.pid:04d}"
        return f"{person}_c{self.camera}s1_{frame:06d}_{box:02d}.jpg"


def synthetic_person(seed: int, number: int) -> Person:
    """Person `number` for `seed`, independent of all others."""
    return sample_person(np.random.default_rng([seed, PERSON_STREAM, number]))


def synthetic_cameras(settings: SyntheticMarket) -> tuple[Camera, ...]:
    """The cameras of a set, by number (from 1)."""
    return tuple(make_camera(settings.seed, number) for number in range(1, settings.num_cameras + 1))


def split_identities(settings: SyntheticMarket) -> tuple[list[int], list[int]]:
    """The pids of training and of test persons, interleaved as in Market-1501, each in ascending order."""
    rng = np.random.default_rng([settings.seed, PLAN_STREAM])
    pids = 1 + rng.permutation(settings.train_identities + settings.test_identities)
    split = settings.train_identities
    return sorted(int(pid) for pid in pids[:split]), sorted(int(pid) for pid in pids[split:])


def plan_shots(settings: SyntheticMarket) -> list[Shot]:
    """Every image of the set, in a fixed order."""
    train, test = split_identities(settings)
    shots = [shot for pid in train for shot in _shots_of(settings, pid, settings.train_images_per_camera, "train")]
    shots += [shot for pid in test for shot in _shots_of(settings, pid, settings.test_images_per_camera, "gallery")]
    rng = np.random.default_rng([settings.seed, PLAN_STREAM, 1])
    for number in range(settings.distractors):
        camera = 1 + int(rng.integers(settings.num_cameras))
        shots.append(Shot("gallery", "distractor", DISTRACTOR_PID, number, camera, number))
    for number in range(settings.junk):
        camera = 1 + int(rng.integers(settings.num_cameras))
        shots.append(Shot("gallery", "junk", JUNK_PID, test[int(rng.integers(len(test)))], camera, number))
    return shots


def _shots_of(settings: SyntheticMarket, pid: int, mean_images: int, split: Split) -> Iterator[Shot]:
    """A person's images under two or more cameras; a test person's first image of each camera is a query."""
    rng = np.random.default_rng([settings.seed, PLAN_STREAM, 0, pid])
    count = max(2, int(rng.binomial(settings.num_cameras, 0.7)))
    fewest = 1 if split == "train" else 2
    for camera in sorted(rng.permutation(settings.num_cameras)[:count]):
        images = max(fewest, mean_images + int(rng.integers(-1, 2)))
        for number in range(images):
            own_split: Split = "query" if split == "gallery" and number == 0 else split
            yield Shot(own_split, "person", pid, pid, int(camera) + 1, number)


def take_shot(settings: SyntheticMarket, cameras: Sequence[Camera], shot: Shot) -> bytes:
    """The JPEG file of one shot, independent of all others."""
    camera = cameras[shot.camera - 1]
    kind = ("person", "distractor", "junk").index(shot.kind)
    key = [kind, shot.subject, shot.camera]
    rng = np.random.default_rng([settings.seed, IMAGE_STREAM, *key, shot.number])
    track = sample_track(np.random.default_rng([settings.seed, TRACK_STREAM, *key]), camera)
    if shot.kind == "person":
        person: Person | None = synthetic_person(settings.seed, shot.subject)
        pose = sample_pose(rng, camera, track)
    elif shot.kind == "junk":
        person, pose = synthetic_person(settings.seed, shot.subject), sample_junk_pose(rng, camera, track)
    else:
        stranger = sample_person(np.random.default_rng([settings.seed, STRANGER_STREAM, shot.subject]))
        person = None if shot.number % 2 else stranger
        in_view = shot.number % 8 == 0
        pose = (sample_pose if in_view else sample_junk_pose)(rng, camera, track)
    return encode_jpeg(photograph(rng, camera, track, person, pose), camera.jpeg_quality)


def _take_shots(settings: SyntheticMarket, shots: Sequence[Shot]) -> list[bytes]:
    cameras = synthetic_cameras(settings)
    return [take_shot(settings, cameras, shot) for shot in shots]


def take_shots(settings: SyntheticMarket, shots: Sequence[Shot], workers: int = 1) -> Iterator[bytes]:
    """The JPEG files of `shots`, in their order; the same for any number of workers.

    Workers are new processes: a script that uses them needs `if __name__ == "__main__":`.
    """
    chunks = [shots[start : start + IMAGES_PER_CHUNK] for start in range(0, len(shots), IMAGES_PER_CHUNK)]
    if workers <= 1 or len(chunks) <= 1:
        for chunk in chunks:
            yield from _take_shots(settings, chunk)
        return
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=get_context("spawn")) as pool:
        for files in pool.map(_take_shots, [settings] * len(chunks), chunks):
            yield from files


def write_synthetic_market(settings: SyntheticMarket, folder: Path, workers: int = 1) -> Path:
    """Write the set into `folder` (as `market/` and `course/`) unless it exists already; returns `folder`.

    Raises InputError when `folder` exists with other content.
    """
    if not folder.exists():
        with replacing_folder(folder, keep_existing=lambda existing: True, sync=False) as temporary:
            _write_all(settings, temporary, workers)
    _check_is_set(settings, folder)
    return folder


def cached_synthetic_market(settings: SyntheticMarket, cache_root: Path, workers: int = 1) -> Path:
    """The set's folder under `cache_root`, written on first use and named by a hash of the settings.

    A set with missing or changed files is written again, with a warning.
    """
    text = json.dumps(_description(settings), sort_keys=True)
    folder = cache_root / f"synthetic-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if folder.exists() and not _is_intact(settings, folder):
        logger.warning(f"files of the drawn pedestrians in {folder} are missing or changed: drawing them again")
        with replacing_folder(folder, keep_existing=partial(_is_intact, settings), sync=False) as temporary:
            _write_all(settings, temporary, workers)
    return write_synthetic_market(settings, folder, workers)


def _is_intact(settings: SyntheticMarket, folder: Path) -> bool:
    """Whether the folder has the files that were written, with their content."""
    try:
        found = json.loads(read_text(folder / SETTINGS_FILE))
        return bool(found == _description(settings) | {CHECKSUM: _checksum_of(folder)})
    except (OSError, ValueError):
        return False


def _checksum_of(folder: Path) -> str:
    """SHA-256 of the names and contents of all files but the one with the settings."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.glob("*/**/*") if path.is_file()):
        content = read_bytes(path)
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _description(settings: SyntheticMarket) -> dict[str, object]:
    return {"drawing_version": DRAWING_VERSION, "settings": asdict(settings)}


def _check_is_set(settings: SyntheticMarket, folder: Path) -> None:
    marker = folder / SETTINGS_FILE
    try:
        found = json.loads(read_text(marker))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} exists but contains no synthetic set; choose another folder") from error
    written = {name: value for name, value in found.items() if name != CHECKSUM} if isinstance(found, dict) else found
    if written != _description(settings):
        raise InputError(f"{folder} contains a synthetic set with other settings ({written}); choose another folder")


def _write_all(settings: SyntheticMarket, folder: Path, workers: int) -> None:
    market, course = folder / "market", folder / "course"
    for parent, names in ((market, MARKET_FOLDERS), (course, COURSE_FOLDERS)):
        for name in names.values():
            (parent / name).mkdir(parents=True)
    shots = plan_shots(settings)
    course_names = _course_names(settings, shots)
    for shot, course_name, file in zip(shots, course_names, take_shots(settings, shots, workers), strict=True):
        (market / MARKET_FOLDERS[shot.split] / shot.market_name).write_bytes(file)
        (course / course_name).write_bytes(file)
    train, test = (
        {pid: synthetic_person(settings.seed, pid).attributes for pid in pids} for pids in split_identities(settings)
    )
    write_market_mat(market / MARKET_ATTRIBUTES, train=train, test=test)
    write_course_csv(course / COURSE_ATTRIBUTES, train)
    write_json(folder / SETTINGS_FILE, _description(settings) | {CHECKSUM: _checksum_of(folder)})


def _course_names(settings: SyntheticMarket, shots: Sequence[Shot]) -> list[Path]:
    """Each image's path in the course layout; test images and queries are numbered in random order."""
    rng = np.random.default_rng([settings.seed, PLAN_STREAM, 2])
    noise = rng.choice(10**9, size=len(shots), replace=False)
    order = {split: iter(rng.permutation(len(shots))) for split in ("query", "gallery")}
    names = []
    for shot, number in zip(shots, noise, strict=True):
        if shot.split == "train":
            names.append(Path(COURSE_FOLDERS["train"], f"{shot.pid:04d}_c{shot.camera}_{number:09d}.jpg"))
        else:
            folder = COURSE_FOLDERS["queries" if shot.split == "query" else "test"]
            names.append(Path(folder, f"{int(next(order[shot.split])):06d}.jpg"))
    return names
