"""Splits of sets that have none: training and test people, and the test people's query and gallery images.

The same images, share and seed give the same split, in whatever form the set comes.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from reid_accel.data.listing import (
    UNKNOWN_CAMERA,
    UNKNOWN_TIME,
    UNKNOWN_TRACKLET,
    UNSPLIT,
    ImageFile,
    Listing,
    has_people,
)
from reid_accel.errors import InputError

TEST = "test"
"""The split of test people whose query and gallery images are not told apart."""
FEWEST_PEOPLE = 3

DrawnBy = Literal["camera", "tracklet", "time", "chance"]
"""What makes a query differ from its matches in the gallery."""

_PEOPLE_STREAM, _QUERY_STREAM = 1, 2  # second number of a generator's seed


def lacks_queries(splits: Mapping[str, Sequence[ImageFile]]) -> bool:
    """Whether a listing has no split, or training and test people without a split into query and gallery.

    Test images without people are scored on attributes alone.
    """
    return set(splits) == {UNSPLIT} or (set(splits) == {"train", TEST} and has_people(splits[TEST]))


def split_people(listing: Listing, share: float, seed: int) -> Listing:
    """The listing of a set without a split, or without queries, with the splits train, query and gallery.

    share: of the people, drawn with the seed, for training; all others are for testing. Of each test person, one image
    per camera is a query and the others are the gallery, with all distractors and junk images. Without cameras, it is
    one image per tracklet, else the earliest image, else one drawn image. Images keep their order.
    Raises InputError if there are too few people, or no test person has two images.
    """
    if UNSPLIT in listing.splits:
        train_pids = _training_people(listing.splits[UNSPLIT], share, seed)
        train = tuple(image for image in listing.splits[UNSPLIT] if image.pid in train_pids)
        test = [image for image in listing.splits[UNSPLIT] if image.pid not in train_pids]
    else:
        train, test = listing.splits["train"], list(listing.splits[TEST])
    queries = draw_queries(test, seed)
    if not queries:
        raise InputError(
            "no test person has two images that can be told apart, so that one could be found by the other: add "
            "images, or choose another --data.split-seed"
        )
    return replace(
        listing,
        splits={
            "train": train,
            "query": tuple(image for row, image in enumerate(test) if row in queries),
            "gallery": tuple(image for row, image in enumerate(test) if row not in queries),
        },
        fingerprint=hashlib.sha256(f"{listing.fingerprint} people:{share!r} seed:{seed}".encode()).hexdigest()[:16],
    )


def _training_people(images: Iterable[ImageFile], share: float, seed: int) -> set[int]:
    pids = sorted({image.pid for image in images if image.pid > 0})
    if len(pids) < FEWEST_PEOPLE:
        raise InputError(
            f"the images show {len(pids)} {'person' if len(pids) == 1 else 'people'}, but a split into training and "
            f"test people needs at least {FEWEST_PEOPLE}: two to train on, and one to test"
        )
    number = min(max(round(share * len(pids)), 2), len(pids) - 1)
    drawn = np.random.default_rng([seed, _PEOPLE_STREAM]).permutation(len(pids))[:number]
    return {pids[place] for place in drawn}


def draw_queries(images: Sequence[ImageFile], seed: int) -> set[int]:
    """Positions of the query images. Each has an image of the same person among the others, by another camera if the
    queries are drawn by camera, of another tracklet if they are drawn by tracklet."""
    kind = drawn_by(images)
    rows_of_person: dict[int, list[int]] = {}
    for row, image in enumerate(images):
        if image.pid > 0:
            rows_of_person.setdefault(image.pid, []).append(row)
    queries: set[int] = set()
    for pid, rows in sorted(rows_of_person.items()):
        random = np.random.default_rng([seed, _QUERY_STREAM, pid])
        if kind in ("camera", "tracklet"):
            queries |= _one_of_each(_by_source(images, rows, kind), random)
        elif kind == "time":
            queries |= _earliest(images, rows)
        elif len(rows) > 1:
            queries.add(rows[random.integers(len(rows))])
    return queries


def drawn_by(images: Iterable[ImageFile]) -> DrawnBy:
    """By camera if a person is seen by two, else by tracklet if a person has two, else by time if it is known."""
    camera_of: dict[int, int] = {}
    tracklet_of: dict[int, int] = {}
    two_tracklets = timed = False
    for image in images:
        if image.pid <= 0:
            continue
        if image.camera != UNKNOWN_CAMERA and camera_of.setdefault(image.pid, image.camera) != image.camera:
            return "camera"
        if image.tracklet != UNKNOWN_TRACKLET and tracklet_of.setdefault(image.pid, image.tracklet) != image.tracklet:
            two_tracklets = True
        timed = timed or image.time != UNKNOWN_TIME
    if two_tracklets:
        return "tracklet"
    return "time" if timed else "chance"


def _by_source(images: Sequence[ImageFile], rows: Iterable[int], kind: DrawnBy) -> list[list[int]]:
    """A person's rows by camera or by tracklet; those of unknown ones can't be queries."""
    rows_of: dict[int, list[int]] = {}
    for row in rows:
        source = images[row].camera if kind == "camera" else images[row].tracklet
        if source != (UNKNOWN_CAMERA if kind == "camera" else UNKNOWN_TRACKLET):
            rows_of.setdefault(source, []).append(row)
    return [rows_of[source] for source in sorted(rows_of)]


def _one_of_each(groups: Sequence[list[int]], random: np.random.Generator) -> set[int]:
    """One row of each group. At least one row of two groups is left (of one other group, if there are only two), so
    that each query has a match in another group: some groups of a single row give no query."""
    if len(groups) < 2:
        return set()
    single = [number for number, rows in enumerate(groups) if len(rows) == 1]
    to_keep = min(2 - (len(groups) - len(single)), len(groups) - 1)
    kept = set(random.permutation(single)[: max(to_keep, 0)].tolist())
    return {rows[random.integers(len(rows))] for number, rows in enumerate(groups) if number not in kept}


def _earliest(images: Sequence[ImageFile], rows: Sequence[int]) -> set[int]:
    """The earliest row, if there is a later one."""
    timed = sorted((images[row].time, row) for row in rows if images[row].time != UNKNOWN_TIME)
    return {timed[0][1]} if len(timed) > 1 else set()
