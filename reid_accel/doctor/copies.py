"""The same picture in several places: equal pixels, or nearly equal ones by perceptual hash.

Legend: N usable pictures of all splits.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from reid_accel.data.images import read_image
from reid_accel.data.listing import UNKNOWN_CAMERA
from reid_accel.doctor.findings import LABELED_TEST, TRAIN, Finding, Place, Severity, Splits, number_of
from reid_accel.doctor.perceptual import has_library, near_pairs
from reid_accel.doctor.pictures import DIGEST_BYTES, Pictures
from reid_accel.errors import InputError
from reid_accel.hardware import num_cores

THUMBNAIL = (16, 32)
MOST_DIFFERENCE = 6.0
"""Mean difference of thumbnails, in levels of 0 to 255: below for a copy stored with JPEG quality 30, at half the size
or 5 % brighter; on CUHK03-NP, pictures with as similar hashes that are no copies differ by 8 and more."""
MOST_PAIRS = 20_000
BY_DESIGN = 0.9

Copies = tuple[Place, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of copies: where they are, and what that means."""

    key: str
    where: str
    meaning: str
    remedy: str


TRAIN_AND_TEST = Kind(
    "copies-in-train-and-test",
    "in train and in the test images",
    "the network is tested on what it was trained on",
    "Remove them from train, as --fix does.",
)
QUERY_AND_GALLERY = Kind(
    "copies-in-query-and-gallery",
    "among the queries and in the gallery",
    "a query that finds its own copy tells nothing about the network; only the camera rule leaves copies of the same "
    "person and camera out of the scores",
    "Remove them from the gallery, as --fix does.",
)
HARMLESS = replace(
    QUERY_AND_GALLERY,
    remedy="Nothing for scores by the camera rule, which leaves these copies out; remove them from the gallery for "
    "other scores.",
)
TWO_PEOPLE = Kind(
    "copies-of-two-people",
    "under several person numbers",
    "all but one of these labels are wrong",
    "Correct the labels. --fix leaves all of these images out.",
)
REPEATED = Kind(
    "copies",
    "more than once in the same split",
    "they count several times",
    "Remove all but one, as --fix does.",
)


def copy_findings(splits: Splits, pictures: Mapping[str, Pictures]) -> Iterator[Finding]:
    """Findings on copies with the same pixels, then on nearly the same pictures."""
    place_N, digest_N, hash_N = _all_usable(pictures)
    groups, first_N = _equal(digest_N)
    exact = [tuple(place_N[row] for row in rows) for rows in groups]
    yield from _findings(splits, exact, exact=True)
    if not has_library():
        yield Finding(
            "not-looked-for",
            "note",
            "nearly equal pictures were not looked for: that needs the library imagehash",
            'Install it: pip install "reid_accel[doctor]".',
        )
        return
    pairs, complete = near_pairs(hash_N[first_N], MOST_PAIRS)
    near = _confirmed(splits, [(place_N[first_N[a]], place_N[first_N[b]]) for a, b in pairs.tolist()])
    yield from _findings(splits, near, exact=False)
    if not complete:
        yield Finding(
            "not-looked-for",
            "note",
            f"only the first {MOST_PAIRS:,} pairs of nearly equal pictures were compared",
            "Remove the copies found so far, and run the doctor again.",
        )


def _all_usable(
    pictures: Mapping[str, Pictures],
) -> tuple[list[Place], npt.NDArray[np.void], npt.NDArray[np.uint64]]:
    rows = {split: np.flatnonzero(each.usable_N) for split, each in pictures.items()}
    place_N = [Place(split, int(row)) for split, usable in rows.items() for row in usable]
    digest_N = np.concatenate([pictures[split]["digest"][usable] for split, usable in rows.items()])
    hash_N = np.concatenate([pictures[split]["hash"][usable] for split, usable in rows.items()])
    return place_N, digest_N, hash_N


def _equal(digest_N: npt.NDArray[np.void]) -> tuple[list[list[int]], npt.NDArray[np.int64]]:
    """The groups of two or more rows with the same digest, and the first row of every digest."""
    halves = np.frombuffer(digest_N.tobytes(), np.uint64).reshape(len(digest_N), DIGEST_BYTES // 8)
    order = np.lexsort(halves.T)
    is_new = np.append(True, (halves[order[1:]] != halves[order[:-1]]).any(1))[: len(order)]
    starts = np.flatnonzero(is_new)
    counts = np.diff(np.append(starts, len(order)))
    groups = [sorted(order[start : start + count].tolist()) for start, count in zip(starts[counts > 1].tolist(),
              counts[counts > 1].tolist(), strict=True)]  # fmt: skip
    return sorted(groups), np.sort(order[starts])


def _confirmed(splits: Splits, pairs: Sequence[tuple[Place, Place]]) -> list[Copies]:
    """The pairs whose thumbnails are nearly the same."""

    @functools.lru_cache(maxsize=4096)
    def thumbnail(path: Path) -> npt.NDArray[np.int16] | None:
        try:
            return np.asarray(read_image(path).resize(THUMBNAIL, Image.Resampling.BOX), np.int16)
        except InputError:  # it was readable a moment ago
            return None

    def is_copy(pair: tuple[Place, Place]) -> bool:
        first, second = (thumbnail(splits[place.split].path_N[place.row]) for place in pair)
        return first is not None and second is not None and float(np.abs(first - second).mean()) <= MOST_DIFFERENCE

    with ThreadPoolExecutor(num_cores()) as pool:
        return [pair for pair, is_one in zip(pairs, pool.map(is_copy, pairs), strict=True) if is_one]


def _findings(splits: Splits, found: Sequence[Copies], *, exact: bool) -> Iterator[Finding]:
    across = [copies for copies in found if _is_across(copies)]
    if across:
        left_out = [place for copies in across for place in copies if place.split == TRAIN]
        yield _finding(TRAIN_AND_TEST, "error", across, left_out, exact)
    yield from _query_and_gallery(splits, found, exact)
    contradictory = [copies for copies in found if not _is_across(copies) and _has_two_people(splits, copies)]
    if contradictory:
        in_test = any(place.split in LABELED_TEST for copies in contradictory for place in copies)
        every = [place for copies in contradictory for place in copies]
        yield _finding(TWO_PEOPLE, "error" if in_test else "warning", contradictory, every, exact)
    repeated = [copies for copies in found if _is_repeated(splits, copies)]
    if repeated:
        left_out = [place for copies in repeated for place in copies[1:]]
        yield _finding(REPEATED, "warning", repeated, left_out, exact)


def _query_and_gallery(splits: Splits, found: Sequence[Copies], exact: bool) -> Iterator[Finding]:
    """An error, but for sets that have all queries in their gallery by design, and for near copies that the camera
    rule leaves out of the scores."""
    both = [copies for copies in found if {place.split for place in copies} >= set(LABELED_TEST)]
    if not both:
        return
    left_out = [place for copies in both for place in copies if place.split == "gallery"]
    harmless = all(_same_person_and_camera(splits, copies) for copies in both)
    copied = {place.row for copies in both for place in copies if place.split == "query"}
    by_design = harmless and len(copied) >= BY_DESIGN * len(splits["query"])
    if by_design or (harmless and not exact):
        yield _finding(HARMLESS, "warning", both, [], exact)
    else:
        yield _finding(QUERY_AND_GALLERY, "error", both, left_out, exact)


def _finding(kind: Kind, severity: Severity, found: Sequence[Copies], left_out: list[Place], exact: bool) -> Finding:
    alike = "the same pixels" if exact else "nearly the same pixels (stored again, resized, a little brighter)"
    return Finding(
        kind.key if exact else f"near-{kind.key}",
        severity,
        f"{number_of(len(found), 'picture is', 'pictures are')} {kind.where}, with {alike}: {kind.meaning}",
        kind.remedy,
        tuple(found),
        tuple(left_out),
    )


def _is_across(copies: Copies) -> bool:
    splits = {place.split for place in copies}
    return TRAIN in splits and len(splits) > 1


def _has_two_people(splits: Splits, copies: Copies) -> bool:
    return len(_labels(splits, copies, lambda images, row: int(images.pid_N[row]))) > 1


def _same_person_and_camera(splits: Splits, copies: Copies) -> bool:
    pids = _labels(splits, copies, lambda images, row: int(images.pid_N[row]))
    cameras = _labels(splits, copies, lambda images, row: int(images.camera_N[row]))
    return len(pids) == 1 and len(cameras) == 1 and UNKNOWN_CAMERA not in cameras


def _is_repeated(splits: Splits, copies: Copies) -> bool:
    """Copies of one person within one split, which no other finding is about."""
    return len({place.split for place in copies}) == 1 and not _has_two_people(splits, copies)


def _labels(splits: Splits, copies: Copies, label: Callable[..., int]) -> set[int]:
    return {label(splits[place.split], place.row) for place in copies}
