import numpy as np
import pytest

from reid_accel.data.dataset import ImageDataset
from reid_accel.data.splits import OpenedData, identities_of, require_matches, split_by_person
from reid_accel.errors import InputError


def brute_force_split(pids: list[int], share: float) -> int:
    """The course's rule in words: take 70 % of the images, go on until the person changes."""
    taken = 0
    while taken < int(share * len(pids)):
        taken += 1
    while 0 < taken < len(pids) and pids[taken] == pids[taken - 1]:
        taken += 1
    return taken


def test_split_by_person_is_the_courses_rule() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        pids = np.repeat(np.arange(1, rng.integers(2, 12)), rng.integers(1, 9)).tolist()
        for share in (0.1, 0.5, 0.7, 0.99):
            train, validation = split_by_person(np.array(pids), share)
            assert len(train) == brute_force_split(pids, share)
            assert not set(np.array(pids)[train]) & set(np.array(pids)[validation])
            assert len(train) + len(validation) == len(pids)


def test_a_person_in_two_runs_cannot_be_split() -> None:
    with pytest.raises(InputError, match="must be consecutive"):
        split_by_person(np.array([1, 1, 2, 1]), 0.7)


def test_identities_are_contiguous_and_ascending() -> None:
    pids, labels = identities_of([30, 5, 5, 700])
    assert pids.tolist() == [5, 30, 700]
    assert labels.tolist() == [1, 0, 0, 2]


def in_memory(pids: list[int], cameras: list[int]) -> ImageDataset:
    return ImageDataset.in_memory(np.zeros((len(pids), 3, 2, 1), np.uint8), np.array(pids), np.array(cameras))


def test_queries_without_any_match_are_refused() -> None:
    gallery = in_memory([1, 2, 0, 7], [1, 2, 3, 4])
    for query, matches in (
        (in_memory([1, 5], [1, 1]), False),
        (in_memory([0], [1]), False),
        (in_memory([1], [2]), True),
    ):
        data = OpenedData({"train": gallery, "query": query, "gallery": gallery}, (), ())
        if matches:
            require_matches(data)
        else:
            with pytest.raises(InputError, match="nothing could be scored"):
                require_matches(data)
    require_matches(OpenedData({"train": gallery, "queries": gallery, "test": gallery}, (), ()))
