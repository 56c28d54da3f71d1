from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.launching import TINY, read_json
from helpers.made_sets import make_market

from reid_accel.attributes.annotations import write_market_mat
from reid_accel.attributes.vocabulary import MARKET_GROUPS, AttributeGroup
from reid_accel.config.schema import DataConfig, ModelConfig
from reid_accel.data.concat import joined
from reid_accel.data.forms.layouts import MarketLayout
from reid_accel.data.listing import ImageFile, Listing
from reid_accel.data.open import open_data
from reid_accel.data.splits import split_training_images
from reid_accel.errors import InputError
from reid_accel.train import main as train


def test_people_are_renumbered_and_attributes_are_known_where_they_are(tmp_path: Path) -> None:
    plain, annotated = (make_market(tmp_path / name, identities=4, images=3) for name in ("plain", "annotated"))
    people = {pid: tuple(0 for _ in MARKET_GROUPS) for pid in range(1, 9)}
    write_market_mat(annotated / "market_attribute.mat", people, people)
    listings = [MarketLayout().read(root) for root in (plain, annotated)]
    for main, other, known in ((listings[0], listings[1], slice(0, 12)), (listings[1], listings[0], slice(12, 24))):
        both = joined(main, {"other": other})
        assert len(both.images) == 24
        assert both.added_people == 4
        pid_N = np.array([image.pid for image in both.images])
        assert sorted(set(pid_N.tolist())) == list(range(1, 9))
        assert pid_N[:12].max() < pid_N[12:].min(), "the main set's people are the last"
        assert (pid_N[12:] - 4).tolist() == [image.pid for image in main.splits["train"]]
        assert both.groups == MARKET_GROUPS
        age_N = np.array([image.attributes[0] for image in both.images])
        assert (age_N[known] >= 0).all()
        assert (age_N >= 0).sum() == 12
        assert len({image.path for image in both.images}) == 24
        assert both.images[0].name.startswith("other/")


def test_cameras_of_different_sets_are_different_and_the_main_sets_keep_their_numbers(tmp_path: Path) -> None:
    listings = [MarketLayout().read(make_market(tmp_path / name, identities=2, images=2)) for name in "abc"]
    unknown = tuple(image._replace(camera=-1) for image in listings[2].splits["train"])
    listings[2] = replace(listings[2], splits={**listings[2].splits, "train": unknown})
    both = joined(listings[0], {"b": listings[1], "c": listings[2]})
    assert [image.camera for image in both.images] == [4, 5, 4, 5, -1, -1, -1, -1, 1, 2, 1, 2]
    huge = tuple(image._replace(camera=2**63 - 1) for image in listings[1].splits["train"])
    added = replace(listings[1], splits={**listings[1].splits, "train": huge})
    with pytest.raises(InputError, match=r"data\.also: the camera numbers .* 64 bits"):
        joined(listings[0], {"b": added})


def test_one_set_alone_is_unchanged(small_market: Path) -> None:
    listing = MarketLayout().read(small_market)
    alone = joined(listing, {})
    assert (alone.images, alone.groups, alone.added_people) == (listing.splits["train"], listing.groups, 0)


def test_added_person_numbers_have_64_bits(small_market: Path) -> None:
    listing = MarketLayout().read(small_market)

    def of_people(largest: int) -> Listing:
        train = tuple(image._replace(pid=largest - image.pid) for image in listing.splits["train"])
        return replace(listing, splits={**listing.splits, "train": train})

    both = joined(of_people(2**62), {"other": of_people(2**40)})
    pids = np.array([image.pid for image in both.images], np.int64)
    assert sorted(set(pids.tolist())) == [2**40 - p for p in range(6, 0, -1)] + [
        2**40 - 1 + 2**62 - p for p in range(6, 0, -1)
    ]
    with pytest.raises(InputError, match=r"data\.also.*64 bits"):
        joined(of_people(2**62), {"one": of_people(2**62), "two": of_people(2**62)})


def test_values_are_joined_by_name_in_the_main_sets_order(tmp_path: Path) -> None:
    listing = MarketLayout().read(make_market(tmp_path, identities=2, images=2))

    def of(group: AttributeGroup, value: int) -> Listing:
        train = tuple(image._replace(attributes=(value,)) for image in listing.splits["train"])
        return replace(listing, groups=(group,), splits={**listing.splits, "train": train})

    main = of(AttributeGroup("age", ("a", "b")), 1)
    others = {"one": of(AttributeGroup("age", ("c", "a", "B")), 0), "two": of(AttributeGroup("Age", ("a", "b")), -1)}
    both = joined(main, others)
    assert both.groups == (AttributeGroup("age", ("a", "b", "c", "B")), AttributeGroup("Age", ("a", "b")))
    # B of main is 1 as before; c of the first set is 2; what a set lacks is unknown
    assert [image.attributes for image in both.images[::4]] == [(2, -1), (-1, -1), (1, -1)]
    (joined_note, *alike) = both.notes
    assert "joined by name: age; age has the values a, b, c, B (the main set lacks c, B, one lacks b)" in joined_note
    assert "only in two: Age" in joined_note
    assert "what the main set has no labels for is trained, but not scored" in joined_note
    assert [note.partition(" of different")[0] for note in alike] == [
        "the attributes age and Age",
        "of age, the values b and B",
    ]


def test_attributes_that_the_main_set_lacks_are_trained_and_the_log_says_so(small_market: Path, tmp_path: Path) -> None:
    plain = MarketLayout().read(small_market)
    splits = {
        split: tuple(image._replace(attributes=(image.pid % 2,)) for image in images)
        for split, images in plain.splits.items()
    }
    listing = replace(plain, groups=(AttributeGroup("scarf", ("no", "yes")),), splits=splits)
    other = make_market(tmp_path / "other")
    people = dict.fromkeys(range(1, 13), (0,) * 12)
    write_market_mat(other / "market_attribute.mat", people, people)
    config = DataConfig(
        name="market-layout", root="unused", cache_dir=str(tmp_path / "cache"), also=(f"market-layout:{other}",)
    )
    data = open_data(config, ModelConfig(height_px=64, width_px=32), listing=listing)
    assert [group.name for group in data.splits["train"].groups] == ["scarf", *(group.name for group in MARKET_GROUPS)]
    assert [group.name for group in data.splits["gallery"].groups] == ["scarf"]
    (note,) = [warning for warning in data.warnings if warning.startswith("attributes of several sets")]
    assert "joined by name: none; only in the main set: scarf; only in market-layout:other: age, backpack" in note
    assert "what the main set has no labels for is trained, but not scored" in note
    scarf_N, age_N = data.splits["train"].attributes_NA[:, :2].T
    assert np.array_equal(scarf_N == -1, age_N != -1)


def test_sets_with_the_same_attributes_or_without_any_need_no_note(tmp_path: Path) -> None:
    listing = MarketLayout().read(make_market(tmp_path, identities=2, images=2))
    assert joined(listing, {"other": listing}).notes == ()
    assert joined(listing, {}).notes == ()


def test_training_on_two_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for name, identities in (("one", 8), ("two", 6)):
        make_market(tmp_path / name, identities=identities, images=4)
    train(
        [
            *TINY, "--data.name=market-layout", "--data.root=one", "--data.also=market-layout:two",
            "--data.cache-dir=cache", "--data.validation-share=0", "--train.epochs=1", "--train.batch-size=8",
            "--run.dir=run",
        ]
    )  # fmt: skip
    assert read_json(tmp_path / "run/model/config.json")["architecture"]["num_identities"] == 14
    splits = read_json(tmp_path / "run/report.json")["data"]["splits"]
    assert splits["train"]["identities"] == 14
    assert splits["query"]["identities"] == 8, "scored on the first set alone"


def test_only_people_of_the_main_set_are_held_out(tmp_path: Path) -> None:
    main, other = make_market(tmp_path / "main", identities=6, images=4), make_market(tmp_path / "other", identities=20)
    settings = DataConfig(
        name="market-layout", root=str(main), also=(f"market-layout:{other}",), cache_dir=str(tmp_path / "cache")
    )
    data = open_data(settings, ModelConfig(height_px=64, width_px=32))
    own = set(range(21, 27))
    for share, left_out in ((0.3, 2), (0.5, 3), (0.0, 0)):  # of 6 people with as many images each
        training, held_out = split_training_images(data, share)
        trained = set(training.images.pid_N.tolist())
        held = set(held_out.pid_N.tolist()) if held_out is not None else set()
        assert trained | held == own | set(range(1, 21))
        assert not trained & held
        assert held <= own
        assert len(held) == left_out


def test_sets_that_cannot_be_combined_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(SystemExit):
        train(["--data.also=market-layout"])
    assert "NAME:FOLDER" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        train([*TINY, "--data.also=market-layout:nowhere", f"--data.cache-dir={tmp_path}"])
    assert "nowhere" in capsys.readouterr().err


def test_tracklets_of_different_sets_are_distinct() -> None:
    def listing(name: str, *tracklets: int) -> Listing:
        images = tuple(
            ImageFile(Path(f"{name}{row}"), f"{name}{row}", 1, 0, tracklet=tracklet)
            for row, tracklet in enumerate(tracklets)
        )
        return Listing({"train": images}, (), name)

    both = joined(listing("m", 0, -1, 2), {"a": listing("a", 3, 3, -1), "b": listing("b", -1)})
    assert [image.tracklet for image in both.images] == [3, 3, -1, -1, 4, -1, 6]
    with pytest.raises(InputError, match="tracklet numbers of all sets add up to more than 64 bits"):
        joined(listing("m", 2**63 - 1), {"a": listing("a", 0)})
