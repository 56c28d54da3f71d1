import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image
from PIL import Image

from reid_accel.data.images import read_image, to_pixels
from reid_accel.data.store import CROPS_FILE, CropStore, open_store
from reid_accel.errors import InputError


def noise_images(folder: Path, number: int, size: tuple[int, int] = (20, 40)) -> list[Path]:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:05d}.png" for index in range(number)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    return paths


def opened(paths: list[Path], cache: Path, fingerprint: str = "f", on_bad_image: str = "error") -> CropStore:
    return open_store(
        paths,
        height=32,
        width=16,
        interpolation="bilinear",
        fingerprint=fingerprint,
        cache_dir=cache,
        on_bad_image=on_bad_image,
    )


def test_rows_are_the_images_in_order(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 130)
    store = opened(paths, tmp_path / "cache")
    rows = np.array([129, 0, 64, 0])
    expected = np.stack([to_pixels(read_image(paths[row]), 32, 16, "bilinear") for row in rows])
    assert np.array_equal(store.gather(rows).numpy(), expected)


def test_second_opening_reads_no_image(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 3)
    first = opened(paths, tmp_path / "cache").crops_N3HW.copy()
    for path in paths:
        path.unlink()
    assert np.array_equal(opened(paths, tmp_path / "cache").crops_N3HW, first)
    with pytest.raises(InputError):  # the control: another fingerprint is another store
        opened(paths, tmp_path / "cache", fingerprint="g")


def test_unreadable_images_stop_or_are_listed(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 5)
    paths[3].write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"00003\.png.*on-bad-image skip"):
        opened(paths, tmp_path / "cache")
    store = opened(paths, tmp_path / "cache", on_bad_image="skip")
    assert list(store.unreadable) == [3]
    assert "00003.png" in store.unreadable[3]


@pytest.mark.parametrize("damage", ["cut", "no index", "bad index"])
def test_a_damaged_store_is_built_again(tmp_path: Path, damage: str) -> None:
    paths = noise_images(tmp_path / "images", 5)
    whole = opened(paths, tmp_path / "cache").crops_N3HW.copy()
    crops = next((tmp_path / "cache").rglob(CROPS_FILE))
    if damage == "cut":
        crops.write_bytes(crops.read_bytes()[:-100])
    elif damage == "no index":
        (crops.parent / "store.json").unlink()
    else:
        (crops.parent / "store.json").write_text("{")
    assert np.array_equal(opened(paths, tmp_path / "cache").crops_N3HW, whole)


def build(paths: list[Path], cache: Path) -> None:
    opened(paths, cache)


def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
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


def test_two_builders_at_once_end_with_one_store(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 200)
    context = multiprocessing.get_context("fork")
    builders = [context.Process(target=build, args=(paths, tmp_path / "cache")) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0, 0]
    assert len(list((tmp_path / "cache" / "crops").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    paths = noise_images(tmp_path / "images", 2)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"--data\.cache-dir"):
        opened(paths, tmp_path / "cache")


def test_index_says_what_was_wrong(tmp_path: Path) -> None:
    paths = [draw_image(tmp_path / "a.png"), tmp_path / "missing.png"]
    opened(paths, tmp_path / "cache", on_bad_image="skip")
    index = json.loads(next((tmp_path / "cache").rglob("store.json")).read_text())
    assert list(index["unreadable"]) == ["1"]
