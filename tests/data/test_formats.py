"""The image formats that people have, in every form of a data set."""

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import pytest
from helpers.made_mot import make_sequence, write_boxes
from helpers.made_sets import draw_image
from PIL import Image

from reid_accel.config.schema import DataConfig
from reid_accel.data.forms.mot import Mot, Selection
from reid_accel.data.images import read_crop
from reid_accel.data.listing import UNSPLIT, Listing
from reid_accel.data.reading import check_dataset, read_dataset
from reid_accel.errors import InputError

Pixels = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 40, 24


def noise(seed: int, channels: int = 3) -> Pixels:
    """A picture of blocks, which lossy formats keep nearly as they are."""
    blocks = np.random.default_rng(seed).integers(0, 255, (HEIGHT // 8, WIDTH // 8, channels), dtype=np.uint8)
    return blocks.repeat(8, 0).repeat(8, 1)


def encoded(image: Image.Image, kind: str, **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def turned(seed: int) -> bytes:
    """A JPEG that lies on its side and says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.fromarray(noise(seed)).transpose(Image.Transpose.ROTATE_90)
    return encoded(lying, "JPEG", quality=100, subsampling=0, exif=exif)


def deep(seed: int) -> bytes:
    """16 bits of gray, from 1000 to 1000 + 255 * 16."""
    gray = noise(seed)[..., 0].astype(np.uint16)
    gray[0, 0], gray[-1, -1] = 0, 255
    return encoded(Image.fromarray(1000 + 16 * gray), "PNG")


def clear(seed: int) -> bytes:
    """A palette with a transparent color."""
    return encoded(Image.fromarray(noise(seed)).quantize(16), "PNG", transparency=0)


def moving(seed: int) -> bytes:
    frames = [Image.fromarray(noise(seed + n)).quantize(64) for n in range(3)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def plain(kind: str, **more: object) -> Callable[[int], bytes]:
    return lambda seed: encoded(Image.fromarray(noise(seed)), kind, **more)


KINDS: Mapping[str, tuple[str, Callable[[int], bytes]]] = {
    "jpeg": (".jpeg", plain("JPEG", quality=100, subsampling=0)),
    "capitals": (".JPG", plain("JPEG", quality=100, subsampling=0)),
    "jfif": (".jfif", plain("JPEG", quality=100, subsampling=0)),
    "png": (".png", plain("PNG")),
    "bmp": (".bmp", plain("BMP")),
    "webp": (".webp", plain("WEBP", lossless=True)),
    "tif": (".tif", plain("TIFF", compression="tiff_lzw")),
    "another ending": (".png", plain("JPEG", quality=100, subsampling=0)),
    "turned": (".jpg", turned),
    "cmyk": (".jpg", lambda seed: encoded(Image.fromarray(noise(seed)).convert("CMYK"), "JPEG", quality=100)),
    "deep": (".png", deep),
    "transparent": (".png", clear),
    "animated": (".gif", moving),
}


def looks_right(kind: str, seed: int, image: Image.Image) -> bool:
    """Whether a picture shows what was drawn, as far as the format keeps it."""
    found, drawn = np.asarray(image).astype(int), noise(seed).astype(int)
    if found.shape != drawn.shape:
        return False
    if kind == "deep":
        drawn[..., :] = drawn[..., :1]
        drawn[0, 0], drawn[-1, -1] = 0, 255
    if kind == "transparent":
        shown = Image.open(io.BytesIO(clear(seed)))
        seen = np.asarray(shown) != 0
        return bool((np.abs(found - drawn)[seen] <= 60).all() and (found[~seen] == (124, 116, 104)).all())
    limit = 60 if kind == "animated" else 12
    return bool((np.abs(found - drawn) <= limit).all())


JUNK = ("._1.jpg", "Thumbs.db", ".DS_Store", ".hidden.png", "desktop.ini")


def litter(folder: Path) -> None:
    """What systems leave in a folder of images."""
    for name in JUNK:
        (folder / name).write_bytes(b"no image")
    draw_image(folder / ".hidden" / "7.png")


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def as_market(root: Path, ending: str, contents: list[bytes]) -> DataConfig:
    folders = ("bounding_box_train", "query", "bounding_box_test")
    for number, content in enumerate(contents):
        write(root / folders[number] / f"{number + 1:04d}_c1_{number}{ending}", content)
    for folder in folders:
        litter(root / folder)
    return DataConfig(name="market-layout", root=str(root))


def as_veri(root: Path, ending: str, contents: list[bytes]) -> DataConfig:
    folders = ("image_train", "image_query", "image_test")
    for number, content in enumerate(contents):
        write(root / folders[number] / f"{number + 1:04d}_c001_0000000{number}_0{ending}", content)
        litter(root / folders[number])
    return DataConfig(name="veri", root=str(root))


def as_vehicleid(root: Path, ending: str, contents: list[bytes]) -> DataConfig:
    for number, content in enumerate(contents):
        write(root / "image" / f"{number:07d}{ending}", content)
    litter(root / "image")
    (root / "train_test_split").mkdir()
    (root / "train_test_split" / "train_list.txt").write_text(f"0000000{ending} 1\n")
    (root / "train_test_split" / "test_list_800.txt").write_text(f"0000001{ending} 2\n0000002{ending} 2\n")
    return DataConfig(name="vehicleid", root=str(root))


def as_folders(root: Path, ending: str, contents: list[bytes]) -> DataConfig:
    for number, content in enumerate(contents):
        split = ("train", "query", "gallery")[number]
        litter(write(root / split / f"person {number} [ä]" / f"a (b) 日本 {number}{ending}", content).parent)
        (root / split / "empty").mkdir()
    return DataConfig(name="folders", root=str(root))


def as_table(root: Path, ending: str, contents: list[bytes]) -> DataConfig:
    lines = ["path,person,split"]
    for number, content in enumerate(contents):
        split = ("train", "query", "gallery")[number]
        litter(write(root / "images" / f"a (b) 日本 {number}{ending}", content).parent)
        lines.append(f"images/a (b) 日本 {number}{ending},person {number},{split}")
    write(root / "people.csv", "\n".join(lines).encode())
    return DataConfig(name="table", root=str(root / "people.csv"))


def as_mot(root: Path, ending: str, contents: list[bytes]) -> DataConfig:
    for number, content in enumerate(contents, 1):
        write(root / "img1" / f"{number:06d}{ending}", content)
    litter(root / "img1")
    write_boxes(root, [f"{number},{number},1,1,{WIDTH},{HEIGHT}" for number in range(1, len(contents) + 1)])
    return DataConfig(name="mot", root=str(root), every=1)


def as_hub_folder(root: Path, ending: str, contents: list[bytes]) -> DataConfig:
    for number, content in enumerate(contents):
        split = ("train", "query", "gallery")[number]
        litter(write(root / "data" / split / f"person {number}" / f"a (b) 日本 {number}{ending}", content).parent)
        draw_image(root / "data" / split / "other" / "1.png")  # of one person alone, the library makes no label
    return DataConfig(name="hub", root=str(root / "data"))


def as_hub_tables(root: Path, ending: str, contents: list[bytes]) -> DataConfig:
    tables = {
        split: datasets.Dataset.from_dict(
            {"image": [{"bytes": content, "path": f"{number}{ending}"}], "person": [number]}
        ).cast_column("image", datasets.Image())
        for number, (split, content) in enumerate(zip(("train", "query", "gallery"), contents, strict=True))
    }
    datasets.DatasetDict(tables).save_to_disk(str(root / "data"))
    return DataConfig(name="hub", root=str(root / "data"))


FORMS = {
    "market-layout": as_market,
    "veri": as_veri,
    "vehicleid": as_vehicleid,
    "folders": as_folders,
    "table": as_table,
    "mot": as_mot,
    "hub (folder)": as_hub_folder,
    "hub (tables)": as_hub_tables,
}


def listing_of(form: str, root: Path, ending: str, contents: list[bytes]) -> Listing:
    config = FORMS[form](root, ending, contents)
    config = DataConfig(**{**vars(config), "cache_dir": str(root.parent / "cache")})
    check_dataset(config)
    if form == "mot":  # a person of one image cannot be scored
        from reid_accel.data.reading import layout_of

        return layout_of(config).read(root)
    return read_dataset(config)


@pytest.mark.parametrize("form", FORMS)
def test_pictures_of_all_formats_are_upright_rgb_in_every_form(form: str, tmp_path: Path) -> None:
    for number, (kind, (ending, make)) in enumerate(KINDS.items()):
        seeds = [10 * number, 10 * number + 3, 10 * number + 6]
        root = tmp_path / kind / "set"
        listing = listing_of(form, root, ending, [make(seed) for seed in seeds])
        pictures = [read_crop(image.path) for images in listing.splits.values() for image in images]
        assert len(pictures) == (6 if form == "hub (folder)" else 3), (kind, listing)
        for seed in seeds:
            assert sum(looks_right(kind, seed, picture) for picture in pictures) == 1, (kind, seed)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 40\n(ran) (w) file closefile\nshowpage\n"


@pytest.mark.parametrize("form", FORMS)
def test_postscript_is_not_interpreted_in_any_form(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = write(tmp_path / "bin" / "gs", b"#!/bin/sh\ntouch " + os.fsencode(tmp_path / "ran") + b"\n")
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", f"{interpreter.parent}:{os.environ['PATH']}")
    good = KINDS["jpeg"][1]
    contents = [POSTSCRIPT, good(1), good(2)]
    if form == "mot":
        with pytest.raises(InputError, match=r"000001\.jpg: it is none of JPEG, PNG"):
            listing_of(form, tmp_path / "set", ".jpg", contents)
    else:
        listing = listing_of(form, tmp_path / "set", ".jpg", contents)
        images = [image for images in listing.splits.values() for image in images]
        postscript = [image.path for image in images if image.path.read_bytes() == POSTSCRIPT]
        assert len(postscript) == 1
        with pytest.raises(InputError, match="it is none of JPEG, PNG"):
            read_crop(postscript[0])
    assert not (tmp_path / "ran").exists()


def test_links_that_lead_around_end_and_count_no_image_twice(tmp_path: Path) -> None:
    contents = [KINDS["png"][1](seed) for seed in (1, 2, 3)]
    for form, link in (("hub (folder)", "data/again"), ("hub (folder)", "data/train/again")):
        config = FORMS[form](tmp_path / link.replace("/", " ") / "set", ".png", contents)
        before = read_dataset(config)
        (tmp_path / link.replace("/", " ") / "set" / link).symlink_to(tmp_path / link.replace("/", " ") / "set")
        assert read_dataset(config).splits == before.splits
    make_sequence(tmp_path / "mot" / "A", frames=2)
    (tmp_path / "mot" / "again").symlink_to(tmp_path / "mot")
    listing = Mot(tmp_path / "cache", Selection(every=1)).read(tmp_path / "mot")
    assert len(listing.splits[UNSPLIT]) == 6
    assert listing.warnings[0].endswith("sequences are left out as copies of others: again-A, again-again-A")


def test_names_that_are_not_utf8_are_a_sentence(tmp_path: Path) -> None:
    contents = [KINDS["png"][1](seed) for seed in (1, 2, 3)]
    config = as_hub_folder(tmp_path / "hub", ".png", contents)
    Path(os.fsdecode(os.fsencode(str(config.root)) + b"/train/other/\xff.png")).write_bytes(contents[0])
    with pytest.raises(InputError, match=r"cannot be opened as a data set"):
        read_dataset(config)
    folder = Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff"))
    make_sequence(tmp_path / "S", frames=2).rename(folder)
    with pytest.raises(InputError, match=r"the folder name \\xff is not UTF-8; rename it"):
        Mot(tmp_path / "cache").check(folder)


def test_long_names_are_read(tmp_path: Path) -> None:
    root = make_sequence(tmp_path / ("n" * 250), frames=2)
    images = Mot(tmp_path / "cache", Selection(every=1)).read(root).splits[UNSPLIT]
    assert images[0].name == f"{'n' * 250}_0001_000001.png"
    assert read_crop(images[0].path).size == (20, 48)
