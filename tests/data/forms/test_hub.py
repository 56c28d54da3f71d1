"""Image data sets of the `datasets` library as re-ID sets."""

import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from helpers.made_sets import draw_image
from helpers.relaid import content_fingerprint
from PIL import Image

from reid_accel.config.schema import DataConfig
from reid_accel.data.forms.hub import Hub
from reid_accel.data.listing import UNSPLIT, Listing
from reid_accel.data.reading import read_dataset
from reid_accel.data.tables import tables_of
from reid_accel.errors import InputError


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def table(columns: Mapping[str, Sequence[Any]], **types: Any) -> datasets.Dataset:
    """A table with an image for each row, stored in it."""
    number = len(next(iter(columns.values())))
    images = [{"bytes": picture(row), "path": f"{row}.png"} for row in range(number)]
    dataset = datasets.Dataset.from_dict({"image": images, **columns}).cast_column("image", datasets.Image())
    for column, kind in types.items():
        dataset = dataset.cast_column(column, kind)
    return dataset


def saved(folder: Path, splits: Mapping[str, datasets.Dataset] | datasets.Dataset) -> Path:
    (splits if isinstance(splits, datasets.Dataset) else datasets.DatasetDict(splits)).save_to_disk(str(folder))
    return folder


def read(source: Path | str, tmp_path: Path, **columns: str) -> Listing:
    hub = Hub(tmp_path / "cache", columns)
    hub.check(Path(source))
    return hub.read(Path(source))


def pixels_of(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def test_a_saved_set_has_the_content_of_its_folder(small_market: Path, tmp_path: Path) -> None:
    market = read_dataset(DataConfig(name="market-layout", root=str(small_market)))
    listing = read(saved(tmp_path / "saved", tables_of(market)), tmp_path)
    assert content_fingerprint(listing) == content_fingerprint(market)
    for split, images in market.splits.items():
        for image, ours in zip(images, listing.splits[split], strict=True):
            assert ours.path.read_bytes() == image.path.read_bytes()


def test_cuhk03_saved_has_the_same_content(shared_data: Path, tmp_path: Path) -> None:
    whole = read_dataset(DataConfig(name="market-layout", root=str(shared_data / "cuhk03-np" / "detected")))
    market = replace(whole, splits={split: images[:500] for split, images in whole.splits.items()})
    tables = tables_of(market).remove_columns(["row"]).rename_columns({"image": "img", "pid": "who", "camera": "cam"})
    listing = read(saved(tmp_path / "saved", tables), tmp_path, person="who")
    assert content_fingerprint(listing) == content_fingerprint(market)
    for split in market.splits:
        ours, theirs = listing.splits[split][7], market.splits[split][7]
        assert ours.path.read_bytes() == theirs.path.read_bytes()
    shutil.rmtree(tmp_path / "saved")


def test_images_are_written_once(tmp_path: Path) -> None:
    root = saved(tmp_path / "saved", table({"person": ["a", "b"]}))
    first = read(root, tmp_path)
    times = [image.path.stat().st_mtime_ns for image in first.splits[UNSPLIT]]
    assert read(root, tmp_path) == first
    assert [image.path.stat().st_mtime_ns for image in first.splits[UNSPLIT]] == times
    first.splits[UNSPLIT][1].path.write_bytes(b"cut")
    assert read(root, tmp_path) == first
    assert pixels_of(first.splits[UNSPLIT][1].path) == Image.open(io.BytesIO(picture(1))).tobytes()
    shutil.rmtree(root)
    other = read(saved(root, table({"person": ["a", "c"]})), tmp_path)
    assert other.fingerprint != first.fingerprint


def test_the_check_writes_nothing(tmp_path: Path) -> None:
    root = saved(tmp_path / "saved", table({"person": ["a", "b"]}))
    Hub(tmp_path / "cache").check(root)
    assert not (tmp_path / "cache").exists()


def test_people_and_cameras_are_words_numbers_or_class_labels(tmp_path: Path) -> None:
    people = datasets.ClassLabel(names=["zoe", "anna"])
    columns = {"label": [0, 1, 0], "cam": ["door 10", "door 2", None], "hat": [1, -1, 0], "age": [0, 1, 2]}
    hats, ages = datasets.ClassLabel(names=["no", "yes"]), datasets.ClassLabel(names=["young", "adult", "old"])
    listing = read(saved(tmp_path / "saved", table(columns, label=people, hat=hats, age=ages)), tmp_path)
    images = listing.splits[UNSPLIT]
    assert [(image.name, image.pid, image.camera, image.attributes) for image in images] == [
        ("1.png", 1, 1, (-1, 1)),
        ("0.png", 2, 2, (1, 0)),
        ("2.png", 2, -1, (0, 2)),
    ]
    assert listing.people == {1: "anna", 2: "zoe"}
    assert [(group.name, group.values) for group in listing.groups] == [
        ("hat", ("no", "yes")),
        ("age", ("young", "adult", "old")),
    ]


@pytest.mark.parametrize("kind", ["numbers", "class labels"])
def test_people_that_are_counted_from_0_are_no_distractors(tmp_path: Path, kind: str) -> None:
    types = {"label": datasets.ClassLabel(num_classes=3)} if kind == "class labels" else {}
    listing = read(saved(tmp_path / "saved", table({"label": [0, 2, 1, 0]}, **types)), tmp_path)
    assert [image.pid for image in listing.splits[UNSPLIT]] == [1, 1, 2, 3]
    assert listing.warnings == ("people are numbered from 0: 1 is added to each, since 0 marks distractors",)


def test_distractors_in_the_gallery_stay_distractors(tmp_path: Path) -> None:
    people = {"train": [1, 2], "query": [3, 4], "gallery": [0, 3, 4]}
    tables = {split: table({"pid": pids}) for split, pids in people.items()}
    listing = read(saved(tmp_path / "saved", tables), tmp_path)
    assert {split: [image.pid for image in images] for split, images in listing.splits.items()} == people
    assert listing.warnings == ()


def test_columns_are_named_in_the_settings(tmp_path: Path) -> None:
    columns = {"who": [3, 5, 4], "where": [1, 2, 1], "half": ["train", "test", "train"], "track": ["x", "y", "x"]}
    when = [datetime(2024, 1, 5, 10, 0, second, tzinfo=timezone.utc) for second in range(3)]
    root = saved(tmp_path / "saved", table({**columns, "when": when}).rename_column("image", "img"))
    given = {"image": "img", "person": "who", "camera": "where", "split": "half", "tracklet": "track", "time": "when"}
    splits = read(root, tmp_path, **given).splits
    assert {
        split: [(image.pid, image.camera, image.tracklet) for image in images] for split, images in splits.items()
    } == {
        "train": [(3, 1, 1), (4, 1, 2)],
        "test": [(5, 2, 3)],
    }
    assert splits["train"][1].time - splits["train"][0].time == 2000


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "query", "gallery"), {"train": 1, "query": 1, "gallery": 1}),
        (("training", "probe", "test"), {"train": 1, "query": 1, "gallery": 1}),
        (("train", "test"), {"train": 1, "test": 1}),
        (("train", "validation"), {"train": 1, "test": 1}),
        (("train", "validation", "test"), {"train": 2, "test": 1}),
        (("train", "extra", "test"), {"train": 1, "test": 1}),
        (("anything",), {UNSPLIT: 1}),
    ],
)
def test_splits_are_known_by_name(tmp_path: Path, names: tuple[str, ...], splits: dict[str, int]) -> None:
    tables = {name: table({"person": [1 + number], "name": [f"{name}.png"]}) for number, name in enumerate(names)}
    listing = read(saved(tmp_path / "saved", tables), tmp_path)
    assert {split: len(images) for split, images in listing.splits.items()} == splits
    assert listing.warnings == (("the splits extra are left out",) if "extra" in names else ())


def test_a_set_for_classification_is_split_anew(tmp_path: Path) -> None:
    tables = {"train": table({"label": ["a", "b", "b"]}), "test": table({"label": ["b"]})}
    listing = read(saved(tmp_path / "saved", tables), tmp_path)
    assert {split: len(images) for split, images in listing.splits.items()} == {UNSPLIT: 4}
    assert listing.warnings == ("all people of the split test are in train: both are split anew, by people",)
    assert len({image.name for image in listing.splits[UNSPLIT]}) == 4


def test_a_folder_of_images_and_a_parquet_file_are_sets(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for person in ("anna", "b 2"):
        for number in range(2):
            draw_image(root / "train" / person / f"{number}.png", size=(8, 16 + number))
    draw_image(root / "test" / "carl" / "0.png", size=(9, 16))
    listing = read(root, tmp_path)
    assert [(image.name, image.pid) for image in listing.splits["train"]] == [
        ("anna/0.png", 1),
        ("anna/1.png", 1),
        ("b 2/0.png", 2),
        ("b 2/1.png", 2),
    ]
    assert listing.splits["test"][0].path == root / "test" / "carl" / "0.png"
    before = listing.fingerprint
    os.utime(listing.splits["test"][0].path, ns=(1, 1))
    assert read(root, tmp_path).fingerprint != before
    table({"person": ["a", "b"]}).to_parquet(tmp_path / "set.parquet")
    for source in (tmp_path / "set.parquet", tmp_path / "parquet"):
        assert [image.pid for image in read(source, tmp_path).splits[UNSPLIT]] == [1, 2]
        (tmp_path / "parquet").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "set.parquet", tmp_path / "parquet" / "train.parquet")


def test_query_and_gallery_of_a_folder_are_splits_too(tmp_path: Path) -> None:
    (tmp_path / "parquet").mkdir()
    for number, split in enumerate(("train", "query", "gallery")):
        table({"person": [number]}).to_parquet(tmp_path / "parquet" / f"{split}-00000-of-00001.parquet")
        for person in ("anna", "ben"):
            draw_image(tmp_path / "images" / split / person / f"{number}.png", size=(8, 16 + number))
    for source, images in (("parquet", 1), ("images", 2)):
        splits = read(tmp_path / source, tmp_path).splits
        assert {split: len(found) for split, found in splits.items()} == dict.fromkeys(
            ("train", "query", "gallery"), images
        )


def test_paths_and_bytes_become_images(tmp_path: Path) -> None:
    root = tmp_path / "set"
    draw_image(root / "a.png")
    paths = datasets.Dataset.from_dict({"image": [str(root / "a.png")], "person": ["a"]})
    paths.to_parquet(root / "train.parquet")
    assert read(root / "train.parquet", tmp_path / "1").splits[UNSPLIT][0].path == root / "a.png"
    stored = datasets.Dataset.from_dict({"image": [picture(3)], "person": ["a"]})
    stored.to_parquet(tmp_path / "bytes.parquet")
    assert read(tmp_path / "bytes.parquet", tmp_path).splits[UNSPLIT][0].path.read_bytes() == picture(3)


def test_a_name_that_is_not_in_the_cache_is_a_sentence_offline(tmp_path: Path) -> None:
    for name in ("nobody/nothing", "nothing", "nobody/nothing:small@main"):
        with pytest.raises(
            InputError, match=r"is not in the cache and the hub cannot be reached .*: start once with a"
        ):
            read(name, tmp_path)


def test_no_code_of_a_set_is_run(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.py").write_text("raise SystemExit('it ran')\n")
    with pytest.raises(InputError, match=r"is a loading script, and no code of a data set is run: use a version"):
        read(tmp_path / "set", tmp_path)
    (tmp_path / "pickles").mkdir()
    (tmp_path / "pickles" / "train.pkl").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(InputError, match="cannot be opened as a data set"):
        read(tmp_path / "pickles", tmp_path)
    assert not Path("ran").exists()


DAMAGES = {
    "no set": ({"a.txt": b""}, r"is empty|cannot be opened as a data set|no column of people"),
    "no files": ({}, "cannot be opened as a data set: "),
    "cut dictionary": ({"dataset_dict.json": b'{"spl'}, "cannot be opened as a data set: "),
    "no tables": ({"dataset_dict.json": b'{"splits": ["train"]}'}, "cannot be opened as a data set: "),
    "empty state": ({"state.json": b"{}", "dataset_info.json": b"{}"}, "cannot be opened as a data set: "),
    "cut parquet": ({"train.parquet": b"PAR1"}, "cannot be opened as a data set: "),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_set_is_a_sentence(tmp_path: Path, damage: str) -> None:
    files, sentence = DAMAGES[damage]
    root = tmp_path / "set"
    root.mkdir()
    for name, content in files.items():
        (root / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read(root, tmp_path)
    assert not (tmp_path / "cache").exists()


def test_damaged_tables_do_not_end_the_process(tmp_path: Path) -> None:
    root = saved(tmp_path / "saved", table({"person": ["a", "b", "c"], "cam": [1, 2, 1]}))
    (file,) = root.glob("*.arrow")
    good, damaged = file.read_bytes(), 0
    for place in range(0, len(good), 61):
        file.write_bytes(good[:place] + b"\xff" + good[place + 1 :])
        try:
            read(root, tmp_path)
        except InputError as error:
            damaged += 1
            assert "Traceback" not in str(error)  # noqa: PT017
    assert damaged > 5


def test_a_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    for source in (tmp_path / "nowhere", Path("a/b/c"), Path("../nowhere")):
        with pytest.raises(InputError, match=r"there is no folder .*nowhere|there is no folder a/b/c"):
            read(source, tmp_path)


@pytest.mark.parametrize(
    ("columns", "given", "sentence"),
    [
        ({"who": [1, 2]}, {}, r"has no column of people .* person=COLUMN; there are the columns image, who"),
        ({"who": [1, 2]}, {"person": "whom"}, r"has no column of people \(whom\): .*there are the columns image, who"),
        ({"person": [1, 2]}, {"camera": "cam"}, r"has no column cam \(camera\); there are the columns image, person"),
        ({"person": [1, 2]}, {"image": "person"}, r"the column person of the split all has no images"),
        ({"person": [1, None]}, {}, r"1 rows have no person \(row 1 of the split all\): remove them"),
        ({"person": [1.5, 2.5]}, {}, r"row 0 of the split all: the person must be a name or a whole number, got 1\.5"),
        ({"person": [[1], [2]]}, {}, r"row 0 of the split all: the person must be a name or a whole number, got \[1\]"),
        ({"person": ["Anna", "anna "]}, {}, r"two spellings, 'Anna' \(row 0 of .*\) and 'anna ' \(row 1 of"),
        ({"person": [1, 2], "camera": ["2024-01-05", "2024-01-06"]}, {}, r"cameras look like dates .*columns camera="),
        ({"person": [1, 2], "time": ["noon", "1"]}, {}, r"row 0 of the split all: the time must be a whole number"),
        ({"person": [1, 2], "split": ["train", ""]}, {}, r"1 rows have no split \(row 1"),
        ({"person": [1, 2], "split": ["train", "more"]}, {}, r"there are the splits train, more: expected train"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_used_are_a_sentence(
    tmp_path: Path, columns: dict[str, list[Any]], given: dict[str, str], sentence: str
) -> None:
    root = saved(tmp_path / "saved", table(columns))
    with pytest.raises(InputError, match=sentence):
        read(root, tmp_path, **given)


def test_two_columns_of_images_need_a_name(tmp_path: Path) -> None:
    one = table({"person": [1, 2]}).rename_column("image", "front")
    both = datasets.concatenate_datasets([one, table({"more": [1, 2]}).rename_column("image", "back")], axis=1)
    root = saved(tmp_path / "saved", both)
    with pytest.raises(InputError, match=r"it isn't clear which column has the images: .*image=COLUMN; there are"):
        read(root, tmp_path)
    assert len(read(root, tmp_path, image="back").splits[UNSPLIT]) == 2


def test_rows_without_images_and_files_elsewhere_are_sentences(tmp_path: Path) -> None:
    empty = datasets.Dataset.from_dict({"image": [None, {"bytes": picture(1), "path": None}], "person": ["a", "b"]})
    empty.cast_column("image", datasets.Image()).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(InputError, match=r"1 rows of the split train have no image \(0\): remove them"):
        read(tmp_path / "empty.parquet", tmp_path)
    (tmp_path / "set").mkdir()
    draw_image(tmp_path / "elsewhere" / "a.png")
    for path, sentence in (
        (
            tmp_path / "elsewhere" / "a.png",
            r"names 1 files outside of its folder \(.*a\.png\): save it with its images",
        ),
        (tmp_path / "set" / ".." / "elsewhere" / "a.png", "names 1 files outside of its folder"),
        (tmp_path / "set" / "b.png", r"1 of 1 images of the data set .* do not exist \(.*b\.png\)"),
    ):
        file = tmp_path / "set" / f"{len(sentence)}.parquet"
        datasets.Dataset.from_dict({"image": [str(path)], "person": ["a"]}).to_parquet(file)
        source = tmp_path / "set"
        with pytest.raises(InputError, match=sentence):
            read(source, tmp_path)
        file.unlink()


def test_a_set_without_rows_is_a_sentence(tmp_path: Path) -> None:
    root = saved(tmp_path / "saved", table({"person": ["a"]}).select([]))
    with pytest.raises(InputError, match=r"is empty|cannot be opened as a data set"):
        read(root, tmp_path)


def test_attributes_with_other_values_in_another_split_are_a_sentence(tmp_path: Path) -> None:
    tables = {
        split: table({"person": [number], "hat": [0]}, hat=datasets.ClassLabel(names=names))
        for number, (split, names) in enumerate({"train": ["no", "yes"], "test": ["yes", "no"]}.items())
    }
    root = saved(tmp_path / "saved", tables)
    with pytest.raises(InputError, match=r"hat has the values yes, no in the split test, but no, yes in another"):
        read(root, tmp_path)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = saved(tmp_path / "saved", table({"person": ["a", "b"]}))

    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match=r"the images cannot be written to .*No space left.*--data\.cache-dir"):
            read(root, tmp_path)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert json.loads((root / "state.json").read_text())
