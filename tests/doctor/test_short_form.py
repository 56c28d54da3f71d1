"""What training says about the labels before it starts."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.broken_sets import BREAKS

from reid_accel.config.data import DataConfig
from reid_accel.data.dataset import ImageDataset
from reid_accel.data.listing import ImageFile
from reid_accel.data.sets import list_dataset
from reid_accel.data.splits import OpenedData
from reid_accel.doctor.short_form import with_label_warnings


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[Path], OpenedData]:
    """A folder as training opens it, but for the pixels."""

    def run(root: Path) -> OpenedData:
        listing = list_dataset(DataConfig(name="market-layout", root=str(root)), cache_dir=tmp_path)
        splits = {name: ImageDataset.of_files(images, (), None) for name, images in listing.splits.items()}
        return OpenedData(splits, ("an earlier warning",), ())

    return run


def test_clean_labels_get_one_line_and_no_warning(
    drawn: Path, opened: Callable[[Path], OpenedData], caplog: pytest.LogCaptureFixture
) -> None:
    data = opened(drawn)
    with caplog.at_level(logging.INFO, "reid_accel"):
        assert with_label_warnings(data) is data
    assert len(caplog.messages) == 1
    assert "training images per person" in caplog.messages[0]
    assert "4 cameras" in caplog.messages[0]


@pytest.mark.parametrize("key", ["people-in-train-and-test", "people-with-one-image", "people-of-one-camera"])
def test_labels_that_are_wrong_are_warned_of(clean: Path, opened: Callable[[Path], OpenedData], key: str) -> None:
    BREAKS[key](clean)
    first, *added = with_label_warnings(opened(clean)).warnings
    assert first == "an earlier warning"
    assert len(added) == 1
    assert "reid-accel doctor" in added[0]


def test_people_of_additional_sets_are_not_taken_for_test_people(
    drawn: Path, opened: Callable[[Path], OpenedData]
) -> None:
    data = opened(drawn)
    own, test = data.splits["train"], data.splits["query"]
    added = int(test.pid_N.max())
    other = ImageDataset.of_files([ImageFile(Path("x"), "x", added, 1), ImageFile(Path("y"), "y", added, 2)], (), None)
    joined = ImageDataset.of_files(
        [
            *(ImageFile(Path(name), name, int(pid), 1) for name, pid in zip(other.name_N, other.pid_N, strict=True)),
            *(
                ImageFile(path, path.name, int(pid) + added, int(camera))
                for path, pid, camera in zip(own.path_N, own.pid_N, own.camera_N, strict=True)
            ),
        ],
        (),
        None,
    )
    joined_data = OpenedData({**data.splits, "train": joined}, (), (), added_people=added, added_images=2)
    assert with_label_warnings(joined_data) is joined_data


def test_people_that_are_numbered_apart_are_not_the_same(drawn: Path, opened: Callable[[Path], OpenedData]) -> None:
    data = opened(drawn)
    same = ImageDataset.of_files(
        [ImageFile(p, p.name, i + 1, i % 3) for i, p in enumerate(data.splits["train"].path_N)] * 2, (), None
    )
    overlapping = {**data.splits, "train": same}
    assert any("in train and in the test" in w for w in with_label_warnings(OpenedData(overlapping, (), ())).warnings)
    apart = with_label_warnings(OpenedData(overlapping, (), (), numbered_apart=True))
    assert not any("in train and in the test" in warning for warning in apart.warnings)


def test_a_hundred_thousand_images_take_less_than_two_seconds() -> None:
    rng = np.random.default_rng(0)
    sides = {"train": (1, 5000), "query": (5001, 9000), "gallery": (5001, 9000)}
    splits = {}
    for split, (low, high) in sides.items():
        pids = rng.integers(low, high, 10_000 if split == "query" else 45_000)
        files = [ImageFile(Path(str(row)), str(row), int(pid), row % 9) for row, pid in enumerate(pids)]
        splits[split] = ImageDataset.of_files(files, (), None)
    started = time.process_time()
    with_label_warnings(OpenedData(splits, (), ()))
    assert time.process_time() - started < 2
