"""A drawn street with people in it, and where they are: what a detector hands to a tracker."""

import functools

import numpy as np
import numpy.typing as npt
from PIL import Image

from reid_accel.export.pictures import drawn_pedestrians
from reid_accel.synthetic.scenes import draw_scene

WIDTH_PX, HEIGHT_PX = 640, 480
PEOPLE = ((20, 90, 130, 330), (180, 120, 250, 268), (300, 60, 444, 440), (500, 150, 540, 262))
"""Left, top, right, bottom: larger and smaller than usual inputs."""


@functools.cache
def street() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """RGB pixels, H x W x 3, and the boxes of its people, N x 4; the last one is partly outside."""
    frame = draw_scene(np.random.default_rng(0), 1).resize((WIDTH_PX * 2, HEIGHT_PX)).crop((0, 0, WIDTH_PX, HEIGHT_PX))
    people = drawn_pedestrians()
    for person, (left, top, right, bottom) in zip(people, PEOPLE, strict=False):
        frame.paste(person.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
    outside = (600, 200, 700, 430)
    frame.paste(people[len(PEOPLE)].resize((100, 230)), outside[:2])
    return np.asarray(frame), np.array([*PEOPLE, outside], np.float32)


def cut(frame: npt.NDArray[np.uint8], box: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """A box's pixels, as far as they are in the frame."""
    left, top, right, bottom = box.round().astype(int).clip(0, [WIDTH_PX, HEIGHT_PX, WIDTH_PX, HEIGHT_PX])
    return np.ascontiguousarray(frame[top:bottom, left:right])
