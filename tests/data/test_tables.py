from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from helpers.made_sets import draw_image, make_msmt17
from PIL import Image

from reid_accel.attributes.annotations import write_course_csv, write_market_mat
from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.config.schema import DataConfig
from reid_accel.data import load
from reid_accel.data.forms.layouts import MarketLayout
from reid_accel.data.open import open_data
from reid_accel.data.splits import split_training_images
from reid_accel.data.tables import listing_of, tables_of
from reid_accel.errors import InputError
from reid_accel.retrieval.protocol import fitting_protocol


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


@pytest.mark.parametrize("version", [1, 2])
def test_a_table_keeps_the_edition_of_its_set(tmp_path: Path, version: int) -> None:
    tables = load("msmt17", make_msmt17(tmp_path / "msmt17", version), cache_dir=tmp_path / "cache")
    tables.save_to_disk(tmp_path / "saved")
    stored = datasets.load_from_disk(tmp_path / "saved")
    assert listing_of(stored, tmp_path / "images").edition == f"MSMT17-V{version}"
    other = datasets.DatasetInfo(
        description="of another kind\nedition of the data set: 3", features=stored["gallery"].features
    )
    stored["gallery"] = datasets.Dataset.from_dict(stored["gallery"].to_dict(), info=other)
    assert listing_of(stored, tmp_path / "images").edition == "", "the control: a description of another kind"


def test_warnings_are_logged(small_market: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load("market1501", small_market, cache_dir=tmp_path / "cache")
    assert "train differs from the published Market-1501: found 24 images of 6 identities" in caplog.text
    assert "without attributes" in caplog.text


def test_unknown_names_and_missing_roots_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be one of market1501"):
        load("market", tmp_path)
    with pytest.raises(InputError, match=r"data\.root"):
        load("market1501")


def test_real_images_load_with_their_pixels(tmp_path: Path, shared_data: Path) -> None:
    table = load("market-layout", shared_data / "cuhk03-np" / "detected", cache_dir=tmp_path)["gallery"]
    assert len(table) == 5_332
    assert table[17]["image"].size == (64, 128)


def test_a_loaded_set_is_its_own_listing(small_market: Path, tmp_path: Path) -> None:
    write_market_mat(small_market / "market_attribute.mat", {1: (1,) * 12}, {7: (0,) * 12})
    listing = listing_of(load("market-layout", small_market, cache_dir=tmp_path), tmp_path / "images")
    expected = MarketLayout().read(small_market)
    assert (listing.splits, listing.groups) == (expected.splits, expected.groups)
    assert not (tmp_path / "images").exists(), "the images have files already"


def test_a_users_own_tables_are_a_data_set(small_market: Path, tmp_path: Path) -> None:
    def table(split: str) -> datasets.Dataset:
        images = MarketLayout().read(small_market).splits[split]
        columns = {
            "image": [{"bytes": image.path.read_bytes(), "path": None} for image in images],
            "pid": [image.pid for image in images],
            "camera": [image.camera for image in images],
            "scarf": [image.pid % 2 for image in images],
        }
        types = {"image": datasets.Image(), "pid": datasets.Value("int64"), "camera": datasets.Value("int64")}
        scarf = datasets.ClassLabel(names=["no", "yes"])
        return datasets.Dataset.from_dict(columns, datasets.Features(types | {"scarf": scarf}))

    tables = {split: table(split) for split in ("train", "query", "gallery")}
    listing = listing_of(tables, tmp_path / "images")
    config = DataConfig(name="market-layout", root="unused", cache_dir=str(tmp_path / "cache"))
    size = SimpleNamespace(height_px=32, width_px=16, interpolation="bilinear", fit="stretch")
    data = open_data(config, size, for_training=False, listing=listing)
    assert data.own_table
    assert fitting_protocol(data.splits["query"], data.splits["gallery"]) == "market1501"
    training, held_out = split_training_images(data, 0.3)
    assert held_out is not None
    assert [(group.name, group.values) for group in training.images.groups] == [("scarf", ("no", "yes"))]
    assert (training.images.attributes_NA[:, 0] == training.images.pid_N % 2).all()
    with Image.open(small_market / "query" / "0008_c1s1_000000_00.png") as image:
        assert np.array_equal(data.splits["query"].crops.gather(np.array([1]))[0].permute(1, 2, 0), np.asarray(image))
    with pytest.raises(AssertionError):
        _ = training.images.crops
    again = listing_of(tables, tmp_path / "images")
    assert again == listing, "written once"


def test_incomplete_tables_are_refused(small_market: Path, tmp_path: Path) -> None:
    tables = load("market-layout", small_market, cache_dir=tmp_path)
    with pytest.raises(InputError, match="the split query lacks the columns pid, camera"):
        listing_of({**tables, "query": tables["query"].remove_columns(["pid", "camera"])}, tmp_path)
    with pytest.raises(InputError, match="has the splits train, query, gallery or train, queries, test"):
        listing_of({"train": tables["train"]}, tmp_path)


def test_large_numbers_of_cameras_and_people_are_kept(small_market: Path, tmp_path: Path) -> None:
    large = {"0001": (2**31 + 5, 40_000), "0007": (2**62 - 1, 2**33)}
    for path in sorted(small_market.glob("*/000[17]_*")):
        pid, camera = large[path.name[:4]]
        path.rename(path.with_name(f"{pid}_c{camera}_{path.name[7:]}"))
    tables = load("market-layout", small_market, cache_dir=tmp_path)
    assert {(2**31 + 5, 40_000)} < set(zip(tables["train"]["pid"], tables["train"]["camera"], strict=True))
    assert (2**62 - 1, 2**33) in set(zip(tables["query"]["pid"], tables["query"]["camera"], strict=True))
    listing = listing_of(tables, tmp_path / "images")
    assert listing.splits == MarketLayout().read(small_market).splits
    config = DataConfig(name="market-layout", root=str(small_market), cache_dir=str(tmp_path / "cache"))
    size = SimpleNamespace(height_px=32, width_px=16, interpolation="bilinear", fit="stretch")
    data = open_data(config, size, listing=listing)
    assert data.splits["query"].camera_N.max() == 2**33
    assert (data.splits["query"].pid_N.dtype, data.splits["query"].camera_N.dtype) == (np.int64, np.int64)
    assert fitting_protocol(data.splits["query"], data.splits["gallery"]) == "market1501"
    training, _ = split_training_images(data, 0)
    assert 2**31 + 5 in training.images.pid_N


def test_a_changed_copy_of_a_tables_image_is_written_again(
    small_market: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = sorted((small_market / "query").iterdir())
    columns = {
        "image": [{"bytes": path.read_bytes(), "path": None} for path in paths],
        "pid": list(range(1, 7)),
        "camera": [1] * 6,
    }
    types = {"image": datasets.Image(), "pid": datasets.Value("int64"), "camera": datasets.Value("int64")}
    table = datasets.Dataset.from_dict(columns, datasets.Features(types))
    tables = {"train": table, "query": table, "gallery": table}
    copy = listing_of(tables, tmp_path).splits["query"][2].path
    content = copy.read_bytes()
    copy.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    assert listing_of(tables, tmp_path).splits["query"][2].path.read_bytes() == content
    assert "was changed" in caplog.text


def test_tracklets_and_times_go_into_tables_and_come_back(small_market: Path, tmp_path: Path) -> None:
    listing = MarketLayout().read(small_market)
    tracked = {
        split: tuple(image._replace(tracklet=row // 2, time=row) for row, image in enumerate(images))
        for split, images in listing.splits.items()
    }
    tracked["query"] = listing.splits["query"]
    tables = tables_of(replace(listing, splits=tracked))
    assert tables["train"]["tracklet"][:3] == [0, 0, 1]
    assert tables["query"]["tracklet"] == [-1] * len(tables["query"])
    again = listing_of(tables, tmp_path / "images")
    for split, images in tracked.items():
        assert [(image.tracklet, image.time) for image in again.splits[split]] == [
            (image.tracklet, image.time) for image in images
        ]


def test_a_set_without_tracklets_has_no_such_columns(small_market: Path, tmp_path: Path) -> None:
    train = load("market-layout", small_market, cache_dir=tmp_path / "cache")["train"]
    assert train.column_names == ["image", "name", "pid", "camera", "row"]
    with pytest.raises(InputError, match="time must be a whole number, got '12:30'; rename the column"):
        listing_of(
            {
                split: train.add_column("time", ["12:30"] * len(train))  # type: ignore[call-arg]
                for split in ("train", "query", "gallery")
            },
            tmp_path / "images",
        )
