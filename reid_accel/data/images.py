"""From an image file to pixels: the one place that decodes and resizes.

Training, scoring and `ReIDModel.embed` all go through here, so that an image gives the same pixels everywhere.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from reid_accel.errors import InputError

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def read_image(path: Path) -> Image.Image:
    """Decode a file to RGB, whatever its mode; raises InputError when it cannot be read whole."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read the image {path}: {error}") from error


def to_pixels(image: Image.Image, height: int, width: int, interpolation: str) -> npt.NDArray[np.uint8]:
    """Stretch an RGB image to the network's size (the literature's way): uint8, 3 x H x W.

    Pillow's filters are antialiased when shrinking.
    """
    if image.size != (width, height):
        image = image.resize((width, height), INTERPOLATIONS[interpolation])
    return np.asarray(image, np.uint8).transpose(2, 0, 1)
