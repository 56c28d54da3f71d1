"""Which images form a batch: row lists that every rank computes alike and cuts its share from.

Legend: S optimiser steps of an epoch, B images of a global batch.
"""

import numpy as np
import numpy.typing as npt

from reid_accel.errors import InputError

Rows = npt.NDArray[np.int64]


def shuffled_batches(num_rows: int, batch_size: int, *, seed: int, epoch: int) -> Rows:
    """Every row at most once, in random order, S x B; the rest that fills no batch waits for another epoch.

    The order depends on the seed and the epoch alone, so it can be had again at any time, on any rank.
    """
    if batch_size > num_rows:
        raise InputError(
            f"train.batch-size {batch_size} is larger than the training set of {num_rows} images; "
            f"set --train.batch-size {max(2, num_rows // 2)} or less"
        )
    order = np.random.default_rng([seed, epoch]).permutation(num_rows)
    steps = num_rows // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int64)


def rank_share(batch_B: Rows, *, rank: int, world_size: int, micro_batches: int) -> list[Rows]:
    """This rank's parts of a global batch, one per micro-batch of gradient accumulation.

    The union over ranks and micro-batches is the global batch, whatever their numbers.
    """
    micro = batch_B.reshape(micro_batches, world_size, -1)
    return [micro[index, rank] for index in range(micro_batches)]
