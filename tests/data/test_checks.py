from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from helpers.made_sets import draw_image, make_market, make_msmt17

from reid_accel.attributes.annotations import write_course_csv
from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.config.schema import DataConfig
from reid_accel.data import crop_cache
from reid_accel.data.checks import check_added_listing, check_listing, formula_warning
from reid_accel.data.forms.layouts import MarketLayout
from reid_accel.data.listing import ImageFile, Listing
from reid_accel.data.open import open_data
from reid_accel.data.tables import listing_of, load
from reid_accel.errors import InputError

SIZE = SimpleNamespace(height_px=32, width_px=16, interpolation="bilinear", fit="stretch")


@pytest.fixture(autouse=True)
def _nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*arguments: object) -> None:
        raise AssertionError("an image was decoded before the check")

    monkeypatch.setattr(crop_cache, "_decode_all", decode)


def make_course(root: Path) -> Path:
    for name in ("0474_c5_013563167.jpg", "0475_c5_013563168.jpg"):
        draw_image(root / "train" / name)
    draw_image(root / "test" / "016903.jpg")
    draw_image(root / "queries" / "001261.jpg")
    write_course_csv(root / "annotations_train.csv", {474: (0,) * 12, 475: (0,) * 12})
    return root


def refusal(root: Path, name: str, tmp_path: Path, **more: object) -> str:
    config = DataConfig(name=name, root=str(root), cache_dir=str(tmp_path / "cache"), **more)  # type: ignore[arg-type]
    with pytest.raises(InputError) as info:
        open_data(config, SIZE)
    return str(info.value)


@pytest.mark.parametrize("pid", ["0000", "-1", "-2"])
def test_queries_of_nobody_are_refused_before_anything_is_decoded(small_market: Path, tmp_path: Path, pid: str) -> None:
    draw_image(small_market / "query" / f"{pid}_c1s1_000000_00.png")
    sentence = refusal(small_market, "market-layout", tmp_path)
    assert sentence.startswith("1 of 7 queries have a person number below 1")
    assert str(small_market / "query" / f"{pid}_c1s1_000000_00.png") in sentence
    assert "number people from 1" in sentence


NAMES = ("a,b.jpg", "a:b.jpg", 'a"b.jpg', " a.jpg", "a\tb.jpg", "a\nb.jpg", "a\\b.jpg")


@pytest.mark.parametrize("folder", ["queries", "test"])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_the_course_files_cannot_contain_are_refused(tmp_path: Path, folder: str, name: str) -> None:
    root = make_course(tmp_path / "course")
    draw_image(root / folder / "b.jpg").rename(root / folder / name)
    sentence = refusal(root, "course", tmp_path)
    assert repr(name) in sentence
    assert str(root / folder) in sentence
    assert "rename the image" in sentence


def test_names_of_a_labeled_test_set_are_free(small_market: Path, tmp_path: Path) -> None:
    draw_image(small_market / "query" / "0009_c1, odd: name.png")
    config = DataConfig(name="market-layout", root=str(small_market), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(AssertionError, match="was decoded"):  # all checks were passed
        open_data(config, SIZE)


def test_an_additional_set_may_have_odd_test_images(small_market: Path, tmp_path: Path) -> None:
    other = make_market(tmp_path / "other")
    draw_image(other / "query" / "0000_c1s1_000000_00.png")
    config = DataConfig(
        name="market-layout",
        root=str(small_market),
        cache_dir=str(tmp_path / "cache"),
        also=(f"market-layout:{other}",),
    )
    with pytest.raises(AssertionError, match="was decoded"):
        open_data(config, SIZE)


def test_an_image_listed_twice_is_refused(tmp_path: Path) -> None:
    root = make_msmt17(tmp_path / "msmt17")
    (root / "list_gallery.txt").write_text(2 * (root / "list_gallery.txt").read_text())
    sentence = refusal(root, "msmt17", tmp_path)
    assert "gallery has 2 images called 0000_001_15_0303night_1021_2.jpg" in sentence
    assert str(root / "test/0000/0000_001_15") in sentence


def changed(listing: Listing, split: str, change: Callable[[ImageFile], ImageFile]) -> Listing:
    first, *others = listing.splits[split]
    return replace(listing, splits={**listing.splits, split: (change(first), *others)})


def test_attribute_values_out_of_range_are_refused(small_market: Path) -> None:
    listing = MarketLayout().read(small_market)
    groups = (AttributeGroup("hat", ("no", "yes")),)
    splits = {
        split: tuple(image._replace(attributes=(number % 2,)) for number, image in enumerate(images))
        for split, images in listing.splits.items()
    }
    listing = replace(listing, splits=splits, groups=groups)
    check_listing(listing)
    check_added_listing("other", listing)
    check_listing(changed(listing, "query", lambda image: image._replace(attributes=(-1,))))
    for value in (2, -2):
        for split in ("train", "query", "gallery"):
            wrong = changed(listing, split, lambda image, value=value: image._replace(attributes=(value,)))  # type: ignore[misc]
            with pytest.raises(InputError, match=f"{split}, image .*the attribute hat has the value {value}"):
                check_listing(wrong)
            if split == "train":
                with pytest.raises(InputError, match="train of other"):
                    check_added_listing("other", wrong)
            else:
                check_added_listing("other", wrong)


ODD_CELLS = {
    "pid": (None, "seven", 1.5),
    "camera": ("one", 0.5),
    "image": (None,),
}


@pytest.mark.parametrize(("column", "value"), [(name, value) for name, values in ODD_CELLS.items() for value in values])
def test_odd_cells_of_a_table_are_named(small_market: Path, tmp_path: Path, column: str, value: object) -> None:
    tables = load("market-layout", small_market, cache_dir=tmp_path)
    query = tables["query"].cast_column("image", datasets.Image(decode=False))
    columns = {name: list(query[name]) for name in ("image", "pid", "camera")}
    if isinstance(value, str | float):
        columns[column] = [type(value)(cell) for cell in columns[column]]
    columns[column][3] = value
    types = {"str": "string", "float": "float64"}.get(type(value).__name__, "int64")
    features = {"image": datasets.Image(), "pid": datasets.Value("int64"), "camera": datasets.Value("int64")}
    if column != "image":
        features[column] = datasets.Value(types)
    odd = datasets.Dataset.from_dict(columns, datasets.Features(features))
    with pytest.raises(
        InputError, match=f"row (0|3) of the split query.*{column if column != 'image' else 'no image'}"
    ):
        listing_of({**tables, "query": odd}, tmp_path / "images")


def test_numbers_of_a_table_beyond_64_bits_are_refused(small_market: Path, tmp_path: Path) -> None:
    tables = load("market-layout", small_market, cache_dir=tmp_path)
    pids = np.array([2**63, *range(1, len(tables["query"]))], np.uint64)
    odd = tables["query"].remove_columns("pid").add_column("pid", pids)
    with pytest.raises(
        InputError, match="row 0 of the split query: pid must be a whole number, got 9223372036854775808"
    ):
        listing_of({**tables, "query": odd}, tmp_path / "images")


def test_an_unknown_camera_of_a_table_may_be_an_empty_cell(small_market: Path, tmp_path: Path) -> None:
    tables = load("market-layout", small_market, cache_dir=tmp_path)
    cameras = [None, *tables["query"]["camera"][1:]]
    camera = datasets.Dataset.from_dict({"camera": cameras}, datasets.Features({"camera": datasets.Value("int64")}))
    query = datasets.concatenate_datasets([tables["query"].remove_columns("camera"), camera], axis=1)
    images = listing_of({**tables, "query": query}, tmp_path / "images").splits["query"]
    assert [image.camera for image in images] == [-1, *cameras[1:]]


def test_an_unknown_attribute_of_a_table_may_be_an_empty_cell(small_market: Path, tmp_path: Path) -> None:
    tables = {}
    for split, table in load("market-layout", small_market, cache_dir=tmp_path).items():
        hats = [None if row % 3 else row % 2 for row in range(len(table))]
        label = datasets.Features({"hat": datasets.ClassLabel(names=["no", "yes"])})
        tables[split] = datasets.concatenate_datasets([table, datasets.Dataset.from_dict({"hat": hats}, label)], axis=1)
    values = [image.attributes for image in listing_of(tables, tmp_path / "images").splits["query"]]
    assert values == [(0,), (-1,), (-1,), (1,), (-1,), (-1,)]


def test_names_that_look_like_formulas_are_counted_and_named() -> None:
    warning = formula_warning(["=1+1.png", "+1.png", "@a.png", "-2+3.png", "-1_c1s1_000401_03.jpg", "1=1.png"], "a.csv")
    assert warning is not None
    assert warning.startswith("4 image names in a.csv look like formulas (=1+1.png, +1.png, @a.png and 1 more)")
    assert formula_warning(["-1_c1s1_000401_03.jpg", "0002_c1.jpg", "1=1.png"], "a.csv") is None
