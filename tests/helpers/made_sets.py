"""Small made data sets."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw_image(path: Path, color: tuple[int, int, int] = (120, 130, 140), size: tuple[int, int] = (64, 128)) -> Path:
    """An image file of one color with a black pixel: one color alone counts as unreadable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, color)
    image.putpixel((0, 0), (0, 0, 0))
    image.save(path)
    return path


def make_market(root: Path, *, identities: int = 6, images: int = 4, size: tuple[int, int] = (16, 32)) -> Path:
    """A small noisy set in Market-1501's layout: train and test persons are different, two cameras."""
    rng = np.random.default_rng(7)
    for pid in range(1, 2 * identities + 1):
        color = rng.normal(128, 15, 3)
        for number in range(images):
            camera = 1 + number % 2
            light = rng.normal(0, 10, 3)  # people look alike, so that nothing scores 0 or 1
            pixels = np.clip(color + light + rng.normal(0, 20, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
            folders = ["bounding_box_train"] if pid <= identities else ["bounding_box_test"]
            if pid > identities and number == 0:
                folders = ["query"]
            for folder in folders:
                path = root / folder / f"{pid:04d}_c{camera}s1_{number:06d}_00.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


def make_msmt17(root: Path, version: int = 1) -> Path:
    """Images named as MSMT17's are, two people in each half."""
    folders = ("train", "test") if version == 1 else ("mask_train_v2", "mask_test_v2")
    people = {
        "list_train.txt": ("0001/0001_002_14_0303noon_0056_0.jpg 1", "0000/0000_000_01_0303morning_0015_0.jpg 0"),
        "list_val.txt": ("0000/0000_001_05_0303morning_0016_1.jpg 0",),
        "list_query.txt": ("0000/0000_000_03_0303morning_0020_0.jpg 0",),
        "list_gallery.txt": ("0000/0000_001_15_0303night_1021_2.jpg 0", "0001/0001_000_03_0302noon_1_1.jpg 1"),
    }
    for name, lines in people.items():
        folder = folders[name in ("list_query.txt", "list_gallery.txt")]
        for line in lines:
            draw_image(root / folder / line.split()[0])
        (root / name).write_text("\n".join(lines) + "\n")
    return root


def make_tracked_market(root: Path, *, identities: int = 6, images: int = 3) -> Path:
    """A small noisy set in Market-1501's folders with the names of MARS: two tracklets per person and camera."""
    rng = np.random.default_rng(11)
    for pid in range(1, 2 * identities + 1):
        color = rng.normal(128, 6, 3)
        for tracklet in range(1, 5):
            camera = 1 + tracklet % 2
            folder = "bounding_box_train" if pid <= identities else "query" if tracklet == 1 else "bounding_box_test"
            for frame in range(1, images + 1):
                light = rng.normal(0, 12, 3)  # people look alike, so that nothing scores 0 or 1
                pixels = np.clip(color + light + rng.normal(0, 25, (32, 16, 3)), 0, 255).astype(np.uint8)
                path = root / folder / f"{pid:04d}C{camera}T{tracklet:04d}F{frame:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root
