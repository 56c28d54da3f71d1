"""A small drawn set, and what can be broken in it."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageFilter

from reid_accel.synthetic.market import SyntheticMarket, write_synthetic_market

SMALL = SyntheticMarket(train_identities=24, test_identities=8, num_cameras=4, distractors=6, junk=5, seed=3)
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"


def draw_clean(folder: Path) -> Path:
    """The set as drawn, in Market-1501's layout, without its attributes."""
    market = write_synthetic_market(SMALL, folder) / "market"
    (market / "market_attribute.mat").unlink()
    return market


def named(root: Path, split: str, number: int) -> Path:
    """An image of a person by its place among those of its split."""
    return sorted(path for path in (root / split).iterdir() if path.name[0] != "-" and path.name[:4] != "0000")[number]


def somebody(root: Path) -> int:
    """A training person whose images nothing else here breaks."""
    return int(named(root, TRAIN, -1).name[:4])


def renamed(path: Path, *, person: int | None = None, camera: int | None = None, box: int = 99) -> str:
    """The name of an image with another person or camera."""
    start, rest = path.name.split("_c", 1)
    old_camera, rest = rest.split("s", 1)
    pid = start if person is None else f"{person:04d}"
    return f"{pid}_c{camera or old_camera}s{rest[: rest.rindex('_')]}_{box:02d}{path.suffix}"


def changed(path: Path, change: Callable[[Image.Image], Image.Image]) -> Path:
    """Store an image again after a change."""
    with Image.open(path) as image:
        new = change(image.convert("RGB"))
    new.save(path, quality=95)
    return path


def stored_again(path: Path, to: Path, quality: int = 60) -> Path:
    """A copy with other bytes and nearly the same pixels."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "JPEG", quality=quality)
    to.write_bytes(buffer.getvalue())
    return to


def copy(path: Path, folder: Path, name: str) -> Path:
    """A copy with the same bytes."""
    return Path(shutil.copy(path, folder / name))


def person_in_both(root: Path) -> Path:
    first, tested = named(root, TRAIN, 0), named(root, GALLERY, 0)
    of_person = sorted((root / TRAIN).glob(f"{first.name[:4]}_*"))
    moved = [path.rename(path.with_name(tested.name[:4] + path.name[4:])) for path in of_person]
    return moved[0]


def copy_in_train_and_test(root: Path) -> Path:
    return copy(path := named(root, GALLERY, 3), root / TRAIN, renamed(path, person=somebody(root), box=98))


def copy_in_query_and_gallery(root: Path) -> Path:
    return copy(named(root, QUERY, 2), root / GALLERY, named(root, QUERY, 2).name)


def near_copy_in_train_and_test(root: Path) -> Path:
    path = named(root, GALLERY, 7)
    return stored_again(path, root / TRAIN / renamed(path, person=somebody(root)))


def copy_of_two_people(root: Path) -> Path:
    return copy(path := named(root, TRAIN, 10), root / TRAIN, renamed(path, person=somebody(root)))


def near_copy_of_two_people(root: Path) -> Path:
    path = named(root, TRAIN, 20)
    return stored_again(path, root / TRAIN / renamed(path, person=somebody(root)))


def copy_in_one_split(root: Path) -> Path:
    return copy(path := named(root, TRAIN, 30), root / TRAIN, renamed(path))


def cut_off(root: Path) -> Path:
    path = named(root, TRAIN, 40)
    path.write_bytes(path.read_bytes()[:200])
    return path


def one_color(root: Path) -> Path:
    return changed(named(root, TRAIN, 41), lambda image: Image.new("RGB", image.size, (9, 90, 200)))


def nearly_black(root: Path) -> Path:
    return changed(named(root, TRAIN, 42), lambda image: image.point(lambda value: value // 40))


def tiny(root: Path) -> Path:
    return changed(named(root, TRAIN, 43), lambda image: image.resize((8, 16)))


def gray(root: Path) -> Path:
    return changed(named(root, TRAIN, 44), lambda image: image.convert("L").convert("RGB"))


def odd_shape(root: Path) -> Path:
    return changed(named(root, TRAIN, 45), lambda image: image.resize((256, 64)))


def blurred(root: Path) -> Path:
    return changed(named(root, TRAIN, 46), lambda image: image.filter(ImageFilter.GaussianBlur(4)))


def one_image(root: Path) -> Path:
    return copy_changed(root, 47, person=904)


def copy_changed(root: Path, number: int, person: int, camera: int | None = None) -> Path:
    """An image of another look under a person's number."""
    path = named(root, TRAIN, number)
    copied = copy(path, root / TRAIN, renamed(path, person=person, camera=camera))
    return changed(copied, lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).crop((3, 4, 61, 122)))


def one_camera(root: Path) -> Path:
    copy_changed(root, 48, person=905, camera=2)
    return copy_changed(root, 53, person=905, camera=2)


def query_without_match(root: Path) -> Path:
    path = named(root, QUERY, 5)
    return path.rename(path.with_name(renamed(path, person=906)))


def query_of_nobody(root: Path) -> Path:
    path = named(root, QUERY, 6)
    return path.rename(path.with_name(renamed(path, person=0)))


def camera_in_other_colors(root: Path) -> Path:
    for folder in (TRAIN, QUERY, GALLERY):
        for path in sorted((root / folder).glob("*_c3s*")):
            changed(path, lambda image: Image.merge("RGB", [band.point(shift) for band, shift in zip(image.split(),
                    (lambda v: v // 2, lambda v: v, lambda v: min(255, v + 70)), strict=True)]))  # fmt: skip
    return root


BREAKS: dict[str, Callable[[Path], Path]] = {
    "people-in-train-and-test": person_in_both,
    "copies-in-train-and-test": copy_in_train_and_test,
    "copies-in-query-and-gallery": copy_in_query_and_gallery,
    "near-copies-in-train-and-test": near_copy_in_train_and_test,
    "copies-of-two-people": copy_of_two_people,
    "near-copies-of-two-people": near_copy_of_two_people,
    "copies": copy_in_one_split,
    "unreadable": cut_off,
    "empty": nearly_black,
    "tiny": tiny,
    "gray": gray,
    "odd-shape": odd_shape,
    "blurred": blurred,
    "people-with-one-image": one_image,
    "people-of-one-camera": one_camera,
    "queries-without-match": query_without_match,
    "queries-of-nobody": query_of_nobody,
    "camera-colors": camera_in_other_colors,
}
"""What is found of each break, and how it is made."""
ERRORS = {"people-in-train-and-test", "copies-in-train-and-test", "copies-in-query-and-gallery", "queries-of-nobody"}
ERRORS |= {"near-copies-in-train-and-test"}
