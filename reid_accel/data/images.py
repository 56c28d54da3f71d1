"""From an image file to pixels of the network's input size; the only module that decodes images.

Used by training, scoring, predicting and `ReIDModel.embed`. Images larger than the network's input are resized by
Pillow when decoded; smaller ones keep their size and are enlarged on the device (`enlarge`), which saves memory and
transfers (Market-1501's 64 x 128 is a quarter of 128 x 256).
"""

import functools
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from reid_accel.data.pixel_budget import PixelBudget
from reid_accel.errors import InputError
from reid_accel.files import is_utf8, open_regular, shown

_PILLOWS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}  # both antialiased
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")  # Pillow's default list starts Ghostscript for PostScript
LETTERBOX_COLOR = (124, 116, 104)  # ImageNet's mean: 0 after normalizing
READER = 2  # to be increased when the same file gives other pixels than before, since decoded images are cached
MAX_PIXELS = 2**25  # an 8K frame has 33.2 million; Pillow's own limit lets an image take more than a gigabyte
MAX_BYTES = 2**28  # of a file: twice the largest image with 16 bits per channel
DECODING = PixelBudget(MAX_PIXELS)
ROWS_AT_ONCE = 64  # scaled in float64
DEEP_GRAY = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
TRANSPARENT = ("LA", "PA", "RGBA", "RGBa")
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation; ImageOps.exif_transpose also writes the EXIF data anew, which fails where it is damaged."""
_WHITE_IS_ZERO = (262, 0)  # a TIFF's photometric interpretation

# what Pillow's readers raise for damaged files, which depends on the wrong byte
_DAMAGED = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError),
    *(RuntimeError, AssertionError, MemoryError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Warning),  # warnings are raised where the user asks for it
)


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


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open a file by its content, not its name, without decoding the pixels.

    Raises InputError, also for Pillow's errors in the block, if the file is damaged, too large or in another format.
    """
    with readable(f"the image {shown(path)}"), open_regular(path) as file:
        _check_bytes(file)
        with Image.open(file, formats=FORMATS) as image:
            _check_pixels(*image.size)
            yield image


@contextmanager
def readable(image: str) -> Iterator[None]:
    """Raise InputError, which names the image, for any error of Pillow's in the block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"cannot read {image}: {error}") from error
    except _DAMAGED as error:
        raise InputError(f"cannot read {image}: {_reason(error)}") from error


def _check_bytes(file: BinaryIO) -> None:
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise InputError("the file is empty")
    if size > MAX_BYTES:
        raise InputError(f"the file has {size:,} bytes, more than {MAX_BYTES:,}")


def _check_pixels(width: int, height: int) -> None:
    if width * height == 0:
        raise InputError(f"it has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise InputError(f"it has {width} x {height} pixels, more than {MAX_PIXELS:,}; make it smaller")


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(FORMATS)}, or damaged"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return shown(reason or type(error).__name__)


def read_image(path: Path) -> Image.Image:
    """Decode a file of any mode to upright RGB (see `to_rgb`), of several images the first.

    Raises InputError if the file is unreadable, incomplete or too large.
    """
    with open_image(path) as image, DECODING.taken(image.width * image.height):
        return to_rgb(image)


def read_crop(path: Path) -> Image.Image:
    """`read_image` of an image that belongs to a data set, where its name stands for it and it must show something.

    Raises InputError also if the name isn't UTF-8 or all pixels have the same color.
    """
    name = shown(path)
    if not is_utf8(path.name):
        raise InputError(f"cannot use the image {name}: its name is not UTF-8; rename it")
    image = read_image(path)
    pixels_HW3 = np.asarray(image)
    if (pixels_HW3 == pixels_HW3[0, 0]).all():
        raise InputError(f"cannot use the image {name}: all its pixels have the same color")
    return image


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an upright image, from the file's header. Raises InputError if it is unreadable.

    An orientation that a PNG gives after its pixels is not seen.
    """
    with open_image(path) as image:
        lies = _orientation(image) >= 5 and image.format != "TIFF"  # Pillow turns TIFF's itself
        return image.size[::-1] if lies else image.size


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB, turned by its EXIF orientation.

    Gray of more than 8 bits (thermal, depth) is scaled from its lowest value to its highest, since neither uses the
    full range of its type; values that aren't finite become the lowest. Transparent pixels become LETTERBOX_COLOR,
    partly transparent ones are mixed with it. CMYK is converted without color profile.
    """
    _check_pixels(*image.size)
    image.load()
    if image.mode in DEEP_GRAY:
        rgb = _scaled(image).convert("RGB")
    elif image.mode in TRANSPARENT or "transparency" in image.info:
        backdrop = Image.new("RGBA", image.size, LETTERBOX_COLOR)
        rgb = Image.alpha_composite(backdrop, image.convert("RGBA")).convert("RGB")
    else:
        rgb = image.convert("RGB")
    turn = ORIENTATIONS.get(_orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def _scaled(image: Image.Image) -> Image.Image:
    """Gray of any depth as 8 bits, from the lowest value to the highest."""
    values_HW = np.asarray(image)
    finite_HW = np.isfinite(values_HW)
    low, high = (float(end(values_HW[finite_HW])) if finite_HW.any() else 0.0 for end in (np.min, np.max))
    factor, offset = 255 / ((high - low) or 1), 0.0
    if getattr(image, "tag_v2", {}).get(_WHITE_IS_ZERO[0]) == _WHITE_IS_ZERO[1]:  # Pillow heeds it up to 8 bits
        factor, offset = -factor, 255.0
    gray_HW = np.empty(values_HW.shape, np.uint8)
    for rows in range(0, len(values_HW), ROWS_AT_ONCE):
        block = slice(rows, rows + ROWS_AT_ONCE)
        values = np.where(finite_HW[block], values_HW[block], low).astype(np.float64)
        gray_HW[block] = np.rint((values - low) * factor + offset)
    return Image.fromarray(gray_HW)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) to 8; 1 if there is none, or the EXIF data is damaged."""
    try:  # the base class's: a PNG's own decodes the whole image
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except _DAMAGED:
        return 1
    return found if found in ORIENTATIONS else 1


def may_stay_small(width: int, height: int, size: ImageSize) -> bool:
    """Whether an image keeps its size and is enlarged on the device."""
    return size.fit == "stretch" and width <= size.width_px and height <= size.height_px


def to_pixels(image: Image.Image, size: ImageSize) -> npt.NDArray[np.uint8]:
    """An RGB image at the network's size: uint8, 3 x H x W.

    size.fit: "stretch" changes the aspect ratio, as the literature does; "letterbox" keeps it and pads with gray.
    """
    wanted = (size.width_px, size.height_px)
    if image.size == wanted or size.fit == "stretch":
        return as_array(resized(image, wanted, size.interpolation))
    if size.interpolation == "cv2":
        return as_array(ImageOps.pad(_contained(image, wanted), wanted, color=LETTERBOX_COLOR))
    return as_array(ImageOps.pad(image, wanted, _PILLOWS[size.interpolation], color=LETTERBOX_COLOR))


def resized(image: Image.Image, wanted: tuple[int, int], interpolation: str) -> Image.Image:
    """An RGB image at this width and height; one of that size is returned unchanged.

    interpolation: "bilinear" and "bicubic" are Pillow's filters, which antialias when downscaling; "cv2" is OpenCV's
    INTER_LINEAR, which mixes the four nearest pixels, whatever the scale.
    """
    if image.size == wanted:
        return image
    if interpolation != "cv2":
        return image.resize(wanted, _PILLOWS[interpolation])
    pixels_13HW = torch.tensor(as_array(image), dtype=torch.float32)[None]
    levels_3HW = F.interpolate(pixels_13HW, wanted[::-1], mode="bilinear", align_corners=False)[0].round_()
    return Image.fromarray(levels_3HW.to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def _contained(image: Image.Image, wanted: tuple[int, int]) -> Image.Image:
    """An RGB image, as large as fits into this width and height, resized as by OpenCV; its shape is kept."""
    (width, height), (most_across, most_down) = image.size, wanted
    if width * most_down > most_across * height:
        return resized(image, (most_across, max(1, round(height / width * most_across))), "cv2")
    return resized(image, (max(1, round(width / height * most_down)), most_down), "cv2")


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

    Bilinear, or bicubic with a = -0.5 as in Pillow. Enlarging, "cv2" differs from "bilinear" by rounding only.
    """
    wanted = (size.height_px, size.width_px)
    if images_B3HW.shape[-2:] == wanted:
        return images_B3HW
    mode = "bicubic" if size.interpolation == "bicubic" else "bilinear"
    smooth = size.interpolation != "cv2"
    larger = F.interpolate(images_B3HW, wanted, mode=mode, align_corners=False, antialias=smooth)
    return larger.clamp_(0, 1)
