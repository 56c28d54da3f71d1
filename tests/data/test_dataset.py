import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from reid_accel.data.crop_cache import Decoding
from reid_accel.data.dataset import ImageDataset, SkippedImage, decode_images, open_unlabeled
from reid_accel.data.forms.layouts import MarketLayout
from reid_accel.data.listing import ImageFile
from reid_accel.errors import InputError

SIZE = SimpleNamespace(height_px=32, width_px=16, interpolation="bilinear", fit="stretch")


def opened(
    root: Path, cache: Path, split: str = "train", on_bad_image: str = "error"
) -> tuple[ImageDataset, tuple[SkippedImage, ...]]:
    listing = MarketLayout().read(root)
    decoding = Decoding(SIZE, cache, on_bad_image)
    return decode_images(
        listing.splits[split], listing.groups, decoding, fingerprint=listing.fingerprint, title=f"split {split}"
    )


def test_skipping_keeps_names_and_pixels_together(small_market: Path, tmp_path: Path) -> None:
    every, _ = opened(small_market, tmp_path / "a")
    broken = small_market / "bounding_box_train" / every.name_N[2]
    broken.write_bytes(b"broken")
    images, skipped = opened(small_market, tmp_path / "b", on_bad_image="skip")
    assert [image.name for image in skipped] == [broken.name]
    assert len(images) == len(every) - 1
    for position, name in enumerate(images.name_N):
        original = every.name_N.index(name)
        assert images.pid_N[position] == every.pid_N[original]
        assert images.path_N[position].name == name
        ours = images.crops.gather(images.row_N[[position]])
        assert np.array_equal(ours.numpy()[0], every.crops.crops_N3HW[every.row_N[original]])


def test_a_split_without_readable_images_is_refused(small_market: Path, tmp_path: Path) -> None:
    for path in (small_market / "query").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match="none of the 6 images of split query"):
        opened(small_market, tmp_path, "query", "skip")


def test_a_plain_folder_opens_without_labels(small_market: Path, tmp_path: Path) -> None:
    images, _ = open_unlabeled(small_market / "query", Decoding(SIZE, tmp_path))
    assert set(images.pid_N.tolist()) == {-2}
    with pytest.raises(InputError, match="there is no folder"):
        open_unlabeled(small_market / "nowhere", Decoding(SIZE, tmp_path))


def test_fingerprint_is_of_names_and_labels_not_of_places(small_market: Path, tmp_path: Path) -> None:
    images, _ = opened(small_market, tmp_path / "a")
    moved, _ = opened(small_market.rename(tmp_path / "elsewhere"), tmp_path / "a")
    assert moved.fingerprint() == images.fingerprint()
    assert images.select(np.arange(3)).fingerprint() != images.fingerprint()


def test_images_in_memory_are_a_data_set() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 16), np.uint8)
    images = ImageDataset.in_memory(crops, np.array([1, 1, 2, 2, 3]))
    chosen = images.select(np.array([4, 0]))
    assert chosen.pid_N.tolist() == [3, 1]
    assert np.array_equal(chosen.crops.gather(chosen.row_N).numpy(), crops[[4, 0]])
    assert (images.num_identities, images.num_cameras) == (3, 0)


def test_labels_can_be_had_without_pixels(small_market: Path) -> None:
    listing = MarketLayout().read(small_market)
    images = ImageDataset.of_files(listing.splits["train"], listing.groups, None)
    assert images.attributes_NA.shape == (24, 0)
    assert images.num_cameras == 2
    with pytest.raises(AssertionError, match="without its images"):
        _ = images.crops


def test_tracklets_follow_their_images_and_change_the_fingerprint_only_if_known() -> None:
    files = [ImageFile(Path(f"{row}.jpg"), f"{row}.jpg", 1 + row // 2, row % 2) for row in range(6)]
    plain = ImageDataset.of_files(files, (), None)
    old = hashlib.sha256("\n".join(plain.name_N).encode())
    for labels in (plain.pid_N, plain.camera_N, plain.attributes_NA):
        old.update(labels.tobytes())
    assert plain.fingerprint() == old.hexdigest()[:16]
    tracked = ImageDataset.of_files([file._replace(tracklet=row) for row, file in enumerate(files)], (), None)
    assert tracked.fingerprint() != plain.fingerprint()
    assert tracked.select(np.array([4, 1])).tracklet_N.tolist() == [4, 1]
    assert plain.select(np.array([4, 1])).tracklet_N.tolist() == [-1, -1]
