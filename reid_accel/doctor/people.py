"""What the labels alone tell about people, cameras and splits. No image is opened.

Legend: N images of a split, P people.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from reid_accel.data.dataset import ImageDataset, Ints
from reid_accel.data.listing import UNKNOWN_CAMERA
from reid_accel.doctor.findings import (
    LABELED_TEST,
    NUMBERS,
    TRAIN,
    Finding,
    Numbering,
    Place,
    Splits,
    each_alone,
    number_of,
    places,
)
from reid_accel.errors import listed
from reid_accel.files import shown

CATCH_ALL_TIMES, CATCH_ALL_IMAGES = 20, 100
MANY_CAMERAS, IMAGES_PER_CAMERA = 20, 10


def people_findings(splits: Splits, numbering: Numbering = NUMBERS) -> Iterator[Finding]:
    """Findings on who is where."""
    if not numbering.apart:
        yield from _on_both_sides(splits, numbering)
    yield from _nobodies_as_queries(splits)
    yield from _names_twice(splits)
    yield from _one_image(splits[TRAIN])
    yield from _one_camera(splits[TRAIN])
    yield from _catch_all(splits[TRAIN], numbering)
    yield from _cameras(splits)


def people_of(images: ImageDataset) -> Ints:
    """The person numbers of a split, without distractors and junk."""
    return np.unique(images.pid_N[images.pid_N > 0])


def _on_both_sides(splits: Splits, numbering: Numbering) -> Iterator[Finding]:
    train = splits[TRAIN]
    tested = [people_of(splits[split]) for split in LABELED_TEST if split in splits]
    both_P = np.intersect1d(people_of(train), np.concatenate([*tested, np.empty(0, np.int64)]))
    if not len(both_P):
        return
    rows = np.flatnonzero(np.isin(train.pid_N, both_P))
    yield Finding(
        "people-in-train-and-test",
        "error",
        f"{number_of(len(both_P), 'person is', 'people are')} in train and in the test images "
        f"({numbering.listed(both_P.tolist())}): the network "
        "has seen them, and scores are higher than for new people",
        "Give test people numbers of their own if they are other people; else remove them from one side. --fix leaves "
        f"their {number_of(len(rows), 'image')} out of train.",
        _one_of_each(splits, both_P),
        places(TRAIN, rows),
    )


def _one_of_each(splits: Splits, both_P: Ints) -> tuple[tuple[Place, ...], ...]:
    """The first image of each of these people in each split."""
    first = {split: dict(zip(*_first_rows(images), strict=True)) for split, images in splits.items()}
    return tuple(
        tuple(Place(split, rows[pid]) for split, rows in first.items() if pid in rows) for pid in both_P.tolist()
    )


def _first_rows(images: ImageDataset) -> tuple[list[int], list[int]]:
    """The person numbers of a split, and the first row of each."""
    pid_P, row_P = np.unique(images.pid_N, return_index=True)
    return pid_P.tolist(), row_P.tolist()


def _nobodies_as_queries(splits: Splits) -> Iterator[Finding]:
    rows = np.flatnonzero(splits["query"].pid_N <= 0) if "query" in splits else np.empty(0, np.int64)
    if len(rows):
        yield Finding(
            "queries-of-nobody",
            "error",
            f"{number_of(len(rows), 'query has', 'queries have')} a person number below 1, which marks distractors (0) "
            "and junk (-1): training and scoring refuse them",
            "Number people from 1, or leave these queries out, as --fix does.",
            each_alone("query", rows),
            places("query", rows),
        )


def _names_twice(splits: Splits) -> Iterator[Finding]:
    for split, images in splits.items():
        twice: dict[str, list[int]] = {}
        if len(set(images.name_N)) < len(images):
            often = {name for name, times in Counter(images.name_N).items() if times > 1}
            for row, name in enumerate(images.name_N):
                if name in often:
                    twice.setdefault(name, []).append(row)
        if twice:
            named = listed(map(shown, twice), 3)
            yield Finding(
                "names-twice",
                "error",
                f"{number_of(len(twice), 'file name occurs', 'file names occur')} more than once in {split} ({named}): "
                "results identify images by name, so training refuses the set",
                "Rename all but one. --fix keeps the first of each name.",
                tuple(places(split, rows) for rows in twice.values()),
                tuple(place for rows in twice.values() for place in places(split, rows[1:])),
            )


def _one_image(train: ImageDataset) -> Iterator[Finding]:
    pid_P, first_P, count_P = np.unique(train.pid_N, return_index=True, return_counts=True)
    alone_P = (count_P == 1) & (pid_P > 0)
    if alone_P.any():
        yield Finding(
            "people-with-one-image",
            "warning",
            f"{number_of(int(alone_P.sum()), 'person', 'people')} of {int((pid_P > 0).sum()):,} in train "
            f"{'has' if alone_P.sum() == 1 else 'have'} one image: there is no other image to learn from that it is "
            "the same person, and losses on pairs use the image as its own match",
            "Add images of these people, or leave them out when you train with a triplet or circle loss.",
            each_alone(TRAIN, first_P[alone_P]),
        )


def _one_camera(train: ImageDataset) -> Iterator[Finding]:
    known_N = (train.pid_N > 0) & (train.camera_N != UNKNOWN_CAMERA)
    seen = np.unique(np.stack([train.pid_N[known_N], train.camera_N[known_N]], 1), axis=0)
    pid_P, cameras_P = np.unique(seen[:, 0], return_counts=True)
    alone_P = pid_P[cameras_P == 1]
    several_images_P = alone_P[np.isin(alone_P, _with_several_images(train))]
    if len(np.unique(seen[:, 1])) < 2 or not len(several_images_P):
        return
    of_person: dict[int, list[Place]] = {pid: [] for pid in several_images_P.tolist()}
    for row in np.flatnonzero(np.isin(train.pid_N, several_images_P)).tolist():
        of_person[int(train.pid_N[row])].append(Place(TRAIN, row))
    yield Finding(
        "people-of-one-camera",
        "warning",
        f"{number_of(len(several_images_P), 'person', 'people')} of {len(pid_P):,} in train "
        f"{'is' if len(several_images_P) == 1 else 'are'} seen by one camera only: they teach nothing about the same "
        "person under another camera, which is what scores measure",
        "Check that the camera numbers are right; add images of other cameras if there are any.",
        tuple(map(tuple, of_person.values())),
    )


def _with_several_images(train: ImageDataset) -> Ints:
    pid_P, count_P = np.unique(train.pid_N, return_counts=True)
    return pid_P[count_P > 1]


def _catch_all(train: ImageDataset, numbering: Numbering) -> Iterator[Finding]:
    pid_P, count_P = np.unique(train.pid_N[train.pid_N > 0], return_counts=True)
    usual = float(np.median(count_P)) if len(count_P) else 0.0
    for pid, count in zip(pid_P.tolist(), count_P.tolist(), strict=True):
        if count >= CATCH_ALL_IMAGES and count > CATCH_ALL_TIMES * usual:
            rows = np.flatnonzero(train.pid_N == pid)
            yield Finding(
                "catch-all-person",
                "warning",
                f"person {numbering.name(pid)} has {count:,} images in train where the median is {usual:g}: it "
                "may stand for everybody who is unknown",
                "Give images of unknown people the person number 0 and move them to the gallery, or leave them out.",
                each_alone(TRAIN, rows),
            )


def _cameras(splits: Splits) -> Iterator[Finding]:
    camera_N = np.concatenate([images.camera_N for images in splits.values()])
    known, images = np.unique(camera_N[camera_N != UNKNOWN_CAMERA]), int((camera_N != UNKNOWN_CAMERA).sum())
    if len(known) > MANY_CAMERAS and len(known) * IMAGES_PER_CAMERA > images:
        named = listed(known.tolist(), 3)
        yield Finding(
            "cameras-like-dates",
            "warning",
            f"{images:,} images have {len(known):,} cameras ({named}): the numbers may be dates or frames",
            "Say where the camera is in the names or the table; images of one camera must have the same number, or "
            "scores count them as found by another camera.",
        )
    for split in (TRAIN, *LABELED_TEST):
        if split in splits and 0 < len(rows := np.flatnonzero(splits[split].camera_N < 0)) < len(splits[split]):
            yield Finding(
                "cameras-unknown",
                "warning",
                f"{number_of(len(rows), 'image')} of {len(splits[split]):,} in {split} "
                f"{'has' if len(rows) == 1 else 'have'} no camera: the camera rule of scores treats them as one camera",
                "Give them a camera each, or give none to all.",
                each_alone(split, rows),
            )
