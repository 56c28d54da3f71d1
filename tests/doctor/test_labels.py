"""Findings that need labels which folders of crops don't have: attributes, tracklets, cameras, one number for all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.data.dataset import ImageDataset
from reid_accel.data.listing import ImageFile
from reid_accel.doctor.attribute_labels import attribute_findings
from reid_accel.doctor.findings import Finding, Place
from reid_accel.doctor.matches import match_findings
from reid_accel.doctor.people import people_findings
from reid_accel.doctor.tracklets import tracklet_findings

HAT = AttributeGroup("hat", ("no", "yes"))
COAT = AttributeGroup("coat", ("red", "blue", "green"))


def split(
    pids: Sequence[int],
    cameras: Sequence[int] = (),
    values: Sequence[Sequence[int]] = (),
    tracklets: Sequence[int] = (),
) -> ImageDataset:
    """Images with these labels; attributes hat and coat if there are values."""
    files = [
        ImageFile(Path(f"{row}.jpg"), f"{row}.jpg", pid, cameras[row] if cameras else row % 2,
                  tuple(values[row]) if values else (), tracklets[row] if tracklets else -1)
        for row, pid in enumerate(pids)
    ]  # fmt: skip
    return ImageDataset.of_files(files, (HAT, COAT) if values else (), None)


def attributes(people: int, change: dict[int, tuple[int, int]]) -> list[Finding]:
    """Findings on two images of each person, with other values of some rows."""
    values = [change.get(row, (int(row // 2 < 10), row // 2 % 3)) for row in range(2 * people)]
    train = split([1 + row // 2 for row in range(2 * people)], values=values)
    return list(attribute_findings({"train": train}))


def test_well_annotated_attributes_are_fine() -> None:
    assert attributes(60, {}) == []


def test_one_person_with_two_values_contradicts_an_annotation_by_person() -> None:
    (finding,) = attributes(60, {5: (1, 0)})
    assert finding.key == "attribute-contradiction"
    assert finding.together == ((Place("train", 4), Place("train", 5)),)
    assert finding.unknown == ((Place("train", 4), 1), (Place("train", 5), 1))
    assert "coat" in finding.sentence
    assert "person 3" in finding.sentence


def test_an_annotation_by_image_contradicts_nothing() -> None:
    assert attributes(60, {row: (row % 2, row % 3) for row in range(60)}) == []


def test_unknown_constant_missing_and_rare_values_are_found() -> None:
    def keys(change: dict[int, tuple[int, int]]) -> set[str]:
        return {finding.key for finding in attributes(60, change)}

    rows = range(120)
    assert keys({row: (-1, row // 2 % 3) for row in rows if row % 3}) == {"attributes-unknown"}
    assert keys({row: (0, row // 2 % 3) for row in rows}) == {"attribute-constant"}
    assert keys({row: (int(row < 20), row // 2 % 2) for row in rows}) == {"attribute-value-missing"}
    assert keys({row: (int(row < 4), row // 2 % 3) for row in rows}) == {"attribute-value-rare"}


def test_a_tracklet_of_two_people_or_cameras_is_found() -> None:
    train = split([1, 1, 2, 2], cameras=[1, 1, 1, 2], tracklets=[7, 7, 7, 8])
    assert [(f.key, len(f.images)) for f in tracklet_findings({"train": train})] == [("tracklet-of-two-people", 3)]
    moved = split([1, 1, 2, 2], cameras=[1, 2, 1, 2], tracklets=[7, 7, 8, 9])
    (finding,) = tracklet_findings({"train": moved})
    assert (finding.key, finding.left_out) == ("tracklet-of-two-cameras", ())
    assert list(tracklet_findings({"train": split([1, 2, 1])})) == []


def test_a_person_with_most_of_the_images_may_be_everybody() -> None:
    pids = [1] * 300 + [pid for pid in range(2, 40) for _ in range(4)]
    assert [f.key for f in people_findings({"train": split(pids)})] == ["catch-all-person"]


def test_cameras_that_look_like_dates_and_missing_cameras_are_found() -> None:
    pids = [1 + row // 4 for row in range(100)]
    dates = split(pids, cameras=[20_260_000 + row for row in range(100)])
    assert [f.key for f in people_findings({"train": dates})] == ["cameras-like-dates"]
    some = split(pids, cameras=[-1 if row == 9 else row % 2 for row in range(100)])
    (finding,) = people_findings({"train": some})
    assert (finding.key, finding.images) == ("cameras-unknown", (Place("train", 9),))


def test_what_makes_mAP_meaningless_is_an_error() -> None:
    train = split([1, 1, 2, 2])

    def found(query: ImageDataset, gallery: ImageDataset) -> list[tuple[str, str]]:
        return [(f.key, f.severity) for f in match_findings({"train": train, "query": query, "gallery": gallery})]

    gallery = split([5, 5, 6, 6], cameras=[1, 2, 1, 2])
    assert found(split([5, 6], cameras=[1, 1]), gallery) == []
    assert found(split([8, 9], cameras=[1, 1]), gallery) == [("no-matches", "error")]
    assert found(split([5], cameras=[1]), split([5, 5], cameras=[2, 2])) == [("only-matches", "error")]
    one_camera = split([5, 5, 6, 6], cameras=[1, 1, 1, 1])
    assert found(split([5, 6], cameras=[1, 1]), one_camera) == [("no-camera-rule", "warning")]
    assert found(split([5, 7], cameras=[1, 1]), gallery) == [("queries-without-match", "warning")]


def test_people_without_identities_are_not_judged() -> None:
    unlabeled = split([-2] * 12, cameras=[-1] * 12)
    assert np.all(unlabeled.pid_N == -2)
    assert list(people_findings({"train": unlabeled})) == []
