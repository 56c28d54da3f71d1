"""Augmentation in batches on the training device, with parameters of each image's own.

The random numbers of an image come from (seed, epoch, row) by a counter-based generator, so that they depend
neither on the number of processes nor on the image's place in a batch, and nothing has to be saved.
Legend: B batch, H W pixels. Images are float, in 0..1 until `normalise`.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_accel.config import AugmentConfig

NUM_DRAWS = 17
"""Random numbers per image: flip, shift y, shift x, rotation, erase?, area, ratio, top, left, brightness, contrast,
saturation, white balance of red, green, blue, place in the field of noise y, x."""

GREY = (0.2989, 0.587, 0.114)  # ITU-R 601-2 luma, as torchvision has it

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def uniforms(seed: int, epoch: int, rows_B: Tensor, num: int = NUM_DRAWS) -> Tensor:
    """B x num float64 numbers in [0, 1), on the device of the rows: a function of (seed, epoch, row, place) alone.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) over the four counters; int64 wraps around as uint64 does.
    """
    state_B = _mix(torch.full_like(rows_B, seed))
    state_B = _mix(state_B ^ epoch)
    state_B = _mix(state_B ^ rows_B)
    places = torch.arange(1, num + 1, device=rows_B.device) * _GOLDEN
    bits_Bn = _mix(state_B[:, None] + places[None, :])
    return _shifted(bits_Bn, 11).double() / float(1 << 53)


def _signed(unsigned: int) -> int:
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


_GOLDEN = _signed(0x9E3779B97F4A7C15)


def _mix(state: Tensor) -> Tensor:
    state = state + _GOLDEN
    state = (state ^ _shifted(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shifted(state, 27)) * _signed(0x94D049BB133111EB)
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, places: int) -> Tensor:
    """A shift to the right that brings in zeros, as unsigned numbers have it."""
    return (state >> places) & ((1 << (64 - places)) - 1)


def to_float(images_B3HW: Tensor) -> Tensor:
    """uint8 0..255 to float 0..1."""
    return images_B3HW.float() / 255.0


def normalise(images_B3HW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(images - mean) / std per channel, in the network's memory order (channels last)."""
    mean_3 = torch.tensor(mean, device=images_B3HW.device).view(1, 3, 1, 1)
    std_3 = torch.tensor(std, device=images_B3HW.device).view(1, 3, 1, 1)
    return (images_B3HW - mean_3).div_(std_3).contiguous(memory_format=torch.channels_last)


def augment(
    images_B3HW: Tensor,
    draws_Bn: Tensor,
    config: AugmentConfig,
    fill: tuple[float, ...],
    std: tuple[float, ...] = IMAGENET_STD,
) -> Tensor:
    """Colour, rotation, padded random crop, flip, erasing, in this order, as `config` says.

    images: float 0..1. draws: B x `NUM_DRAWS` from `uniforms`, on the images' device. fill: the colour that
    stands for nothing (the normalisation's mean); noise has the normalisation's `std` about it. Returns new images;
    the given ones stay as they are.
    """
    if config.colour_jitter > 0:
        factors = 1 + (2 * draws_Bn[:, 9:12] - 1) * config.colour_jitter
        images_B3HW = jitter_colour(images_B3HW, *factors.unbind(1))
    if config.white_balance > 0:
        images_B3HW = balance(images_B3HW, 1 + (2 * draws_Bn[:, 12:15] - 1) * config.white_balance)
    if config.rotation_degrees > 0:
        images_B3HW = rotate(images_B3HW, (2 * draws_Bn[:, 3] - 1) * config.rotation_degrees, fill)
    if config.pad_px > 0:
        shift_y, shift_x = (_integers(draws_Bn[:, place], 2 * config.pad_px + 1) for place in (1, 2))
        images_B3HW = padded_crop(images_B3HW, shift_y, shift_x, config.pad_px, fill)
    if config.flip_probability > 0:
        images_B3HW = flip(images_B3HW, draws_Bn[:, 0] < config.flip_probability)
    if config.erase_probability > 0:
        boxes_B4 = erase_boxes(draws_Bn, config, images_B3HW.shape[-2:])
        paint = noise(images_B3HW, draws_Bn[:, 15:17], fill, std) if config.erase_with == "noise" else fill
        images_B3HW = erase(images_B3HW, boxes_B4, paint)
    return images_B3HW


def _integers(uniform_B: Tensor, bound: int) -> Tensor:
    """0..bound-1, each equally likely."""
    return (uniform_B * bound).long().clamp_(max=bound - 1)


def jitter_colour(images_B3HW: Tensor, brightness_B: Tensor, contrast_B: Tensor, saturation_B: Tensor) -> Tensor:
    """Scale brightness, then the distance to the mean grey, then that to each pixel's grey; 1 changes nothing."""
    brightness, contrast, saturation = (f.view(-1, 1, 1, 1) for f in (brightness_B, contrast_B, saturation_B))
    images = (images_B3HW * brightness).clamp_(0, 1)
    mean_grey = _grey(images).mean((2, 3), keepdim=True)
    images.mul_(contrast).add_(mean_grey * (1 - contrast)).clamp_(0, 1)
    grey = _grey(images)
    return images.mul_(saturation).add_(grey * (1 - saturation)).clamp_(0, 1)


def _grey(images_B3HW: Tensor) -> Tensor:
    """B x 1 x H x W; several times faster than a product and a sum over the channels."""
    red, green, blue = images_B3HW.unbind(1)
    return (red * GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2]).unsqueeze(1)


def balance(images_B3HW: Tensor, gains_B3: Tensor) -> Tensor:
    """Scale each channel by its own gain, as another camera's white balance would."""
    return (images_B3HW * gains_B3.view(-1, 3, 1, 1)).clamp(0, 1)


def flip(images_B3HW: Tensor, flipped_B: Tensor) -> Tensor:
    """Mirror some of the images left and right."""
    return torch.where(flipped_B.view(-1, 1, 1, 1), images_B3HW.flip(-1), images_B3HW)


def padded_crop(images_B3HW: Tensor, top_B: Tensor, left_B: Tensor, pad_px: int, fill: tuple[float, ...]) -> Tensor:
    """Pad all four sides, then cut the H x W window whose corner is (top, left), each in 0..2 pad."""
    batch, channels, height, width = images_B3HW.shape
    device, wide = images_B3HW.device, width + 2 * pad_px
    colour = torch.tensor(fill, device=device, dtype=images_B3HW.dtype).view(1, 3, 1, 1)
    padded = colour.repeat(batch, 1, height + 2 * pad_px, wide)
    padded[:, :, pad_px : pad_px + height, pad_px : pad_px + width] = images_B3HW
    rows_BH1 = top_B.view(-1, 1, 1) + torch.arange(height, device=device).view(-1, 1)
    columns_B1W = left_B.view(-1, 1, 1) + torch.arange(width, device=device)
    places = (rows_BH1 * wide + columns_B1W).view(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, places).view(images_B3HW.shape)


def rotate(images_B3HW: Tensor, degrees_B: Tensor, fill: tuple[float, ...]) -> Tensor:
    """Turn each image counter-clockwise about its centre, bilinear, corners filled."""
    batch, _, height, width = images_B3HW.shape
    radians = degrees_B.to(images_B3HW.dtype) * (math.pi / 180)
    cos, sin = radians.cos(), radians.sin()
    zero = torch.zeros_like(cos)
    # grid_sample's axes are scaled by width and height: rotation in pixels needs the aspect ratio back
    theta_B23 = torch.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], dim=1).view(
        batch, 2, 3
    )
    grid = F.affine_grid(theta_B23, list(images_B3HW.shape), align_corners=False)
    colour = torch.tensor(fill, device=images_B3HW.device, dtype=images_B3HW.dtype).view(1, 3, 1, 1)
    return F.grid_sample(images_B3HW - colour, grid, align_corners=False) + colour


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
    rows_BH = _integers(draws_B2[:, 0], height + 1).view(-1, 1) + torch.arange(height, device=device)
    columns_BW = _integers(draws_B2[:, 1], width + 1).view(-1, 1) + torch.arange(width, device=device)
    window = field[:, rows_BH[:, :, None], columns_BW[:, None, :]].transpose(0, 1)
    mean_3, std_3 = (torch.tensor(numbers, device=device).view(1, 3, 1, 1) for numbers in (mean, std))
    return mean_3 + std_3 * window


@functools.lru_cache(maxsize=4)
def _field_of_noise(height: int, width: int, device: torch.device) -> Tensor:
    numbers = torch.randn((3, height, width), generator=torch.Generator().manual_seed(0))
    return numbers.to(device)
