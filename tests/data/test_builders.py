from pathlib import Path

import datasets
import numpy as np
import pytest
from helpers.made_sets import draw_image, make_msmt17
from PIL import Image

from reid_accel.attributes.annotations import write_course_csv, write_market_mat
from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.data import load
from reid_accel.errors import InputError


def test_rows_are_typed_and_numbered(small_market: Path, tmp_path: Path) -> None:
    tables = load("market-layout", small_market, cache_dir=tmp_path / "cache")
    assert list(tables) == ["train", "query", "gallery"]
    row = tables["train"][5]
    assert (row["name"], row["pid"], row["camera"], row["row"]) == ("0002_c1s1_000002_00.png", 2, 1, 5)
    with Image.open(small_market / "bounding_box_train" / row["name"]) as image:
        assert np.array_equal(np.asarray(row["image"]), np.asarray(image))


def test_attributes_are_class_labels_and_unknown_is_minus_one(small_market: Path, tmp_path: Path) -> None:
    indices = (2, 1, 0, 0, 1, 0, 1, 1, 0, 1, 3, 9)
    write_market_mat(small_market / "market_attribute.mat", {1: indices}, {7: (0,) * 12})
    train = load("market-layout", small_market, cache_dir=tmp_path / "cache")["train"]
    for group, index in zip(MARKET_GROUPS, indices, strict=True):
        feature = train.features[group.name]
        assert isinstance(feature, datasets.ClassLabel)
        assert tuple(feature.names) == group.values
        assert train[0][group.name] == index
        assert train[4][group.name] == -1


def test_an_added_file_is_noticed(small_market: Path, tmp_path: Path) -> None:
    before = load("market-layout", small_market, cache_dir=tmp_path / "cache")["query"]
    draw_image(small_market / "query" / "0012_c1s1_000099_00.png")
    after = load("market-layout", small_market, cache_dir=tmp_path / "cache")["query"]
    assert len(after) == len(before) + 1
    assert after["name"][-1] == "0012_c1s1_000099_00.png"


def test_course_layout_has_unlabeled_splits(tmp_path: Path) -> None:
    root = tmp_path / "course"
    for name in ("0474_c5_013563167.jpg", "0474_c5_013563168.jpg"):
        draw_image(root / "train" / name)
    draw_image(root / "test" / "016903.jpg")
    draw_image(root / "queries" / "001261.jpg")
    write_course_csv(root / "annotations_train.csv", {474: (3,) + (0,) * 11})
    tables = load("course", root, cache_dir=tmp_path / "cache")
    assert {split: len(table) for split, table in tables.items()} == {"train": 2, "queries": 1, "test": 1}
    assert (tables["train"][1]["age"], tables["test"][0]["age"], tables["test"][0]["pid"]) == (3, -1, -2)


def test_msmt17_is_a_set_like_others(tmp_path: Path) -> None:
    tables = load("msmt17", make_msmt17(tmp_path / "msmt17"), cache_dir=tmp_path / "cache")
    assert {split: len(table) for split, table in tables.items()} == {"train": 2, "query": 1, "gallery": 2}
    assert tables["gallery"]["camera"] == [15, 3]


def test_warnings_reach_the_caller(small_market: Path, tmp_path: Path) -> None:
    said: list[str] = []
    load("market1501", small_market, cache_dir=tmp_path / "cache", report_warning=said.append)
    assert any("train differs from Market-1501 as published: found 24 images of 6 identities" in s for s in said)
    assert any("without attributes" in sentence for sentence in said)


def test_unknown_names_and_missing_roots_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be one of market1501"):
        load("market", tmp_path)
    with pytest.raises(InputError, match=r"data\.root"):
        load("market1501")


def test_real_images_load_with_their_pixels(tmp_path: Path, shared_data: Path) -> None:
    table = load("market-layout", shared_data / "cuhk03-np" / "detected", cache_dir=tmp_path)["gallery"]
    assert len(table) == 5_332
    assert table[17]["image"].size == (64, 128)
