"""From pictures to network outputs, for `ReIDModel.embed` and `ReIDModel.attributes`.

Legend: B batch, D feature, H W pixels.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.augment.ops import normalize
from reid_accel.data.images import (
    ImageSize,
    as_array,
    enlarge,
    may_stay_small,
    read_image,
    readable,
    to_float,
    to_pixels,
    to_rgb,
)
from reid_accel.errors import InputError
from reid_accel.models.architecture import Architecture
from reid_accel.models.outputs import Outputs

Picture = str | Path | Image.Image | npt.NDArray[np.uint8] | Tensor
Pictures = Picture | Sequence[Picture]

_KINDS = "a path, a PIL image, or an array (uint8, H x W x 3, RGB)"


def outputs_in_batches(
    model: nn.Module,
    architecture: Architecture,
    images: Pictures,
    batch_size: int,
    cameras: Sequence[int] | None = None,
) -> Iterator[Outputs]:
    """The network's outputs for one picture or several, `batch_size` at a time, in evaluation mode."""
    if batch_size < 1:
        raise InputError(f"batch_size must be 1 or more, got {batch_size}")
    pictures = _as_list(images)
    model.eval()
    like = next(model.parameters())
    camera_N = None if cameras is None else torch.tensor(cameras, dtype=torch.int64, device=like.device)
    if camera_N is not None and camera_N.shape != (len(pictures),):
        raise InputError(f"cameras must be one number per image: there are {len(pictures)} images")
    for first in range(0, len(pictures), batch_size):
        images_B3HW = prepared(pictures[first : first + batch_size], architecture, like, first)
        yield model(images_B3HW, None if camera_N is None else camera_N[first : first + batch_size])


def _as_list(images: Pictures) -> list[Picture]:
    if isinstance(images, (np.ndarray, Tensor)):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, (str, Path, Image.Image)):
        return [images]
    if isinstance(images, (bytes, Mapping)) or not isinstance(images, Iterable):
        raise InputError(f"images must be {_KINDS}, or a list of these, not of the type {type(images).__name__}")
    return list(images)


def prepared(pictures: Sequence[Picture], settings: Architecture, like: Tensor, first: int = 0) -> Tensor:
    """Pictures as the network's normalized input, B x 3 x H x W, preprocessed as in training.

    like: a tensor of the dtype and on the device that the result shall have. first: the first picture's number, for
    errors.
    """
    sized = [torch.empty((0, 3, settings.height_px, settings.width_px), device=like.device)]
    for number, picture in enumerate(pictures, start=first):
        pixels = _as_stored(_as_rgb(picture, number), settings)
        sized.append(enlarge(to_float(torch.tensor(pixels, device=like.device)[None]), settings))
    return normalize(torch.cat(sized), settings.mean, settings.std).to(like.dtype)


def attribute_names(logits: Sequence[Tensor], groups: Sequence[AttributeGroup]) -> list[dict[str, str]]:
    """The most likely value of each attribute group, for each image."""
    chosen = torch.stack([logit.argmax(1) for logit in logits], dim=1).tolist()
    return [{group.name: group.values[index] for group, index in zip(groups, row, strict=True)} for row in chosen]


def attribute_probabilities(
    logits: Sequence[Tensor], groups: Sequence[AttributeGroup]
) -> list[dict[str, dict[str, float]]]:
    """The probability of each value of each attribute group, for each image."""
    columns = [logit.float().softmax(1).tolist() for logit in logits]
    return [
        {group.name: dict(zip(group.values, values, strict=True)) for group, values in zip(groups, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]


def _as_stored(image: Image.Image, size: ImageSize) -> npt.NDArray[np.uint8]:
    return as_array(image) if may_stay_small(*image.size, size) else to_pixels(image, size)


def _as_rgb(picture: Picture, number: int) -> Image.Image:
    if isinstance(picture, (str, Path)):
        return read_image(Path(picture))
    if isinstance(picture, Image.Image):
        with readable(f"image {number}"):
            return to_rgb(picture)
    if isinstance(picture, (np.ndarray, Tensor)):
        return Image.fromarray(_checked(picture, number))
    raise InputError(f"image {number} must be {_KINDS}, not of the type {type(picture).__name__}")


def _checked(picture: npt.NDArray[np.uint8] | Tensor, number: int) -> npt.NDArray[np.uint8]:
    shape = tuple(picture.shape)
    if picture.dtype not in (np.uint8, torch.uint8) or len(shape) != 3 or shape[2] != 3:
        raise InputError(
            f"an image array must be uint8, H x W x 3 (RGB), got {picture.dtype} {shape} as image {number}"
        )
    if 0 in shape:
        raise InputError(f"image {number} has no pixels: its shape is {shape}; leave empty crops out")
    return picture.numpy(force=True) if isinstance(picture, Tensor) else picture
