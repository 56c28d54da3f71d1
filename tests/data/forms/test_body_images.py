"""Variants of Market-1501's layout: P-DukeMTMC-reID's folders, CUHK03's own names, Occluded-Duke."""

from pathlib import Path

import pytest

from reid_accel.data.dataset import ImageDataset
from reid_accel.data.forms.body_images import OCCLUDED, WHOLE
from reid_accel.data.forms.layouts import MarketLayout
from reid_accel.data.listing import Listing
from reid_accel.errors import InputError
from reid_accel.retrieval.protocol import MARKET, fitting_protocol


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def labels(listing: Listing) -> dict[str, list[tuple[str, int, int]]]:
    return {split: [(one.name, one.pid, one.camera) for one in images] for split, images in listing.splits.items()}


def make_p_duke(root: Path) -> Path:
    train = (f"train/{kind}/0001/0001_c2_f0046985.jpg" for kind in (OCCLUDED, WHOLE))
    test = (
        f"test/{OCCLUDED}/0005/0005_c1_f001.jpg",
        f"test/{WHOLE}/0005/0005_c1_f002.jpg",
        f"test/{WHOLE}/7/0007_c1_1.jpg",
    )
    return touch(root, *train, *test, f"train/{WHOLE}/0002/0002_c2_f1.jpg", f"train/{WHOLE}/.x/a.jpg")


def test_p_dukemtmc_queries_occluded_bodies_among_whole_ones(tmp_path: Path) -> None:
    listing = MarketLayout().read(make_p_duke(tmp_path))
    assert labels(listing) == {
        "train": [
            ("occluded_body_images/0001/0001_c2_f0046985.jpg", 1, 1),
            ("whole_body_images/0001/0001_c2_f0046985.jpg", 1, 2),
            ("whole_body_images/0002/0002_c2_f1.jpg", 2, 2),
        ],
        "query": [("0005_c1_f001.jpg", 5, 1)],
        "gallery": [("0005_c1_f002.jpg", 5, 2), ("0007_c1_1.jpg", 7, 2)],
    }
    sets = {split: ImageDataset.of_files(images, (), None) for split, images in listing.splits.items()}
    assert fitting_protocol(sets["query"], sets["gallery"]) == MARKET


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda root: (root / "train" / OCCLUDED).rename(root / "away"),
            r"there is no folder .*train/occluded_body_images",
        ),
        (
            lambda root: (root / "test" / WHOLE / "7").rename(root / "test" / WHOLE / "x"),
            r"must be named by the number",
        ),
        (lambda root: (root / "test" / WHOLE / "8").mkdir(), r"contains no images"),
    ],
)
def test_p_dukemtmc_with_a_mistake_is_a_sentence(tmp_path: Path, change: object, sentence: str) -> None:
    root = make_p_duke(tmp_path)
    change(root)  # type: ignore[operator]
    with pytest.raises(InputError, match=sentence):
        MarketLayout().check(root)


def test_cuhk03s_own_names_have_person_and_view(tmp_path: Path) -> None:
    names = {"bounding_box_train": "1_001_1_01.png", "query": "5_002_2_10.png", "bounding_box_test": "5_002_1_03.png"}
    listing = MarketLayout().read(touch(tmp_path, *(f"{folder}/{name}" for folder, name in names.items())))
    assert labels(listing) == {
        "train": [("1_001_1_01.png", 1001, 1)],
        "query": [("5_002_2_10.png", 5002, 2)],
        "gallery": [("5_002_1_03.png", 5002, 1)],
    }


def test_the_control_other_names_without_cameras_are_not_cuhk03s(tmp_path: Path) -> None:
    for folder in MarketLayout.folders.values():
        touch(tmp_path, f"{folder}/1_001_1_01.png", f"{folder}/12_001.png")
    assert [image.pid for image in MarketLayout().read(tmp_path).splits["train"]] == [12, 1]


def test_occluded_duke_is_in_the_layout(tmp_path: Path) -> None:
    root = touch(tmp_path, *(f"{folder}/0012_c3_f0051923.jpg" for folder in MarketLayout.folders.values()))
    assert labels(MarketLayout().read(root))["query"] == [("0012_c3_f0051923.jpg", 12, 3)]
