"""Splits of sets that have none."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from reid_accel.data.listing import UNSPLIT, ImageFile, Listing
from reid_accel.data.people_split import DrawnBy, draw_queries, drawn_by, split_people
from reid_accel.errors import InputError


def image(number: int, pid: int, camera: int = -1, tracklet: int = -1, time: int = -1) -> ImageFile:
    name = f"{number:05d}.jpg"
    return ImageFile(Path(name), name, pid, camera, tracklet=tracklet, time=time)


def random_images(seed: int, kind: DrawnBy) -> list[ImageFile]:
    random = np.random.default_rng(seed)
    images = []
    for number in range(random.integers(20, 80)):
        labels = dict.fromkeys(("camera", "tracklet", "time"), -1)
        if kind != "chance":
            labels[kind] = int(random.integers(-1, 4))
        images.append(image(number, int(random.integers(-1, 8)), **labels))
    return images


@pytest.mark.parametrize("kind", ["camera", "tracklet", "time", "chance"])
def test_every_query_has_a_match_that_its_rule_leaves(kind: DrawnBy) -> None:
    for seed in range(60):
        images = random_images(seed, kind)
        assert drawn_by(images) == kind
        rows = draw_queries(images, seed)
        gallery = [one for row, one in enumerate(images) if row not in rows]
        for query in (images[row] for row in rows):
            others = [other for other in gallery if other.pid == query.pid > 0]
            if kind in ("camera", "tracklet"):
                place = ImageFile._fields.index(kind)
                assert query[place] != -1
                assert any(other[place] not in (-1, query[place]) for other in others), (seed, query)
            else:
                assert others, (seed, query)
                assert kind == "chance" or query.time == min(
                    one.time for one in images if one.pid == query.pid and one.time >= 0
                )


@pytest.mark.parametrize("kind", ["camera", "tracklet"])
def test_no_camera_of_a_person_gives_two_queries_and_most_give_one(kind: DrawnBy) -> None:
    for seed in range(60):
        images = random_images(seed, kind)
        place = ImageFile._fields.index(kind)
        queries = [(images[row].pid, images[row][place]) for row in draw_queries(images, seed)]
        assert len(set(queries)) == len(queries)
        sizes: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for one in images:
            if one.pid > 0 and one[place] != -1:
                sizes[one.pid][one[place]] += 1
        for pid, size_of in sizes.items():
            several = [source for source, size in size_of.items() if size > 1]
            if len(several) >= 2:  # then every camera has one
                assert {source for person, source in queries if person == pid} == set(size_of)
            if len(size_of) < 2:
                assert pid not in {person for person, _ in queries}


def test_market_like_sets_get_one_query_per_person_and_camera() -> None:
    images = [image(4 * pid + n, pid, 1 + n % 2) for pid in range(1, 11) for n in range(4)]
    listing = split_people(Listing({UNSPLIT: tuple(images)}, (), "f"), 0.5, 0)
    assert [len(listing.splits[split]) for split in ("train", "query", "gallery")] == [20, 10, 10]
    pids = {split: {one.pid for one in some} for split, some in listing.splits.items()}
    assert pids["query"] == pids["gallery"]
    assert not pids["query"] & pids["train"]
    assert sorted(one for some in listing.splits.values() for one in some) == sorted(images)
    for some in listing.splits.values():
        assert list(some) == sorted(some, key=lambda one: one.name)


def test_the_split_depends_on_share_and_seed_and_on_nothing_else() -> None:
    images = tuple(image(4 * pid + n, pid, 1 + n % 2) for pid in range(1, 101) for n in range(4))
    listing = Listing({UNSPLIT: images}, (), "f")

    def people(share: float, seed: int) -> set[int]:
        return {one.pid for one in split_people(listing, share, seed).splits["train"]}

    assert people(0.5, 0) == people(0.5, 0)
    assert len(people(0.3, 0)) == 30
    assert 30 < len(people(0.5, 0) ^ people(0.5, 1)) < 70
    fingerprints = {split_people(listing, *given).fingerprint for given in [(0.5, 0), (0.5, 1), (0.4, 0)]}
    assert len(fingerprints) == 3


def test_distractors_and_junk_are_in_the_gallery() -> None:
    images = [image(4 * pid + n, pid, 1 + n % 2) for pid in range(-1, 6) for n in range(4)]
    listing = split_people(Listing({UNSPLIT: tuple(images)}, (), "f"), 0.5, 0)
    assert {one.pid for one in listing.splits["gallery"]} >= {-1, 0}
    assert min(one.pid for split in ("train", "query") for one in listing.splits[split]) > 0


def test_given_test_people_keep_their_place() -> None:
    train = tuple(image(n, 1 + n // 2) for n in range(6))
    test = tuple(image(10 + n, 11 + n // 4, n % 2) for n in range(8))
    listing = split_people(Listing({"train": train, "test": test}, (), "f"), 0.5, 0)
    assert listing.splits["train"] == train
    assert sorted((*listing.splits["query"], *listing.splits["gallery"])) == sorted(test)
    assert len(listing.splits["query"]) == 4


def test_too_few_people_and_people_of_one_image_are_refused() -> None:
    one = Listing({UNSPLIT: (image(0, 1), image(1, 1))}, (), "f")
    with pytest.raises(InputError, match=r"the images show 1 person, but .* needs at least 3"):
        split_people(one, 0.5, 0)
    single = Listing({UNSPLIT: tuple(image(n, n) for n in range(1, 9))}, (), "f")
    with pytest.raises(InputError, match=r"no test person has two images"):
        split_people(single, 0.5, 0)
    three = Listing({UNSPLIT: tuple(image(n, 1 + n % 3) for n in range(9))}, (), "f")
    for share in (0.01, 0.99):
        assert len({one.pid for one in split_people(three, share, 0).splits["train"]}) == 2
