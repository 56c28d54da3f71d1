"""Pictures that can't be used or that show little, and what differs between cameras and splits.

Legend: N images of a split, C cameras.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid_accel.data.listing import UNKNOWN_CAMERA
from reid_accel.doctor.findings import TRAIN, Finding, Place, Splits, number_of
from reid_accel.doctor.pictures import Pictures
from reid_accel.errors import listed, shortened
from reid_accel.files import shown

Bools = npt.NDArray[np.bool_]

TINY_WIDTH, TINY_HEIGHT, TINY_SHARE = 16, 32, 0.2
RATIO_FACTOR = 2.5
BLURRED_SHARE, BLUR_FROM_HEIGHT = 0.3, 48
LEAST_CONTRAST, DARKEST, BRIGHTEST = 5.0, 10.0, 245.0
GRAY_COLORFULNESS = 1
MOST_GRAY = 0.5
CAMERA_IMAGES, CAMERA_LIGHT, CAMERA_TINT = 20, 60.0, 30.0
SIZE_FACTOR = 1.8
FRAME_PIXELS = 500_000
SHOWN_REASONS = 3


@dataclass(frozen=True)
class Usual:
    """What is usual in a set: medians over all usable pictures."""

    width: float
    height: float
    sharpness: float
    gray_share: float

    @property
    def ratio(self) -> float:
        """Height by width."""
        return self.height / self.width

    @classmethod
    def of(cls, pictures: Mapping[str, Pictures]) -> "Usual":
        every = np.concatenate([each.measured_N[each.usable_N] for each in pictures.values()])
        ratio = float(np.median(every["height"] / every["width"]))
        height, sharp = float(np.median(every["height"])), every[every["height"] >= BLUR_FROM_HEIGHT]
        sharpness = float(np.median(sharp["sharpness"])) if len(sharp) else 0.0
        return cls(height / ratio, height, sharpness, float((every["colorfulness"] <= GRAY_COLORFULNESS).mean()))


def look_findings(splits: Splits, pictures: Mapping[str, Pictures]) -> Iterator[Finding]:
    """Findings on how the pictures look."""
    yield from _unusable(splits, pictures)
    if not any(each.usable_N.any() for each in pictures.values()):
        return
    usual = Usual.of(pictures)
    yield from _single_pictures(splits, pictures, usual)
    yield from _frames(usual)
    yield from _sizes_of_splits(pictures)
    yield from _cameras(splits, pictures)


def _unusable(splits: Splits, pictures: Mapping[str, Pictures]) -> Iterator[Finding]:
    found = tuple(Place(split, row) for split, each in pictures.items() for row in each.unusable)
    if found:
        reasons = (shortened(shown(pictures[place.split].unusable[place.row]), 200) for place in found[:SHOWN_REASONS])
        more = "; ..." if len(found) > SHOWN_REASONS else ""
        yield Finding(
            "unreadable",
            "warning" if all(each.usable_N.any() for each in pictures.values()) else "error",
            f"{number_of(len(found), 'image')} can't be used: {'; '.join(reasons)}{more}",
            "Replace them, train with --data.on-bad-image skip, or use the table of --fix, which leaves them out.",
            tuple((place,) for place in found),
            found,
        )


def _single_pictures(splits: Splits, pictures: Mapping[str, Pictures], usual: Usual) -> Iterator[Finding]:
    """Findings on pictures one by one, each measured against what is usual in the set."""
    yield from _of_kind(
        pictures,
        lambda each: _is_tiny(each, usual),
        ("tiny", "tiny"),
        f"less than {TINY_WIDTH} pixels wide or {TINY_HEIGHT} high, or a fifth of the usual height of {usual.height:g}",
        "Enlarging them shows nothing new: remove them, as --fix does, or take larger crops.",
        leave_out=True,
    )
    yield from _of_kind(
        pictures,
        lambda each: ~_is_tiny(each, usual) & _is_out_of_shape(each, usual),
        ("odd-shape", "of an odd shape"),
        f"height by width differs from the usual {usual.ratio:.1f} by more than a factor of {RATIO_FACTOR}",
        "Check these crops: the box may be wrong or turned. --fix leaves them out; else --model.fit letterbox keeps "
        "their shape.",
        leave_out=True,
    )
    yield from _of_kind(
        pictures,
        lambda each: (each["contrast"] < LEAST_CONTRAST) | _is_dark_or_bright(each),
        ("empty", "nearly of one color"),
        "almost black, almost white or without contrast",
        "They show nobody: remove them, as --fix does.",
        leave_out=True,
    )
    yield from _of_kind(
        pictures,
        lambda each: _is_blurred(each, usual),
        ("blurred", "blurred"),
        f"less than {BLURRED_SHARE:.0%} of the usual sharpness",
        "Check these crops; remove them if nobody could tell who it is.",
    )
    if usual.gray_share > MOST_GRAY:
        yield Finding(
            "gray-set",
            "note",
            f"{usual.gray_share:.0%} of the images are gray (infrared or thermal)",
            "Weights of color images fit less well; turn color augmentation off.",
        )
        return
    yield from _of_kind(
        pictures,
        lambda each: each["colorfulness"] <= GRAY_COLORFULNESS,
        ("gray", "gray"),
        "without color in a set of color images",
        "Train with --augment.grayscale-probability 0.1, so that the network knows gray images; remove them if they "
        "are mistakes.",
    )


def _of_kind(
    pictures: Mapping[str, Pictures],
    is_of_kind: Callable[[Pictures], Bools],
    names: tuple[str, str],
    because: str,
    remedy: str,
    *,
    leave_out: bool = False,
) -> Iterator[Finding]:
    """One finding on all usable pictures of a kind. names: its key, and the word for the pictures."""
    found = tuple(
        Place(split, int(row))
        for split, each in pictures.items()
        for row in np.flatnonzero(each.usable_N & is_of_kind(each))
    )
    if found:
        key, word = names
        total = sum(len(each.measured_N) for each in pictures.values())
        yield Finding(
            key,
            "warning",
            f"{number_of(len(found), 'image is', 'images are')} {word} ({len(found) / total:.1%}): {because}",
            remedy,
            tuple((place,) for place in found),
            found if leave_out else (),
        )


def _is_tiny(each: Pictures, usual: Usual) -> Bools:
    small = (each["width"] < TINY_WIDTH) | (each["height"] < TINY_HEIGHT)
    is_small_set = usual.width < TINY_WIDTH or usual.height < TINY_HEIGHT
    return (small & (not is_small_set)) | (each["height"] < TINY_SHARE * usual.height)


def _is_out_of_shape(each: Pictures, usual: Usual) -> Bools:
    ratio = each["height"] / np.maximum(each["width"], 1)
    return (ratio > RATIO_FACTOR * usual.ratio) | (ratio < usual.ratio / RATIO_FACTOR)


def _is_dark_or_bright(each: Pictures) -> Bools:
    light = each["color"].mean(1)
    return (light < DARKEST) | (light > BRIGHTEST)


def _is_blurred(each: Pictures, usual: Usual) -> Bools:
    visible = (each["contrast"] >= LEAST_CONTRAST) & (each["height"] >= BLUR_FROM_HEIGHT)
    return visible & (each["sharpness"] < BLURRED_SHARE * usual.sharpness)


def _frames(usual: Usual) -> Iterator[Finding]:
    if usual.width * usual.height > FRAME_PIXELS and usual.ratio < 1:
        yield Finding(
            "whole-frames",
            "warning",
            f"the usual image has {usual.width:.0f} x {usual.height:.0f} pixels and is wider than high: these may be "
            "whole frames instead of crops",
            "Cut out the people first; a detector's boxes are enough.",
        )


def _sizes_of_splits(pictures: Mapping[str, Pictures]) -> Iterator[Finding]:
    """Test pictures of another size than the training pictures."""
    heights = {split: float(np.median(each["height"][each.usable_N])) for split, each in pictures.items() if
               each.usable_N.any()}  # fmt: skip
    for split, height in heights.items():
        factor = max(height, heights.get(TRAIN, height)) / min(height, heights.get(TRAIN, height))
        if factor > SIZE_FACTOR:
            yield Finding(
                "sizes-differ",
                "warning",
                f"the images of {split} are usually {height:g} pixels high, those of train {heights[TRAIN]:g}: the "
                "network is tested on another sharpness than it was trained on",
                "Take crops of the same source for both.",
            )


def camera_colors(splits: Splits, pictures: Mapping[str, Pictures]) -> dict[int, npt.NDArray[np.float64]]:
    """The mean of red, green, blue over the usable pictures of each known camera that has enough of them."""
    if not pictures:
        return {}
    usable = {split: pictures[split].usable_N for split in pictures}
    camera_N = np.concatenate([splits[split].camera_N[usable[split]] for split in pictures])
    color_N3 = np.concatenate([pictures[split]["color"][usable[split]] for split in pictures]).astype(np.float64)
    cameras, counts = np.unique(camera_N, return_counts=True)
    return {
        int(camera): color_N3[camera_N == camera].mean(0)
        for camera, count in zip(cameras, counts, strict=True)
        if count >= CAMERA_IMAGES and camera != UNKNOWN_CAMERA
    }


def color_shift(color: npt.NDArray[np.float64], usual: npt.NDArray[np.float64]) -> tuple[float, float]:
    """How much lighter a color is than another, and how far its tint is from the other's, in levels of 0 to 255."""
    difference = color - usual
    return float(difference.mean()), float(np.ptp(difference))


def _cameras(splits: Splits, pictures: Mapping[str, Pictures]) -> Iterator[Finding]:
    colors = camera_colors(splits, pictures)
    usual = np.median(list(colors.values()), axis=0) if colors else np.zeros(3)
    shifts = {camera: color_shift(color, usual) for camera, color in colors.items()}
    far = {c: shift for c, shift in shifts.items() if abs(shift[0]) > CAMERA_LIGHT or shift[1] > CAMERA_TINT}
    if len(colors) > 1 and far:
        named = listed(
            (f"camera {camera}: light {light:+.0f}, tint {tint:.0f}" for camera, (light, tint) in far.items())
        )
        yield Finding(
            "camera-colors",
            "warning",
            f"{number_of(len(far), 'camera has', 'cameras have')} other colors than the rest ({named} of 255): the "
            "same clothes look different there",
            "Check the camera's images (red and blue may be swapped); train with --augment.white-balance 0.2 or an IBN "
            "backbone.",
        )
