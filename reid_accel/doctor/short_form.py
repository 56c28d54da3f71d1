"""The short form of the doctor, before every training: labels only, no picture is opened."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from reid_accel.data.dataset import ImageDataset
from reid_accel.data.listing import UNLABELED_PID
from reid_accel.data.splits import OpenedData
from reid_accel.doctor.attribute_labels import attribute_findings
from reid_accel.doctor.facts import images_per_person
from reid_accel.doctor.findings import TRAIN, Finding, Numbering, Splits
from reid_accel.doctor.matches import match_findings
from reid_accel.doctor.people import people_findings
from reid_accel.doctor.tracklets import tracklet_findings

logger = logging.getLogger(__name__)

SAID_ELSEWHERE = ("no-matches", "no-camera-rule", "names-twice", "queries-of-nobody")
"""What opening or scoring the data refuses or warns of itself."""


def with_label_warnings(data: OpenedData) -> OpenedData:
    """The data with a warning for each thing that is wrong with its labels; a line on the labels and the warnings are
    logged."""
    splits = {**data.splits, TRAIN: _own(data)}
    logger.info(f"{_line(splits[TRAIN])}; `reid-accel doctor` looks at the pictures, too")
    found = [finding for finding in _findings(splits, Numbering(data.numbered_apart)) if finding.severity != "note"]
    warnings = [f"{finding.sentence}. `reid-accel doctor` shows the images" for finding in found]
    for warning in warnings:
        logger.warning(warning)
    return replace(data, warnings=(*data.warnings, *warnings)) if warnings else data


def _own(data: OpenedData) -> ImageDataset:
    """The training images of the main set, with its person numbers and attributes."""
    train = data.splits[TRAIN]
    if not (data.added_images or data.added_people):
        return train
    is_own_N = train.row_N >= data.added_images
    own = train.select(np.flatnonzero(is_own_N & ((train.pid_N > data.added_people) | (train.pid_N == UNLABELED_PID))))
    of_tests = next((images.groups for split, images in data.splits.items() if split != TRAIN), own.groups)
    groups = own.groups[: len(of_tests)]  # joined sets have the main one's attributes first
    return replace(
        own,
        pid_N=np.where(own.pid_N > 0, own.pid_N - data.added_people, own.pid_N),
        attributes_NA=own.attributes_NA[:, : len(groups)],
        groups=groups,
    )


def _findings(splits: Splits, numbering: Numbering) -> Iterator[Finding]:
    found = (
        *people_findings(splits, numbering),
        *tracklet_findings(splits),
        *match_findings(splits),
        *attribute_findings(splits, numbering),
    )
    yield from (finding for finding in found if finding.key not in SAID_ELSEWHERE)


def _line(train: ImageDataset) -> str:
    """The images per person and the cameras of the training images."""
    of_person = images_per_person(train)
    if not len(of_person):
        return f"{len(train):,} training images without identities"
    least, most = int(of_person.min()), int(of_person.max())
    cameras = f"{train.num_cameras} cameras" if train.num_cameras else "unknown cameras"
    return f"{least} to {most} training images per person (median {np.median(of_person):g}), {cameras}"
