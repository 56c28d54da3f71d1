"""Counts of a data set: images, people and cameras of each split, images and colors of each camera, sizes.

Legend: N images of a split.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_accel.data.dataset import ImageDataset
from reid_accel.data.listing import DISTRACTOR_PID, JUNK_PID, UNKNOWN_CAMERA
from reid_accel.doctor.findings import Splits
from reid_accel.doctor.looks import camera_colors
from reid_accel.doctor.pictures import Pictures
from reid_accel.reporting.metrics import Row, ScoreTable
from reid_accel.reporting.schema import count


@dataclass(frozen=True)
class Facts:
    """What doctor.json has under `facts`: plain numbers by name."""

    splits: dict[str, dict[str, Any]]
    cameras: dict[str, dict[str, Any]]
    sizes: dict[str, dict[str, float]]

    def tables(self) -> list[ScoreTable]:
        """The facts as tables."""
        return [table for table in (_split_table(self), _camera_table(self)) if table.rows]


def facts_of(splits: Splits, pictures: Mapping[str, Pictures]) -> Facts:
    """The counts of labels and pictures."""
    colors = {camera: color.round(1).tolist() for camera, color in camera_colors(splits, pictures).items()}
    cameras = np.unique(np.concatenate([images.camera_N for images in splits.values()]))
    return Facts(
        {split: _counts(images) for split, images in splits.items()},
        {
            "unknown" if camera == UNKNOWN_CAMERA else str(camera): {
                "images": {split: int((images.camera_N == camera).sum()) for split, images in splits.items()},
                "mean_rgb": colors.get(camera),
            }
            for camera in cameras.tolist()
        },
        _sizes(pictures),
    )


def images_per_person(images: ImageDataset) -> npt.NDArray[np.int64]:
    """The number of images of each person of a split."""
    return np.unique(images.pid_N[images.pid_N > 0], return_counts=True)[1].astype(np.int64)


def _counts(images: ImageDataset) -> dict[str, Any]:
    of_person = images_per_person(images)
    return {
        "images": len(images),
        "people": len(of_person),
        "cameras": images.num_cameras,
        "distractors": int((images.pid_N == DISTRACTOR_PID).sum()),
        "junk": int((images.pid_N == JUNK_PID).sum()),
        "images_per_person": _spread(of_person),
    }


def _sizes(pictures: Mapping[str, Pictures]) -> dict[str, dict[str, float]]:
    usable = {split: each for split, each in pictures.items() if each.usable_N.any()}
    return {
        split: {
            f"{name}_{which}": value
            for name in ("width", "height")
            for which, value in _spread(each[name][each.usable_N]).items()
        }
        for split, each in usable.items()
    }


def _spread(values: npt.NDArray[Any]) -> dict[str, float]:
    if not len(values):
        return {}
    return {"least": float(values.min()), "median": float(np.median(values)), "most": float(values.max())}


def _split_table(facts: Facts) -> ScoreTable:
    rows = []
    for split, counts in facts.splits.items():
        spread, sizes = counts["images_per_person"], facts.sizes.get(split, {})
        per_person = f"{spread['least']:.0f} / {spread['median']:g} / {spread['most']:.0f}" if spread else "–"
        size = f"{sizes['width_median']:g} x {sizes['height_median']:g}" if sizes else "–"
        numbers = (count(counts[name]) for name in ("images", "people", "cameras", "distractors", "junk"))
        rows.append(Row(split, (*numbers, per_person, size)))
    headings = ("images", "people", "cameras", "distractors", "junk", "images per person", "usual size")
    caption = "Size of the data set. Images per person: least / median / most."
    return ScoreTable("Split", caption, headings, tuple(rows))


def _camera_table(facts: Facts) -> ScoreTable:
    rows = [
        Row(
            camera,
            (
                *(count(images) for images in numbers["images"].values()),
                " ".join(f"{value:.0f}" for value in numbers["mean_rgb"] or ()) or "–",
            ),
        )
        for camera, numbers in facts.cameras.items()
    ]
    headings = (*facts.splits, "mean red green blue")
    return ScoreTable("Camera", "Images by camera, and their mean color (0 to 255).", headings, tuple(rows[:SHOWN]))


SHOWN = 30
