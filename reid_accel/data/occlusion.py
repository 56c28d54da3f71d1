"""Hiding a part of each image: erasing.

Legend: B batch, H W pixels. Images are float, in 0..1.
"""

import functools
import math

import torch
from torch import Tensor

from reid_accel.config import AugmentConfig
from reid_accel.data.draws import integers


def erase_boxes(draws_Bn: Tensor, config: AugmentConfig, size: torch.Size) -> Tensor:
    """B x 4 boxes (top, left, bottom, right) in pixels; empty for images that keep everything.

    Area uniform between the two shares, aspect ratio log-uniform between 0.3 and 1 / 0.3, cut at the border
    (Zhong et al., AAAI 2020, draw again instead when a box doesn't fit).
    """
    height, width = size
    chosen_B = draws_Bn[:, 4] < config.erase_probability
    share = config.erase_min_area + draws_Bn[:, 5] * (config.erase_max_area - config.erase_min_area)
    area = share * height * width
    ratio = torch.exp((2 * draws_Bn[:, 6] - 1) * math.log(1 / 0.3))
    box_height = (area * ratio).sqrt().round().clamp(1, height)
    box_width = (area / ratio).sqrt().round().clamp(1, width)
    top = (draws_Bn[:, 7] * (height - box_height + 1)).floor()
    left = (draws_Bn[:, 8] * (width - box_width + 1)).floor()
    boxes = torch.stack([top, left, top + box_height, left + box_width], dim=1)
    return torch.where(chosen_B.view(-1, 1), boxes, torch.zeros_like(boxes))


def erase(images_B3HW: Tensor, boxes_B4: Tensor, paint: tuple[float, ...] | Tensor) -> Tensor:
    """Paint each image's box (top, left, bottom, right; the last two exclusive) in a colour, or with pixels of its own
    (B x 3 x H x W)."""
    device = images_B3HW.device
    y = torch.arange(images_B3HW.shape[-2], device=device).view(1, 1, -1, 1)
    x = torch.arange(images_B3HW.shape[-1], device=device).view(1, 1, 1, -1)
    top, left, bottom, right = (edge.view(-1, 1, 1, 1) for edge in boxes_B4.unbind(1))
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    if not isinstance(paint, Tensor):
        paint = torch.tensor(paint, device=device, dtype=images_B3HW.dtype).view(1, 3, 1, 1)
    return torch.where(inside, paint, images_B3HW)


def noise(images_B3HW: Tensor, draws_B2: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normal noise in the images' shape, standard normal once it is normalised (Zhong et al., "RE-R").

    Each image looks through a window of its own, at a place of its own, at one field of random numbers: as random
    to a network as fresh ones, for the price of a copy.
    """
    height, width = images_B3HW.shape[-2:]
    device = images_B3HW.device
    field = _field_of_noise(2 * height, 2 * width, device)
    rows_BH = integers(draws_B2[:, 0], height + 1).view(-1, 1) + torch.arange(height, device=device)
    columns_BW = integers(draws_B2[:, 1], width + 1).view(-1, 1) + torch.arange(width, device=device)
    window = field[:, rows_BH[:, :, None], columns_BW[:, None, :]].transpose(0, 1)
    mean_3, std_3 = (torch.tensor(numbers, device=device).view(1, 3, 1, 1) for numbers in (mean, std))
    return mean_3 + std_3 * window


@functools.lru_cache(maxsize=4)
def _field_of_noise(height: int, width: int, device: torch.device) -> Tensor:
    numbers = torch.randn((3, height, width), generator=torch.Generator().manual_seed(0))
    return numbers.to(device)
