import shutil
from pathlib import Path

import pytest
from helpers.made_sets import draw_image, make_market, make_msmt17

from reid_accel.attributes.annotations import write_course_csv
from reid_accel.config.schema import DataConfig
from reid_accel.data import load
from reid_accel.data.forms.layouts import MarketLayout
from reid_accel.data.left_out import left_out, names_by_folder
from reid_accel.data.listing import list_images
from reid_accel.data.sets import list_dataset
from reid_accel.errors import InputError


@pytest.mark.parametrize("ending", [".tif", ".tiff", ".jfif", ".jpe", ".gif", ".TIF", ".JPG", ".Png", ".JFIF", ".WEBP"])
def test_every_ending_of_a_readable_format_is_listed(small_market: Path, ending: str) -> None:
    before = MarketLayout().read(small_market).splits["train"]
    for path in sorted((small_market / "bounding_box_train").iterdir())[::2]:
        path.rename(path.with_suffix(ending))
    after = MarketLayout().read(small_market).splits["train"]
    assert [(image.pid, image.camera) for image in after] == [(image.pid, image.camera) for image in before]


def test_files_that_are_no_images_are_counted_and_named_in_every_layout(tmp_path: Path) -> None:
    market, msmt17, course = tmp_path / "market", tmp_path / "msmt17", tmp_path / "course"
    make_market(market)
    make_msmt17(msmt17)
    for name in ("0474_c5_013563167.jpg", "0475_c5_013563168.jpg"):
        draw_image(course / "train" / name)
    draw_image(course / "test" / "016903.jpg")
    draw_image(course / "queries" / "001261.jpg")
    write_course_csv(course / "annotations_train.csv", {474: (0,) * 12, 475: (0,) * 12})
    folders = {"market-layout": (market, "bounding_box_train"), "course": (course, "test"), "msmt17": (msmt17, "train")}
    for name, (root, folder) in folders.items():
        (root / folder / "0007_c1s1_000001_00.avif").touch()
        (root / folder / "0007_c1s1_000002_00.AVIF").touch()
        (root / folder / "0007_c1s1_000003_00").touch()
        (root / folder / "._0007_c1s1_000001_00.jpg").touch()
        (root / folder / "Thumbs.db").touch()
        (root / folder / ".hidden").mkdir()
        draw_image(root / folder / "more" / "0001_c1.jpg")
        draw_image(root / folder / "a folder.jpg" / "0002_c1.jpg")
        warnings = list_dataset(DataConfig(name=name, root=str(root)), cache_dir=tmp_path).warnings
        found = next(
            warning for warning in warnings if warning.startswith(f"files in {root.name}/{folder} are left out: ")
        )
        assert "2 .avif (0007_c1s1_000001_00.avif, 0007_c1s1_000002_00.AVIF)" in found
        assert "1 without an ending (0007_c1s1_000003_00)" in found
        assert "1 hidden .jpg (._0007_c1s1_000001_00.jpg)" in found
        assert "1 hidden folder (.hidden)" in found
        assert "a folder.jpg/0002_c1.jpg" in found
        assert "more/0001_c1.jpg" in found
        assert "Thumbs" not in found


def test_nothing_is_said_where_nothing_is_left_out(small_market: Path, tmp_path: Path) -> None:
    assert list_dataset(DataConfig(name="market-layout", root=str(small_market)), cache_dir=tmp_path).warnings == ()
    assert left_out(small_market / "query", names_by_folder(list_images(small_market / "query"))) == ""


def test_images_outside_the_lists_of_msmt17_are_named(tmp_path: Path) -> None:
    root = make_msmt17(tmp_path / "msmt17")
    draw_image(root / "train" / "0002" / "0002_000_01_0303morning_0001_0.jpg")
    shutil.copytree(root / "test" / "0001", root / "elsewhere")
    (root / "test" / "0009").symlink_to(root / "elsewhere")
    assert list_dataset(DataConfig(name="msmt17", root=str(root)), cache_dir=tmp_path).warnings == (
        "files in msmt17/test are left out: 1 linked folder (0009)",
        "files in msmt17/train are left out: 2 .jpg "
        "(0000/0000_001_05_0303morning_0016_1.jpg, 0002/0002_000_01_0303morning_0001_0.jpg)",
    )


def test_what_is_there_instead_of_images_is_said(small_market: Path) -> None:
    for image in (small_market / "query").iterdir():
        image.rename(image.with_suffix(".avif"))
    with pytest.raises(InputError, match=r"query contains no images .*, but 6 \.avif \(0007_c1s1_000000_00\.avif, "):
        MarketLayout().read(small_market)


def test_the_sentence_is_short_whatever_is_left_out(small_market: Path) -> None:
    for number in range(300):
        (small_market / "query" / f"{'x' * 200}.e{number}").touch()
        (small_market / "query" / f"{number}.txt").touch()
    sentence = left_out(small_market / "query", {})
    assert sentence.startswith("300 .txt (0.txt, 1.txt, 10.txt and 297 more), 6 .png (")
    assert sentence.endswith(", and 296 more kinds")
    assert len(sentence) < 1000


def test_training_images_of_person_0_are_counted_and_named(small_market: Path, tmp_path: Path) -> None:
    for path in sorted((small_market / "bounding_box_train").glob("0001_*")):
        path.rename(path.with_name(path.name.replace("0001_", "0000_", 1)))
    (warning,) = list_dataset(DataConfig(name="market-layout", root=str(small_market)), cache_dir=tmp_path).warnings
    assert warning.startswith("4 of 24 training images have a person number below 1 and are left out (0000_c1s1_000000")
    assert "number people from 1" in warning


def test_person_0_of_a_table_is_named_too(small_market: Path, tmp_path: Path) -> None:
    from reid_accel.data.tables import listing_of

    tables = load("market-layout", small_market, cache_dir=tmp_path)
    tables["train"] = tables["train"].map(lambda row: {"pid": row["pid"] - 1}, load_from_cache_file=False)
    (warning,) = listing_of(tables, tmp_path / "images").warnings
    assert warning.startswith("4 of 24 training images have a person number below 1")
