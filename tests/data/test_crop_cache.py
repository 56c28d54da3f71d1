import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.made_images import chunk, write_png
from helpers.made_sets import draw_image
from helpers.time_limit import within
from PIL import Image

from reid_accel.data import crop_cache, images
from reid_accel.data.crop_cache import CROPS_FILE, INDEX_FILE, CropCache, Decoding, open_crop_cache
from reid_accel.data.dataset import decode_images
from reid_accel.data.images import ImageSize, read_image, to_pixels
from reid_accel.data.listing import fingerprint_of, list_images, unlabeled_images
from reid_accel.data.pixel_budget import PixelBudget
from reid_accel.errors import InputError
from reid_accel.files import with_checksum, write_json

SIZE = SimpleNamespace(height_px=32, width_px=16, interpolation="bilinear", fit="stretch")


def noise_images(folder: Path, number: int, size: tuple[int, int] = (20, 40)) -> list[Path]:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:05d}.png" for index in range(number)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    return paths


def opened(
    paths: list[Path],
    cache: Path,
    fingerprint: str = "f",
    on_bad_image: str = "error",
    size: ImageSize = SIZE,
) -> CropCache:
    return open_crop_cache(paths, Decoding(size, cache, on_bad_image), fingerprint)


def test_rows_are_the_images_in_order(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 130)
    cache = opened(paths, tmp_path / "cache")
    rows = np.array([129, 0, 64, 0])
    expected = np.stack([to_pixels(read_image(paths[row]), SIZE) for row in rows])
    assert np.array_equal(cache.gather(rows).numpy(), expected)


def test_second_opening_reads_no_image(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 3)
    first = opened(paths, tmp_path / "cache").crops_N3HW.copy()
    for path in paths:
        path.unlink()
    assert np.array_equal(opened(paths, tmp_path / "cache").crops_N3HW, first)
    with pytest.raises(InputError):  # the control: another fingerprint is another cache
        opened(paths, tmp_path / "cache", fingerprint="g")


def test_unreadable_images_stop_or_are_listed(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 5)
    paths[3].write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"00003\.png.*on-bad-image skip"):
        opened(paths, tmp_path / "cache")
    cache = opened(paths, tmp_path / "cache", on_bad_image="skip")
    assert list(cache.unreadable) == [3]
    assert "00003.png" in cache.unreadable[3]


DAMAGES = ("cut", "empty", "longer", "a folder", "a pickle", "no index", "bad index", "empty index", "deep index")
DAMAGES += ("NaN", "another version", "one wrong byte", "not arrays", "another unreadable row")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_reported_and_built_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    paths = noise_images(tmp_path / "images", 5)
    whole = opened(paths, tmp_path / "cache").crops_N3HW.copy()
    crops = next((tmp_path / "cache").rglob(CROPS_FILE))
    index = crops.parent / INDEX_FILE
    if damage == "another version":
        content = json.loads(index.read_text())
        write_json(index, with_checksum({**content, "format": content["format"] - 1}))
    elif damage == "one wrong byte":
        crops.write_bytes(crops.read_bytes()[:-100] + bytes([crops.read_bytes()[-100] ^ 1]) + crops.read_bytes()[-99:])
    elif damage == "not arrays":
        index.write_text("[]")
    elif damage == "cut":
        crops.write_bytes(crops.read_bytes()[:-100])
    elif damage == "no index":
        index.unlink()
    elif damage == "empty":
        crops.write_bytes(b"")
    elif damage == "longer":
        crops.write_bytes(crops.read_bytes() + b"x")
    elif damage == "a folder":
        crops.unlink()
        crops.mkdir()
    elif damage == "a pickle":
        crops.write_bytes(pickle.dumps(whole))
    elif damage == "another unreadable row":
        index.write_text(index.read_text().replace('"unreadable": {}', '"unreadable": {"2": "x"}'))
    else:
        index.write_text(
            {"bad index": "{", "empty index": "", "deep index": "[" * 10**5, "NaN": '{"format": 3, "a": NaN}'}[damage]
        )
    assert np.array_equal(opened(paths, tmp_path / "cache").crops_N3HW, whole)
    assert len(caplog.messages) == 1
    assert "decoding the images again" in caplog.text
    assert np.array_equal(opened(paths, tmp_path / "cache").crops_N3HW, whole)
    assert len(caplog.messages) == 1, "the second opening finds it undamaged"


def test_every_flipped_bit_of_the_header_and_the_index_is_noticed(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 3)
    opened(paths, tmp_path / "cache")
    crops = next((tmp_path / "cache").rglob(CROPS_FILE))
    for file, length in ((crops, 128), (crops.parent / INDEX_FILE, crops.parent.joinpath(INDEX_FILE).stat().st_size)):
        content = file.read_bytes()
        silent = []
        for bit in range(8 * length):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << (bit % 8)
            file.write_bytes(damaged)
            try:
                crop_cache._read(crops.parent, 3, verify=False)
                silent.append(bit)
            except crop_cache._UnusableError:
                pass
        file.write_bytes(content)
        crop_cache._read(crops.parent, 3, verify=True)
        unchanged = [bit for bit in silent if file is not crops and _means_the_same(content, bit)]
        assert silent == unchanged


def _means_the_same(content: bytes, bit: int) -> bool:
    """A flipped bit between JSON's words, e.g. a space that becomes a tab or a line feed."""
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << (bit % 8)
    return json.loads(damaged) == json.loads(content)


def build(paths: list[Path], cache: Path) -> None:
    opened(paths, cache)


def test_a_killed_build_leaves_nothing_that_is_taken_for_complete(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 400, size=(200, 400))
    process = multiprocessing.get_context("fork").Process(target=build, args=(paths, tmp_path / "cache"))
    process.start()
    deadline = time.monotonic() + 30
    while not list((tmp_path / "cache").rglob(f".*.part/{CROPS_FILE}")) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL, "the build was over before it could be killed"
    assert not [p for p in (tmp_path / "cache" / "crops").iterdir() if not p.name.startswith(".")]
    assert len(opened(paths, tmp_path / "cache").crops_N3HW) == 400


def test_two_builders_at_once_end_with_one_cache(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 200)
    context = multiprocessing.get_context("fork")
    builders = [context.Process(target=build, args=(paths, tmp_path / "cache")) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0, 0]
    assert len(list((tmp_path / "cache" / "crops").iterdir())) == 1


def test_a_cache_that_another_builder_has_just_finished_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, delete, finished = noise_images(tmp_path / "images", 20), shutil.rmtree, []

    def delete_after_another_build(folder: Path, **given: bool) -> None:
        if not finished:
            other = multiprocessing.get_context("fork").Process(target=build, args=(paths, tmp_path / "cache"))
            finished.append(other)
            other.start()
            other.join()
            finished[0] = caches(tmp_path)
        delete(folder, **given)

    monkeypatch.setattr(shutil, "rmtree", delete_after_another_build)
    opened(paths, tmp_path / "cache")
    assert len(finished[0]) == 1
    assert caches(tmp_path) == finished[0]


def caches(folder: Path) -> dict[str, int]:
    """Names and inode numbers of the complete caches: a replaced one has another number."""
    return {path.name: path.stat().st_ino for path in (folder / "cache" / "crops").glob("[!.]*")}


@pytest.mark.parametrize("damage", [True, False])
def test_of_two_builders_the_slower_one_uses_what_is_there_if_it_is_complete(
    tmp_path: Path, damage: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, there = noise_images(tmp_path / "images", 20), []

    def another_is_faster(*arguments: object) -> None:
        monkeypatch.undo()
        other = multiprocessing.get_context("fork").Process(target=build, args=(paths, tmp_path / "cache"))
        other.start()
        other.join()
        there.append(caches(tmp_path))
        if damage:
            next((tmp_path / "cache" / "crops").glob(f"[!.]*/{CROPS_FILE}")).write_bytes(b"damaged")
        write_json(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(crop_cache, "write_json", another_is_faster)
    made = opened(paths, tmp_path / "cache")
    assert len(there[0]) == 1
    assert (caches(tmp_path) == there[0]) == (not damage)
    assert np.array_equal(opened(paths, tmp_path / "cache").crops_N3HW, made.crops_N3HW)


def test_a_cache_that_cannot_be_written_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paths = noise_images(tmp_path / "images", 2)
    (tmp_path / "cache").write_text("a file where the folder should be")
    (tmp_path / "spare").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spare"))
    cache = opened(paths, tmp_path / "cache")
    assert len(cache.crops_N3HW) == 2
    assert len(caplog.messages) == 1
    assert "--data.cache-dir" in caplog.text
    for path in paths:
        path.unlink()
    assert np.array_equal(opened(paths, tmp_path / "cache").crops_N3HW, cache.crops_N3HW), "found there again"


def test_another_users_temporary_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    (tmp_path / "spare").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "spare" / f"reid_accel-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spare"))
    with pytest.raises(InputError, match=r"--data\.cache-dir"):
        opened(noise_images(tmp_path / "images", 2), tmp_path / "cache")


def build_with_little_space(paths: list[Path], cache: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))  # a file of five crops doesn't fit
    try:
        build(paths, cache)
    except InputError as error:
        (cache / "said").write_text(str(error))
        os._exit(3)


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 5)
    process = multiprocessing.get_context("fork").Process(
        target=build_with_little_space, args=(paths, tmp_path / "cache")
    )
    process.start()
    process.join()
    assert process.exitcode == 3, "neither a bus error nor a trace"
    assert "Free some space" in (tmp_path / "cache" / "said").read_text()
    assert not list((tmp_path / "cache" / "crops").iterdir())
    assert len(opened(paths, tmp_path / "cache").crops_N3HW) == 5


def test_small_images_of_one_size_keep_it(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 5, size=(8, 16))
    cache = opened(paths, tmp_path / "cache")
    assert cache.crops_N3HW.shape == (5, 3, 16, 8)
    assert np.array_equal(cache.crops_N3HW[4], np.asarray(read_image(paths[4])).transpose(2, 0, 1))
    letterboxed = SimpleNamespace(height_px=32, width_px=16, interpolation="bilinear", fit="letterbox")
    assert opened(paths, tmp_path / "cache", size=letterboxed).crops_N3HW.shape == (5, 3, 32, 16)
    noise_images(tmp_path / "more", 1, size=(9, 16))[0].rename(paths[2])
    assert opened(paths, tmp_path / "cache", fingerprint="other").crops_N3HW.shape == (5, 3, 32, 16)


def test_each_interpolation_has_a_cache_of_its_own(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 3, size=(50, 90))
    as_opencv = SimpleNamespace(height_px=32, width_px=16, interpolation="cv2", fit="stretch")
    smooth, sharp = (opened(paths, tmp_path / "cache", size=size).crops_N3HW for size in (SIZE, as_opencv))
    assert np.array_equal(sharp, np.stack([to_pixels(read_image(path), as_opencv) for path in paths]))
    assert smooth.std() < sharp.std() - 10, "noise that was averaged"


def test_what_a_killed_build_left_long_ago_is_removed(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 2)
    opened(paths, tmp_path / "cache")
    (folder,) = (tmp_path / "cache" / "crops").iterdir()
    old, recent = folder.with_name(f".{folder.name}.1.part"), folder.with_name(f".{folder.name}.2.part")
    folder.rename(old)
    recent.mkdir()
    os.utime(old, (0, 0))
    opened(paths, tmp_path / "cache")
    assert not old.exists()
    assert recent.exists()


def test_the_index_lists_unreadable_images(tmp_path: Path) -> None:
    paths = [draw_image(tmp_path / "a.png"), tmp_path / "missing.png"]
    opened(paths, tmp_path / "cache", on_bad_image="skip")
    index = json.loads(next((tmp_path / "cache").rglob(INDEX_FILE)).read_text())
    assert list(index["unreadable"]) == ["1"]


def test_turned_images_have_their_upright_size(tmp_path: Path) -> None:
    exif, rng = Image.Exif(), np.random.default_rng(0)
    exif[0x0112] = 6
    stored = rng.integers(0, 256, (10, 24, 3), np.uint8)
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    upright = stored[::-1].swapaxes(0, 1)
    Image.fromarray(upright).save(tmp_path / "upright.png")
    cache = opened([tmp_path / "turned.png", tmp_path / "upright.png"], tmp_path / "cache")
    assert cache.crops_N3HW.shape == (2, 3, 24, 10), "both keep their size"
    assert np.array_equal(cache.crops_N3HW[0], upright.transpose(2, 0, 1))
    assert np.array_equal(cache.crops_N3HW[0], cache.crops_N3HW[1])


def test_an_image_that_turns_out_to_lie_is_resized(tmp_path: Path) -> None:
    exif, rng = Image.Exif(), np.random.default_rng(0)
    exif[0x0112] = 6
    content = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    turned = write_png(tmp_path / "a.png", rng.integers(0, 256, (10, 16, 3), np.uint8), after=content)
    paths = [turned, *noise_images(tmp_path, 2, (16, 10))]
    cache = opened(paths, tmp_path / "cache", on_bad_image="skip")
    assert cache.unreadable == {}
    expected = read_image(turned).resize((16, 10), Image.Resampling.BILINEAR)
    assert np.array_equal(cache.crops_N3HW[0], np.asarray(expected).transpose(2, 0, 1))


def test_an_older_readers_pixels_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = noise_images(tmp_path / "images", 2)
    first = opened(paths, tmp_path / "cache").crops_N3HW.copy()
    for path in paths:
        Image.open(path).rotate(180).save(path)
    assert np.array_equal(opened(paths, tmp_path / "cache").crops_N3HW, first), "the control: the cache is used"
    monkeypatch.setattr(crop_cache, "READER", crop_cache.READER + 1)
    assert not np.array_equal(opened(paths, tmp_path / "cache").crops_N3HW, first)


@pytest.mark.parametrize("name", [CROPS_FILE, INDEX_FILE])
def test_a_cache_with_a_fifo_in_place_of_a_file_is_built_again(tmp_path: Path, name: str) -> None:
    paths = noise_images(tmp_path / "images", 2)
    first = opened(paths, tmp_path / "cache").crops_N3HW.copy()
    (file,) = (tmp_path / "cache").rglob(name)
    file.unlink()
    os.mkfifo(file)
    with within(20):
        assert np.array_equal(opened(paths, tmp_path / "cache").crops_N3HW, first)


def test_whatever_is_no_image_is_skipped_and_listed_with_its_name_escaped(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 3)
    folder = tmp_path / "images"
    (folder / "dangling.jpg").symlink_to("nowhere")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "empty.jpg").touch()
    os.mkfifo(folder / "fifo.jpg")
    draw_image(folder / os.fsdecode(b"\xff.png"))
    Image.new("RGB", (9, 9), "white").save(folder / "white.png")
    broken = ["circle.jpg", "dangling.jpg", "empty.jpg", "fifo.jpg", "white.png", r"\xff.png"]
    listed = unlabeled_images(list_images(folder))
    with within(20):
        decoded, skipped = decode_images(
            listed, (), Decoding(SIZE, tmp_path / "cache", "skip"), fingerprint="f", title="these"
        )
    assert decoded.name_N == tuple(path.name for path in paths)
    assert [image.name for image in skipped] == broken
    assert all(image.name in image.reason for image in skipped)
    with pytest.raises(InputError, match=rf"cannot read the image .*{broken[0]}.*--data\.on-bad-image skip"):
        opened(list_images(folder), tmp_path / "cache")


def test_the_fingerprint_changes_when_a_dangling_link_is_mended(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.jpg")).symlink_to("there")
    splits = {"": unlabeled_images(list_images(tmp_path))}
    before = fingerprint_of(tmp_path, splits)
    assert before == fingerprint_of(tmp_path, splits)
    (tmp_path / "there").touch()
    assert before != fingerprint_of(tmp_path, splits)


def test_the_fingerprint_changes_when_a_file_may_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_image(tmp_path / "a.png")
    splits = {"": unlabeled_images(list_images(tmp_path))}
    with monkeypatch.context() as forbidden:
        forbidden.setattr(os, "access", lambda path, mode: False)  # the superuser may read everything
        before = fingerprint_of(tmp_path, splits)
    assert before != fingerprint_of(tmp_path, splits), "otherwise the cache would call it unreadable for ever"


def test_many_threads_together_decode_no_more_pixels_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, busy, lock = noise_images(tmp_path / "images", 24, (100, 100)), [0, 0], threading.Lock()
    real = images.to_rgb

    def to_rgb(image: Image.Image) -> Image.Image:
        with lock:
            busy[0] += 1
            busy[1] = max(busy)
        time.sleep(0.01)
        rgb = real(image)
        with lock:
            busy[0] -= 1
        return rgb

    monkeypatch.setattr(images, "to_rgb", to_rgb)
    monkeypatch.setattr(crop_cache, "num_cores", lambda: 12)
    monkeypatch.setattr(images, "DECODING", PixelBudget(3 * 100 * 100))
    opened(paths, tmp_path / "cache")
    assert busy[1] == 3
    monkeypatch.setattr(images, "DECODING", PixelBudget(10**9))
    opened(paths, tmp_path / "other")
    assert busy[1] > 3, "the control: more without the bound"
