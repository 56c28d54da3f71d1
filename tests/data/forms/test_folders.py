"""Own pictures in folders of people."""

import os
import shutil
from pathlib import Path

import pytest
from helpers.made_sets import draw_image
from helpers.relaid import as_folders, content_fingerprint

from reid_accel.config.schema import DataConfig
from reid_accel.data.forms.folders import Folders
from reid_accel.data.listing import UNKNOWN_CAMERA, UNSPLIT, ImageFile, Listing
from reid_accel.data.reading import check_dataset, read_dataset
from reid_accel.errors import InputError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def read(root: Path, **settings: object) -> Listing:
    config = DataConfig(name="folders", root=str(root), **settings)  # type: ignore[arg-type]
    check_dataset(config)
    return read_dataset(config)


def unsplit(root: Path, pattern: str | None = None) -> tuple[ImageFile, ...]:
    return Folders(pattern).read(root).splits[UNSPLIT]


def test_the_same_set_in_folders_has_the_same_content(small_market: Path, tmp_path: Path) -> None:
    market = read_dataset(DataConfig(name="market-layout", root=str(small_market)))
    relaid = read(as_folders(market.splits, tmp_path / "folders"))
    assert content_fingerprint(relaid) == content_fingerprint(market)
    named = read(tmp_path / "folders", camera_pattern=r"_c(\d)")
    assert content_fingerprint(named) == content_fingerprint(market)
    without = read(tmp_path / "folders", camera_pattern="none")
    assert content_fingerprint(without) != content_fingerprint(market)


def test_people_and_cameras_with_names_are_numbered_and_keep_their_names(tmp_path: Path) -> None:
    root = touch(
        tmp_path, "Zoe/hall/1.jpg", "Zoe/door 2/2.jpg", "anna b/door 10/3.JPG", "anna b/4.png", "Ünal/hall/5.webp"
    )
    images = {image.name: (image.pid, image.camera) for image in unsplit(root)}
    assert images == {"1.jpg": (2, 3), "2.jpg": (2, 1), "3.JPG": (1, 2), "4.png": (1, UNKNOWN_CAMERA), "5.webp": (3, 3)}
    assert Folders().read(root).people == {1: "anna b", 2: "Zoe", 3: "Ünal"}


def test_whole_numbers_keep_their_value_with_junk_and_distractors(tmp_path: Path) -> None:
    root = touch(tmp_path, "0007/c.jpg", "-1/a.jpg", "0000/b.jpg")
    assert [(image.pid, image.name) for image in unsplit(root)] == [(-1, "a.jpg"), (0, "b.jpg"), (7, "c.jpg")]
    assert Folders().read(root).people == {}


def test_file_names_that_are_not_unique_become_paths(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/b/1.jpg", "train/a/1.jpg", "test/c/1.jpg", "test/c/x/2.jpg")
    splits = Folders().read(root).splits
    assert {split: [image.name for image in images] for split, images in splits.items()} == {
        "train": ["a/1.jpg", "b/1.jpg"],
        "test": ["1.jpg", "2.jpg"],
    }


def test_the_images_of_a_person_follow_one_another(tmp_path: Path) -> None:
    root = touch(tmp_path, "b/1.jpg", "a/2.jpg", "b/3.jpg")
    assert [image.name for image in unsplit(root)] == ["2.jpg", "1.jpg", "3.jpg"]


def test_a_third_level_is_a_tracklet(tmp_path: Path) -> None:
    root = touch(tmp_path, "a/1/t10/1.jpg", "a/1/t10/2.jpg", "a/1/t9/3.jpg", "b/1/t9/4.jpg", "b/1/5.jpg")
    assert [image.tracklet for image in unsplit(root)] == [2, 2, 1, 3, -1]


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("Train", "query", "gallery"), ["train", "query", "gallery"]),
        (("train", "query", "test"), ["train", "query", "gallery"]),
        (("train", "test"), ["train", "test"]),
        (("test", "Anna"), [UNSPLIT]),
        (("trains", "queries"), [UNSPLIT]),
    ],
)
def test_folders_of_splits_are_known_by_name(tmp_path: Path, folders: tuple[str, ...], splits: list[str]) -> None:
    root = touch(tmp_path, *(f"{folder}/7/{number}.jpg" for number, folder in enumerate(folders)))
    assert sorted(Folders().read(root).splits) == sorted(splits)


def test_what_systems_leave_in_folders_is_passed_over(tmp_path: Path) -> None:
    names = ("a/1.jpg", "a/._1.jpg", "a/Thumbs.db", "a/.DS_Store", ".git/b/2.jpg", "a/.hidden/3.jpg", "notes.txt")
    root = touch(tmp_path, *names)
    (root / "empty" / "deep").mkdir(parents=True)
    assert [image.name for image in unsplit(root)] == ["1.jpg"]


def test_names_of_any_kind_are_read(tmp_path: Path) -> None:
    long = "n" * 250
    root = touch(tmp_path, f"{long}/[a] (1) {{x}}.jpg", f"*?/{long}.jpg", "日本/ü ß.jpg")
    os.makedirs(os.fsencode(root) + b"/\xff\xfe")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe/\xfd.jpg")).touch()
    assert len(unsplit(root)) == 4
    assert len({image.camera for image in unsplit(root, r"(.)\.jpg$")}) == 4
    assert len({image.pid for image in unsplit(root)}) == 4


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", "a/1.jpg")
    (root / "a" / "again").symlink_to(root / "a")
    with pytest.raises(InputError, match=r"is too deep"):
        unsplit(root)


def test_a_set_without_split_is_split_by_people_and_says_so(tmp_path: Path) -> None:
    two = (1, 2)
    root = touch(tmp_path, *(f"p{pid}/{cam}/{pid}_{cam}_{n}.jpg" for pid in range(8) for cam in two for n in two))
    listing = read(root)
    assert {split: len(images) for split, images in listing.splits.items()} == {"train": 16, "query": 8, "gallery": 8}
    (warning,) = listing.warnings
    assert "4 people are trained on, 4 others tested, as with --data.split people:0.5 --data.split-seed 0" in warning
    asked = read(root, split="people:0.25", split_seed=3)
    assert {split: len(images) for split, images in asked.splits.items()} == {"train": 8, "query": 12, "gallery": 12}
    assert asked.warnings == ()


def test_a_set_with_a_split_is_not_split_again(small_market: Path) -> None:
    config = DataConfig(name="market-layout", root=str(small_market), split="people:0.5")
    with pytest.raises(InputError, match=r"data.split people:0.5 .* this one has train, query, gallery: leave it out"):
        read_dataset(config)


@pytest.mark.parametrize(
    ("names", "pattern", "sentence"),
    [
        ((), None, "contains no images"),
        (("1.jpg", "2.jpg"), None, r"has 2 images \(1.jpg, 2.jpg\) but no folders of people"),
        (("train/1.jpg", "test/a/2.jpg"), None, r"train has 1 images \(1.jpg\) but no folders of people"),
        (("train/a/1.jpg", "test/a/2.txt"), None, r"test contains no images .*, but 1 .txt"),
        (("a/b/c/d/1.jpg",), None, r"a/b/c/d is too deep: expected PERSON/image"),
        (("query/a/1.jpg", "gallery/a/1.jpg"), None, "has the folders query, gallery: a split has train"),
        (("train/a/1.jpg", "query/a/1.jpg"), None, "has the folders train, query: a split has train"),
        (("train/a/1.jpg",), None, "has the folders train: a split has train"),
        (("Anna/1.jpg", "anna /2.jpg"), None, r"two spellings, 'Anna' \(.*/Anna\) and 'anna ' \(.*/anna \)"),
        (("1/1.jpg", "01/2.jpg"), None, r"two spellings, '01' \(.*\) and '1'"),
        (("train/1/1.jpg", "test/001/2.jpg"), None, r"two spellings"),
        (("a/2024-01-05/1.jpg",), None, "cameras look like dates.*--data.camera-pattern none if these folders"),
        (("a/1.jpg",), r"_c(\d)", r"camera-pattern _c\(\\d\) is not found in 1 of 1 images \(a/1.jpg\)"),
        (("9" * 25 + "/1.jpg",), None, "is too large"),
    ],
)
def test_folders_that_cannot_be_read_are_a_sentence(
    tmp_path: Path, names: tuple[str, ...], pattern: str | None, sentence: str
) -> None:
    root = touch(tmp_path / "set", *names)
    root.mkdir(exist_ok=True)
    with pytest.raises(InputError, match=sentence):
        read(root, camera_pattern=pattern)


def test_a_missing_folder_and_a_file_are_sentences(tmp_path: Path) -> None:
    for place in (tmp_path / "none", draw_image(tmp_path / "file.png")):
        with pytest.raises(InputError, match=r"there is no folder .*data.root"):
            read(place)


def test_settings_of_another_form_are_refused() -> None:
    with pytest.raises(InputError, match=r"camera-pattern must be left out with --data.name msmt17: it is for folders"):
        DataConfig(name="msmt17", camera_pattern="(.)")
    for split in ("people", "people:0", "people:1", "people:x", "images:0.5", "people:nan", "people:-1"):
        with pytest.raises(InputError, match=r"data.split must be people:SHARE"):
            DataConfig(name="folders", split=split)
    with pytest.raises(InputError, match=r"data.split-seed"):
        DataConfig(name="folders", split_seed=-1)


def test_cuhk03_in_folders_has_the_same_content(shared_data: Path, tmp_path: Path) -> None:
    market = read_dataset(DataConfig(name="market-layout", root=str(shared_data / "cuhk03-np" / "detected")))
    relaid = read(as_folders(market.splits, tmp_path / "folders"))
    assert content_fingerprint(relaid) == content_fingerprint(market)
    shutil.rmtree(tmp_path / "folders")
