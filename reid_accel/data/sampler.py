"""Batch sampling: row lists that every process computes identically, each taking its own share.

Legend: S optimizer steps of an epoch, B images of a global batch.
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from reid_accel.errors import InputError

Rows = npt.NDArray[np.int64]


def shuffled_batches(num_rows: int, batch_size: int, *, seed: int, epoch: int) -> Rows:
    """Rows in random order without repetition, S x B; rows that don't fill a batch are dropped for this epoch.

    The order is a function of seed and epoch.
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
    """This rank's rows of a global batch, one list per micro-batch of gradient accumulation.

    The union over ranks and micro-batches is the global batch, however it is divided.
    """
    micro = batch_B.reshape(micro_batches, world_size, -1)
    return [micro[index, rank] for index in range(micro_batches)]


def times_drawn_before(rows_SB: Rows) -> Rows:
    """How often each row was drawn before in an epoch, S x B.

    >>> times_drawn_before(np.array([[4, 7, 4], [7, 4, 1]])).tolist()
    [[0, 0, 1], [1, 2, 0]]
    """
    rows = rows_SB.ravel()
    order = np.argsort(rows, kind="stable")
    first = np.flatnonzero(np.diff(rows[order], prepend=-1))
    before = np.empty_like(rows)
    before[order] = np.arange(len(rows)) - np.repeat(first, np.diff(first, append=len(rows)))
    return before.reshape(rows_SB.shape)


def random_identity_batches(
    identity_N: Rows, batch_size: int, images_per_identity: int, *, seed: int, epoch: int
) -> Rows:
    """P identities x K images per batch, S x B, as `RandomIdentitySampler` of Bag of Tricks, TransReID and torchreid.

    The images of each identity are shuffled and cut into groups of K; a rest that doesn't fill a group is left out for
    this epoch, and an identity with fewer than K images has one group, drawn with replacement. Each batch takes one
    group of each of P identities, drawn uniformly from those that have groups left, until fewer than P are left: the
    number of batches differs a little between epochs (183 or 184 on Market-1501 at 16 x 4).
    The order is a function of seed and epoch. Raises InputError when there are fewer than P identities.
    """
    generator = np.random.default_rng([seed, epoch])
    num_identities = batch_size // images_per_identity
    pools = _pools(identity_N)
    _require_identities(len(pools), batch_size, images_per_identity)
    groups = [_groups(pool, images_per_identity, generator) for pool in pools]
    waiting, batches = list(range(len(pools))), []
    while len(waiting) >= num_identities:
        chosen = [waiting[place] for place in generator.choice(len(waiting), num_identities, replace=False)]
        batches.append(np.concatenate([groups[identity].pop() for identity in chosen]))
        waiting = [identity for identity in waiting if groups[identity]]
    return np.array(batches, np.int64)


def most_random_identity_batches(identity_N: Rows, batch_size: int, images_per_identity: int) -> int:
    """The largest number of batches that an epoch of `random_identity_batches` can have."""
    count_I = np.unique(identity_N, return_counts=True)[1]
    return int(np.maximum(count_I // images_per_identity, 1).sum()) // (batch_size // images_per_identity)


def _groups(pool: Rows, size: int, generator: np.random.Generator) -> list[Rows]:
    if len(pool) < size:
        return [generator.choice(pool, size)]
    return list(generator.permutation(pool)[: len(pool) // size * size].reshape(-1, size))


def _pools(identity_N: Rows) -> list[Rows]:
    """The rows of each identity."""
    order = np.argsort(identity_N, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(identity_N[order])) + 1)


def _require_identities(number: int, batch_size: int, images_per_identity: int) -> None:
    if number * images_per_identity < batch_size:
        raise InputError(
            f"{number} identities are too few for batches of {batch_size // images_per_identity} x "
            f"{images_per_identity} images: lower --train.batch-size or raise --train.images-per-identity"
        )


def uniform_identity_batches(
    identity_N: Rows, batch_size: int, images_per_identity: int, *, seed: int, epoch: int
) -> Rows:
    """P identities x K images per batch (Hermans et al. 2017), S x B, with as many batches as the images would fill.

    Identities are drawn in random order without replacement until all are used, and so are the images of each. No
    image is in a batch twice: an identity with fewer than K images contributes all of them, and further identities
    fill the batch. The images of an identity are consecutive. The order is a function of seed and epoch.
    Raises InputError when there are too few identities or images for a batch.
    """
    generator = np.random.default_rng([seed, epoch])
    pools = _pools(identity_N)
    takes = np.array([min(len(pool), images_per_identity) for pool in pools])
    if takes.sum() < batch_size:
        raise InputError(
            f"{len(pools)} identities give at most {takes.sum()} images at {images_per_identity} each, too few for "
            f"batches of {batch_size}: lower --train.batch-size or raise --train.images-per-identity"
        )
    images = [_Cycle(pool, generator) for pool in pools]
    identities = _Cycle(np.arange(len(pools)), generator)
    batches = []
    for _ in range(len(identity_N) // batch_size):
        batch: list[int] = []
        chosen: set[int] = set()
        while len(batch) < batch_size:
            identity = identities.next_outside(chosen)
            chosen.add(identity)
            drawn: list[int] = []
            for _ in range(min(takes[identity], batch_size - len(batch))):
                drawn.append(images[identity].next_outside(drawn))
            batch += drawn
        batches.append(batch)
    return np.array(batches, np.int64)


class _Cycle:
    """Endless random permutations of the items; an item that is skipped stays first in line."""

    def __init__(self, items: Rows, generator: np.random.Generator) -> None:
        self._items = items
        self._generator = generator
        self._waiting: list[int] = []

    def next_outside(self, used: Collection[int]) -> int:
        """The next item that isn't in `used`, which must not contain all items."""
        for position, item in enumerate(self._waiting):
            if item not in used:
                return self._waiting.pop(position)
        self._waiting += self._generator.permutation(self._items).tolist()
        return self.next_outside(used)
