from collections import Counter
from pathlib import Path

import pytest
from helpers.made_vehicles import make_vehicleid

from reid_accel.data.forms.vehicleid import VehicleId
from reid_accel.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_vehicleid(tmp_path / "VehicleID")


def test_one_image_of_each_test_vehicle_is_the_gallery_and_the_others_are_queries(root: Path) -> None:
    listing = VehicleId().read(root)
    train, query, gallery = (listing.splits[split] for split in ("train", "query", "gallery"))
    assert {image.pid for image in train} == set(range(1, 7))  # vehicle 0 is pid 1: pid 0 would be a distractor
    assert Counter(image.pid for image in gallery) == dict.fromkeys(range(7, 11), 1)
    assert Counter(image.pid for image in query) == dict.fromkeys(range(7, 11), 3)
    assert not {image.name for image in query} & {image.name for image in gallery}
    assert {image.camera for images in listing.splits.values() for image in images} == {-1}
    assert listing.edition == "VehicleID-800-seed-0"


def test_the_draw_depends_on_the_seed_alone(root: Path) -> None:
    first, again, other = (VehicleId(seed=seed).read(root) for seed in (0, 0, 1))
    assert first == again
    assert first.splits["gallery"] != other.splits["gallery"]
    assert other.edition == "VehicleID-800-seed-1"
    path = root / "train_test_split" / "test_list_800.txt"
    path.write_text("\n".join(sorted(path.read_text().split("\n"))))
    assert VehicleId().read(root).splits == first.splits


def test_larger_test_lists_are_read(root: Path) -> None:
    assert len(VehicleId(test_vehicles=1600).read(root).splits["gallery"]) == 6
    with pytest.raises(InputError, match=r"set --data\.test-vehicles .* there are test_list_1600\.txt, test_list_800"):
        VehicleId(test_vehicles=2400).check(root)


def test_colors_and_models_are_attributes_where_they_are_known(root: Path) -> None:
    listing = VehicleId().read(root)
    assert [(group.name, group.values) for group in listing.groups] == [
        ("color", ("black", "white", "red")),
        ("model", ("奥迪 A6L", "大众 朗逸 1", "大众 朗逸 2")),
    ]
    of_vehicle = {image.pid - 1: image.attributes for image in listing.splits["train"]}
    assert of_vehicle == {0: (0, 0), 1: (-1, 1), 2: (2, 2), 3: (-1, 0), 4: (1, 1), 5: (-1, 2)}
    for path in (root / "attribute").iterdir():
        path.unlink()
    assert VehicleId().read(root).groups == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0000001", r"test_list_800\.txt, line 17: expected IMAGE VEHICLE, e\.g\. 0000001 77, got '0000001'"),
        ("0000001 red", r"line 17: 'red' is not a whole number"),
        ("0000001 -1", r"line 17: the number of a vehicle must be 0 or more, got -1"),
        ("0000001 9223372036854775807", r"line 17: the number 9223372036854775808 is too large \(64 bits\)"),
        ("../secret 1", r"line 17: expected IMAGE VEHICLE"),
        ("9999999 1", r"1 of 17 images are not in .*image \(9999999\.jpg\): complete the set"),
        ("0000040 1", r"lists 1 images more than once \(0000040\.jpg\)"),
    ],
)
def test_damaged_lists_are_a_sentence_with_the_line(root: Path, line: str, message: str) -> None:
    path = root / "train_test_split" / "test_list_800.txt"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match=message):
        VehicleId().check(root)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("color_attr.txt", b"1 2 3\n", r"color_attr\.txt, line 1: expected VEHICLE INDEX, got '1 2 3'"),
        ("color_attr.txt", b"\n1 -2\n", r"color_attr\.txt, line 2: the index must be from 0 to 9,999, got -2"),
        (
            "model_attr.txt",
            b"1 99999999\n",
            r"model_attr\.txt, line 1: the index must be from 0 to 9,999, got 99999999",
        ),
        ("model_attr.txt", b"", r"model_attr\.txt is empty"),
        ("color_names.txt", b"black\n", r"color_names\.txt, line 1: expected NAME INDEX, got 'black'"),
        ("color_names.txt", b"\xff\xff\xff", r"color_names\.txt is not UTF-8 text"),
    ],
)
def test_damaged_attributes_are_a_sentence_with_the_line(root: Path, name: str, content: bytes, message: str) -> None:
    (root / "attribute" / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        VehicleId().read(root)


def test_an_empty_list_and_a_missing_folder_are_a_sentence(root: Path) -> None:
    (root / "train_test_split" / "train_list.txt").write_text("\n")
    with pytest.raises(InputError, match=r"train_list\.txt lists no images"):
        VehicleId().check(root)
    (root / "image").rename(root / "images")
    with pytest.raises(InputError, match=r"not in the layout of vehicleid: it lacks image "):
        VehicleId().check(root)
