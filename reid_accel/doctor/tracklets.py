"""Tracklets that contradict their labels: the images of one tracklet show one person under one camera."""

from collections.abc import Iterator

import numpy as np

from reid_accel.data.listing import UNKNOWN_CAMERA, UNKNOWN_TRACKLET
from reid_accel.doctor.findings import LABELED_TEST, Finding, Place, Splits, number_of
from reid_accel.errors import listed


def tracklet_findings(splits: Splits) -> Iterator[Finding]:
    """Findings on tracklets; none for a set without any."""
    torn = _with_several(splits, "pid")
    if torn:
        in_test = any(place.split in LABELED_TEST for places in torn.values() for place in places)
        yield Finding(
            "tracklet-of-two-people",
            "error" if in_test else "warning",
            f"{number_of(len(torn), 'tracklet has', 'tracklets have')} images of several people "
            f"({listed(torn, 3)}): the tracker jumped from one person to another, or labels are wrong",
            "Divide the tracklet where the person changes. --fix leaves its images out.",
            tuple(torn.values()),
            tuple(place for places in torn.values() for place in places),
        )
    moved = _with_several(splits, "camera")
    if moved:
        yield Finding(
            "tracklet-of-two-cameras",
            "warning",
            f"{number_of(len(moved), 'tracklet has', 'tracklets have')} images of several cameras "
            f"({listed(moved, 3)}): a tracklet is of one camera",
            "Number tracklets so that each number occurs under one camera only.",
            tuple(moved.values()),
        )


def _with_several(splits: Splits, label: str) -> dict[int, tuple[Place, ...]]:
    """The images of each tracklet with more than one value of a label (`pid` or `camera`)."""
    tracklet_N = np.concatenate([images.tracklet_N for images in splits.values()])
    camera_N = np.concatenate([images.camera_N for images in splits.values()])
    label_N = camera_N if label == "camera" else np.concatenate([images.pid_N for images in splits.values()])
    known_N = (tracklet_N != UNKNOWN_TRACKLET) & ((camera_N != UNKNOWN_CAMERA) | (label != "camera"))
    pairs = np.unique(np.stack([tracklet_N[known_N], label_N[known_N]], 1), axis=0)
    tracklet_T, values_T = np.unique(pairs[:, 0], return_counts=True)
    torn_T = tracklet_T[values_T > 1]
    found: dict[int, list[Place]] = {tracklet: [] for tracklet in torn_T.tolist()}
    for split, images in splits.items():
        for row in np.flatnonzero(np.isin(images.tracklet_N, torn_T)).tolist():
            found[int(images.tracklet_N[row])].append(Place(split, row))
    return {tracklet: tuple(places) for tracklet, places in found.items()}
