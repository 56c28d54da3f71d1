from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.made_sets import draw_image
from PIL import EpsImagePlugin, Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

from reid_accel.data.images import LETTERBOX_COLOR, enlarge, read_image, to_pixels
from reid_accel.errors import InputError


def size(height: int, width: int, interpolation: str = "bilinear", fit: str = "stretch") -> SimpleNamespace:
    return SimpleNamespace(height_px=height, width_px=width, interpolation=interpolation, fit=fit)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16", "LA"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    suffix = ".jpg" if mode == "CMYK" else ".png"
    Image.new(mode, (10, 20)).save(tmp_path / f"image{suffix}")
    assert read_image(tmp_path / f"image{suffix}").mode == "RGB"


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "missing"])
def test_unreadable_files_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "broken.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (128, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"hello"}[damage])
    with pytest.raises(InputError, match=r"cannot read the image .*broken\.jpg"):
        read_image(path)


def test_right_size_is_left_alone(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (32, 16, 3), np.uint8)
    assert np.array_equal(to_pixels(Image.fromarray(noise), size(32, 16)), noise.transpose(2, 0, 1))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_is_torchvisions(interpolation: str) -> None:
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 256, (100, 77, 3), np.uint8))
    theirs = resize(noise, [64, 32], InterpolationMode(interpolation))
    assert np.array_equal(to_pixels(noise, size(64, 32, interpolation)), np.asarray(theirs).transpose(2, 0, 1))


def bilinear_by_definition(pixels_HW3: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each pixel's center in the source, where the four nearest pixels are mixed; the border is continued."""
    source_height, source_width, _ = pixels_HW3.shape
    result = np.zeros((height, width, 3))
    for y, x in np.ndindex(height, width):
        down, across = (y + 0.5) * source_height / height - 0.5, (x + 0.5) * source_width / width - 0.5
        top, left = int(np.floor(down)), int(np.floor(across))
        for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            weight = (1 - abs(down - row)) * (1 - abs(across - column))
            inside = np.clip(row, 0, source_height - 1), np.clip(column, 0, source_width - 1)
            result[y, x] += weight * pixels_HW3[inside]
    return result


@pytest.mark.parametrize("shape", [(100, 77), (20, 50), (128, 64), (1, 1)])
def test_opencvs_resize_mixes_the_four_nearest_pixels(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (*shape, 3), np.uint8)
    ours = to_pixels(Image.fromarray(pixels), size(64, 32, "cv2")).transpose(1, 2, 0)
    assert np.abs(ours - bilinear_by_definition(pixels, 64, 32)).max() <= 0.51


@pytest.mark.contracts
@pytest.mark.parametrize("shape", [(100, 77), (20, 50), (128, 64), (300, 299), (65, 31)])
def test_opencvs_resize_is_opencvs(shape: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = np.random.default_rng(5).integers(0, 256, (*shape, 3), np.uint8)
    theirs = cv2.resize(pixels, (32, 64), interpolation=cv2.INTER_LINEAR)
    ours = to_pixels(Image.fromarray(pixels), size(64, 32, "cv2")).transpose(1, 2, 0)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    pillows = to_pixels(Image.fromarray(pixels), size(64, 32)).transpose(1, 2, 0).astype(int)
    assert shape[0] < 100 or np.abs(pillows - theirs).max() > 20, "the control: Pillow antialiases"


def test_opencvs_resize_on_the_device_is_the_same_to_rounding() -> None:
    pixels = np.random.default_rng(6).integers(0, 256, (50, 20, 3), np.uint8)
    small = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
    on_device = 255 * enlarge(small, size(128, 64, "cv2"))[0].numpy()
    assert np.abs(on_device - to_pixels(Image.fromarray(pixels), size(128, 64, "cv2"))).max() <= 0.51


@pytest.mark.parametrize(("width", "height"), [(50, 50), (200, 1), (1, 200), (32, 64), (31, 200), (64, 64)])
def test_a_letterbox_of_opencvs_resize_has_pillows_geometry(width: int, height: int) -> None:
    red = Image.new("RGB", (width, height), (250, 0, 0))
    theirs = to_pixels(red, size(64, 32, fit="letterbox"))
    ours = to_pixels(red, size(64, 32, "cv2", fit="letterbox"))
    vanishes = min(64 * width / height, 32 * height / width) < 0.5  # Pillow then leaves nothing of the image
    assert np.array_equal(ours, theirs) or vanishes
    assert (ours == np.array([250, 0, 0])[:, None, None]).all(0).any(), "something of the image is left"


def test_draw_image_control_differs(tmp_path: Path) -> None:
    red = read_image(draw_image(tmp_path / "a.png", (255, 0, 0)))
    assert not np.array_equal(np.asarray(red), np.asarray(read_image(draw_image(tmp_path / "b.png"))))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(128, 64), (100, 77)])
def test_enlarging_on_the_device_is_torchvisions_and_nearly_pillows(interpolation: str, shape: tuple[int, int]) -> None:
    blocks = Image.fromarray(np.random.default_rng(3).integers(0, 256, (12, 8, 3), np.uint8))
    pixels = np.asarray(blocks.resize((shape[1], shape[0])))
    small = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
    ours = enlarge(small, size(256, 128, interpolation))
    theirs = resize(small, [256, 128], InterpolationMode(interpolation), antialias=True).clamp(0, 1)
    assert (ours - theirs).abs().max() < 1e-6
    pillows = to_pixels(Image.fromarray(pixels), size(256, 128, interpolation))
    # Pillow rounds to whole levels, once across and once down (and cuts off there what a bicubic filter overshoots)
    assert (255 * ours[0] - torch.from_numpy(pillows.copy())).abs().max() <= 1.1
    other = enlarge(small, size(256, 128, "bicubic" if interpolation == "bilinear" else "bilinear"))
    assert (255 * (ours - other)).abs().max() > 2, "the control: the other interpolation differs"


def test_what_is_large_enough_is_left_alone_on_the_device() -> None:
    images = torch.rand(2, 3, 32, 16)
    assert enlarge(images, size(32, 16)) is images


def test_a_letterbox_keeps_the_shape_of_things() -> None:
    square = Image.new("RGB", (50, 50), (250, 0, 0))
    pixels = to_pixels(square, size(64, 32, fit="letterbox")).transpose(1, 2, 0)
    assert pixels.shape == (64, 32, 3)
    assert (pixels[16:48] == (250, 0, 0)).all()
    assert (pixels[:15] == LETTERBOX_COLOR).all()
    assert (pixels[49:] == LETTERBOX_COLOR).all()
    assert (to_pixels(square, size(64, 32)).transpose(1, 2, 0) == (250, 0, 0)).all(), "the control: stretched"


def test_a_postscript_file_named_jpg_starts_no_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **named: started.append(given))
    path = tmp_path / "0001_c1s1_000001_00.jpg"
    Image.new("RGB", (8, 16)).save(path, format="EPS")
    with pytest.raises(InputError, match="cannot read the image"):
        read_image(path)
    assert not started
