"""From pictures to network outputs, for `ReIDModel.embed` and `ReIDModel.attributes`.

Legend: B batch, D feature, H W pixels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.augment.ops import normalize
from reid_accel.data.images import ImageSize, as_array, enlarge, may_stay_small, read_image, to_float, to_pixels
from reid_accel.errors import InputError
from reid_accel.models.architecture import Architecture
from reid_accel.models.outputs import Outputs

Picture = str | Path | Image.Image | npt.NDArray[np.uint8]
Pictures = Picture | Sequence[Picture]


def outputs_in_batches(
    model: nn.Module, architecture: Architecture, images: Pictures, batch_size: int
) -> Iterator[Outputs]:
    """The network's outputs for one picture or several, `batch_size` at a time, in evaluation mode."""
    if batch_size < 1:
        raise InputError(f"batch_size must be 1 or more, got {batch_size}")
    pictures = _as_list(images)
    if not pictures:
        raise InputError("there are no images to embed")
    model.eval()
    device = next(model.parameters()).device
    for first in range(0, len(pictures), batch_size):
        yield model(prepared(pictures[first : first + batch_size], architecture, device))


def _as_list(images: Pictures) -> list[Picture]:
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    return [images] if isinstance(images, (str, Path, Image.Image)) else list(images)


def prepared(pictures: Sequence[Picture], settings: Architecture, device: torch.device) -> Tensor:
    """Pictures as the network's normalized input, B x 3 x H x W, preprocessed as in training."""
    stored = [_as_stored(_as_rgb(picture), settings) for picture in pictures]
    sized = [enlarge(to_float(torch.tensor(pixels, device=device)[None]), settings) for pixels in stored]
    return normalize(torch.cat(sized), settings.mean, settings.std)


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


def _as_rgb(picture: Picture) -> Image.Image:
    if isinstance(picture, (str, Path)):
        return read_image(Path(picture))
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"an image array must be uint8, H x W x 3 (RGB), got {picture.dtype} {picture.shape}")
    return Image.fromarray(picture)
