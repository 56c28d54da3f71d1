"""Copies of pictures: which are wrong, which are by design, and which pairs are compared."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.broken_sets import GALLERY, QUERY, TRAIN, named, stored_again
from PIL import Image

from reid_accel.doctor import perceptual
from reid_accel.doctor.examine import Diagnosis
from reid_accel.doctor.outcome import exit_code
from reid_accel.doctor.perceptual import near_pairs, perceptual_hash

Diagnose = Callable[[Path], Diagnosis]


def test_pairs_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 300, np.uint64)
    flips = np.array(
        [sum(1 << int(bit) for bit in rng.choice(64, row % 8, replace=False)) for row in range(300)], object
    )
    hashes = np.concatenate([hashes, np.array([int(h) ^ f for h, f in zip(hashes, flips, strict=True)], np.uint64)])
    bits = [[int(a ^ b).bit_count() for b in hashes.tolist()] for a in hashes.tolist()]
    expected = [[a, b] for a in range(600) for b in range(a + 1, 600) if bits[a][b] <= 4]
    pairs, complete = near_pairs(hashes, 10_000)
    assert pairs.tolist() == expected
    assert complete


def test_a_bound_on_the_pairs_is_kept_and_said() -> None:
    pairs, complete = near_pairs(np.full(2000, 7, np.uint64), 500)
    assert len(pairs) == 500
    assert not complete


@pytest.mark.parametrize("quality", [90, 60, 30])
def test_a_picture_that_is_stored_again_keeps_nearly_all_bits(drawn: Path, tmp_path: Path, quality: int) -> None:
    path = named(drawn, TRAIN, 5)
    with Image.open(path) as first, Image.open(stored_again(path, tmp_path / "b.jpg", quality)) as second:
        bits = int(perceptual_hash(first) ^ perceptual_hash(second)).bit_count()
    with Image.open(named(drawn, TRAIN, 90)) as other, Image.open(path) as first:
        others = int(perceptual_hash(first) ^ perceptual_hash(other)).bit_count()
    assert bits <= 4 < others


def test_a_set_with_all_queries_in_its_gallery_is_not_wrong(clean: Path, diagnose: Diagnose) -> None:
    """VeRi-776 is made so; the camera rule leaves these copies out."""
    for path in sorted((clean / QUERY).iterdir()):
        shutil.copy(path, clean / GALLERY)
    diagnosis = diagnose(clean)
    (finding,) = diagnosis.findings
    assert (finding.key, finding.severity, finding.left_out) == ("copies-in-query-and-gallery", "warning", ())
    assert exit_code(diagnosis) == 0


def test_a_picture_of_two_people_is_an_error_in_the_test_images_only(clean: Path, diagnose: Diagnose) -> None:
    first, last = named(clean, GALLERY, 0), named(clean, GALLERY, -1)
    shutil.copy(first, first.with_name(last.name[:4] + first.name[4:]))
    (finding,) = diagnose(clean).findings
    assert (finding.key, finding.severity, len(finding.left_out)) == ("copies-of-two-people", "error", 2)


def test_without_the_library_equal_pictures_are_still_found(
    clean: Path, diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = named(clean, GALLERY, 0)
    shutil.copy(path, clean / TRAIN / (named(clean, TRAIN, -1).name[:4] + path.name[4:]))
    monkeypatch.setattr(perceptual, "has_library", lambda: False)
    monkeypatch.setattr("reid_accel.doctor.copies.has_library", lambda: False)
    findings = diagnose(clean).findings
    assert [finding.key for finding in findings] == ["copies-in-train-and-test", "not-looked-for"]
    assert "reid_accel[doctor]" in findings[1].remedy
