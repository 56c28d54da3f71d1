import numpy as np
import pytest

from reid_accel.data.sampling import rank_share, shuffled_batches
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
