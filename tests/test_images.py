from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

from reid_accel.data.images import read_image, to_pixels
from reid_accel.errors import InputError


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
    assert np.array_equal(to_pixels(Image.fromarray(noise), 32, 16, "bilinear"), noise.transpose(2, 0, 1))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_is_torchvisions(interpolation: str) -> None:
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 256, (100, 77, 3), np.uint8))
    theirs = resize(noise, [64, 32], InterpolationMode(interpolation))
    assert np.array_equal(to_pixels(noise, 64, 32, interpolation), np.asarray(theirs).transpose(2, 0, 1))


def test_draw_image_control_differs(tmp_path: Path) -> None:
    red = read_image(draw_image(tmp_path / "a.png", (255, 0, 0)))
    assert not np.array_equal(np.asarray(red), np.asarray(read_image(draw_image(tmp_path / "b.png"))))
