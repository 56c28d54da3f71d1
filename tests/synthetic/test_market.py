"""The drawn mini-Market: what is promised about files, about what is seen, and about how hard it is."""

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_accel.attributes.annotations import read_course_csv, read_market_mat
from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.data import listing
from reid_accel.data.forms.layouts import Course, MarketLayout
from reid_accel.errors import InputError
from reid_accel.synthetic import market as synthetic
from reid_accel.synthetic.figures import draw_person
from reid_accel.synthetic.market import (
    SyntheticMarket,
    cached_synthetic_market,
    plan_shots,
    split_identities,
    synthetic_person,
    take_shots,
    write_synthetic_market,
)
from reid_accel.synthetic.pedestrians import Garment, Person, named_color
from reid_accel.synthetic.skeleton import HEIGHT_PX, WIDTH_PX, Pose

SMALL = SyntheticMarket(train_identities=5, test_identities=4, distractors=6, junk=5, num_cameras=3)
MAT_HEADER_BYTES = 128  # holds the date of writing
FRONT, SIDE, BACK = 0.0, np.pi / 2, np.pi


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_market(SMALL, tmp_path_factory.mktemp("synthetic") / "set")


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()[MAT_HEADER_BYTES if path.suffix == ".mat" else 0 :]
        for path in files
    }


def test_the_same_settings_give_the_same_bytes_and_another_seed_does_not(small: Path, tmp_path: Path) -> None:
    again = write_synthetic_market(SMALL, tmp_path / "again")
    other = write_synthetic_market(replace(SMALL, seed=1), tmp_path / "other")
    assert contents(again) == contents(small)
    assert not set(contents(other).values()) & set(contents(small).values())


def test_the_number_of_workers_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shots = plan_shots(SMALL)[:20]
    alone = list(take_shots(SMALL, shots))
    monkeypatch.setattr(synthetic, "IMAGES_PER_CHUNK", 7)
    assert list(take_shots(SMALL, shots, workers=2)) == alone


def test_an_image_is_independent_of_the_others() -> None:
    shots = plan_shots(SMALL)
    assert list(take_shots(SMALL, shots[::-9]))[::-1] == list(take_shots(SMALL, shots[::-9][::-1]))
    assert len(set(take_shots(SMALL, shots[:12]))) == 12


def test_the_layouts_are_those_that_the_loaders_read() -> None:
    assert (MarketLayout.folders, MarketLayout.attribute_file) == (
        synthetic.MARKET_FOLDERS,
        synthetic.MARKET_ATTRIBUTES,
    )
    assert (Course.folders, Course.attribute_file) == (synthetic.COURSE_FOLDERS, synthetic.COURSE_ATTRIBUTES)
    assert (synthetic.DISTRACTOR_PID, synthetic.JUNK_PID) == (listing.DISTRACTOR_PID, listing.JUNK_PID)


def test_both_layouts_are_read_by_the_loaders_and_count_as_planned(small: Path) -> None:
    planned = Counter(shot.split for shot in plan_shots(SMALL))
    market = MarketLayout().read(small / "market")
    course = Course().read(small / "course")
    assert {split: len(images) for split, images in market.splits.items()} == planned
    assert len(course.splits["train"]) == planned["train"]
    assert len(course.splits["queries"]) == planned["query"]
    assert len(course.splits["test"]) == planned["gallery"]
    assert not market.warnings
    assert not course.warnings
    gallery = Counter(image.pid for image in market.splits["gallery"])
    assert gallery[0] == SMALL.distractors
    assert gallery[-1] == SMALL.junk


def test_names_look_as_in_the_real_sets(small: Path) -> None:
    market_name = re.compile(r"(\d{4}|-1)_c\ds\d_\d{6}_\d\d\.jpg")
    assert all(market_name.fullmatch(path.name) for path in (small / "market").glob("*/*.jpg"))
    assert all(re.fullmatch(r"\d{4}_c\d_\d{9}\.jpg", p.name) for p in (small / "course/train").iterdir())
    for folder in ("test", "queries"):
        assert all(re.fullmatch(r"\d{6}\.jpg", path.name) for path in (small / "course" / folder).iterdir())


def test_large_sets_have_no_name_twice() -> None:
    shots = plan_shots(SyntheticMarket(train_identities=1200, test_identities=100, distractors=3000, junk=2000))
    names = Counter((shot.split, shot.market_name) for shot in shots)
    assert max(names.values()) == 1


def test_both_layouts_hold_the_same_pictures(small: Path) -> None:
    for market, course in (("bounding_box_train", "train"), ("query", "queries"), ("bounding_box_test", "test")):
        market_files = Counter(contents(small / "market" / market).values())
        assert Counter(contents(small / "course" / course).values()) == market_files


def test_course_numbers_do_not_give_away_who_it_is(small: Path) -> None:
    by_bytes = {file: name for name, file in contents(small / "market/bounding_box_test").items()}
    names = [by_bytes[file] for file in contents(small / "course/test").values()]
    assert names != sorted(names)


def test_train_and_test_share_no_person_and_queries_are_one_per_person_and_camera(small: Path) -> None:
    splits = MarketLayout().read(small / "market").splits
    train, query, gallery = (
        {(image.pid, image.camera) for image in splits[split]} for split in ("train", "query", "gallery")
    )
    assert not {pid for pid, _ in train} & {pid for pid, _ in query | gallery}
    assert len(splits["query"]) == len(query)
    assert query == {(pid, camera) for pid, camera in gallery if pid > 0}
    assert all(any(pid == p and camera != c for p, c in gallery) for pid, camera in query)
    query_files = {image.path.read_bytes() for image in splits["query"]}
    assert not query_files & {image.path.read_bytes() for image in splits["gallery"]}


def test_annotations_say_what_was_drawn(small: Path) -> None:
    train, test = split_identities(SMALL)
    halves = read_market_mat(small / "market/market_attribute.mat")
    assert halves["train"] == {pid: synthetic_person(SMALL.seed, pid).attributes for pid in train}
    assert halves["test"] == {pid: synthetic_person(SMALL.seed, pid).attributes for pid in test}
    assert read_course_csv(small / "course/annotations_train.csv") == halves["train"]


def test_pictures_are_color_jpegs_of_market_size(small: Path) -> None:
    for path in (small / "market/query").iterdir():
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (WIDTH_PX, HEIGHT_PX))


def test_the_default_set_shows_every_value_in_both_splits() -> None:
    settings = SyntheticMarket()
    for pids in split_identities(settings):
        values = np.array([synthetic_person(settings.seed, pid).attributes for pid in pids])
        for column, group in enumerate(MARKET_GROUPS[:10]):
            assert set(values[:, column]) == set(range(len(group.values))), group.name
    everyone = np.array([synthetic_person(0, number).attributes for number in range(400)])
    assert set(everyone[:, 10]) == set(range(9))
    assert set(everyone[:, 11]) == set(range(10))
    assert 0.04 < everyone[:, 8].mean() < 0.16  # hats


def test_the_default_set_has_the_promised_size() -> None:
    counts = Counter((shot.split, shot.kind) for shot in plan_shots(SyntheticMarket()))
    assert 2300 <= counts["train", "person"] <= 2600
    assert 140 <= counts["query", "person"] <= 180
    assert 550 <= counts["gallery", "person"] <= 720
    assert (counts["gallery", "distractor"], counts["gallery", "junk"]) == (100, 60)


def test_a_finished_set_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = cached_synthetic_market(SMALL, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert cached_synthetic_market(SMALL, tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("damage", ["a label", "an image", "a missing image", "an empty list", "no settings", "older"])
def test_a_damaged_cached_set_is_drawn_again_with_a_warning(
    small: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / cached_synthetic_market(SMALL, tmp_path).name
    annotation, settings = folder / "market/market_attribute.mat", folder / "synthetic.json"
    image = sorted((folder / "market/query").iterdir())[1]
    if damage == "a label":
        content = bytearray(annotation.read_bytes())
        content[-1] ^= 1
        annotation.write_bytes(content)
    elif damage == "an image":
        image.write_bytes(image.read_bytes()[:-1] + b"x")
    elif damage == "a missing image":
        image.unlink()
    elif damage == "an empty list":
        (folder / "course/annotations_train.csv").write_bytes(b"")
    elif damage == "no settings":
        settings.unlink()
    else:
        written = json.loads(settings.read_text())
        settings.write_text(json.dumps({name: written[name] for name in ("drawing_version", "settings")}))
    assert contents(cached_synthetic_market(SMALL, tmp_path)) == contents(small)
    assert "drawing them again" in caplog.text
    caplog.clear()
    cached_synthetic_market(SMALL, tmp_path)
    assert caplog.text == ""


def test_other_settings_get_another_cache_folder_and_never_the_same_one(small: Path, tmp_path: Path) -> None:
    tiny = SyntheticMarket(train_identities=1, test_identities=1, distractors=0, junk=0, num_cameras=2)
    assert cached_synthetic_market(tiny, tmp_path) != cached_synthetic_market(replace(tiny, junk=1), tmp_path)
    with pytest.raises(InputError, match="other settings"):
        write_synthetic_market(tiny, small)
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="no synthetic set"):
        write_synthetic_market(tiny, tmp_path / "mine")


def test_an_error_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(synthetic, "write_course_csv", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_synthetic_market(SMALL, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_set_and_the_next_one_writes_it(small: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from reid_accel.synthetic.market import *; import sys;"
        "write_synthetic_market(SyntheticMarket(train_identities=5000), Path(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "set")]) as writer:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".set.*.part/market/*/*.jpg")):
            assert writer.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        writer.send_signal(signal.SIGKILL)
    assert not (tmp_path / "set").exists()
    assert contents(write_synthetic_market(SMALL, tmp_path / "set")) == contents(small)


def test_a_writer_that_comes_second_takes_the_first_ones_set(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all = synthetic._write_all

    def overtaken(settings: SyntheticMarket, folder: Path, workers: int) -> None:
        write_all(settings, folder, workers)
        if not (tmp_path / "set").exists():
            write_all(settings, tmp_path / "set", workers)

    monkeypatch.setattr(synthetic, "_write_all", overtaken)
    assert contents(write_synthetic_market(SMALL, tmp_path / "set")) == contents(small)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("train_identities", 0), ("test_images_per_camera", 1), ("num_cameras", 10), ("junk", -1), ("seed", 1.5)],
)
def test_impossible_settings_are_named(field: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"{field} must be an integer from \d+ to \d+, got {value}"):
        SyntheticMarket(**{field: value})  # type: ignore[arg-type]


# --- what is seen ---


def plainly_dressed(**values: str) -> Person:
    """A grown man in plain clothes, except for `values`."""
    base = synthetic_person(0, 1)
    usual = {
        "age": "adult", "backpack": "no", "bag": "no", "handbag": "no", "clothes": "pants", "down": "long",
        "up": "long", "hair": "short", "hat": "no", "gender": "male", "upper_color": "red", "lower_color": "blue",
    }  # fmt: skip
    chosen = usual | values
    return replace(
        base,
        attributes=tuple(group.values.index(chosen[group.name]) for group in MARKET_GROUPS),
        upper=Garment(((200, 30, 30),), "plain", 0.06),
        lower=Garment(((30, 40, 160),), "plain", 0.06),
        skin=(240, 200, 170),
        cane=False,
    )


def drawn(person: Person, yaw: float = FRONT) -> np.ndarray:
    pose = Pose(yaw=yaw, phase=0.6, stride=0.25, tilt=0.1, center_px=32, ground_px=122, height_px=114)
    return np.asarray(draw_person(person, pose)).astype(int)


def changed_rows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Heights, 0 at the top to 1 at the bottom of the picture, of the pixels that differ clearly."""
    return np.nonzero(np.abs(first - second).max(axis=2) > 25)[0] / HEIGHT_PX


@pytest.mark.parametrize(
    ("group", "value", "yaw", "top", "bottom", "least_pixels"),
    [
        ("hat", "yes", FRONT, 0.0, 0.25, 60),
        ("hat", "yes", BACK, 0.0, 0.25, 60),
        ("hair", "long", FRONT, 0.0, 0.45, 40),
        ("hair", "long", BACK, 0.0, 0.45, 40),
        ("up", "short", FRONT, 0.2, 0.6, 60),
        ("up", "short", SIDE, 0.2, 0.6, 30),
        ("down", "short", FRONT, 0.45, 1.0, 150),
        ("clothes", "dress", FRONT, 0.4, 1.0, 150),
        ("backpack", "yes", BACK, 0.15, 0.6, 300),
        ("backpack", "yes", SIDE, 0.15, 0.6, 150),
        ("backpack", "yes", FRONT, 0.15, 0.6, 40),
        ("bag", "yes", FRONT, 0.15, 0.65, 80),
        ("bag", "yes", BACK, 0.15, 0.65, 80),
        ("handbag", "yes", FRONT, 0.3, 0.75, 60),
    ],
)
def test_an_attribute_is_seen_where_it_belongs(
    group: str, value: str, yaw: float, top: float, bottom: float, least_pixels: int
) -> None:
    rows = changed_rows(drawn(plainly_dressed(), yaw), drawn(plainly_dressed(**{group: value}), yaw))
    assert len(rows) >= least_pixels
    assert rows.min() >= top
    assert rows.max() <= bottom


def test_clothes_have_the_annotated_color() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        red, green, blue = named_color(rng, "red")
        assert red > 2 * max(green, blue)
        assert max(named_color(rng, "black")) < 60 < min(named_color(rng, "gray"))
        assert max(named_color(rng, "gray")) < 180 < min(named_color(rng, "white"))
        red, green, blue = named_color(rng, "yellow")
        assert min(red, green) > 1.5 * blue


def test_age_and_gender_are_in_the_build() -> None:
    people = [synthetic_person(3, number) for number in range(300)]

    def mean(age: str, gender: str, part: str) -> float:
        chosen = [p for p in people if (p.value("age"), p.value("gender")) == (age, gender)]
        return float(np.mean([getattr(p.build, part) for p in chosen]))

    assert mean("young", "male", "head") > 1.3 * mean("adult", "male", "head")
    assert mean("adult", "male", "waist") > 1.15 * mean("teenager", "male", "waist")
    assert mean("old", "female", "stoop") > 0.09 > mean("adult", "female", "stoop")
    assert mean("adult", "male", "shoulder") > 1.08 * mean("adult", "female", "shoulder")


# --- how hard it is ---


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The default set's test half: images, pids and cameras of queries and gallery."""
    settings = SyntheticMarket(train_identities=1)
    root = write_synthetic_market(settings, tmp_path_factory.mktemp("hard") / "set") / "market"
    loaded = {}
    for split, images in MarketLayout().read(root).splits.items():
        loaded[f"{split} images"] = np.stack([np.asarray(Image.open(image.path)) for image in images])
        loaded[f"{split} pids"] = np.array([image.pid for image in images])
        loaded[f"{split} cameras"] = np.array([image.camera for image in images])
    return loaded


def market_map(distance_QG: np.ndarray, data: dict[str, np.ndarray]) -> float:
    """Mean average precision by Market-1501's protocol, one query after the other."""
    scores = []
    for row, pid, camera in zip(distance_QG, data["query pids"], data["query cameras"], strict=True):
        good = data["gallery pids"] != -1
        good &= (data["gallery pids"] != pid) | (data["gallery cameras"] != camera)
        order = [item for item in np.argsort(row, kind="stable") if good[item]]
        ranks = [rank for rank, item in enumerate(order, 1) if data["gallery pids"][item] == pid]
        scores.append(sum(hit / rank for hit, rank in enumerate(ranks, 1)) / len(ranks))
    return float(np.mean(scores))


def color_histograms(images: np.ndarray) -> np.ndarray:
    """Square roots of 8x8x8 RGB histograms of six stripes of the middle of each picture, where people are."""
    rows = []
    for image in images[:, :, 16:48]:
        stripes = [stripe.reshape(-1, 3) // 32 @ np.array([64, 8, 1]) for stripe in np.array_split(image, 6)]
        rows.append(np.concatenate([np.bincount(stripe, minlength=512) / len(stripe) for stripe in stripes]))
    return np.sqrt(rows)


def chance(data: dict[str, np.ndarray]) -> float:
    shape = (len(data["query pids"]), len(data["gallery pids"]))
    return market_map(np.random.default_rng(0).random(shape), data)


def test_color_histograms_help_but_do_not_solve_it(gallery: dict[str, np.ndarray]) -> None:
    query_QD, gallery_GD = (color_histograms(gallery[f"{split} images"]) for split in ("query", "gallery"))
    score = market_map(-(query_QD @ gallery_GD.T), gallery)
    assert 2.5 * chance(gallery) < score < 0.45


def test_an_untrained_network_does_not_solve_it(gallery: dict[str, np.ndarray]) -> None:
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = timm.create_model("resnet18", pretrained=False, num_classes=0).eval()

    def embed(images: np.ndarray) -> np.ndarray:
        batches = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).sub(0.45).div(0.225).split(64)
        with torch.inference_mode():
            return torch.cat([network(batch) for batch in batches]).numpy()

    query_QD, gallery_GD = (embed(gallery[f"{split} images"]) for split in ("query", "gallery"))
    distance_QG = ((query_QD[:, None] - gallery_GD[None]) ** 2).sum(axis=2)
    assert market_map(distance_QG, gallery) < 0.25
