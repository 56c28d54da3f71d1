import os
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
from helpers.made_sets import draw_image, make_market, make_msmt17

from reid_accel.attributes.annotations import write_course_csv, write_market_mat
from reid_accel.config.schema import DataConfig, DatasetName
from reid_accel.data.forms.layouts import MARKET1501, Course, Layout, MarketLayout, Msmt17, layout_named
from reid_accel.data.listing import ImageFile, Listing, describe, fingerprint_of, parse_name, require_layout
from reid_accel.data.open import open_data
from reid_accel.data.reading import check_dataset, layout_of
from reid_accel.data.sets import SYNTHETIC
from reid_accel.errors import InputError
from reid_accel.retrieval.protocol import fitting_protocol


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0002_c1s1_000451_03.jpg", (2, 1)),
        ("0000_c6s4_002652_00.jpg", (0, 6)),
        ("-1_c1s1_000401_03.jpg", (-1, 1)),
        ("0474_c5_013563167.jpg", (474, 5)),
        ("0001_c1_1.jpg", (1, 1)),
        ("1234_c15_0.jpg", (1234, 15)),
    ],
)
def test_names_say_person_and_camera(name: str, expected: tuple[int, int]) -> None:
    assert parse_name(name) == expected


@pytest.mark.parametrize("name", ["001261.jpg", "person_c1.jpg", "1-2_c3.jpg", "0001-c1.jpg"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="has no person and camera"):
        parse_name(name)


@pytest.mark.parametrize("name", [f"{'9' * 25}_c1.jpg", f"1_c{2**63}.jpg", f"{'9' * 200}_c{'9' * 30}.jpg"])
def test_numbers_beyond_64_bits_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"too large \(64 bits\)|not a whole number"):
        parse_name(name)
    assert parse_name(f"{2**63 - 1}_c{2**63 - 1}.jpg") == (2**63 - 1, 2**63 - 1)


def test_real_market_names_are_counted_exactly(tmp_path: Path, shared_data: Path) -> None:
    folders = {"train": "bounding_box_train", "query": "query", "test": "bounding_box_test"}
    root = tmp_path / "Market-1501-v15.09.15"
    for part, folder in folders.items():
        (root / folder).mkdir(parents=True)
        for name in (shared_data / "market1501" / f"names_{part}.txt").read_text().split():
            (root / folder / name).touch()
        (root / folder / "Thumbs.db").touch()
    (root / "market_attribute.mat").symlink_to((shared_data / "market1501" / "market_attribute.mat").resolve())

    listing = MARKET1501.read(root)
    assert listing.warnings == ()
    assert describe("train", listing.splits["train"]) == "12,936 images of 751 identities"
    assert describe("query", listing.splits["query"]) == "3,368 images of 750 identities"
    gallery = [image.pid for image in listing.splits["gallery"]]
    assert (len(gallery), sum(pid > 0 for pid in gallery)) == (19_732, 13_115)
    assert (gallery.count(0), gallery.count(-1)) == (2_798, 3_819)
    annotated = {image.pid for images in listing.splits.values() for image in images if min(image.attributes) >= 0}
    assert len(annotated) == 1_501

    next((root / "query").glob("*.jpg")).unlink()
    assert "query differs from the published Market-1501" in MARKET1501.read(root).warnings[0]


def test_real_cuhk03_is_counted_exactly(shared_data: Path) -> None:
    listing = MarketLayout().read(shared_data / "cuhk03-np" / "detected")
    assert describe("train", listing.splits["train"]) == "7,365 images of 767 identities"
    assert describe("query", listing.splits["query"]) == "1,400 images of 700 identities"
    assert len(listing.splits["gallery"]) == 5_332
    assert {image.camera for images in listing.splits.values() for image in images} == {1, 2}
    assert listing.groups == ()


def test_listings_are_sorted_whatever_order_the_disk_gives(small_market: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    before = MarketLayout().read(small_market)
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(sorted(real(self), reverse=True)))
    assert MarketLayout().read(small_market) == before
    names = [image.name for image in before.splits["train"]]
    assert names == sorted(names)


def test_fingerprint_notices_every_change(small_market: Path) -> None:
    first = MarketLayout().read(small_market).fingerprint
    assert MarketLayout().read(small_market).fingerprint == first
    image = next((small_market / "query").iterdir())

    os.utime(image, ns=(1, 1))
    touched = MarketLayout().read(small_market).fingerprint
    image.rename(image.with_name("0099_c1s1_000000_00.png"))
    renamed = MarketLayout().read(small_market).fingerprint
    draw_image(small_market / "query" / "0100_c1s1_000000_00.png")
    added = MarketLayout().read(small_market).fingerprint
    write_market_mat(small_market / "market_attribute.mat", {1: (0,) * 12}, {7: (0,) * 12})
    annotated = MarketLayout().read(small_market).fingerprint
    assert len({first, touched, renamed, added, annotated}) == 5


def test_a_missing_folder_is_named_with_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*nowhere"):
        MarketLayout().read(tmp_path / "nowhere")
    make_market(tmp_path)
    (tmp_path / "query").rename(tmp_path / "queries")
    with pytest.raises(InputError, match=r"lacks query .*found bounding_box_test, bounding_box_train, queries"):
        MarketLayout().read(tmp_path)


def test_an_empty_folder_is_refused(small_market: Path) -> None:
    for image in (small_market / "query").iterdir():
        image.rename(image.with_suffix(".txt"))
    with pytest.raises(InputError, match="query contains no images"):
        MarketLayout().read(small_market)


def test_a_bad_name_is_refused_with_its_folder(small_market: Path) -> None:
    draw_image(small_market / "query" / "somebody.png")
    with pytest.raises(InputError, match=r"query.*somebody\.png"):
        MarketLayout().read(small_market)


def test_people_without_annotation_are_named(small_market: Path) -> None:
    people = dict.fromkeys(range(1, 12), (0,) * 12)
    write_market_mat(small_market / "market_attribute.mat", people, {50: (0,) * 12})
    assert MarketLayout().read(small_market).warnings == (
        "market_attribute.mat has no attributes for 1 of 12 identities (12)",
    )


@pytest.mark.parametrize("version", [1, 2])
def test_msmt17_is_read_by_its_lists(tmp_path: Path, version: int) -> None:
    root = make_msmt17(tmp_path, version)
    listing = Msmt17().read(root)
    found = {
        split: [(image.name, image.pid, image.camera) for image in images] for split, images in listing.splits.items()
    }
    assert found == {
        "train": [("0000_000_01_0303morning_0015_0.jpg", 1, 1), ("0001_002_14_0303noon_0056_0.jpg", 2, 14)],
        "query": [("0000_000_03_0303morning_0020_0.jpg", 1, 3)],
        "gallery": [("0000_001_15_0303night_1021_2.jpg", 1, 15), ("0001_000_03_0302noon_1_1.jpg", 2, 3)],
    }  # fmt: skip
    assert Msmt17().read(root) == listing
    assert listing.edition == f"MSMT17-V{version}"
    joined = layout_named("msmt17-trainval").read(root)
    assert [image.name for image in joined.splits["train"]] == [
        "0000_000_01_0303morning_0015_0.jpg", "0000_001_05_0303morning_0016_1.jpg", "0001_002_14_0303noon_0056_0.jpg",
    ]  # fmt: skip
    assert [image.pid for image in joined.splits["train"]] == [1, 1, 2], "the people of both lists are the same"
    assert {split: joined.splits[split] for split in ("query", "gallery")} == {
        split: listing.splits[split] for split in ("query", "gallery")
    }
    (root / "list_train.txt").write_text("0001/0001_002_14_0303noon_0056_0.jpg 1")
    assert Msmt17().read(root).fingerprint != listing.fingerprint


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("../0001_002_14_0303noon_0056_0.jpg 1", "line 1: expected PERSON/PERSON_NUMBER_CAMERA"),
        ("0001/0001_002_fourteen_1.jpg 1", "line 1: expected"),
        (f"0001/0001_002_14_0303noon_0056_0.jpg {2**63 - 1}", "line 1: the number 9223372036854775808 is too large"),
        ("x" * 10**6, "line 1: expected"),
        ("0001/0001_002_14_0303noon_0056_0.jpg", "line 1: expected"),
        ("0009/0009_002_14_0303noon_0056_0.jpg 1", "1 of 1 images do not exist"),
        ("", "lists no images"),
    ],
)
def test_malformed_msmt17_lists_are_refused(tmp_path: Path, line: str, sentence: str) -> None:
    root = make_msmt17(tmp_path)
    (root / "list_query.txt").write_text(line + "\n")
    with pytest.raises(InputError) as info:
        Msmt17().read(root)
    assert sentence in str(info.value)
    assert "list_query.txt" in str(info.value)
    assert len(str(info.value)) < 1000
    (root / "list_query.txt").unlink()
    with pytest.raises(InputError, match=r"lacks list_query\.txt"):
        Msmt17().read(root)


def test_course_layout_needs_its_annotation(tmp_path: Path) -> None:
    draw_image(tmp_path / "train" / "0474_c5_013563167.jpg")
    draw_image(tmp_path / "test" / "016903.jpg")
    draw_image(tmp_path / "queries" / "001261.jpg")
    with pytest.raises(InputError, match=r"lacks annotations_train\.csv"):
        Course().read(tmp_path)
    write_course_csv(tmp_path / "annotations_train.csv", {474: (0,) * 12})
    listing = Course().read(tmp_path)
    assert [image.pid for split in ("train", "test", "queries") for image in listing.splits[split]] == [474, -2, -2]


def test_the_settings_name_every_layout() -> None:
    for name in set(get_args(DatasetName)) - set(SYNTHETIC):
        assert layout_of(DataConfig(name=name, root="somewhere")).name == name


def test_a_layout_is_one_class(tmp_path: Path) -> None:
    class OneFolder:
        """PERSON/CAMERA_NUMBER.png; the first image of each camera is its query. Persons above 100 train."""

        name = "one-folder"

        def check(self, root: Path) -> None:
            require_layout(self.name, root, ())

        def read(self, root: Path) -> Listing:
            splits: dict[str, list[ImageFile]] = {"train": [], "query": [], "gallery": []}
            for path in sorted(root.glob("*/*.png")):
                pid, (camera, number) = int(path.parent.name), map(int, path.stem.split("_"))
                split = "train" if pid > 100 else "gallery" if number else "query"
                splits[split].append(ImageFile(path, f"{pid}/{path.name}", pid, camera))
            return Listing({split: tuple(images) for split, images in splits.items()}, (), fingerprint_of(root, splits))

    for pid in (1, 2, 101, 102, 103):
        for name in ("1_0", "1_1", "2_0", "2_1"):
            draw_image(tmp_path / "images" / str(pid) / f"{name}.png")
    layout: Layout = OneFolder()
    settings = DataConfig(root="images", name="market-layout", cache_dir=str(tmp_path / "cache"))
    size = SimpleNamespace(height_px=32, width_px=16, interpolation="bilinear", fit="stretch")
    data = open_data(settings, size, listing=layout.read(tmp_path / "images"))
    assert fitting_protocol(data.splits["query"], data.splits["gallery"]) == "market1501"
    assert {split: len(images) for split, images in data.splits.items()} == {"train": 12, "query": 4, "gallery": 4}


def test_a_layout_is_checked_by_names_without_opening_a_file(small_market: Path) -> None:
    (small_market / "query" / "0009_c1_not_an_image.jpg").touch()
    (small_market / "market_attribute.mat").touch()
    check_dataset(DataConfig(name="market-layout", root=str(small_market)))
    with pytest.raises(InputError, match=r"not in the layout of msmt17: it lacks train, test, list_train\.txt"):
        check_dataset(DataConfig(name="msmt17", root=str(small_market)))
    with pytest.raises(
        InputError, match=r"must be one of market1501, market-layout, msmt17, msmt17-trainval, course, synthetic"
    ):
        check_dataset(DataConfig(name="market", root=str(small_market)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"data\.root"):
        check_dataset(DataConfig(name="course"))
