"""Patches of other images; erasing is tested with the rest of augmentation."""

import numpy as np
import pytest
import torch

from reid_accel.augment.erasing import erase_boxes, patch_boxes
from reid_accel.augment.ops import augment
from reid_accel.augment.rng import Draws, Stream
from reid_accel.config.schema import AugmentConfig
from reid_accel.data.images import to_bytes, to_float

FILL = (0.2, 0.4, 0.6)
ALL = AugmentConfig(flip_probability=0, pad_px=0, patch_probability=1)
SOME = AugmentConfig(flip_probability=0, pad_px=0, patch_probability=0.5, patch_min_area=0.1, patch_max_area=0.3)


def pixels(number: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (number, 3, 32, 16), np.uint8))


IMAGES, POOL = to_float(pixels(40, 0)), pixels(7, 1)


def draws(number: int = 40) -> Draws:
    return Draws.of(0, 0, torch.arange(number))


def patched_plainly(image: torch.Tensor, row: int, config: AugmentConfig) -> torch.Tensor:
    """One image, by slices."""
    drawn = Draws.of(0, 0, torch.tensor([row]))
    top, left, bottom, right = patch_boxes(drawn, config, image.shape[-2:])[0].int().tolist()
    numbers = drawn[Stream.PATCH_SOURCE][0]
    height, width = bottom - top, right - left
    source = POOL[int(numbers[0] * len(POOL))]
    from_top, from_left = int(numbers[1] * (32 - height + 1)), int(numbers[2] * (16 - width + 1))
    patch = source[:, from_top : from_top + height, from_left : from_left + width]
    changed = image.clone()
    changed[:, top:bottom, left:right] = to_float(patch.flip(-1) if numbers[3] < 0.5 else patch)
    return changed


@pytest.mark.parametrize("config", [ALL, SOME])
def test_patches_are_slices_of_the_pools_images(config: AugmentConfig) -> None:
    changed = augment(IMAGES, draws(), config, FILL, pool_P3HW=POOL)
    expected = [patched_plainly(image, row, config) for row, image in enumerate(IMAGES)]
    assert torch.equal(changed, torch.stack(expected))
    touched = (changed != IMAGES).flatten(1).any(1)
    assert touched.all() if config is ALL else 10 < touched.sum() < 30


def test_an_image_gets_its_patch_in_any_batch() -> None:
    whole = augment(IMAGES, draws(), SOME, FILL, pool_P3HW=POOL)
    order = torch.tensor([31, 4, 5, 17, 0])
    assert torch.equal(augment(IMAGES[order], Draws.of(0, 0, order), SOME, FILL, pool_P3HW=POOL), whole[order])
    assert not torch.equal(augment(IMAGES[order], draws(5), SOME, FILL, pool_P3HW=POOL), whole[order])


def test_every_image_of_the_pool_and_every_place_is_as_likely() -> None:
    number = 20_000
    numbered = torch.arange(50, dtype=torch.uint8).view(5, 1, 2, 5).expand(-1, 3, -1, -1)  # a value for each place
    config = AugmentConfig(flip_probability=0, pad_px=0, patch_probability=1, patch_min_area=0.01, patch_max_area=0.01)
    black = torch.zeros(number, 3, 2, 5)
    values = to_bytes(augment(black - 1, draws(number), config, FILL, pool_P3HW=numbered).amax((1, 2, 3)))
    counts = torch.bincount(values.int(), minlength=50) / number
    assert (counts - 1 / 50).abs().max() < 0.004  # standard error 0.001


def test_patches_leave_images_and_pool_alone() -> None:
    before, pool = IMAGES.clone(), POOL.clone()
    augment(IMAGES, draws(), ALL, FILL, pool_P3HW=POOL)
    assert torch.equal(IMAGES, before)
    assert torch.equal(POOL, pool)


def test_patches_and_erased_boxes_are_drawn_apart() -> None:
    both = AugmentConfig(patch_probability=0.5, erase_probability=0.5, erase_min_area=0.01, erase_max_area=0.5)
    numbers, size = draws(20_000), torch.Size([128, 64])
    patched, erased = patch_boxes(numbers, both, size), erase_boxes(numbers, both, size)
    chosen = torch.stack([boxes[:, 2] > 0 for boxes in (patched, erased)])
    assert chosen.all(0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    corners = torch.cat([patched[:, :2], erased[:, :2]], dim=1)[chosen.all(0)].numpy()
    assert np.abs(np.corrcoef(corners.T)[:2, 2:]).max() < 0.06  # standard error 0.014


def test_patches_come_before_erasing() -> None:
    both = AugmentConfig(
        flip_probability=0, pad_px=0, patch_probability=1, erase_probability=1, erase_min_area=0.9, erase_max_area=0.9
    )
    changed = augment(IMAGES, draws(), both, FILL, pool_P3HW=POOL)
    alone = AugmentConfig(flip_probability=0, pad_px=0, erase_probability=1, erase_min_area=0.9, erase_max_area=0.9)
    erased = augment(torch.full_like(IMAGES, 9.0), draws(), alone, FILL) != 9.0
    color = torch.tensor(FILL).view(3, 1, 1).expand_as(IMAGES)
    assert torch.equal(changed[erased], color[erased])
    assert 0.4 < erased.float().mean() < 1
