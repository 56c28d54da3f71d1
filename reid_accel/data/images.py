"""From an image file to pixels of the network's input size; the only module that decodes images.

Used by training, scoring and `ReIDModel.embed`. Images larger than the network's input are resized by Pillow when
decoded; smaller ones keep their size and are enlarged on the device (`enlarge`), which saves memory and transfers
(Market-1501's 64 x 128 is a quarter of 128 x 256).
"""

import functools
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from reid_accel.errors import InputError

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")  # Pillow's default list starts Ghostscript for PostScript
LETTERBOX_COLOR = (124, 116, 104)  # ImageNet's mean: 0 after normalizing


class ImageSize(Protocol):
    """The input size of a network, part of both its settings and its architecture."""

    @property
    def height_px(self) -> int: ...
    @property
    def width_px(self) -> int: ...
    @property
    def interpolation(self) -> str: ...
    @property
    def fit(self) -> str: ...


def open_image(path: Path) -> Image.Image:
    """Open a file by its content, not its name, without decoding the pixels."""
    return Image.open(path, formats=FORMATS)


def read_image(path: Path) -> Image.Image:
    """Decode a file of any mode to RGB; raises InputError if it is unreadable or incomplete."""
    try:
        with open_image(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read the image {path}: {error}") from error


def may_stay_small(width: int, height: int, size: ImageSize) -> bool:
    """Whether an image keeps its size and is enlarged on the device."""
    return size.fit == "stretch" and width <= size.width_px and height <= size.height_px


def to_pixels(image: Image.Image, size: ImageSize) -> npt.NDArray[np.uint8]:
    """An RGB image at the network's size: uint8, 3 x H x W. Pillow's filters antialias when downscaling.

    size.fit: "stretch" changes the aspect ratio, as the literature does; "letterbox" keeps it and pads with gray.
    """
    wanted, interpolation = (size.width_px, size.height_px), INTERPOLATIONS[size.interpolation]
    if image.size != wanted and size.fit == "letterbox":
        image = ImageOps.pad(image, wanted, interpolation, color=LETTERBOX_COLOR)
    elif image.size != wanted:
        image = image.resize(wanted, interpolation)
    return as_array(image)


def as_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """An RGB image's pixels: uint8, 3 x H x W."""
    return np.asarray(image, np.uint8).transpose(2, 0, 1)


def to_float(images_B3HW: Tensor) -> Tensor:
    """uint8 0..255 to float 0..1."""
    return images_B3HW.float() / 255.0


def to_bytes(images_B3HW: Tensor) -> Tensor:
    """Float 0..1 to the nearest of uint8's 0..255."""
    return (images_B3HW * 255).round_().to(torch.uint8)


@functools.lru_cache(maxsize=32)
def per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """One number per channel, 1 x 3 x 1 x 1, float32, shared by all callers: do not modify it.

    Cached on the device, since a copy per batch would synchronize with the GPU.
    """
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)


def enlarge(images_B3HW: Tensor, size: ImageSize) -> Tensor:
    """Float images in 0..1 at the network's size, on their device; images of that size are returned unchanged.

    Bilinear, or bicubic with a = -0.5 as in Pillow.
    """
    wanted = (size.height_px, size.width_px)
    if images_B3HW.shape[-2:] == wanted:
        return images_B3HW
    larger = F.interpolate(images_B3HW, wanted, mode=size.interpolation, align_corners=False, antialias=True)
    return larger.clamp_(0, 1)
