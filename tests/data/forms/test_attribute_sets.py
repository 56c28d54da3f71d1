"""Sets with attribute annotations, as miniatures of their authors' files."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from helpers.made_attribute_sets import (
    PA100K_ATTRIBUTES,
    Save,
    cell,
    duke_half,
    made_labels,
    make_duke,
    make_pa100k,
    make_peta,
    make_rap,
    save_mat5,
    save_mat73,
)

from reid_accel.attributes.duke import DUKE_GROUPS, read_duke_mat
from reid_accel.config.schema import DataConfig, ModelConfig
from reid_accel.data.checks import check_listing
from reid_accel.data.listing import UNKNOWN_CAMERA, UNLABELED_PID, Listing
from reid_accel.data.open import open_data
from reid_accel.data.reading import check_dataset, read_dataset
from reid_accel.data.splits import split_training_images
from reid_accel.errors import InputError

SAVED = pytest.mark.parametrize("save", [save_mat5, save_mat73], ids=["version 5", "version 7.3"])


def read(name: str, root: Path, partition: int = 1) -> Listing:
    config = DataConfig(name=name, root=str(root), partition=partition)  # type: ignore[arg-type]
    check_dataset(config)
    listing = read_dataset(config)
    check_listing(listing)
    return listing


def labels_by_name(listing: Listing) -> dict[str, tuple[int, ...]]:
    return {image.name: image.attributes for images in listing.splits.values() for image in images}


@SAVED
@pytest.mark.parametrize("folder", ["data", "release_data/release_data", "release_data", "images"])
def test_pa100k_has_its_attributes_and_its_official_split(tmp_path: Path, save: Save, folder: str) -> None:
    listing = read("pa100k", make_pa100k(tmp_path, save=save, folder=folder))
    assert {split: len(images) for split, images in listing.splits.items()} == {"train": 32, "test": 8}
    assert listing.validation == {f"{number:06d}.jpg" for number in range(25, 33)}
    assert tuple(group.name for group in listing.groups) == PA100K_ATTRIBUTES
    assert {group.values for group in listing.groups} == {("no", "yes")}
    expected = made_labels(40, 26).astype(int)
    assert labels_by_name(listing) == {f"{row + 1:06d}.jpg": tuple(expected[row]) for row in range(40)}
    assert {(image.pid, image.camera) for image in listing.splits["train"]} == {(UNLABELED_PID, UNKNOWN_CAMERA)}
    assert listing.warnings == (
        "train differs from the published PA-100K: found 32 images, expected 90,000",
        "test differs from the published PA-100K: found 8 images, expected 10,000",
    )


@SAVED
def test_peta_has_35_of_105_attributes_and_five_partitions(tmp_path: Path, save: Save) -> None:
    make_peta(tmp_path, save=save)
    for partition in (1, 5):
        listing = read("peta", tmp_path, partition)
        order = np.random.default_rng(partition - 1).permutation(40)
        names = [f"{row + 1:05d}.png" for row in order]
        assert [image.name for image in listing.splits["test"]] == sorted(names[24:])
        assert listing.validation == set(names[20:24])
        assert [image.name for image in listing.splits["train"]] == sorted(names[:24])
        assert [group.name for group in listing.groups] == [f"attribute{number:03d}" for number in range(35)]
        expected = made_labels(40, 105).astype(int)[:, :35]
        assert labels_by_name(listing) == {f"{row + 1:05d}.png": tuple(expected[row]) for row in range(40)}
        assert listing.edition == f"partition {partition}"
    with pytest.raises(InputError, match=r"it has 5 partitions, not number 6: set --data\.partition"):
        read("peta", tmp_path, 6)


@SAVED
@pytest.mark.parametrize(("version", "selected", "validation"), [(1, 51, 0), (2, 54, 6)])
def test_both_versions_of_rap(tmp_path: Path, save: Save, version: int, selected: int, validation: int) -> None:
    listing = read("rap", make_rap(tmp_path, version, save=save), partition=2)
    order = np.random.default_rng(1).permutation(40)
    assert [image.name for image in listing.splits["test"]] == sorted(
        f"CAM01-2014-frame{row}-line1.png" for row in order[30:]
    )
    assert len(listing.validation) == validation
    assert len(listing.groups) == selected
    expected = made_labels(40, 92).astype(int)[:, :selected]
    expected[:3, 0] = 0  # 2 is uncertain, which the literature's scores take for no
    assert labels_by_name(listing) == {f"CAM01-2014-frame{row}-line1.png": tuple(expected[row]) for row in range(40)}
    assert f"3 of {40 * selected:,} labels are 2 (uncertain)" in listing.warnings[0]
    assert listing.edition == f"RAPv{version}, partition 2"


@SAVED
@pytest.mark.parametrize("place", ["duke_attribute.mat", "attribute/duke_attribute.mat"])
def test_duke_has_its_own_colors_and_what_its_file_really_contains(tmp_path: Path, save: Save, place: str) -> None:
    odd = duke_half(range(7, 13), seed=1)
    for column in ("upblack", "upwhite", "upred", "uppurple", "upgray", "upblue", "upgreen", "upbrown"):
        odd[column][:3] = 1
    odd["upred"][1] = odd["upbrown"][1] = odd["upgreen"][2] = 2
    odd["top"][3] = 0
    listing = read("duke-attributes", make_duke(tmp_path, save=save, place=place, test=odd))
    assert listing.groups == DUKE_GROUPS
    upper = [group.name for group in DUKE_GROUPS].index("upper_color")
    of_person = {image.pid: image.attributes for image in listing.splits["gallery"]}
    values = [DUKE_GROUPS[upper].values[of_person[pid][upper]] for pid in (7, 8, 9)]
    assert values == ["multicolor", "multicolor", "green"]
    assert of_person[10][1] == -1
    assert listing.warnings[0].startswith("duke_attribute.mat gives 1 people several colors at once (8)")
    assert listing.warnings[1] == "duke_attribute.mat lacks a value for 1 people (10): unknown"
    assert set(listing.splits) == {"train", "query", "gallery"}


REAL_DUKE = Path(os.environ.get("DUKE_ATTRIBUTE_MAT", "../shared/data/duke_attribute.mat"))


@pytest.mark.skipif(not REAL_DUKE.is_file(), reason="the published file is not here")
def test_the_published_annotation_of_duke_is_read() -> None:
    people, notes = read_duke_mat(REAL_DUKE)
    assert len(people) == 1812
    assert people[1] == (0, 0, 0, 0, 1, 0, 0, 1, 1, 1)
    assert [note.split("people")[0] for note in notes] == [
        "duke_attribute.mat gives 23 ",
        "duke_attribute.mat lacks a value for 2 ",
    ]


def test_official_validation_images_are_held_out_or_trained_on(tmp_path: Path) -> None:
    config = DataConfig(name="pa100k", root=str(make_pa100k(tmp_path / "pa")), cache_dir=str(tmp_path / "cache"))
    data = open_data(config, ModelConfig(height_px=64, width_px=32))
    assert data.attributes_only
    for share, trained, held in ((0.3, 24, 8), (0.01, 24, 8), (0.0, 32, 0)):
        training, validation = split_training_images(data, share)
        assert len(training.images) == trained
        assert training.num_identities == 0
        assert (len(validation) if validation is not None else 0) == held
        if validation is not None:
            assert set(validation.name_N) == data.validation


def test_without_an_official_validation_split_an_even_share_is_held_out(tmp_path: Path) -> None:
    config = DataConfig(name="rap", root=str(make_rap(tmp_path / "rap")), cache_dir=str(tmp_path / "cache"))
    data = open_data(config, ModelConfig(height_px=64, width_px=32))
    training, validation = split_training_images(data, 0.2)
    assert validation is not None
    assert (len(training.images), len(validation)) == (24, 6)
    assert set(training.images.name_N) | set(validation.name_N) == set(data.splits["train"].name_N)
    with pytest.raises(InputError, match="leaves 30 images for training and 0 for validation"):
        split_training_images(data, 0.01)


def test_images_of_added_sets_are_never_held_out(tmp_path: Path) -> None:
    make_peta(tmp_path / "peta")
    config = DataConfig(
        name="rap",
        root=str(make_rap(tmp_path / "rap")),
        also=(f"peta:{tmp_path / 'peta'}",),
        cache_dir=str(tmp_path / "cache"),
    )
    data = open_data(config, ModelConfig(height_px=64, width_px=32))
    training, validation = split_training_images(data, 0.5)
    assert validation is not None
    assert not [name for name in validation.name_N if name.startswith("peta")]
    assert sum(name.startswith("peta") for name in training.images.name_N) == 24
    assert (len(training.images), len(validation)) == (24 + 15, 15)


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a missing variable": (lambda root: _pa100k_without("val_label"), "pa100k", "lacks the variables val_label"),
    "a table of another width": (
        lambda root: {"train_label": np.zeros((24, 25))}, "pa100k", "train_label must have 26 columns",
    ),
    "fewer rows than images": (
        lambda root: {"test_label": np.zeros((7, 26))}, "pa100k", "test_label has 7 rows for 8 images",
    ),
    "a label of 3": (
        lambda root: {"test_label": np.full((8, 26), 3.0)}, "pa100k",
        r"image 000033.jpg: Female must be 0 \(no\), 1 \(yes\) or 2 \(uncertain\), got 3",
    ),
    "a fraction": (lambda root: {"test_label": np.full((8, 26), 0.5)}, "pa100k", "must be a matrix of whole numbers"),
    "not a number": (lambda root: {"test_label": np.full((8, 26), np.nan)}, "pa100k", "must be a matrix of whole"),
    "text instead of labels": (lambda root: {"test_label": "no"}, "pa100k", "must be a matrix of whole numbers"),
    "numbers instead of names": (lambda root: {"test_images_name": np.ones((8, 1))}, "pa100k", "must be texts"),
    "an image twice": (
        lambda root: {"test_images_name": cell(["000001.jpg"] * 8)}, "pa100k", "the image 000001.jpg is listed 9 times",
    ),
    "a path": (
        lambda root: {"test_images_name": cell([f"../{n}.jpg" for n in range(8)])}, "pa100k",
        "'../0.jpg' must be the name of an image file, without a folder",
    ),
    "an attribute twice": (
        lambda root: {"attributes": cell(["Hat"] * 26)}, "pa100k", "attributes must be different names, but Hat is not",
    ),
    "images that do not exist": (
        lambda root: {"test_images_name": cell([f"x{n}.jpg" for n in range(8)])}, "pa100k",
        r"data lacks 8 of the 40 images in .*annotation.mat \(x0.jpg, x1.jpg, x2.jpg, x3.jpg, x4.jpg and 3 more\)",
    ),
    "an empty split": (
        lambda root: {"partion": cell([{"train": np.ones((1, 1)), "test": np.zeros((0, 1))}])}, "rap",
        "the split test is empty",
    ),
    "positions from 0": (
        lambda root: {"partion": cell([{"train": np.arange(30.0), "test": np.arange(30.0, 40)}])}, "rap",
        "train has the position 0, but there are 40",
    ),
    "an image on both sides": (
        lambda root: {"partion": cell([{"train": np.arange(1.0, 31), "test": np.arange(30.0, 41)}])}, "rap",
        "the image CAM01-2014-frame29-line1.png is in more than one split",
    ),
    "no partitions": (lambda root: {"partion": np.zeros((0, 0))}, "rap", "a partition must be a structure"),
    "another structure": (lambda root: np.zeros(3), "rap", "RAP_annotation must be a structure"),
    "fields of something else": (lambda root: {"only": np.ones(3)}, "rap", "lacks the field"),
}  # fmt: skip


def _pa100k_without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda content: {key: value for key, value in content.items() if key != name}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_annotation_is_a_sentence(tmp_path: Path, name: str) -> None:
    made, data, sentence = BROKEN[name]
    change = made(tmp_path)
    root = make_pa100k(tmp_path) if data == "pa100k" else make_rap(tmp_path)
    path = root / ("annotation.mat" if data == "pa100k" else "RAP_annotation/RAP_annotation.mat")
    content = {key: value for key, value in scipy.io.loadmat(path).items() if not key.startswith("__")}
    if data == "rap":
        record = change
        if isinstance(change, dict) and "only" not in change:
            old = content["RAP_annotation"][0, 0]
            record = {field: old[field] for field in old.dtype.names} | change
        content = {"RAP_annotation": record}
    else:
        content = change(content) if callable(change) else content | change  # type: ignore[operator]
    save_mat5(path, content)
    with pytest.raises(InputError, match=sentence) as info:
        read(data, root)
    assert path.name in str(info.value)
    assert len(str(info.value)) < 1000


def test_a_damaged_or_empty_file_and_a_folder_of_something_else_are_sentences(tmp_path: Path) -> None:
    root = make_pa100k(tmp_path / "pa")
    path = root / "annotation.mat"
    for content in (b"", b"no mat file", path.read_bytes()[:2000], b"\x89HDF\r\n\x1a\n" + b"\0" * 600):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"annotation\.mat cannot be read as PA-100K's annotation: .*Copy"):
            read("pa100k", root)
    path.unlink()
    with pytest.raises(InputError, match=r"it lacks annotation\.mat or annotation/annotation\.mat \(found data\)"):
        read("pa100k", root)
    with pytest.raises(InputError, match="there is no folder"):
        read("peta", tmp_path / "nowhere")


def test_a_set_without_labels_of_attributes_cannot_be_scored_without_query_and_gallery(tmp_path: Path) -> None:
    listing = read("pa100k", make_pa100k(tmp_path))
    unknown = tuple(image._replace(attributes=(-1,) * 26) for image in listing.splits["test"])
    with pytest.raises(InputError, match="the split test has no labels of attributes, and without query and gallery"):
        check_listing(replace(listing, splits={**listing.splits, "test": unknown}))
