from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reid_accel.data.sampler import (
    most_random_identity_batches,
    random_identity_batches,
    rank_share,
    shuffled_batches,
    times_drawn_before,
    uniform_identity_batches,
)
from reid_accel.errors import InputError


def test_an_epoch_holds_every_row_at_most_once() -> None:
    batches = shuffled_batches(103, 10, seed=3, epoch=2)
    assert batches.shape == (10, 10)
    assert len(np.unique(batches)) == 100
    assert batches.max() < 103


def test_rows_left_out_differ_between_epochs() -> None:
    left_out = [set(range(103)) - set(shuffled_batches(103, 10, seed=3, epoch=e).ravel().tolist()) for e in range(4)]
    assert len({frozenset(rows) for rows in left_out}) == 4


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def rows(seed: int, epoch: int) -> list[int]:
        return shuffled_batches(50, 10, seed=seed, epoch=epoch).ravel().tolist()

    assert rows(1, 1) == rows(1, 1)
    assert rows(1, 1) != rows(1, 2)
    assert rows(1, 1) != rows(2, 1)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_ranks_share_the_global_batch(world_size: int, micro_batches: int) -> None:
    batch = np.arange(100, 112)
    shares = [
        rank_share(batch, rank=rank, world_size=world_size, micro_batches=micro_batches) for rank in range(world_size)
    ]
    assert all(len(parts) == micro_batches for parts in shares)
    assert sorted(np.concatenate([np.concatenate(parts) for parts in shares]).tolist()) == batch.tolist()


def test_too_large_a_batch_is_refused_with_a_better_one() -> None:
    with pytest.raises(InputError, match=r"larger than the training set of 40 images; set --train\.batch-size 20"):
        shuffled_batches(40, 64, seed=0, epoch=0)


def labels(counts: list[int]) -> np.ndarray:
    """Images in random order of identities that have so many."""
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))


def test_batches_hold_p_identities_with_k_images() -> None:
    identity = labels([9, 5, 4, 12, 7, 6, 30, 4])
    batches = uniform_identity_batches(identity, 12, 4, seed=0, epoch=0)
    assert batches.shape == (len(identity) // 12, 12)
    for batch in batches:
        _, counts = np.unique(identity[batch], return_counts=True)
        assert counts.tolist() == [4, 4, 4]
        assert len(np.unique(batch)) == 12
        assert (np.diff(identity[batch].reshape(3, 4), axis=1) == 0).all(), "side by side"


def test_identities_are_seen_equally_and_so_are_their_images() -> None:
    identity = labels([9, 5, 4, 12, 7, 6, 30, 4])
    batches = uniform_identity_batches(identity, 12, 4, seed=0, epoch=0)
    visits = np.bincount(identity[batches].ravel()) / 4
    assert visits.max() - visits.min() <= 1
    for person in range(8):
        seen = np.bincount(batches[identity[batches] == person], minlength=len(identity))[identity == person]
        assert seen.max() - seen.min() <= 1
    shuffled = shuffled_batches(len(identity), 12, seed=0, epoch=0)
    control = np.bincount(identity[shuffled].ravel()) / 4
    assert control.max() - control.min() > 1, "the control: shuffled images are as unequal as the set"


def test_identities_with_few_images_repeat_none() -> None:
    identity = labels([1, 2, 8, 8, 3, 1, 9, 2])
    batches = np.concatenate([uniform_identity_batches(identity, 12, 4, seed=s, epoch=0) for s in range(20)])
    for batch in batches:
        assert len(np.unique(batch)) == 12
        people, counts = np.unique(identity[batch], return_counts=True)
        assert counts.max() <= 4
        assert len(people) >= 3
    assert set(np.unique(identity[batches])) == set(range(8))


@pytest.mark.parametrize("sampler", [uniform_identity_batches, random_identity_batches])
def test_identity_order_is_a_function_of_seed_and_epoch(sampler: Callable[..., np.ndarray]) -> None:
    identity = labels([6] * 10)

    def rows(seed: int, epoch: int) -> list[list[int]]:
        return sampler(identity, 12, 4, seed=seed, epoch=epoch).tolist()

    assert rows(1, 1) == rows(1, 1)
    assert rows(1, 1) != rows(1, 2)
    assert rows(1, 1) != rows(2, 1)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_hold_whole_identities_and_together_the_batch(world_size: int) -> None:
    identity = labels([6] * 10)
    batch = uniform_identity_batches(identity, 24, 4, seed=0, epoch=3)[1]
    shares = [rank_share(batch, rank=r, world_size=world_size, micro_batches=1)[0] for r in range(world_size)]
    assert np.concatenate(shares).tolist() == batch.tolist()
    for share in shares:
        _, counts = np.unique(identity[share], return_counts=True)
        assert set(counts.tolist()) == {4}


def test_too_few_people_for_a_batch_are_refused() -> None:
    with pytest.raises(InputError, match="3 identities give at most 10 images at 4 each, too few for batches of 12"):
        uniform_identity_batches(labels([2, 40, 40]), 12, 4, seed=0, epoch=0)
    assert len(uniform_identity_batches(labels([4, 40, 40]), 12, 4, seed=0, epoch=0)) == 7


def test_published_sampling_draws_people_in_proportion_to_their_images() -> None:
    counts = [2, 5, 4, 12, 7, 6, 30, 1, 8, 9, 11, 4]
    identity = labels(counts)
    seen = np.zeros(len(counts))
    for epoch in range(200):
        batches = random_identity_batches(identity, 12, 4, seed=0, epoch=epoch)
        assert len(batches) <= most_random_identity_batches(identity, 12, 4)
        for batch in batches:
            people, images = np.unique(identity[batch], return_counts=True)
            assert (len(people), set(images.tolist())) == (3, {4}), "always exactly 3 x 4"
            assert (np.diff(identity[batch].reshape(3, 4), axis=1) == 0).all(), "side by side"
        drawn = Counter(batches.ravel().tolist())
        again = {int(identity[row]) for row, times in drawn.items() if times > 1}
        assert again <= {0, 7}, "only images of people with fewer than 4 are repeated"
        left = [max(count // 4, 1) - np.sum(identity[batches] == person) // 4 for person, count in enumerate(counts)]
        assert sum(groups > 0 for groups in left) < 3, "the epoch ends when a batch lacks people"
        seen += np.bincount(identity[batches].ravel(), minlength=len(counts)) / 4
    groups = np.array([max(count // 4, 1) for count in counts])
    assert (seen <= 200 * groups).all()
    others = groups < 7  # whose groups cannot all be drawn among so few people
    assert (seen[others] / 200 / groups[others]).min() > 0.8


def test_an_epoch_of_published_sampling_is_that_of_the_public_codes(shared_data: Path) -> None:
    names = (shared_data / "market1501" / "names_train.txt").read_text(encoding="utf-8").split()
    identity = np.unique([int(name.split("_")[0]) for name in names], return_inverse=True)[1]
    for epoch in range(3):
        published = random_identity_batches(identity, 64, 4, seed=0, epoch=epoch)
        assert len(published) in (183, 184)
        assert len(np.unique(published)) / len(identity) == pytest.approx(0.905, abs=0.01)
        ours = uniform_identity_batches(identity, 64, 4, seed=0, epoch=epoch)
        assert len(ours) == 202
        assert len(np.unique(ours)) / len(identity) == pytest.approx(0.765, abs=0.015)


def test_too_few_people_for_published_sampling_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"2 identities are too few for batches of 3 x 4 images: lower --train\.batch-"
    ):
        random_identity_batches(labels([40, 40]), 12, 4, seed=0, epoch=0)


def test_earlier_draws_of_a_row_are_counted() -> None:
    batches = np.random.default_rng(0).integers(0, 9, (13, 6))
    so_far: Counter[int] = Counter()
    for row, before in zip(batches.ravel().tolist(), times_drawn_before(batches).ravel().tolist(), strict=True):
        assert before == so_far[row]
        so_far[row] += 1
