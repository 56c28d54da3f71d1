from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from reid_accel.data import load
from reid_accel.data.dataset import identities_of, open_image_dataset, open_unlabeled_folder, split_by_person
from reid_accel.errors import InputError

SIZE = SimpleNamespace(height_px=32, width_px=16, interpolation="bilinear", fit="stretch")


def brute_force_split(pids: list[int], share: float) -> int:
    """The course's rule in words: take 70 % of the images, go on until the person changes."""
    taken = 0
    while taken < int(share * len(pids)):
        taken += 1
    while 0 < taken < len(pids) and pids[taken] == pids[taken - 1]:
        taken += 1
    return taken


def test_split_by_person_is_the_courses_rule() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        pids = np.repeat(np.arange(1, rng.integers(2, 12)), rng.integers(1, 9)).tolist()
        for share in (0.1, 0.5, 0.7, 0.99):
            train, validation = split_by_person(np.array(pids), share)
            assert len(train) == brute_force_split(pids, share)
            assert not set(np.array(pids)[train]) & set(np.array(pids)[validation])
            assert len(train) + len(validation) == len(pids)


def test_a_person_in_two_runs_cannot_be_split() -> None:
    with pytest.raises(InputError, match="one run"):
        split_by_person(np.array([1, 1, 2, 1]), 0.7)


def test_identities_are_contiguous_and_ascending() -> None:
    pids, labels = identities_of([30, 5, 5, 700])
    assert pids.tolist() == [5, 30, 700]
    assert labels.tolist() == [1, 0, 0, 2]


def test_skipping_keeps_names_and_pixels_together(small_market: Path, tmp_path: Path) -> None:
    table = load("market-layout", small_market, cache_dir=tmp_path / "cache")["train"]
    whole, _ = open_image_dataset(table, SIZE, on_bad_image="error", cache_dir=tmp_path / "a")
    broken = small_market / "bounding_box_train" / whole.name_N[2]
    broken.write_bytes(b"broken")
    images, skipped = open_image_dataset(table, SIZE, on_bad_image="skip", cache_dir=tmp_path / "b")
    assert [image.name for image in skipped] == [broken.name]
    assert len(images) == len(whole) - 1
    for position, name in enumerate(images.name_N):
        original = whole.name_N.index(name)
        assert images.pid_N[position] == whole.pid_N[original]
        ours = images.store.gather(images.row_N[[position]])
        assert np.array_equal(ours.numpy()[0], whole.store.crops_N3HW[whole.row_N[original]])


def test_a_split_without_readable_images_is_refused(small_market: Path, tmp_path: Path) -> None:
    table = load("market-layout", small_market, cache_dir=tmp_path / "cache")["query"]
    for path in (small_market / "query").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match="none of the 6 images of split query"):
        open_image_dataset(table, SIZE, on_bad_image="skip", cache_dir=tmp_path / "b")


def test_a_plain_folder_opens_without_labels(small_market: Path, tmp_path: Path) -> None:
    images, _ = open_unlabeled_folder(small_market / "query", SIZE, on_bad_image="error", cache_dir=tmp_path)
    assert set(images.pid_N.tolist()) == {-2}
    with pytest.raises(InputError, match="there is no folder"):
        open_unlabeled_folder(small_market / "nowhere", SIZE, on_bad_image="error", cache_dir=tmp_path)


def test_fingerprint_is_of_names_and_labels_not_of_places(small_market: Path, tmp_path: Path) -> None:
    table = load("market-layout", small_market, cache_dir=tmp_path / "cache")["train"]
    images, _ = open_image_dataset(table, SIZE, on_bad_image="error", cache_dir=tmp_path / "a")
    moved = small_market.rename(tmp_path / "elsewhere")
    other = load("market-layout", moved, cache_dir=tmp_path / "cache")["train"]
    same, _ = open_image_dataset(other, SIZE, on_bad_image="error", cache_dir=tmp_path / "a")
    assert same.fingerprint() == images.fingerprint()
    assert images.select(np.arange(3)).fingerprint() != images.fingerprint()
