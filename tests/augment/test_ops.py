import dataclasses

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from torchvision.transforms import InterpolationMode

import reid_accel.augment.ops as augment_module
from reid_accel.augment.erasing import erase, erase_boxes, noise
from reid_accel.augment.ops import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    augment,
    balance,
    flip,
    grayscale,
    jitter_color,
    normalize,
    padded_crop,
    rotate,
)
from reid_accel.augment.rng import NUM_DRAWS, Draws, Stream, uniforms
from reid_accel.config.schema import AugmentConfig
from reid_accel.data.images import to_float

FILL = (0.2, 0.4, 0.6)


def images(number: int = 6) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (number, 3, 32, 16), np.uint8)
    return to_float(torch.from_numpy(pixels))


def draws(number: int, first: int = 0) -> Draws:
    return Draws.of(0, 0, torch.arange(first, number))


def test_random_numbers_depend_on_seed_epoch_and_row_alone() -> None:
    rows = torch.tensor([5, 900, 5, 17])
    numbers = uniforms(1, 2, rows)
    assert torch.equal(numbers[0], numbers[2])
    assert torch.equal(uniforms(1, 2, rows.flip(0)), numbers.flip(0))
    for other in (uniforms(2, 2, rows), uniforms(1, 3, rows), uniforms(1, 2, rows + 1)):
        assert not torch.isin(other[[0, 1, 3]], numbers).any()


def test_random_numbers_are_splitmix64s() -> None:
    def mixed(state: int) -> int:  # the paper's, in Python's whole numbers
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    for seed, epoch, row in ((0, 0, 0), (3, 200, 12_935), (2**31, 7, 10**6)):
        state = mixed(mixed(mixed(seed) ^ epoch) ^ row)
        expected = [(mixed((state + n * 0x9E3779B97F4A7C15) % 2**64) >> 11) / 2**53 for n in range(1, NUM_DRAWS + 1)]
        assert uniforms(seed, epoch, torch.tensor([row]))[0].tolist() == expected


def test_streams_do_not_overlap_and_keep_their_places() -> None:
    places = [place for stream in Stream for place in range(stream.first, stream.first + stream.num)]
    assert places == list(range(NUM_DRAWS))
    assert [stream.first for stream in Stream][:10] == [0, 1, 3, 4, 9, 12, 15, 17, 22, 26], "old runs draw the same"


def test_a_stream_is_the_same_alone_and_among_all() -> None:
    rows = torch.tensor([0, 3, 12_935])
    numbers = Draws.of(5, 7, rows)
    for stream in Stream:
        alone = uniforms(5, 7, rows, stream)
        assert alone.shape == (3, stream.num)
        assert torch.equal(alone.float(), numbers[stream])
        assert torch.equal(alone, numbers.on_host(stream))


def test_random_numbers_are_uniform_and_independent() -> None:
    numbers = uniforms(0, 0, torch.arange(20_000)).numpy()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    # standard errors: mean 0.002, share of a tenth 0.0021, correlation 0.007
    assert np.abs(numbers.mean(0) - 0.5).max() < 0.01
    shares = np.stack([np.histogram(column, bins=10, range=(0, 1))[0] for column in numbers.T]) / 20_000
    assert np.abs(shares - 0.1).max() < 0.011
    assert np.abs(np.corrcoef(numbers.T) - np.eye(numbers.shape[1])).max() < 0.035
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.035


def test_flip_is_torchvisions() -> None:
    batch, flipped = images(), torch.tensor([True, False, True, False, False, True])
    expected = torch.stack([TF.hflip(x) if f else x for x, f in zip(batch, flipped, strict=True)])
    assert torch.equal(flip(batch, flipped), expected)


def test_padded_crop_is_torchvisions() -> None:
    batch = images()
    corners = torch.tensor([[0, 8], [3, 0], [8, 4], [5, 2], [4, 7], [1, 6]])
    color = torch.tensor(FILL).view(3, 1, 1)
    expected = [
        TF.crop(TF.pad(image - color, [4, 4, 4, 4]), int(y), int(x), 32, 16) + color
        for image, (y, x) in zip(batch, corners, strict=True)
    ]
    assert torch.allclose(padded_crop(batch, corners, 4, FILL), torch.stack(expected), atol=1e-7)


def test_rotation_is_torchvisions() -> None:
    batch, degrees = images(), torch.tensor([0.0, 10.0, -7.5, 33.0, 90.0, -180.0])
    color = torch.tensor(FILL).view(3, 1, 1)
    expected = [
        TF.rotate(x - color, float(d), InterpolationMode.BILINEAR) + color for x, d in zip(batch, degrees, strict=True)
    ]
    assert (rotate(batch, degrees, FILL) - torch.stack(expected)).abs().max() < 2e-5


def test_erasing_is_torchvisions() -> None:
    batch = images(3)
    boxes = torch.tensor([[2, 3, 10, 9], [0, 0, 0, 0], [0, 0, 32, 16]])
    color = torch.tensor(FILL).view(3, 1, 1)
    expected = [
        TF.erase(image, int(y), int(x), int(bottom - y), int(right - x), color)
        for image, (y, x, bottom, right) in zip(batch, boxes, strict=True)
    ]
    assert torch.equal(erase(batch, boxes, FILL), torch.stack(expected))


def test_color_jitter_is_torchvisions() -> None:
    batch = images(3)
    brightness, contrast, saturation = (
        torch.tensor([0.7, 1.0, 1.4]),
        torch.tensor([1.3, 0.6, 1.0]),
        torch.tensor([1.5, 0.5, 1.0]),
    )
    expected = [
        TF.adjust_saturation(TF.adjust_contrast(TF.adjust_brightness(x, float(b)), float(c)), float(s))
        for x, b, c, s in zip(batch, brightness, contrast, saturation, strict=True)
    ]
    assert (jitter_color(batch, brightness, contrast, saturation) - torch.stack(expected)).abs().max() < 1e-6


def test_white_balance_scales_the_channels() -> None:
    gray = torch.full((1, 3, 2, 2), 0.5)
    changed = balance(gray, torch.tensor([[0.8, 1.0, 3.0]]))
    assert changed[0, :, 0, 0].tolist() == pytest.approx([0.4, 0.5, 1.0])


def test_grayscale_is_torchvisions() -> None:
    batch, chosen = images(), torch.tensor([True, False, True, False, False, True])
    expected = torch.stack([TF.rgb_to_grayscale(x, 3) if c else x for x, c in zip(batch, chosen, strict=True)])
    assert (grayscale(batch, chosen) - expected).abs().max() < 1e-6


def test_as_many_images_lose_their_color_as_asked() -> None:
    config = AugmentConfig(flip_probability=0, pad_px=0, grayscale_probability=0.25)
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(8_000, 3, 1, 1)
    changed = augment(red, draws(8_000), config, FILL)
    assert (changed[:, 1] > 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_color_factors_fill_their_range() -> None:
    gray = torch.full((20_000, 3, 1, 1), 0.5)
    config = AugmentConfig(flip_probability=0, pad_px=0, white_balance=0.2)
    gains = augment(gray, draws(20_000), config, FILL)[:, :, 0, 0] / 0.5
    assert gains.min().item() == pytest.approx(0.8, abs=0.001)
    assert gains.max().item() == pytest.approx(1.2, abs=0.001)
    assert (gains.mean(0) - 1).abs().max() < 0.004
    assert np.abs(np.corrcoef(gains.numpy().T) - np.eye(3)).max() < 0.035


def test_normalize_is_torchvisions() -> None:
    batch = images()
    expected = TF.normalize(batch, list(IMAGENET_MEAN), list(IMAGENET_STD))
    assert torch.allclose(normalize(batch, IMAGENET_MEAN, IMAGENET_STD), expected, atol=1e-6)


def test_erased_boxes_have_the_asked_for_shares() -> None:
    config = AugmentConfig(erase_probability=0.3, erase_min_area=0.1, erase_max_area=0.3)
    boxes = erase_boxes(draws(20_000), config, torch.Size([128, 64]))
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    erased = height > 0
    assert erased.float().mean().item() == pytest.approx(0.3, abs=0.015)
    inside = (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= 128).all() and (boxes[:, 3] <= 64).all()
    assert bool(inside)
    share = (height * width / (128 * 64))[erased]
    assert share.max() < 0.31
    assert share.mean().item() == pytest.approx(0.2, abs=0.02)


PUBLISHED = AugmentConfig(
    flip_probability=0,
    pad_px=0,
    erase_probability=0.5,
    erase_ratio="uniform",
    erase_misfit="redraw",
    erase_with="mean-after-normalization",
)


def drawn_until_it_fits(number: int, *, uniform: bool) -> np.ndarray:
    """Heights and widths of erased boxes at 256x128, box by box (Zhong et al., AAAI 2020, algorithm 1)."""
    generator, boxes = np.random.default_rng(0), []
    while len(boxes) < number:
        area = generator.uniform(0.02, 0.4) * 256 * 128
        bound = np.log(1 / 0.3)
        ratio = generator.uniform(0.3, 1 / 0.3) if uniform else np.exp(generator.uniform(-bound, bound))
        height, width = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if height < 256 and width < 128:
            boxes.append((height, width))
    return np.array(boxes)


@pytest.mark.parametrize("ratio", ["uniform", "log-uniform"])
def test_boxes_that_do_not_fit_are_drawn_again_as_published(ratio: str) -> None:
    config = dataclasses.replace(PUBLISHED, erase_ratio=ratio)
    boxes = erase_boxes(draws(40_000), config, torch.Size([256, 128])).numpy()
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    erased = height > 0
    assert erased.mean() == pytest.approx(0.5, abs=0.01), "a redrawn box doesn't make an image rarer"
    expected = drawn_until_it_fits(20_000, uniform=ratio == "uniform")
    found = np.stack([height, width], 1)[erased]
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        for side in (found / expected.mean(0), found[:, :1] / found[:, 1:]):
            same = expected / expected.mean(0) if side.shape[1] == 2 else expected[:, :1] / expected[:, 1:]
            assert np.quantile(side, quantile, 0) == pytest.approx(np.quantile(same, quantile, 0), rel=0.04)
    assert width[erased].max() < 128
    assert (boxes[:, 0] >= 0).all()
    assert (boxes[:, 3] <= 128).all()
    if ratio == "uniform":
        assert np.median(height[erased] / width[erased]) == pytest.approx(1.90, abs=0.04)
    places = boxes[erased, 0] / (256 - height[erased])
    assert np.abs(np.histogram(places, 10, (0, 1))[0] / erased.sum() - 0.1).max() < 0.02
    clipped = erase_boxes(draws(40_000), AugmentConfig(erase_probability=1), torch.Size([256, 128])).numpy()
    assert ((clipped[:, 3] - clipped[:, 1]) == 128).mean() > 0.14, "the control: the default clips"


def test_an_image_is_erased_alike_in_any_batch_also_if_drawn_again() -> None:
    boxes = erase_boxes(draws(500), PUBLISHED, torch.Size([256, 128]))
    order = torch.tensor([400, 3, 77])
    assert torch.equal(erase_boxes(Draws.of(0, 0, order), PUBLISHED, torch.Size([256, 128])), boxes[order])


def test_published_fills_are_black_and_the_mean_after_normalization() -> None:
    batch = images()
    config = dataclasses.replace(PUBLISHED, erase_probability=1)
    changed = normalize(augment(batch, draws(6), config, IMAGENET_MEAN), IMAGENET_MEAN, IMAGENET_STD)
    top, left, *_ = erase_boxes(draws(6), config, batch.shape[-2:]).int().unbind(1)
    for image, row, column in zip(changed, top, left, strict=True):
        assert image[:, row, column].tolist() == pytest.approx(IMAGENET_MEAN, abs=1e-6)
    for color, value in (("black", 0.0), ("mean", 0.4)):
        config = AugmentConfig(flip_probability=0, pad_px=4, pad_with=color)  # type: ignore[arg-type]
        padded = augment(torch.ones(50, 3, 8, 8), draws(50), config, (0.4, 0.4, 0.4))
        assert padded.unique().tolist() == pytest.approx([value, 1.0])


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_flips_happen_as_often_as_asked(probability: float) -> None:
    one = torch.arange(4.0).view(1, 1, 1, 4).expand(8_000, 3, 1, 4)
    config = AugmentConfig(flip_probability=probability, pad_px=0)
    changed = augment(one, draws(8_000), config, FILL)
    assert (changed[:, 0, 0, 0] == 3).float().mean().item() == pytest.approx(probability, abs=0.02)


def test_every_crop_place_is_equally_likely() -> None:
    one = torch.zeros(20_000, 3, 3, 3)
    one[:, :, 1, 1] = 1.0
    config = AugmentConfig(flip_probability=0, pad_px=1)
    changed = augment(one, draws(20_000), config, (0.0, 0.0, 0.0))
    assert (changed.mean(0)[0] - 1 / 9).abs().max() < 0.01


def test_given_images_stay_as_they_are() -> None:
    batch = images()
    before = batch.clone()
    config = AugmentConfig(rotation_degrees=10, erase_probability=1)
    assert not torch.equal(augment(batch, draws(6), config, FILL), before)
    assert torch.equal(batch, before)


def test_nothing_asked_for_is_nothing_done() -> None:
    config = AugmentConfig(flip_probability=0, pad_px=0)
    assert torch.equal(augment(images(), draws(6), config, FILL), images())


def test_an_image_is_changed_alike_in_any_batch() -> None:
    config = AugmentConfig(rotation_degrees=10, erase_probability=0.5, color_jitter=0.3, white_balance=0.1)
    whole = augment(images(), draws(6), config, FILL)
    part = augment(images()[2:4], draws(4, first=2), config, FILL)
    assert torch.equal(whole[2:4], part)


def test_noise_is_standard_normal_once_normalized() -> None:
    gray = torch.full((500, 3, 32, 16), 0.5)
    paint = noise(gray, draws(500)[Stream.ERASE_NOISE], IMAGENET_MEAN, IMAGENET_STD)
    numbers = normalize(paint, IMAGENET_MEAN, IMAGENET_STD)
    # one field of 64 x 32 numbers a channel lies behind all windows: standard error 0.022 for a channel's mean
    assert numbers.mean((0, 2, 3)).abs().max() < 0.1
    assert (numbers.std((0, 2, 3)) - 1).abs().max() < 0.07
    places = {tuple(image[0, 0, :4].tolist()) for image in paint}
    assert len(places) > 300, "each image looks at a place of its own"
    correlations = np.corrcoef(numbers[:60, 0].reshape(60, -1).numpy()) - np.eye(60)
    assert np.quantile(np.abs(correlations), 0.9) < 0.1


def test_noise_fills_the_box_and_nothing_else() -> None:
    batch = images()
    config = AugmentConfig(flip_probability=0, pad_px=0, erase_probability=1, erase_with="noise")
    changed = augment(batch, draws(6), config, FILL)
    boxes = erase_boxes(draws(6), config, batch.shape[-2:]).int()
    for image, before, (top, left, bottom, right) in zip(changed, batch, boxes, strict=True):
        inside = torch.zeros(32, 16, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        assert torch.equal(image[:, ~inside], before[:, ~inside])
        assert (image[:, inside] != before[:, inside]).all()
    again = augment(batch[3:], draws(6, first=3), config, FILL)
    assert torch.equal(again, changed[3:]), "whatever else is in the batch"


def test_every_angle_is_equally_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = []
    monkeypatch.setattr(augment_module, "rotate", lambda images, degrees, fill: angles.append(degrees) or images)
    config = AugmentConfig(flip_probability=0, pad_px=0, rotation_degrees=10)
    augment(torch.zeros(20_000, 3, 1, 1), draws(20_000), config, FILL)
    shares = torch.histc(angles[0], bins=10, min=-10, max=10) / 20_000
    assert (shares - 0.1).abs().max() < 0.011
