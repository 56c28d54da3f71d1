"""Augmentation in batches on the training device, with parameters of each image's own.

Legend: B batch, H W pixels. Images are float, in 0..1 until `normalize`.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_accel.augment.erasing import erase, erase_boxes, noise, patch_boxes, patches
from reid_accel.augment.rng import integers
from reid_accel.augment.trivial_augment import Change, change_each
from reid_accel.config.schema import AugmentConfig
from reid_accel.data.images import per_channel

GRAY = (0.2989, 0.587, 0.114)  # ITU-R 601-2 luma, as torchvision has it

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(images_B3HW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(images - mean) / std per channel, in the network's memory order (channels last)."""
    device = images_B3HW.device
    return (
        (images_B3HW - per_channel(mean, device))
        .div_(per_channel(std, device))
        .contiguous(memory_format=torch.channels_last)
    )


def augment(
    images_B3HW: Tensor,
    draws_Bn: Tensor,
    config: AugmentConfig,
    fill: tuple[float, ...],
    std: tuple[float, ...] = IMAGENET_STD,
    pool_P3HW: Tensor | None = None,
    changes_B: Sequence[Change | None] = (),
) -> Tensor:
    """Color, rotation, padded random crop, flip, TrivialAugment, patch, erasing, in this order, as `config` says.

    images: float 0..1. draws: B x `NUM_DRAWS` from `uniforms`, on the images' device. fill: the color that
    stands for nothing (the normalization's mean); noise has the normalization's `std` about it. pool: what patches are
    cut from, uint8, P x 3 x H x W. changes: what TrivialAugment does to each image. Returns new images; the given
    ones stay as they are.
    """
    if config.color_jitter > 0:
        factors = 1 + (2 * draws_Bn[:, 9:12] - 1) * config.color_jitter
        images_B3HW = jitter_color(images_B3HW, *factors.unbind(1))
    if config.white_balance > 0:
        images_B3HW = balance(images_B3HW, 1 + (2 * draws_Bn[:, 12:15] - 1) * config.white_balance)
    if config.rotation_degrees > 0:
        images_B3HW = rotate(images_B3HW, (2 * draws_Bn[:, 3] - 1) * config.rotation_degrees, fill)
    if config.pad_px > 0:
        shift_y, shift_x = (integers(draws_Bn[:, place], 2 * config.pad_px + 1) for place in (1, 2))
        images_B3HW = padded_crop(images_B3HW, shift_y, shift_x, config.pad_px, fill)
    if config.flip_probability > 0:
        images_B3HW = flip(images_B3HW, draws_Bn[:, 0] < config.flip_probability)
    if config.trivial_augment > 0:
        images_B3HW = change_each(images_B3HW, changes_B, fill)
    if config.patch_probability > 0:
        assert pool_P3HW is not None, "patches need a pool"
        boxes_B4 = patch_boxes(draws_Bn, config, images_B3HW.shape[-2:])
        images_B3HW = erase(images_B3HW, boxes_B4, patches(pool_P3HW, draws_Bn[:, 22:26], boxes_B4))
    if config.erase_probability > 0:
        boxes_B4 = erase_boxes(draws_Bn, config, images_B3HW.shape[-2:])
        paint = noise(images_B3HW, draws_Bn[:, 15:17], fill, std) if config.erase_with == "noise" else fill
        images_B3HW = erase(images_B3HW, boxes_B4, paint)
    return images_B3HW


def jitter_color(images_B3HW: Tensor, brightness_B: Tensor, contrast_B: Tensor, saturation_B: Tensor) -> Tensor:
    """Scale brightness, then the distance to the mean gray, then that to each pixel's gray; 1 changes nothing."""
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
    """Scale each channel by its own gain, as another camera's white balance would."""
    return (images_B3HW * gains_B3.view(-1, 3, 1, 1)).clamp(0, 1)


def flip(images_B3HW: Tensor, flipped_B: Tensor) -> Tensor:
    """Mirror some of the images left and right."""
    return torch.where(flipped_B.view(-1, 1, 1, 1), images_B3HW.flip(-1), images_B3HW)


def padded_crop(images_B3HW: Tensor, top_B: Tensor, left_B: Tensor, pad_px: int, fill: tuple[float, ...]) -> Tensor:
    """Pad all four sides, then cut the H x W window whose corner is (top, left), each in 0..2 pad."""
    batch, channels, height, width = images_B3HW.shape
    device, wide = images_B3HW.device, width + 2 * pad_px
    color = per_channel(fill, device).to(images_B3HW.dtype)
    padded = color.repeat(batch, 1, height + 2 * pad_px, wide)
    padded[:, :, pad_px : pad_px + height, pad_px : pad_px + width] = images_B3HW
    rows_BH1 = top_B.view(-1, 1, 1) + torch.arange(height, device=device).view(-1, 1)
    columns_B1W = left_B.view(-1, 1, 1) + torch.arange(width, device=device)
    places = (rows_BH1 * wide + columns_B1W).view(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, places).view(images_B3HW.shape)


def rotate(images_B3HW: Tensor, degrees_B: Tensor, fill: tuple[float, ...]) -> Tensor:
    """Turn each image counter-clockwise about its center, bilinear, corners filled."""
    batch, _, height, width = images_B3HW.shape
    radians = degrees_B.to(images_B3HW.dtype) * (math.pi / 180)
    cos, sin = radians.cos(), radians.sin()
    zero = torch.zeros_like(cos)
    # grid_sample's axes are scaled by width and height: rotation in pixels needs the aspect ratio back
    theta_B23 = torch.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], dim=1).view(
        batch, 2, 3
    )
    grid = F.affine_grid(theta_B23, list(images_B3HW.shape), align_corners=False)
    color = per_channel(fill, images_B3HW.device).to(images_B3HW.dtype)
    return F.grid_sample(images_B3HW - color, grid, align_corners=False) + color
