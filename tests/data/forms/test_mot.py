import json
import logging
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.made_mot import make_sequence, write_boxes
from PIL import Image

from reid_accel.data.forms import frame_crops, mot_boxes
from reid_accel.data.forms.mot import Mot, Selection
from reid_accel.data.listing import UNSPLIT, ImageFile
from reid_accel.errors import InputError

ALL = Selection(every=1, min_height_px=1, min_visibility=0)


def read(root: Path, tmp_path: Path, selection: Selection = ALL, **more: object) -> tuple[ImageFile, ...]:
    mot = Mot(tmp_path / "cache", selection, **more)  # type: ignore[arg-type]
    mot.check(root)
    return mot.read(root).splits[UNSPLIT]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_crop_has_the_pixels_of_its_box_counted_from_1(tmp_path: Path) -> None:
    root = make_sequence(tmp_path / "S")
    images = read(root, tmp_path)
    assert len(images) == 3 * 12
    lines = [line.split(",") for line in (root / "gt" / "gt.txt").read_text().splitlines()]
    by_name = {image.name: image for image in images}
    for line in lines:
        frame, person, left, top, width, height = map(int, line[:6])
        image = by_name[f"S_{person:04d}_{frame:06d}.png"]
        whole = pixels(root / "img1" / f"{frame:06d}.png")
        assert (pixels(image.path) == whole[top - 1 : top - 1 + height, left - 1 : left - 1 + width]).all()
        assert (image.pid, image.camera, image.time) == (person, 1, frame)
    assert [image.pid for image in images] == sorted(image.pid for image in images)


def test_a_folder_of_sequences_has_a_camera_each_and_people_of_its_own(tmp_path: Path) -> None:
    for number in (1, 2):
        make_sequence(tmp_path / "set" / "train" / f"S{number}", seed=number, people=(1, 7))
    images = read(tmp_path / "set", tmp_path)
    assert {(image.pid, image.camera) for image in images} == {(1, 1), (2, 1), (3, 2), (4, 2)}
    assert len({image.name for image in images}) == len(images)
    shared = read(tmp_path / "set", tmp_path, shared_ids=True)
    assert {(image.pid, image.camera) for image in shared} == {(1, 1), (2, 1), (1, 2), (2, 2)}


def test_sequences_of_the_same_folder_name_are_told_apart(tmp_path: Path) -> None:
    for scene in ("S01", "S02"):
        make_sequence(tmp_path / "set" / scene / "c001", seed=len(scene), people=(1,))
        write_boxes(tmp_path / "set" / scene / "c001", [f"1,{scene[-1]},1,1,20,40,1,1,1"])
    assert [image.name for image in read(tmp_path / "set", tmp_path)] == [
        "S01-c001_0001_000001.png",
        "S02-c001_0002_000001.png",
    ]


def test_a_trackers_files_have_the_names_of_the_sequences(tmp_path: Path) -> None:
    (tmp_path / "tracks").mkdir()
    for scene in ("S01", "S02"):
        make_sequence(tmp_path / "set" / scene / "c001", seed=len(scene), people=(1,))
        (tmp_path / "tracks" / f"{scene}-c001.txt").write_text(f"1,{scene[-1]},1,1,20,40\n")
    images = read(tmp_path / "set", tmp_path, tracks=tmp_path / "tracks")
    assert [image.name for image in images] == ["S01-c001_0001_000001.png", "S02-c001_0002_000001.png"]


def test_copies_of_a_video_are_read_once(tmp_path: Path) -> None:
    make_sequence(tmp_path / "set" / "MOT17-02-DPM")
    for detector in ("FRCNN", "SDP"):
        shutil.copytree(tmp_path / "set" / "MOT17-02-DPM", tmp_path / "set" / f"MOT17-02-{detector}")
    make_sequence(tmp_path / "set" / "MOT17-04-DPM", seed=4)  # the same boxes in other frames
    listing = Mot(tmp_path / "cache", ALL).read(tmp_path / "set")
    assert {image.camera for image in listing.splits[UNSPLIT]} == {1, 2}
    assert "2 sequences are left out as copies of others: MOT17-02-FRCNN, MOT17-02-SDP" in listing.warnings


def test_a_sequence_without_annotation_is_left_out_and_named(tmp_path: Path) -> None:
    make_sequence(tmp_path / "set" / "train" / "A")
    make_sequence(tmp_path / "set" / "test" / "B", seed=1)
    shutil.rmtree(tmp_path / "set" / "test" / "B" / "gt")
    (tmp_path / "set" / "test" / "B" / "det").mkdir()
    (tmp_path / "set" / "test" / "B" / "det" / "det.txt").write_text("1,-1,1,1,20,40,0.9,-1,-1,-1\n")
    listing = Mot(tmp_path / "cache", ALL).read(tmp_path / "set")
    assert {image.camera for image in listing.splits[UNSPLIT]} == {1}
    assert listing.warnings == ("1 sequences are left out, since they lack gt/gt.txt: test/B",)


@pytest.mark.parametrize("columns", [6, 7, 9, 10])
def test_a_large_file_is_read_at_once_as_it_is_by_line(columns: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(columns)
    rows = [
        f"{1 + n // 20},{n % 20}," + ",".join(f"{value:.2f}" for value in rng.uniform(-5, 100, columns - 2))
        for n in range(400)
    ]
    (tmp_path / "gt.txt").write_text("\n".join(rows) + "\n")
    text = (tmp_path / "gt.txt").read_text()
    at_once, by_line = mot_boxes._read_at_once(text), mot_boxes._read_by_line(tmp_path / "gt.txt", text)
    assert at_once is not None
    assert (at_once == by_line).all()
    for text_to_look_at in (
        text.replace("\n", "\n\n", 1),
        text.replace("\n", ",\n"),
        text + "1,2,3\n",
        "1 2 3 4 5 6\n",
        "",
    ):
        assert mot_boxes._read_at_once(text_to_look_at) is None


LINES = (
    "1,1,1,1,20,40,1,1,1",
    "1,2,1,1,20,40,0,1,1",  # marked as ignored
    "1,3,1,1,20,40,1,7,1",  # a static person
    "1,4,1,1,20,40,1,1,0.2",  # hardly visible
    "1,5,1,1,20,30,1,1,1",  # low
    "1,6,1,1,0,40,1,1,1",  # without an area
    "1,7,1,1,20,-40,1,1,1",
    "1,8,-30,1,20,40,1,1,1",  # outside of the frame
    "99,9,1,1,20,40,1,1,1",  # no such frame
    "1,-1,1,1,20,40,1,1,1",  # no id
    "1,10,1,60,20,40,1,1,1",  # 21 of 40 rows are in the frame
    "1,11,122.4,10.6,20,40,1,1,1",
)


def test_boxes_that_cannot_be_used_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    root = make_sequence(tmp_path / "S")
    write_boxes(root, LINES)
    listing = Mot(tmp_path / "cache", Selection(every=1, min_height_px=32, min_visibility=0.3)).read(root)
    images = listing.splits[UNSPLIT]
    assert [image.name for image in images] == ["S_0001_000001.png", "S_0011_000001.png"]
    assert Image.open(images[1].path).size == (7, 40)  # from column 121.4 to the 128th, from row 9.6 to 49.6
    assert listing.warnings == (
        "boxes of S are left out: 2 without an area, 1 without an id, 1 in frames that do not exist",
        "boxes are left out: 1 outside of the frame, 1 lower than the smallest height inside of the frame",
    )
    assert "2 marked as ignored or no pedestrian, 2 without an area, " in caplog.text
    assert "1 less visible than --data.min-visibility" in caplog.text


def test_every_nth_frame_with_boxes_is_used(tmp_path: Path) -> None:
    root = make_sequence(tmp_path / "S", people=(1,), frames=12)
    assert [image.time for image in read(root, tmp_path, Selection(every=5))] == [1, 6, 11]
    write_boxes(root, [f"{frame},1,1,1,20,40,1,1,1" for frame in range(3, 13, 3)])  # a tracker on every third frame
    assert [image.time for image in read(root, tmp_path, Selection(every=2))] == [3, 9]


def test_frames_too_far_apart_are_a_sentence(tmp_path: Path) -> None:
    root = make_sequence(tmp_path / "S", frames=4)
    with pytest.raises(InputError, match=r"with --data\.every 10, .* has no two boxes of one person, .*: lower it"):
        Mot(tmp_path / "cache").check(root)


def test_two_readers_at_the_same_time_find_the_same_crops(tmp_path: Path) -> None:
    root = make_sequence(tmp_path / "S", frames=6)
    with ThreadPoolExecutor(3) as pool:
        listings = list(pool.map(lambda _: Mot(tmp_path / "cache", ALL).read(root), range(3)))
    assert listings[0] == listings[1] == listings[2]
    assert all(image.path.is_file() for image in listings[0].splits[UNSPLIT])
    assert [path.name for path in (tmp_path / "cache" / "frames").iterdir() if path.name.startswith(".")] == []


def test_a_tracklet_ends_when_its_person_is_out_of_sight_for_a_second(tmp_path: Path) -> None:
    root = make_sequence(tmp_path / "S", people=(1, 2), frames=12, rate=3, out_of_sight=range(4, 7))
    images = read(root, tmp_path)  # from frame 3 to frame 7 there are 4 frames, more than a second
    assert [(image.pid, image.tracklet) for image in images if image.time in (3, 7)] == [(1, 0), (1, 1), (2, 2), (2, 3)]
    other = make_sequence(tmp_path / "T", people=(1, 2), frames=12, rate=4, out_of_sight=range(4, 7))
    assert {(image.pid, image.tracklet) for image in read(other, tmp_path)} == {(1, 0), (2, 1)}
    make_sequence(tmp_path / "set" / "A", people=(1, 2), seed=1)
    make_sequence(tmp_path / "set" / "B", people=(1,), seed=2)
    assert {image.tracklet for image in read(tmp_path / "set", tmp_path)} == {0, 1, 2}


@pytest.mark.parametrize(
    "text",
    [
        "1,1,3,4,20,40\n",
        "1,1,3,4,20,40,0.93\n",
        "1,1,3,4,20,40,-1,-1,-1,-1\n",
        "1, 1, 3.0, 4.0, 20.0, 40.0, 1, -1, -1, -1,\r\n",
        "1 1 3 4 20 40\n",
        "\ufeff1,1,3,4,20,40,1,1,0.9\r\n\r\n",
        "1\t1\t3\t4\t20\t40\t1",
    ],
)
def test_annotations_and_trackers_write_boxes_in_several_forms(text: str, tmp_path: Path) -> None:
    root = make_sequence(tmp_path / "S")
    (root / "gt" / "gt.txt").write_text(text, encoding="utf-8", newline="")
    (image,) = read(root, tmp_path)
    assert (pixels(image.path) == pixels(root / "img1" / "000001.png")[3:43, 2:22]).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"gt\.txt has no boxes: it is empty"),
        (b"1,1,1,1,20\n", r"gt\.txt, line 1: expected FRAME, ID, LEFT.*got 5 columns \('1,1,1,1,20'\)"),
        (b"1,1,1,1,20,40\n1,2,1,1,20,40,1\n", r"line 2: 7 columns, but the lines before have 6"),
        (b"1,1,1,1,20,forty\n", r"line 1: 'forty' is not a number"),
        (b"1,1,1,1,20,nan\n", r"line 1: 'nan' is not a number"),
        (b"1,1,1,1,20,1e999\n", r"line 1: '1e999' is not a number"),
        (b"1,1.5,1,1,20,40\n", r"line 1: the id must be a whole number below 2\^31, got 1\.5"),
        (b"1,1,1,1,20,40\n\n1,1,2,2,20,40\n", r"line 3: id 1 is in frame 1 a second time \(first in line 1\)"),
        (b"1,-1,1,1,20,40\n", r"has no identities: every id is -1, as in detections; name .*--data\.tracks"),
        (b"0,1,1,1,20,40\n", r"line 1: frame 0, but the first image in .*img1 is 1: frames are counted from 1; add 1"),
        (b"99,1,1,1,20,40\n", r"no box of a person that can be used: 1 in frames that do not exist"),
        (b"1,1,1,1,20,9\n", r"no box of a person that can be used: 1 lower than --data\.min-height-px"),
        (b"1,1,200,1,20,40\n", r"no crop is left of .*: 1 outside of the frame"),
        ("1,1,1,1,20,40".encode("utf-16"), r"gt\.txt is not UTF-8 text"),
        (b"1,1,\0,1,20,40\n", r"line 1: '\\x00' is not a number"),
        (b"," * 10**6, r"gt\.txt has no boxes"),
        (b"1," * 10**6 + b"1\n", r"line 1: expected FRAME.*got 1,000,001 columns"),
    ],
)
def test_damaged_boxes_are_a_sentence_with_the_line(content: bytes, message: str, tmp_path: Path) -> None:
    root = make_sequence(tmp_path / "S")
    (root / "gt" / "gt.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(root, tmp_path, Selection())
    assert list((tmp_path / "cache").rglob("*.png")) == []


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ("no section", r"seqinfo\.ini is not an INI file"),
        ("[Sequence]\nimDir=..\n", r"imDir must be the name of a folder beside it, got '\.\.'"),
        ("[Sequence]\nimDir=/etc\n", r"imDir must be the name of a folder beside it, got '/etc'"),
        ("[Sequence]\nimDir=other\n", r"there is no folder .*other"),
        ("[Sequence]\nframeRate=0\n", r"frameRate must be a number above 0, got '0'"),
        ("[Sequence]\nframeRate=many\n", r"frameRate must be a number above 0, got 'many'"),
    ],
)
def test_a_wrong_seqinfo_is_a_sentence(info: str, message: str, tmp_path: Path) -> None:
    root = make_sequence(tmp_path / "S")
    (root / "seqinfo.ini").write_text(info)
    with pytest.raises(InputError, match=message):
        Mot(tmp_path / "cache").check(root)


def test_a_folder_without_sequences_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    with pytest.raises(InputError, match=r"has no MOTChallenge sequence: expected folders with img1/.*; found a$"):
        Mot(tmp_path / "cache").check(tmp_path / "set")
    with pytest.raises(InputError, match=r"there is no folder .*nowhere; set --data\.root"):
        Mot(tmp_path / "cache").check(tmp_path / "nowhere")
    (tmp_path / "set" / "a" / "img1").mkdir()
    with pytest.raises(InputError, match=r"none of the 1 sequences in .* has a file of boxes \(gt/gt\.txt\)"):
        Mot(tmp_path / "cache").check(tmp_path / "set")


def test_two_images_of_one_frame_are_a_sentence(tmp_path: Path) -> None:
    root = make_sequence(tmp_path / "S")
    shutil.copy(root / "img1" / "000001.png", root / "img1" / "1.png")
    with pytest.raises(InputError, match=r"000001\.png and .*1\.png are both frame 1: remove one"):
        Mot(tmp_path / "cache").check(root)


def test_a_trackers_output_takes_the_place_of_the_annotation(tmp_path: Path) -> None:
    for name in ("A", "B"):
        make_sequence(tmp_path / "set" / name, seed=ord(name))
    tracks = tmp_path / "tracks"
    tracks.mkdir()
    (tracks / "B.txt").write_text("1,5,1,1,20,40,0.9,-1,-1,-1\n2,5,1,1,20,40,0.9,-1,-1,-1\n")
    listing = Mot(tmp_path / "cache", ALL, tracks=tracks).read(tmp_path / "set")
    assert [image.name for image in listing.splits[UNSPLIT]] == ["B_0005_000001.png", "B_0005_000002.png"]
    assert listing.warnings == ("1 sequences are left out, since they lack tracks/SEQUENCE.txt: A",)


def test_crops_are_cut_once_and_again_when_they_or_their_source_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []
    original = frame_crops.read_image
    monkeypatch.setattr(frame_crops, "read_image", lambda path: decoded.append(path) or original(path))
    root = make_sequence(tmp_path / "S", frames=3)
    mot = Mot(tmp_path / "cache", ALL)
    mot.check(root)
    assert decoded == []
    assert not (tmp_path / "cache").exists()
    first = mot.read(root)
    assert len(decoded) == 3
    assert mot.read(root) == first
    assert len(decoded) == 3
    first.splits[UNSPLIT][0].path.unlink()
    assert mot.read(root) == first
    assert len(decoded) == 6
    assert first.splits[UNSPLIT][0].path.is_file()
    write_boxes(root, [(root / "gt" / "gt.txt").read_text().strip(), "3,9,1,1,20,40,1,1,1"])
    changed = mot.read(root)
    assert len(decoded) == 9
    assert changed.fingerprint != first.fingerprint
    Image.open(root / "img1" / "000002.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
        root / "img1" / "000002.png"
    )
    assert mot.read(root).fingerprint != changed.fingerprint


def test_a_killed_run_leaves_no_crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, calls = make_sequence(tmp_path / "S", frames=3), Counter[str]()

    def interrupted(path: Path) -> Image.Image:
        calls["read"] += 1
        if calls["read"] == 2:
            raise KeyboardInterrupt
        return Image.open(path)

    with monkeypatch.context() as patch:
        patch.setattr(frame_crops, "read_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Mot(tmp_path / "cache", ALL).read(root)
    assert list((tmp_path / "cache").rglob("*.png")) == []
    assert len(read(root, tmp_path)) == 9


def test_an_index_of_crops_that_was_changed_is_not_believed(tmp_path: Path) -> None:
    root = make_sequence(tmp_path / "S", frames=3)
    images = read(root, tmp_path)
    (index,) = (tmp_path / "cache").rglob("index.json")
    content = json.loads(index.read_text())
    content["bytes"].popitem()
    index.write_text(json.dumps(content))
    assert read(root, tmp_path) == images


def test_unreadable_frames_are_an_error_or_skipped(tmp_path: Path) -> None:
    root = make_sequence(tmp_path / "S", frames=3)
    (root / "img1" / "000002.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    with pytest.raises(InputError, match=r"cannot read the image .*000002\.png: .*--data\.on-bad-image skip"):
        read(root, tmp_path)
    listing = Mot(tmp_path / "cache", ALL, on_bad_image="skip").read(root)
    assert {image.time for image in listing.splits[UNSPLIT]} == {1, 3}
    assert listing.warnings == ("1 frames are unreadable and left out: S/img1/000002.png",)
