"""Embedding a set of images over all processes: each takes whole batches of rows, every row exactly once.

Batches are cut at the same rows whatever the number of processes, so that an image is embedded beside the same
neighbours and gets the same bits. Legend: N images, D feature, A attribute groups.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

from reid_accel.data.augment import normalise, to_float
from reid_accel.data.imageset import ImageSet
from reid_accel.models.reid import ReIDModel, comparable


class Predictions(NamedTuple):
    """What the model says of N images, in the order of the set.

    embedding_ND: float32, as retrieval compares them. attribute_NA: class indices (no columns without
    attributes). junk_score_N: sum of squared attribute scores; low means distractor or junk (report, 2.1).
    """

    embedding_ND: Tensor
    attribute_NA: Tensor
    junk_score_N: Tensor


def predict_sharded(
    model: ReIDModel,
    images: ImageSet,
    accelerator: Accelerator,
    *,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> Predictions | None:
    """Embed a set over all processes and bring the predictions to process 0 (None on the others).

    Every process calls it. The plain float32 model runs, without autocast, so that scores don't depend on
    the precision of training. on_batch is called with the number of images just done by this process.
    """
    shard = _predict_batches(model, images, accelerator, batch_size, on_batch)
    rows = torch.tensor(list(_own_rows(len(images), batch_size, accelerator)), dtype=torch.int64)
    return _to_first_process(shard, rows, len(images), accelerator)


def _own_batches(num_images: int, batch_size: int, accelerator: Accelerator) -> Iterator[range]:
    """This process's batches: a contiguous run of whole ones, evenly dealt."""
    num_batches = -(-num_images // batch_size)
    rank, world = accelerator.process_index, accelerator.num_processes
    for batch in range(num_batches * rank // world, num_batches * (rank + 1) // world):
        yield range(batch * batch_size, min((batch + 1) * batch_size, num_images))


def _own_rows(num_images: int, batch_size: int, accelerator: Accelerator) -> Iterator[int]:
    for batch in _own_batches(num_images, batch_size, accelerator):
        yield from batch


@torch.no_grad()
def _predict_batches(
    model: ReIDModel,
    images: ImageSet,
    accelerator: Accelerator,
    batch_size: int,
    on_batch: Callable[[int], None] | None,
) -> Predictions:
    settings, device = model.architecture, accelerator.device
    was_training = model.training
    model.eval()
    parts = []
    for batch in _own_batches(len(images), batch_size, accelerator):
        crops = images.store.gather(images.row_N[np.asarray(batch)]).to(device)
        # the class's own forward: accelerate wraps the instance's in autocast
        outputs = ReIDModel.forward(model, normalise(to_float(crops), settings.mean, settings.std))
        chosen = [logit.argmax(1) for logit in outputs.attribute_logits]
        parts.append(
            Predictions(
                comparable(outputs.feature_BD, settings.metric).float(),
                torch.stack(chosen, 1) if chosen else torch.empty((len(crops), 0), dtype=torch.int64, device=device),
                outputs.attribute_scores_BM.square().sum(1),
            )
        )
        if on_batch is not None:
            on_batch(len(crops))
    model.train(was_training)
    if not parts:
        size, groups = settings.feature_size, len(settings.groups)
        return Predictions(
            torch.empty((0, size), device=device),
            torch.empty((0, groups), dtype=torch.int64, device=device),
            torch.empty(0, device=device),
        )
    return Predictions(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _to_first_process(
    shard: Predictions, rows: Tensor, num_images: int, accelerator: Accelerator
) -> Predictions | None:
    columns = [_gathered(column, accelerator) for column in (rows.to(accelerator.device), *shard)]
    if columns[0] is None:
        return None
    placed = place_by_row(columns[0], tuple(c for c in columns[1:] if c is not None), num_images)
    return Predictions(*placed)


def _gathered(shard: Tensor, accelerator: Accelerator) -> Tensor | None:
    """The shards of all processes one after the other, on process 0; None elsewhere. Lengths may differ."""
    if accelerator.num_processes == 1:
        return shard
    length = torch.tensor([len(shard)], device=shard.device)
    lengths = [torch.zeros_like(length) for _ in range(accelerator.num_processes)]
    dist.all_gather(lengths, length)
    longest = int(torch.stack(lengths).max())
    padded = shard.new_zeros((longest, *shard.shape[1:]))
    padded[: len(shard)] = shard
    received = [torch.empty_like(padded) for _ in lengths] if accelerator.is_main_process else None
    dist.gather(padded, received, dst=0)
    if received is None:
        return None
    return torch.cat([part[: int(n)] for part, n in zip(received, lengths, strict=True)])


def place_by_row(rows_N: Tensor, columns: tuple[Tensor, ...], num_images: int) -> tuple[Tensor, ...]:
    """Put results where their row numbers say, on the CPU; proves that every row is there exactly once."""
    times_seen = torch.bincount(rows_N.cpu(), minlength=num_images)
    wrong = (times_seen != 1).nonzero().flatten()
    whole = len(times_seen) == num_images and not len(wrong)
    assert whole, f"{len(wrong)} images were not embedded exactly once, the first is row {wrong[:1].tolist()}"
    order = torch.argsort(rows_N.cpu())
    return tuple(column.cpu()[order] for column in columns)
