"""The table without the bad images."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.broken_sets import BREAKS, QUERY, named

from reid_accel import recipe, train_model
from reid_accel.config.data import DataConfig
from reid_accel.data.listing import Listing
from reid_accel.data.sets import list_dataset
from reid_accel.doctor.examine import Diagnosis
from reid_accel.doctor.findings import Finding, Place
from reid_accel.doctor.fix import fixed_splits, write_fixed
from reid_accel.errors import InputError

Diagnose = Callable[[Path], Diagnosis]
LEAVE_OUT = (
    "people-in-train-and-test", "copies-in-train-and-test", "copies-in-query-and-gallery", "copies-of-two-people",
    "near-copies-in-train-and-test", "near-copies-of-two-people", "copies", "unreadable", "empty", "tiny", "odd-shape",
    "queries-of-nobody",
)  # fmt: skip


def listing_of(root: Path, cache: Path) -> Listing:
    return list_dataset(DataConfig(name="market-layout", root=str(root)), cache_dir=cache)


def test_a_clean_set_keeps_all_of_its_rows(drawn: Path, diagnose: Diagnose, tmp_path: Path) -> None:
    listing = listing_of(drawn, tmp_path)
    sentence = write_fixed(tmp_path / "fixed.csv", diagnose(drawn), listing)
    assert "leaves out no image" in sentence
    with open(tmp_path / "fixed.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(map(len, listing.splits.values()))
    first = listing.splits["train"][0]
    assert (tmp_path / rows[0]["path"]).resolve() == first.path.resolve()
    assert (rows[0]["person"], rows[0]["camera"], rows[0]["split"]) == (str(first.pid), str(first.camera), "train")


def test_after_the_fix_only_what_needs_a_decision_is_found(clean: Path, diagnose: Diagnose, tmp_path: Path) -> None:
    """The bad images are deleted here as the table leaves them out, and the rest is examined again."""
    for key in LEAVE_OUT:
        BREAKS[key](clean)
    diagnosis, listing = diagnose(clean), listing_of(clean, tmp_path)
    kept = {image.path for images in fixed_splits(diagnosis, listing).values() for image in images}
    everything = {image.path for images in listing.splits.values() for image in images}
    assert 12 <= len(everything - kept) <= 40
    for path in everything - kept:
        path.unlink()
    assert {finding.key for finding in diagnose(clean).findings} <= {"people-with-one-image", "people-of-one-camera"}


def test_contradictory_attributes_become_unknown(drawn: Path, diagnose: Diagnose, tmp_path: Path) -> None:
    diagnosis, listing = diagnose(drawn), listing_of(drawn, tmp_path)
    place = Place("train", 3)
    finding = Finding("attribute-contradiction", "warning", "", "", unknown=((place, 1),))
    with_attributes = {
        split: tuple(image._replace(attributes=(1, 0, 1)) for image in images)
        for split, images in listing.splits.items()
    }
    changed = fixed_splits(
        Diagnosis(diagnosis.splits, diagnosis.numbering, (finding,), diagnosis.facts, ()),
        Listing(with_attributes, (), ""),
    )
    assert [image.attributes for image in changed["train"][2:5]] == [(1, 0, 1), (1, -1, 1), (1, 0, 1)]


def test_an_empty_split_is_refused_and_nothing_is_written(clean: Path, diagnose: Diagnose, tmp_path: Path) -> None:
    for path in sorted((clean / QUERY).iterdir())[1:]:
        path.unlink()
    path = named(clean, QUERY, 0)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="nothing would be left of the split query"):
        write_fixed(tmp_path / "fixed.csv", diagnose(clean), listing_of(clean, tmp_path))
    assert not (tmp_path / "fixed.csv").exists()


def test_training_on_the_table_never_sees_the_bad_rows(clean: Path, tmp_path: Path, diagnose: Diagnose) -> None:
    """Unreadable images would end the run, and people on both sides would be warned of."""
    for key in ("unreadable", "people-in-train-and-test", "copies-in-train-and-test", "copies", "tiny"):
        BREAKS[key](clean)
    table, listing = tmp_path / "fixed.csv", listing_of(clean, tmp_path)
    write_fixed(table, diagnose(clean), listing)
    config = recipe(
        data={"name": "table", "root": str(table), "cache_dir": str(tmp_path / "cache"), "validation_share": 0.0},
        model={"backbone": "test_resnet", "height_px": 64, "width_px": 32, "attributes": False},
        train={"epochs": 1, "batch_size": 16},
        run={"dir": str(tmp_path / "run"), "cpu_threads": 1},
    )
    report = train_model(config).report
    kept = {image.path.name for image in fixed_splits(diagnose(clean), listing)["train"]}
    counts = report["data"]["splits"]
    assert counts["train"]["images"] == len(kept) < len(listing.splits["train"])
    assert counts["query"]["images"] == len(listing.splits["query"])
    assert not [warning for warning in report["data"]["warnings"] if "reid-accel doctor" in warning]
    assert report["retrieval"][0]["protocol"] == "market1501"
