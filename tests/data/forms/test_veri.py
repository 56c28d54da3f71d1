from pathlib import Path

import pytest
from helpers.made_vehicles import XML, draw_vehicle, make_veri

from reid_accel.data.forms.veri import Veri
from reid_accel.data.forms.veri_labels import VehicleLabel, read_veri_labels
from reid_accel.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_veri(tmp_path / "VeRi")


def test_names_give_vehicle_camera_and_time_and_labels_color_and_type(root: Path) -> None:
    listing = Veri().read(root)
    assert {split: len(images) for split, images in listing.splits.items()} == {"train": 24, "query": 8, "gallery": 16}
    image = listing.splits["gallery"][3]
    assert image.name == "0007_c002_00000705_1.jpg"
    assert (image.pid, image.camera, image.time, image.tracklet) == (7, 2, 705, 2)
    values = [group.values[value] for group, value in zip(listing.groups, image.attributes, strict=True)]
    assert values == ["golden", "truck"]  # colorID 8 and typeID 8
    assert {image.tracklet for image in listing.splits["train"]} == {-1}
    assert listing.splits["query"][0].attributes == listing.splits["gallery"][0].attributes
    assert listing.warnings == (
        "train differs from the published VeRi-776: found 24 images, expected 37,778",
        "query differs from the published VeRi-776: found 8 images, expected 1,678",
        "gallery differs from the published VeRi-776: found 16 images, expected 11,579",
    )


def test_label_files_may_be_missing(root: Path) -> None:
    (root / "test_label.xml").unlink()
    (root / "test_track.txt").unlink()
    listing = Veri().read(root)
    assert listing.warnings[-1] == "test_label.xml not found: colors and types are unknown"
    assert listing.splits["query"][0].attributes == (-1, -1)
    assert listing.splits["train"][0].attributes != (-1, -1)
    (root / "train_label.xml").unlink()
    assert Veri().read(root).groups == ()


def test_what_labels_and_names_disagree_about_is_said(root: Path) -> None:
    path = root / "train_label.xml"
    text = path.read_text()
    first = next(line for line in text.splitlines() if line.startswith("<Item "))
    path.write_text(text.replace(first, "").replace('vehicleID="0002"', 'vehicleID="0003"', 1))
    warnings = Veri().read(root).warnings
    assert "train_label.xml has no label of 1 of 24 images (0001_c001_00000100_0.jpg)" in warnings
    assert (
        "train_label.xml gives 1 images another vehicle than their names, which are believed "
        "(0002_c001_00000200_0.jpg)" in warnings
    )


def test_a_changed_label_changes_the_fingerprint(root: Path) -> None:
    before = Veri().read(root).fingerprint
    path = root / "train_label.xml"
    path.write_text(path.read_text().replace('colorID="2"', 'colorID="10"', 1))
    assert Veri().read(root).fingerprint != before


def test_a_folder_in_another_layout_is_a_sentence(root: Path) -> None:
    (root / "image_query").rename(root / "query")
    with pytest.raises(InputError, match=r"not in the layout of veri: it lacks image_query"):
        Veri().check(root)
    (root / "query").rename(root / "image_query")
    draw_vehicle(root / "image_query" / "car.jpg", 1, 1)
    with pytest.raises(InputError, match=r"image_query: the file name 'car\.jpg' has no person and camera"):
        Veri().check(root)


ITEM = '<Item imageName="0001_c001_00016450_0.jpg" vehicleID="0001" cameraID="c001" colorID="1" typeID="4"/>'
DOCTYPE = '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>\n<a>&b;</a>'
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n<a>&x;</a>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is not XML: no element found: line 1, column 0"),
        (b"<a><b></a>", r"is not XML: mismatched tag: line 1"),
        (b"<a/>", r'has no element <Item imageName="\.\.\." vehicleID="\.\.\." \.\.\./>'),
        (DOCTYPE.encode(), r", line 2: a label file must not have a DOCTYPE: remove it"),
        (EXTERNAL.encode(), r", line 1: a label file must not have a DOCTYPE: remove it"),
        (b"<a>" * 10**5, r"is not XML: no element found: line 1"),
        (f"<a>\n{ITEM}\n{ITEM}</a>".encode(), r", line 3: 0001_c001_00016450_0\.jpg is listed a second time"),
        (f"<a>\n{ITEM}</a>".replace('"4"', '"12"').encode(), r", line 2: typeID must be from 1 to 9, got 12"),
        (f"<a>{ITEM}</a>".replace('"1"', '"red"').encode(), r", line 1: 'red' is not a whole number"),
        (b'<a>\n<Item imageName="a.jpg"/></a>', r", line 2: an Item lacks vehicleID"),
        (b"\x81\xff<a/>", r"is not UTF-8 text"),
        (b"<a>\0</a>", r"is not XML: not well-formed"),
    ],
)
def test_damaged_labels_are_a_sentence_with_the_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "train_label.xml").write_bytes(content)
    with pytest.raises(InputError, match=r"train_label\.xml" + ("" if message[0] == "," else " ") + message):
        read_veri_labels(tmp_path / "train_label.xml")


@pytest.mark.parametrize("encoding", ["gb2312", "utf-8", "utf-8-sig"])
def test_labels_are_read_in_the_encodings_that_they_have(encoding: str, tmp_path: Path) -> None:
    text = XML.format(1, f"<!-- 车辆 -->\n{ITEM}") + "</TrainingImages>"
    (tmp_path / "labels.xml").write_bytes(text.encode(encoding))
    assert read_veri_labels(tmp_path / "labels.xml") == {"0001_c001_00016450_0.jpg": VehicleLabel(1, (0, 3))}


def test_labels_without_colors_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "labels.xml").write_text('<a><Item imageName="000001.jpg" vehicleID="7" cameraID="c036"/></a>')
    assert read_veri_labels(tmp_path / "labels.xml") == {"000001.jpg": VehicleLabel(7, (-1, -1))}
