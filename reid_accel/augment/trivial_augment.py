"""TrivialAugment: one random operation at a random strength per image.

Müller and Hutter, "TrivialAugment: tuning-free yet state-of-the-art data augmentation", ICCV 2021; the wide ranges.
The operations are torchvision's, which take the strength as a Python number and so process one image at a time. They
are drawn on the host, so nothing is read from the device. On a GPU, the six operations that resample or sharpen still
synchronize, since each copies a small matrix to the device.
Legend: B batch, H W pixels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor

from reid_accel.data.images import to_bytes, to_float

LEVELS = 31  # strengths per operation
Color = list[float]  # of uint8 images: 0..255


@dataclass(frozen=True)
class Operation:
    """apply: (uint8 image 3 x H x W, strength, color outside the image) -> new image.

    strengths: one per level. signed: whether the sign of the strength is random.
    """

    name: str
    apply: Callable[[Tensor, float, Color], Tensor]
    strengths: tuple[float, ...] = (0.0,) * LEVELS
    signed: bool = False


class Change(NamedTuple):
    """An operation and its signed strength for one image."""

    operation: Operation
    strength: float


def _up_to(end: float, start: float = 0.0) -> tuple[float, ...]:
    return tuple(torch.linspace(start, end, LEVELS).tolist())


def _affine(
    image_3HW: Tensor,
    fill: Color,
    shear: tuple[float, float] = (0.0, 0.0),
    translate: tuple[int, int] = (0, 0),
    center: list[float] | None = None,
) -> Tensor:
    return TF.affine(image_3HW, 0.0, list(translate), 1.0, list(shear), fill=fill, center=center)


def _sheared(image_3HW: Tensor, x: float, y: float, fill: Color) -> Tensor:
    degrees = (math.degrees(math.atan(x)), math.degrees(math.atan(y)))
    return _affine(image_3HW, fill, shear=degrees, center=[0.0, 0.0])


OPERATIONS = (
    Operation("Identity", lambda image, strength, fill: image),
    Operation("ShearX", lambda image, strength, fill: _sheared(image, strength, 0, fill), _up_to(0.99), signed=True),
    Operation("ShearY", lambda image, strength, fill: _sheared(image, 0, strength, fill), _up_to(0.99), signed=True),
    Operation(
        "TranslateX", lambda image, strength, fill: _affine(image, fill, translate=(int(strength), 0)), _up_to(32), True
    ),
    Operation(
        "TranslateY", lambda image, strength, fill: _affine(image, fill, translate=(0, int(strength))), _up_to(32), True
    ),
    Operation("Rotate", lambda image, strength, fill: TF.rotate(image, strength, fill=fill), _up_to(135), signed=True),
    Operation(
        "Brightness", lambda image, strength, fill: TF.adjust_brightness(image, 1 + strength), _up_to(0.99), True
    ),
    Operation("Color", lambda image, strength, fill: TF.adjust_saturation(image, 1 + strength), _up_to(0.99), True),
    Operation("Contrast", lambda image, strength, fill: TF.adjust_contrast(image, 1 + strength), _up_to(0.99), True),
    Operation("Sharpness", lambda image, strength, fill: TF.adjust_sharpness(image, 1 + strength), _up_to(0.99), True),
    Operation(
        "Posterize",
        lambda image, strength, fill: TF.posterize(image, int(strength)),
        tuple(float(round(8 - 6 * level / (LEVELS - 1))) for level in range(LEVELS)),
    ),
    Operation("Solarize", lambda image, strength, fill: TF.solarize(image, 255 * strength), _up_to(0.0, start=1.0)),
    Operation("AutoContrast", lambda image, strength, fill: TF.autocontrast(image)),
    Operation("Equalize", lambda image, strength, fill: TF.equalize(image)),
)


def draw_changes(draws_B4: Tensor, probability: float) -> list[Change | None]:
    """The change of each image, None for unchanged images.

    draws: on the host; chosen?, operation, level, sign.
    """
    assert draws_B4.device.type == "cpu", "reading from the device would synchronize"
    return [_draw_change(draws) if draws[0] < probability else None for draws in draws_B4.tolist()]


def _draw_change(draws: Sequence[float]) -> Change:
    operation = OPERATIONS[int(draws[1] * len(OPERATIONS))]
    strength = operation.strengths[int(draws[2] * LEVELS)]
    return Change(operation, -strength if operation.signed and draws[3] < 0.5 else strength)


def change_each(images_B3HW: Tensor, changes_B: Sequence[Change | None], fill: tuple[float, ...]) -> Tensor:
    """Apply uint8 operations to float images in 0..1; fill: the color outside an image.

    Images without a change stay bit-identical.
    """
    color = [255 * channel for channel in fill]
    changed = [
        image if change is None else to_float(change.operation.apply(pixels, change.strength, color))
        for image, pixels, change in zip(images_B3HW, to_bytes(images_B3HW), changes_B, strict=True)
    ]
    return torch.stack(changed)
