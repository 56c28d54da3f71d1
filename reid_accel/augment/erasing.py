"""Random erasing and random patches.

Legend: B batch, K attempts, P pool, H W pixels. Images are float, in 0..1; the pool is uint8.
"""

import functools
import math

import torch
from torch import Tensor

from reid_accel.augment.rng import Draws, Stream, integers
from reid_accel.config.schema import AugmentConfig
from reid_accel.data.images import per_channel, to_float

ATTEMPTS = 16
"""A box that doesn't fit is drawn again up to 15 times: at 256x128, where 1 in 7 doesn't fit, none is left in 10^13."""


def erase_boxes(draws: Draws, config: AugmentConfig, size: torch.Size) -> Tensor:
    """The boxes to erase, see `random_boxes`; or drawn again until one fits (Zhong et al., AAAI 2020)."""
    areas = (config.erase_min_area, config.erase_max_area)
    draws_B5, uniform = draws[Stream.ERASE_BOX], config.erase_ratio == "uniform"
    if config.erase_misfit == "clip":
        return random_boxes(draws_B5, config.erase_probability, areas, size, uniform_ratio=uniform)
    draws_BK5 = draws.attempts(Stream.ERASE_BOX, ATTEMPTS)
    height_BK, width_BK = _box_size(draws_BK5, areas, size, uniform)
    fits_BK = (height_BK < size[0]) & (width_BK < size[1])
    first_B1 = fits_BK.int().argmax(1, keepdim=True)
    fitting_B5 = draws_BK5.gather(1, first_B1[:, :, None].expand(-1, -1, 5))[:, 0]
    boxes_B4 = random_boxes(fitting_B5, 1.0, areas, size, uniform_ratio=uniform)
    chosen_B = (draws_B5[:, 0] < config.erase_probability) & fits_BK.any(1)
    return torch.where(chosen_B.view(-1, 1), boxes_B4, torch.zeros_like(boxes_B4))


def patch_boxes(draws: Draws, config: AugmentConfig, size: torch.Size) -> Tensor:
    """The boxes to cover with patches, see `random_boxes`."""
    areas = (config.patch_min_area, config.patch_max_area)
    return random_boxes(draws[Stream.PATCH_BOX], config.patch_probability, areas, size)


def random_boxes(
    draws_B5: Tensor,
    probability: float,
    areas: tuple[float, float],
    size: torch.Size,
    *,
    uniform_ratio: bool = False,
) -> Tensor:
    """B x 4 boxes (top, left, bottom, right) in pixels, clipped at the border; empty for images that are not chosen.

    draws: chosen?, area, aspect ratio, top, left. The area is uniform between the two shares; the aspect ratio between
    0.3 and 1 / 0.3 is uniform or log-uniform.
    """
    height, width = size
    chosen_B = draws_B5[:, 0] < probability
    box_height, box_width = _box_size(draws_B5, areas, size, uniform_ratio)
    box_height, box_width = box_height.clamp(1, height), box_width.clamp(1, width)
    top = (draws_B5[:, 3] * (height - box_height + 1)).floor()
    left = (draws_B5[:, 4] * (width - box_width + 1)).floor()
    boxes = torch.stack([top, left, top + box_height, left + box_width], dim=1)
    return torch.where(chosen_B.view(-1, 1), boxes, torch.zeros_like(boxes))


def _box_size(
    draws_B5: Tensor, areas: tuple[float, float], size: torch.Size, uniform_ratio: bool
) -> tuple[Tensor, Tensor]:
    """Height and width in pixels, which may exceed the image's."""
    share = areas[0] + draws_B5[..., 1] * (areas[1] - areas[0])
    area = share * size[0] * size[1]
    if uniform_ratio:
        ratio = 0.3 + draws_B5[..., 2] * (1 / 0.3 - 0.3)
    else:
        ratio = torch.exp((2 * draws_B5[..., 2] - 1) * math.log(1 / 0.3))
    return (area * ratio).sqrt().round(), (area / ratio).sqrt().round()


def erase(images_B3HW: Tensor, boxes_B4: Tensor, paint: tuple[float, ...] | Tensor) -> Tensor:
    """Fill each image's box (top, left, bottom, right; the last two exclusive) with one color, or with the same region
    of B x 3 x H x W."""
    device = images_B3HW.device
    y = torch.arange(images_B3HW.shape[-2], device=device).view(1, 1, -1, 1)
    x = torch.arange(images_B3HW.shape[-1], device=device).view(1, 1, 1, -1)
    top, left, bottom, right = (edge.view(-1, 1, 1, 1) for edge in boxes_B4.unbind(1))
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    if not isinstance(paint, Tensor):
        paint = per_channel(paint, device).to(images_B3HW.dtype)
    return torch.where(inside, paint, images_B3HW)


def patches(pool_P3HW: Tensor, draws_B4: Tensor, boxes_B4: Tensor) -> Tensor:
    """Pixels for each image's box, cut from an image of the pool: B x 3 x H x W; undefined outside the box.

    A patch is cut at a random position of its source image and mirrored with probability 0.5: Zhou et al., "Learning
    generalizable omni-scale representations for person re-identification", TPAMI 2021, whose code also rotates patches
    by up to 10 degrees. draws: image of the pool, top, left, mirrored?.
    """
    number, _, height, width = pool_P3HW.shape
    device = pool_P3HW.device
    top, left, bottom, right = (edge.view(-1, 1) for edge in boxes_B4.unbind(1))
    source_top = (draws_B4[:, 1:2] * (height - (bottom - top) + 1)).floor()
    source_left = (draws_B4[:, 2:3] * (width - (right - left) + 1)).floor()
    y_BH = torch.arange(height, device=device) - top + source_top
    x_BW = torch.arange(width, device=device) - left
    x_BW = torch.where(draws_B4[:, 3:4] < 0.5, right - left - 1 - x_BW, x_BW) + source_left
    # pixels outside the box may map outside the source image
    rows_BH1 = y_BH.clamp(0, height - 1).long().unsqueeze(2)
    columns_B1W = x_BW.clamp(0, width - 1).long().unsqueeze(1)
    places_B1n = (rows_BH1 * width + columns_B1W).flatten(1).unsqueeze(1)
    sources_B3n = pool_P3HW[integers(draws_B4[:, 0], number)].flatten(2)
    return to_float(sources_B3n.gather(2, places_B1n.expand(-1, 3, -1))).view(-1, 3, height, width)


def noise(images_B3HW: Tensor, draws_B2: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Noise in the images' shape that is standard normal after normalization (Zhong et al., "RE-R").

    Each image gets a random window of one fixed noise field, which is much cheaper than fresh random numbers.
    draws: top, left.
    """
    height, width = images_B3HW.shape[-2:]
    device = images_B3HW.device
    field = _noise_field(2 * height, 2 * width, device)
    rows_BH = integers(draws_B2[:, 0], height + 1).view(-1, 1) + torch.arange(height, device=device)
    columns_BW = integers(draws_B2[:, 1], width + 1).view(-1, 1) + torch.arange(width, device=device)
    window = field[:, rows_BH[:, :, None], columns_BW[:, None, :]].transpose(0, 1)
    return per_channel(mean, device) + per_channel(std, device) * window


@functools.lru_cache(maxsize=4)
def _noise_field(height: int, width: int, device: torch.device) -> Tensor:
    numbers = torch.randn((3, height, width), generator=torch.Generator().manual_seed(0))
    return numbers.to(device)
