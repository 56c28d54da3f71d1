"""`read_image` and its relatives: every kind of file that people and trackers have."""

import io
import os
import subprocess
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from helpers.made_images import chunk, header, write_png
from helpers.time_limit import within
from PIL import Image, TiffImagePlugin

from reid_accel.data import images
from reid_accel.data.images import LETTERBOX_COLOR, MAX_BYTES, MAX_PIXELS, image_size, read_crop, read_image
from reid_accel.data.pixel_budget import PixelBudget
from reid_accel.errors import InputError

ORIENTATION = 0x0112
UPRIGHT = {  # from the stored rows and columns to the upright ones (EXIF 2.32, table 6)
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def pixels(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def encoded(image: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize(("low", "high"), [(0, 65535), (29_000, 31_000), (0, 4000), (7, 8)])
@pytest.mark.parametrize("kind", ["I;16 png", "I;16 tif", "I;16B tif", "I tif", "F tif"])
def test_deep_gray_is_scaled_from_its_lowest_value_to_its_highest(
    tmp_path: Path, kind: str, low: int, high: int
) -> None:
    values = np.random.default_rng(0).integers(low, high + 1, (20, 10))
    values[0, :2] = low, high
    mode, suffix = kind.split()
    dtype = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}[mode]
    image = Image.fromarray(values.astype(dtype))
    assert image.mode == mode
    image.save(tmp_path / f"image.{suffix}")
    expected = np.rint((values - low) * 255 / (high - low))
    assert np.array_equal(pixels(tmp_path / f"image.{suffix}"), np.repeat(expected[..., None], 3, 2))


def test_values_that_are_not_finite_count_as_the_lowest(tmp_path: Path) -> None:
    values = np.array([[2.0, 3.0, np.nan], [4.0, np.inf, -np.inf]], np.float32)
    Image.fromarray(values).save(tmp_path / "depth.tif")
    assert pixels(tmp_path / "depth.tif")[..., 0].tolist() == [[0, 128, 0], [255, 0, 0]]
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(tmp_path / "none.tif")
    assert not pixels(tmp_path / "none.tif").any()
    Image.fromarray(np.array([[-3e38, 3e38]], np.float32)).save(tmp_path / "far.tif")
    assert pixels(tmp_path / "far.tif")[0, :, 0].tolist() == [0, 255]


def test_where_white_is_zero_deep_gray_is_inverted_as_8_bits_are(tmp_path: Path) -> None:
    values = np.array([[0, 32896, 65535]], np.uint16)
    inverted = TiffImagePlugin.ImageFileDirectory_v2()
    inverted[262] = 0
    Image.fromarray(values).save(tmp_path / "16.tif", tiffinfo=inverted)
    assert pixels(tmp_path / "16.tif")[0, :, 0].tolist() == [255, 127, 0]


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bits_per_channel_keep_their_upper_half(tmp_path: Path, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (6, 5, channels)).astype(np.uint16)
    if channels != 3:
        values[..., -1] = 65535
    seen = values[..., : channels - 1] if channels != 3 else values
    assert np.array_equal(pixels(write_png(tmp_path / "a.png", values)), np.broadcast_to(seen >> 8, (6, 5, 3)))


def test_what_a_transparent_pixel_hides_does_not_matter(tmp_path: Path) -> None:
    opacity = noise(20, 10, 1)
    opacity[:5], opacity[5:10] = 0, 255
    shown = noise(20, 10, 3, seed=1)
    for seed, kind in ((2, "png"), (3, "webp"), (4, "tif")):
        hidden = np.where(opacity == 0, noise(20, 10, 3, seed=seed), shown)
        image = Image.fromarray(np.concatenate([hidden, opacity], 2))
        image.save(tmp_path / f"a.{kind}", **({"lossless": True, "exact": True} if kind == "webp" else {}))
        found = pixels(tmp_path / f"a.{kind}")
        share = opacity / 255
        assert np.abs(found - (share * shown + (1 - share) * LETTERBOX_COLOR)).max() <= 1, kind
        assert np.array_equal(found[5:10], shown[5:10]), kind
        assert (found[:5] == LETTERBOX_COLOR).all(), kind


def test_transparency_of_palettes_and_single_colors_is_heeded(tmp_path: Path) -> None:
    palette = Image.fromarray(np.arange(4, dtype=np.uint8)[None])
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]
    clear = LETTERBOX_COLOR
    for name, transparency, expected in (
        ("one.png", 1, [colors[0], clear, *colors[2:]]),
        ("one.gif", 1, [colors[0], clear, *colors[2:]]),
        ("two.png", bytes([0, 255, 0, 255]), [clear, colors[1], clear, colors[3]]),
    ):
        palette.save(tmp_path / name, transparency=transparency)
        assert [tuple(pixel) for pixel in pixels(tmp_path / name)[0]] == expected, name
    gray = Image.fromarray(np.array([[7, 8]], np.uint8))
    gray.save(tmp_path / "gray.png", transparency=7)
    assert pixels(tmp_path / "gray.png")[0].tolist() == [list(clear), [8, 8, 8]]
    gray.convert("RGB").save(tmp_path / "rgb.png", transparency=(8, 8, 8))
    assert pixels(tmp_path / "rgb.png")[0].tolist() == [[7, 7, 7], list(clear)]
    gray.convert("LA").save(tmp_path / "la.png")
    assert pixels(tmp_path / "la.png")[0].tolist() == [[7, 7, 7], [8, 8, 8]]


def test_colors_of_print_and_single_bits_are_those_seen(tmp_path: Path) -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for name in ("a.jpg", "a.tif"):
        red.save(tmp_path / name)
        assert np.abs(pixels(tmp_path / name).astype(int) - (255, 0, 0)).max() <= 2, name
    bits = Image.fromarray(noise(8, 8) > 127)
    for name in ("b.png", "b.bmp", "b.tif"):
        bits.save(tmp_path / name)
        assert np.array_equal(pixels(tmp_path / name)[..., 0], 255 * np.asarray(bits)), name


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tif", "mpo"])
def test_of_several_images_the_first_is_read(tmp_path: Path, kind: str) -> None:
    first, *others = (Image.new("RGB", (8, 16), color) for color in ("red", "blue", "lime"))
    first.save(tmp_path / f"a.{kind}", save_all=True, append_images=others)
    with Image.open(tmp_path / f"a.{kind}") as several:
        assert several.n_frames == 3
    assert np.abs(pixels(tmp_path / f"a.{kind}").astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
def test_images_are_upright_as_exif_says(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image, path = Image.fromarray(noise(24, 16, 3)), tmp_path / f"a.{kind}"
    image.save(path)
    stored = pixels(path)
    image.save(path, exif=exif)
    upright = UPRIGHT[orientation](stored)
    assert np.array_equal(pixels(path), upright)
    assert image_size(path) == upright.shape[1::-1]
    column = datasets.Image().decode_example({"path": str(path), "bytes": None})
    assert np.array_equal(np.asarray(column), upright), "the column of the datasets library agrees"


def test_deep_gray_and_transparent_images_are_upright_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for name, image in (
        ("deep.png", Image.fromarray(np.arange(0, 51_000, 1000).astype(np.uint16).reshape(3, 17))),
        ("alpha.png", Image.fromarray(noise(3, 17, 4))),
    ):
        image.save(tmp_path / name)
        stored = pixels(tmp_path / name)
        image.save(tmp_path / name, exif=exif)
        assert np.array_equal(pixels(tmp_path / name), UPRIGHT[6](stored))


def test_a_pngs_orientation_may_follow_its_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = noise(4, 6, 3)
    path = write_png(tmp_path / "a.png", stored, after=chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    assert np.array_equal(pixels(path), UPRIGHT[6](stored))


EXIF = [b"", b"garbage", b"II*\0\xff\xff\xff\xff", b"MM\0*\0", b"II*\0\x08\0\0\0\x05\0\x12\x01"]


@pytest.mark.parametrize("exif", EXIF)
@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_data_do_not_matter(tmp_path: Path, exif: bytes) -> None:
    Image.fromarray(noise(24, 16, 3)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    assert pixels(tmp_path / "a.jpg").shape == (24, 16, 3)
    assert image_size(tmp_path / "a.jpg") == (16, 24)


def test_orientations_that_do_not_exist_do_not_matter(tmp_path: Path) -> None:
    for orientation in (0, 9, 65535):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        Image.fromarray(noise(24, 16, 3)).save(tmp_path / "a.jpg", exif=exif)
        assert pixels(tmp_path / "a.jpg").shape == (24, 16, 3)
        assert image_size(tmp_path / "a.jpg") == (16, 24)


FOREIGN = ("EPS", "ICO", "PPM", "TGA", "JPEG2000", "SGI", "PCX", "MSP", "SPIDER", "XBM", "DDS", "BLP", "AVIF")


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_are_refused_without_starting_a_program(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode = {"MSP": "1", "XBM": "1", "SPIDER": "F", "BLP": "P"}.get(kind, "RGB")
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    (tmp_path / "0001_c1s1_000001_00.jpg").write_bytes(encoded(Image.fromarray(noise(16, 16, 3)).convert(mode), kind))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(InputError, match=r"cannot read the image .*: it is none of JPEG, PNG, BMP, WEBP, GIF, TIFF"):
        read_image(tmp_path / "0001_c1s1_000001_00.jpg")


def test_a_real_postscript_file_named_jpg_is_refused(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(InputError, match="it is none of"):
        read_image(shared_data / "hostile" / "postscript.jpg")


def good_files() -> dict[str, bytes]:
    color = Image.fromarray(noise(24, 16, 3))
    clear, exif = color.copy(), Image.Exif()
    clear.putalpha(100)
    exif[ORIENTATION] = 6
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 65536, (24, 16)).astype(np.uint16))
    return {
        "jpeg": encoded(color, "JPEG", exif=exif),
        "progressive jpeg": encoded(color, "JPEG", progressive=True),
        "cmyk jpeg": encoded(color.convert("CMYK"), "JPEG"),
        "png": encoded(color, "PNG", exif=exif),
        "animated png": encoded(clear, "PNG", save_all=True, append_images=[clear]),
        "deep png": encoded(deep, "PNG"),
        "palette png": encoded(color.convert("P"), "PNG", transparency=bytes(9)),
        "bmp": encoded(color, "BMP"),
        "palette bmp": encoded(color.convert("P"), "BMP"),
        "webp": encoded(clear, "WEBP", exif=exif),
        "animated webp": encoded(color, "WEBP", lossless=True, save_all=True, append_images=[clear]),
        "gif": encoded(color.convert("P"), "GIF", transparency=3),
        "animated gif": encoded(color, "GIF", save_all=True, append_images=[clear]),
        "tiff": encoded(color, "TIFF", exif=exif),
        "deep tiff": encoded(deep, "TIFF", compression="tiff_deflate"),
        "float tiff": encoded(color.convert("F"), "TIFF"),
        "jpeg tiff": encoded(color, "TIFF", compression="jpeg"),
        "lzw tiff": encoded(clear, "TIFF", compression="tiff_lzw"),
        "fax tiff": encoded(color.convert("1"), "TIFF", compression="group4"),
    }


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged metadata
@pytest.mark.parametrize(("kind", "good"), good_files().items(), ids=good_files())
def test_broken_files_are_read_or_end_in_a_sentence(tmp_path: Path, kind: str, good: bytes) -> None:
    rng, path, read = np.random.default_rng(zlib.crc32(kind.encode())), tmp_path / "a.jpg", 0
    path.write_bytes(good)
    assert pixels(path).shape in {(24, 16, 3), (16, 24, 3)}
    for trial in range(120):
        broken = bytearray(good[: rng.integers(len(good))] if trial % 4 == 0 else good)
        for place in rng.integers(min(len(broken), 300), size=rng.integers(1, 12)) if trial % 4 and broken else ():
            broken[place] = rng.choice([0, 127, 255, rng.integers(256)])
        path.write_bytes(broken)
        with suppress(InputError):
            pixels(path)
            read += 1
    assert read < 100, "most are refused"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("empty", "the file is empty"),
        ("text", "it is none of JPEG"),
        ("absent", "No such file"),
        ("dangling link", "No such file"),
        ("links in a circle", "Too many levels of symbolic links"),
        ("folder", "Is a directory"),
        ("FIFO", "not a regular file"),
        ("device", "not a regular file"),
        ("no pixels", "cannot read the image"),
    ],
)
@pytest.mark.parametrize("read", [read_image, read_crop, image_size])
def test_whatever_bears_an_images_name_ends_in_a_sentence(tmp_path: Path, kind: str, sentence: str, read: Any) -> None:
    path = tmp_path / "a.jpg"
    make = {
        "empty": path.touch,
        "text": lambda: path.write_text("hello"),
        "absent": lambda: None,
        "dangling link": lambda: path.symlink_to("nowhere.jpg"),
        "links in a circle": lambda: path.symlink_to("a.jpg"),
        "folder": path.mkdir,
        "FIFO": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "no pixels": lambda: path.write_bytes(header(0, 5) + chunk(b"IEND", b"")),
    }
    make[kind]()
    with within(5), pytest.raises(InputError, match=rf"cannot read the image .*a\.jpg: .*{sentence}|{sentence}"):
        read(path)


def test_names_are_escaped_in_errors(tmp_path: Path) -> None:
    for name, text in ((b"a\xff.jpg", r"a\xff.jpg"), (b"\x1b[2Jb\n.jpg", r"\x1b[2Jb\n.jpg")):
        with pytest.raises(InputError) as refused:
            read_image(tmp_path / os.fsdecode(name))
        assert str(refused.value).startswith(f"cannot read the image {tmp_path}/{text}: ")


def test_a_data_sets_image_must_have_a_name_in_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\xff.png")
    Image.fromarray(noise(8, 8, 3)).save(path)
    assert read_image(path).size == (8, 8)
    with pytest.raises(InputError, match=r"a\\xff\.png: its name is not UTF-8; rename it"):
        read_crop(path)


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "F", "1", "P", "RGBA", "CMYK"])
def test_a_data_sets_image_of_one_color_is_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    image = Image.new(mode, (16, 32), 1 if mode in ("I;16", "F", "1", "L", "P") else "gray")
    image.save(path)
    with pytest.raises(InputError, match=r"cannot use the image .*a\.tif: all its pixels have the same color"):
        read_crop(path)
    image.putpixel(
        (3, 4), 0 if mode in ("I;16", "F", "1", "L") else 3 if mode == "P" else (255, 0, 0, 200)[: len(mode)]
    )
    if mode == "P":
        image.putpalette(range(12))
    image.save(path)
    assert read_crop(path).size == (16, 32), "the control: one other pixel"


def test_a_large_image_is_refused_by_its_header(tmp_path: Path) -> None:
    width = MAX_PIXELS // 4096
    for columns, reason in ((width + 1, f"{width + 1} x 4096 pixels, more than 33,554,432"), (width, "truncated")):
        (tmp_path / "a.png").write_bytes(header(columns, 4096) + chunk(b"IDAT", zlib.compress(b"\0" * 100)))
        with pytest.raises(InputError, match=reason):
            read_image(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(header(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", b""))
    with pytest.raises(InputError, match="cannot read the image"):
        read_image(tmp_path / "a.png")
    with (tmp_path / "b.webp").open("wb") as file:
        file.write(encoded(Image.fromarray(noise(8, 8, 3)), "WEBP"))
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match=r"the file has 268,435,457 bytes, more than 268,435,456"):
        read_image(tmp_path / "b.webp")


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_text_in_a_png_is_not_expanded_without_bounds(tmp_path: Path, kind: bytes) -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(256)) + packer.flush()
    start = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    path = write_png(tmp_path / "a.png", noise(4, 4, 3), before=chunk(kind, start + bomb))
    seen = peak_growth(path)
    assert seen < 100, f"{seen} MB"


def peak_growth(path: Path) -> int:
    """By how many MB reading a file raises a fresh process's memory."""
    script = f"""
import resource, pathlib
from reid_accel.data.images import read_image
from reid_accel.errors import InputError
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try:
    read_image(pathlib.Path({str(path)!r}))
except InputError:
    pass
print(peak() - before)
"""
    done = subprocess.run(["python", "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return int(done.stdout)


def test_threads_decode_no_more_pixels_at_once_than_the_budget() -> None:
    budget, lock, now, most = PixelBudget(100), threading.Lock(), [0], [0]
    sizes = np.random.default_rng(0).integers(1, 101, 300).tolist()

    def decode(pixels: int) -> None:
        with budget.taken(pixels):
            with lock:
                now[0] += pixels
                most[0] = max(most[0], now[0])
            threading.Event().wait(0.001)
            with lock:
                now[0] -= pixels

    with within(60), ThreadPoolExecutor(16) as pool:
        list(pool.map(decode, sizes))
    assert most[0] <= 100
    assert most[0] > max(sizes) - 1, "several at once, or the largest"
    with pytest.raises(KeyError), budget.taken(100):
        raise KeyError
    with budget.taken(100):
        pass  # freed after the error


def test_an_image_takes_its_pixels_from_the_budget_while_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = PixelBudget(8 * 8)
    monkeypatch.setattr(images, "DECODING", budget)
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "a.png")
    with budget.taken(1), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(read_image, tmp_path / "a.png")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
        budget._free += 1  # as if another image were done
        with budget._changed:
            budget._changed.notify_all()
        assert waiting.result(timeout=10).size == (8, 8)
        budget._free -= 1
