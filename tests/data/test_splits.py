import numpy as np
import pytest

from reid_accel.data.splits import identities_of, split_by_person
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
