"""Augmentation in batches on the training device, with independent random parameters per image.

Legend: B batch, H W pixels. Images are float, in 0..1 until `normalize`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_accel.augment.erasing import erase, erase_boxes, noise, patch_boxes, patches
from reid_accel.augment.rng import Draws, Stream, integers, symmetric
from reid_accel.augment.trivial_augment import change_each, draw_changes
from reid_accel.config.schema import AugmentConfig
from reid_accel.data.images import per_channel

GRAY = (0.2989, 0.587, 0.114)  # ITU-R 601-2 luma, as in torchvision

BLACK = (0.0, 0.0, 0.0)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(images_B3HW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(images - mean) / std per channel, in the network's memory format (channels last)."""
    device = images_B3HW.device
    return (
        (images_B3HW - per_channel(mean, device))
        .div_(per_channel(std, device))
        .contiguous(memory_format=torch.channels_last)
    )


def augment(
    images_B3HW: Tensor,
    draws: Draws,
    config: AugmentConfig,
    mean: tuple[float, ...],
    std: tuple[float, ...] = IMAGENET_STD,
    pool_P3HW: Tensor | None = None,
) -> Tensor:
    """Apply every augmentation that `config` enables, in a fixed order; returns new images.

    images: float 0..1. mean, std: of the normalization; the mean fills pixels outside an image, and noise is standard
    normal after normalization. pool: the images that patches are cut from, uint8, P x 3 x H x W.
    """
    images = images_B3HW
    if config.color_jitter > 0:
        images = jitter_color(images, *(1 + symmetric(draws[Stream.COLOR], config.color_jitter)).unbind(1))
    if config.white_balance > 0:
        images = balance(images, 1 + symmetric(draws[Stream.WHITE_BALANCE], config.white_balance))
    if config.grayscale_probability > 0:
        images = grayscale(images, draws[Stream.GRAYSCALE][:, 0] < config.grayscale_probability)
    if config.rotation_degrees > 0:
        images = rotate(images, symmetric(draws[Stream.ROTATION][:, 0], config.rotation_degrees), mean)
    if config.pad_px > 0:
        color = BLACK if config.pad_with == "black" else mean
        images = padded_crop(images, integers(draws[Stream.CROP], 2 * config.pad_px + 1), config.pad_px, color)
    if config.flip_probability > 0:
        images = flip(images, draws[Stream.FLIP][:, 0] < config.flip_probability)
    if config.trivial_augment > 0:
        changes = draw_changes(draws.on_host(Stream.TRIVIAL_AUGMENT), config.trivial_augment)
        images = change_each(images, changes, mean)
    if config.patch_probability > 0:
        assert pool_P3HW is not None, "patches need a pool"
        boxes_B4 = patch_boxes(draws, config, images.shape[-2:])
        images = erase(images, boxes_B4, patches(pool_P3HW, draws[Stream.PATCH_SOURCE], boxes_B4))
    if config.erase_probability > 0:
        images = erase(images, erase_boxes(draws, config, images.shape[-2:]), _paint(images, draws, config, mean, std))
    return images


def _paint(
    images_B3HW: Tensor, draws: Draws, config: AugmentConfig, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor | tuple[float, ...]:
    """What erased areas are filled with."""
    if config.erase_with == "noise":
        return noise(images_B3HW, draws[Stream.ERASE_NOISE], mean, std)
    if config.erase_with == "mean-after-normalization":
        return tuple(m + s * m for m, s in zip(mean, std, strict=True))
    return mean


def jitter_color(images_B3HW: Tensor, brightness_B: Tensor, contrast_B: Tensor, saturation_B: Tensor) -> Tensor:
    """Scale brightness, the distance to the mean gray, and the distance to each pixel's gray; 1 changes nothing."""
    brightness, contrast, saturation = (f.view(-1, 1, 1, 1) for f in (brightness_B, contrast_B, saturation_B))
    images = (images_B3HW * brightness).clamp_(0, 1)
    mean_gray = _gray(images).mean((2, 3), keepdim=True)
    images.mul_(contrast).add_(mean_gray * (1 - contrast)).clamp_(0, 1)
    gray = _gray(images)
    return images.mul_(saturation).add_(gray * (1 - saturation)).clamp_(0, 1)


def _gray(images_B3HW: Tensor) -> Tensor:
    """B x 1 x H x W; several times faster than a product and a sum over the channels."""
    red, green, blue = images_B3HW.unbind(1)
    return (red * GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2]).unsqueeze(1)


def balance(images_B3HW: Tensor, gains_B3: Tensor) -> Tensor:
    """Scale each channel by its own gain, like a change of white balance."""
    return (images_B3HW * gains_B3.view(-1, 3, 1, 1)).clamp(0, 1)


def grayscale(images_B3HW: Tensor, chosen_B: Tensor) -> Tensor:
    """Convert the chosen images to gray."""
    return torch.where(chosen_B.view(-1, 1, 1, 1), _gray(images_B3HW), images_B3HW)


def flip(images_B3HW: Tensor, flipped_B: Tensor) -> Tensor:
    """Mirror the chosen images horizontally."""
    return torch.where(flipped_B.view(-1, 1, 1, 1), images_B3HW.flip(-1), images_B3HW)


def padded_crop(images_B3HW: Tensor, corner_B2: Tensor, pad_px: int, fill: tuple[float, ...]) -> Tensor:
    """Pad all four sides, then cut the H x W window with the given corner (top, left), each in 0..2 pad."""
    batch, channels, height, width = images_B3HW.shape
    device, wide = images_B3HW.device, width + 2 * pad_px
    color = per_channel(fill, device).to(images_B3HW.dtype)
    padded = color.repeat(batch, 1, height + 2 * pad_px, wide)
    padded[:, :, pad_px : pad_px + height, pad_px : pad_px + width] = images_B3HW
    rows_BH1 = corner_B2[:, :1, None] + torch.arange(height, device=device).view(-1, 1)
    columns_B1W = corner_B2[:, 1:, None] + torch.arange(width, device=device)
    places = (rows_BH1 * wide + columns_B1W).view(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, places).view(images_B3HW.shape)


def rotate(images_B3HW: Tensor, degrees_B: Tensor, fill: tuple[float, ...]) -> Tensor:
    """Rotate each image counter-clockwise about its center, bilinear; corners are filled."""
    batch, _, height, width = images_B3HW.shape
    radians = degrees_B.to(images_B3HW.dtype) * (math.pi / 180)
    cos, sin = radians.cos(), radians.sin()
    zero = torch.zeros_like(cos)
    # grid_sample normalizes its axes by width and height: a rotation in pixels needs the aspect ratio
    theta_B23 = torch.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], dim=1).view(
        batch, 2, 3
    )
    grid = F.affine_grid(theta_B23, list(images_B3HW.shape), align_corners=False)
    color = per_channel(fill, images_B3HW.device).to(images_B3HW.dtype)
    return F.grid_sample(images_B3HW - color, grid, align_corners=False) + color
